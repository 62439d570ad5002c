"""Registries next to an engine: Debian's docker-registry in the engine's network namespace, and a proxy in front of it that
cuts, stalls and sends wrong bytes."""

import base64
import http.client
import http.server
import json
import os
import pathlib
import re
import subprocess
import threading

from harness import run, wait_until
from test_auth import inside

# Apart for each process of tests: the folders in /etc/docker/certs.d bear addresses with port.
PORTS = iter(range(5000 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), 9000))


class Registry:
    """A docker-registry of a test's own, on the engine's loopback."""

    def __init__(self, namespace, folder, address="127.0.0.1", tls=None, htpasswd=None, token=None, clients=None):
        self.namespace, self.folder = namespace, pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = next(PORTS)
        self.where = f"{address}:{self.port}"
        http_part = {"addr": self.where, "secret": "test"}
        if tls:
            http_part["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        if clients:
            http_part["tls"]["clientcas"] = [str(clients)]
        config = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}, "delete": {"enabled": True}},
            "http": http_part,
        }
        if htpasswd:
            path = self.folder / "htpasswd"
            path.write_text(htpasswd)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(path)}}
        if token:
            config["auth"] = {"token": token}
        path = self.folder / "config.yml"
        path.write_text(json.dumps(config))
        self.log = self.folder / "log"
        self.process = namespace.popen(
            "docker-registry", "serve", path, stdout=open(self.log, "wb"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        # Who shows no certificate is refused in the handshake, which is an answer.
        answers = (0, 35, 56) if clients else (0,)
        scheme = ["-k", f"https://{self.where}/"] if tls else [f"http://{self.where}/"]
        wait_until(
            lambda: self.process.poll() is not None
            or namespace.exec("curl", "-s", "-o", "/dev/null", *scheme, check=False).returncode in answers,
            30,
            "the registry",
        )
        assert self.process.poll() is None, self.log.read_text()

    def requests(self, pattern):
        """Lines of the access log that a pattern fits."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if re.search(pattern, line)]

    def close(self):
        self.process.kill()
        self.process.wait()

    def skopeo(self, *argv, **more):
        return self.namespace.exec("skopeo", "--insecure-policy", *argv, **more)


class Trouble(http.server.ThreadingHTTPServer):
    """A proxy in front of a registry. `plan(path, range)` says what becomes of an answer's body: None passes it on, an
    int cuts the connection after so many bytes, ("flip", n) turns the byte at n, ("stall", event) waits in the middle."""

    daemon_threads = True

    def __init__(self, address, upstream):
        super().__init__(address, Carrier)
        self.upstream, self.plan, self.seen = upstream, lambda *_: None, []
        # `cut(method, path, length)`: an int lets so many bytes of a request's body through and then hangs up on both sides.
        self.cut = lambda *_: None
        # `refuse(method, path)`: (status, headers) instead of the registry's answer.
        self.refuse = lambda *_: None
        self.where = f"{address[0]}:{self.server_port}"

    def handle_error(self, request, client_address):
        """A connection that was cut is what this is for."""


class Carrier(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def carry(self):
        server = self.server
        length = int(self.headers.get("Content-Length") or 0)
        cut = server.cut(self.command, self.path, length) if length else None
        if cut is not None:
            return self.hang_up_after(cut)
        body = self.rfile.read(length) if length else None
        if refusal := server.refuse(self.command, self.path):
            return self.say(*refusal)
        upstream = server.connect()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        headers["Host"] = server.where
        # One line for what may come in several.
        headers["Accept"] = ", ".join(self.headers.get_all("Accept") or ["*/*"])
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        plan = server.plan(self.path, self.headers.get("Range")) if self.command == "GET" else None
        server.seen.append((self.command, self.path, self.headers.get("Range"), answer.status))
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() != "transfer-encoding":
                self.send_header(name, value)
        self.end_headers()
        sent = 0
        while self.command != "HEAD":
            piece = bytearray(answer.read(65536))
            if not piece:
                break
            if isinstance(plan, int) and sent + len(piece) > plan:
                self.wfile.write(piece[: plan - sent])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if isinstance(plan, tuple) and plan[0] == "flip" and sent <= plan[1] < sent + len(piece):
                piece[plan[1] - sent] ^= 1
            if isinstance(plan, tuple) and plan[0] == "stall" and sent > 0:
                plan[1].wait(60)
            self.wfile.write(piece)
            sent += len(piece)
        upstream.close()

    def say(self, status, headers):
        self.server.seen.append((self.command, self.path, self.headers.get("Range"), status))
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def hang_up_after(self, count):
        server, upstream = self.server, self.server.connect()
        server.seen.append((self.command, self.path, self.headers.get("Content-Range"), None))
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**self.headers, "Host": server.where}.items():
            if name.lower() != "connection":
                upstream.putheader(name, value)
        upstream.endheaders()
        while count > 0 and (piece := self.rfile.read(min(count, 65536))):
            upstream.send(piece)
            count -= len(piece)
        upstream.close()
        self.close_connection = True
        self.connection.shutdown(2)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = carry

    def log_message(self, *_):
        pass


def trouble(namespace, registry):
    """A running proxy in the registry's namespace."""

    def connect():
        connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60)
        connection.sock = inside(namespace, lambda: __import__("socket").create_connection(("127.0.0.1", registry.port)))
        return connection

    server = inside(namespace, lambda: Trouble(("127.0.0.1", 0), registry))
    server.connect = connect
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def auth_header(**fields):
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}
