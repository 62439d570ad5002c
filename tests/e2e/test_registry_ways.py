"""The ways to a registry: an authority of one's own, tokens, mirrors, proxies, and layers however they are packed."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
import urllib.request

import pytest
from registries import Registry
from test_auth import authority, inside, outside  # noqa: F401
from test_registry_hazards import LAYER, Liar, digest, tar_of

CERTIFICATES = pathlib.Path("/etc/docker/certs.d")


@contextlib.contextmanager
def certificates(host):
    """The folder in which dockerd and gantryd look for what belongs to a registry."""
    folder = CERTIFICATES / host
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for path in made[1:]:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def serving(namespace, make):
    server = inside(namespace, make)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def gone(engine, name):
    engine.docker("rmi", name)
    engine.docker("image", "prune", "-f")


def test_a_registry_of_an_own_authority_is_trusted_by_its_folder_alone(fresh, outside, authority, tmp_path):  # noqa: F811
    engine = fresh()
    ca, leaf = authority
    registry = Registry(outside(engine), tmp_path / "r", "10.99.7.2", tls=leaf)
    try:
        name = f"{registry.where}/own/busybox:1"
        engine.docker("tag", "busybox", name)
        done = engine.docker("push", name, check=False)
        assert done.returncode == 1 and "x509: certificate signed by unknown authority" in done.stderr, done.stderr
        with certificates(registry.where) as folder:
            shutil.copy(ca, folder / "ca.crt")
            engine.docker("push", name)
            gone(engine, name)
            engine.docker("pull", name)
            gone(engine, name)
        assert engine.docker("pull", name, check=False).returncode == 1
        # `hosts.toml` says the same in containerd's words.
        with certificates(registry.where) as folder:
            shutil.copy(ca, folder / "own.pem")
            (folder / "hosts.toml").write_text(f'server = "https://{registry.where}"\n[host."https://{registry.where}"]\nca = "own.pem"\n')
            engine.docker("pull", name)
    finally:
        registry.close()


def test_a_plain_registry_beyond_loopback_must_be_listed_as_insecure(fresh, outside, tmp_path):  # noqa: F811
    engine = fresh()
    registry = Registry(outside(engine), tmp_path / "r", "10.99.7.2")
    try:
        name = f"{registry.where}/plain:1"
        engine.docker("tag", "busybox", name)
        done = engine.docker("push", name, check=False)
        assert done.returncode == 1 and "http: server gave HTTP response to HTTPS client" in done.stderr
        assert registry.requests("/v2/plain") == []
        engine.config.write_text(json.dumps({"insecure-registries": ["10.99.7.0/24"]}))
        engine.restart()
        engine.docker("push", name)
        gone(engine, name)
        engine.docker("pull", name)
    finally:
        registry.close()


class Tokens(http.server.BaseHTTPRequestHandler):
    """A registry in front of another that wants a bearer token for each repository and action."""

    protocol_version = "HTTP/1.1"

    def carry(self):
        server = self.server
        sent = self.headers.get("Authorization", "")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/token"):
            query = urllib.request.unquote(self.path)
            server.asked.append((query, sent.split(" ")[0]))
            answer = json.dumps({"token": hashlib.sha256(query.encode()).hexdigest(), "expires_in": 300}).encode()
            server.given.add(hashlib.sha256(query.encode()).hexdigest())
            return self.reply(200, answer, {})
        if sent.removeprefix("Bearer ") not in server.given:
            repository = "/".join(self.path.split("/")[2:]).split("/manifests/")[0].split("/blobs/")[0]
            scope = f'repository:{repository}:pull{"" if self.command in ("GET", "HEAD") else ",push"}'
            challenge = f'Bearer realm="http://{server.where}/token",service="tests",scope="{scope}"'
            return self.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}', {"WWW-Authenticate": challenge})
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("authorization", "connection")}
        # One line for what may come in several.
        headers["Accept"] = ", ".join(self.headers.get_all("Accept") or ["*/*"])
        import http.client

        upstream = http.client.HTTPConnection("127.0.0.1", server.upstream)
        upstream.sock = inside(server.namespace, lambda: __import__("socket").create_connection(("127.0.0.1", server.upstream)))
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "content-length", "connection")}
        self.reply(answer.status, data, kept, answer.getheader("Content-Length"))
        upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = carry

    def reply(self, status, data, headers, length=None):
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(data)) if self.command != "HEAD" else (length or "0"))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_tokens_are_fetched_for_what_is_done_and_no_more(engine, tmp_path):
    registry = Registry(engine.namespace, tmp_path / "r")
    try:
        with serving(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)) as server:
            server.where, server.upstream, server.namespace = f"127.0.0.1:{server.server_port}", registry.port, engine.namespace
            server.asked, server.given = [], set()
            name = f"{server.where}/behind/tokens:1"
            engine.docker("tag", "busybox", name)
            engine.docker("push", name)
            assert any("repository:behind/tokens:pull,push" in query or "repository:behind/tokens:push,pull" in query for query, _ in server.asked), server.asked
            gone(engine, name)
            server.asked.clear()
            server.given.clear()
            engine.docker("pull", name)
            assert server.asked and all("push" not in query and "service=tests" in query for query, _ in server.asked), server.asked
            assert len(server.asked) <= 2, "a token is used as long as it lives"
            engine.docker("rmi", name)
    finally:
        registry.close()


def test_docker_hubs_images_come_from_a_mirror(fresh, tmp_path):
    engine = fresh()
    registry = Registry(engine.namespace, tmp_path / "r")
    try:
        engine.docker("tag", "busybox", f"{registry.where}/library/mirrored:1")
        engine.docker("push", f"{registry.where}/library/mirrored:1")
        engine.docker("rmi", f"{registry.where}/library/mirrored:1")
        engine.config.write_text(json.dumps({"registry-mirrors": [f"http://{registry.where}"]}))
        engine.restart()
        assert engine.api("GET", "/info")[1]["RegistryConfig"]["Mirrors"] == [f"http://{registry.where}/"]
        pulled = engine.docker("pull", "mirrored:1").stdout
        assert "1: Pulling from library/mirrored" in pulled and pulled.splitlines()[-1] == "docker.io/library/mirrored:1"
        assert engine.out("run", "--rm", "mirrored:1", "echo", "ran") == "ran"
    finally:
        registry.close()


class Proxy(http.server.BaseHTTPRequestHandler):
    """An HTTP proxy that answers every request for a plain URL itself, from one registry."""

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Proxy-Authorization")))
        liar, name = self.server.liar, self.path.rsplit("/", 1)[-1]
        kind, data = liar.manifests.get(name) or ("application/octet-stream", liar.blobs.get(name, b"{}"))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_a_proxy_is_used_for_those_that_no_proxy_does_not_name(fresh):
    engine = fresh(busybox=False)
    with (
        serving(engine.namespace, lambda: Liar(("127.0.0.1", 0))) as liar,
        serving(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)) as proxy,
    ):
        proxy.liar, proxy.seen = liar, []
        liar.image("1")
        url = f"http://me:pass@127.0.0.1:{proxy.server_port}"
        insecure = {"insecure-registries": ["registry.example:5000", "other.example:5000"]}
        engine.config.write_text(json.dumps({**insecure, "proxies": {"http-proxy": url, "https-proxy": "", "no-proxy": "other.example"}}))
        engine.restart()
        engine.docker("pull", "registry.example:5000/by/proxy:1")
        assert proxy.seen and all(path.startswith("http://registry.example:5000/v2/") for path, _ in proxy.seen)
        assert all(sent and sent.startswith("Basic ") for _, sent in proxy.seen)
        assert liar.seen == []
        proxy.seen.clear()
        assert engine.docker("pull", "other.example:5000/by/proxy:1", check=False).returncode == 1
        assert proxy.seen == []
        # The same from the environment, where the configuration says nothing.
        engine.docker("rmi", "registry.example:5000/by/proxy:1")
        engine.config.write_text(json.dumps(insecure))
        engine.kill()
        engine.start(HTTP_PROXY=url, NO_PROXY="other.example")
        engine.docker("pull", "registry.example:5000/by/proxy:1")
        assert proxy.seen


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
def test_layers_come_however_they_are_packed(engine, packing):
    plain = tar_of({"hello": os.urandom(300_000)})
    packed = {"plain": lambda: plain, "gzip": lambda: pack("gzip", plain), "zstd": lambda: pack("zstd", plain)}[packing]()
    kind = LAYER + {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}[packing]
    with serving(engine.namespace, lambda: Liar(("127.0.0.1", 0))) as liar:
        liar.image("1", config={"rootfs": {"type": "layers", "diff_ids": [digest(plain)]}}, layers=[liar.blob(kind, packed)])
        name = f"{liar.where}/{packing}:1"
        engine.docker("pull", name)
        assert engine.inspect(name)["RootFS"]["Layers"] == [digest(plain)]
        engine.docker("create", "--name", f"from-{packing}", name, "x")
        out = subprocess.run(["docker", "cp", f"from-{packing}:/hello", "-"], env=engine.docker_env(), capture_output=True, check=True).stdout
        assert plain[512 : 512 + 300_000] in out
        engine.docker("rm", f"from-{packing}")
        engine.docker("rmi", name)


def pack(program, data):
    return subprocess.run([program, "-c"], input=data, capture_output=True, check=True).stdout
