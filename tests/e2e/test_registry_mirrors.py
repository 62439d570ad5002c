"""`hosts.toml` and `certs.d` on real registries: mirrors that fall back, headers, paths, client certificates; a proxy that
tunnels; how many layers come at a time."""

import http.server
import json
import shutil
import socket
import threading
import time

import pytest
from harness import run
from registries import Registry
from test_auth import authority, outside  # noqa: F401
from test_registry_hazards import LAYER, Liar, digest, tar_of
from test_registry_ways import certificates, gone, serving


def mirrored(engine, registry, name="library/mirrored:1"):
    engine.docker("tag", "busybox", f"{registry.where}/{name}")
    engine.docker("push", f"{registry.where}/{name}")
    gone(engine, f"{registry.where}/{name}")


@pytest.fixture
def registries(fresh, tmp_path):
    """An engine with two registries, of which the second has the image."""
    engine = fresh()
    both = [Registry(engine.namespace, tmp_path / name) for name in ("empty", "full")]
    mirrored(engine, both[1])
    yield engine, *both
    for registry in both:
        registry.close()


def hosts(folder, text):
    (folder / "hosts.toml").write_text(text)


def test_a_mirror_that_is_dead_or_empty_leaves_the_image_to_the_next(registries):
    engine, empty, full = registries
    with certificates("some.example") as folder:
        hosts(
            folder,
            f'server = "http://{full.where}"\n[host."http://127.0.0.1:1"]\ncapabilities = ["pull", "resolve"]\n'
            f'[host."http://{empty.where}"]\ncapabilities = ["pull", "resolve"]\n',
        )
        engine.docker("pull", "some.example/library/mirrored:1")
        assert engine.out("run", "--rm", "some.example/library/mirrored:1", "echo", "ran") == "ran"
        assert empty.requests("/v2/library/mirrored/manifests") and full.requests("/v2/library/mirrored/blobs")
        # When all have failed, the registry's own refusal is what the client reads.
        done = engine.docker("pull", "some.example/library/nosuch:1", check=False)
        assert done.returncode == 1 and "manifest unknown" in done.stderr, done.stderr


def test_a_mirror_is_never_pushed_to_unless_it_says_so(registries):
    engine, empty, full = registries
    with certificates("some.example") as folder:
        hosts(folder, f'server = "http://{full.where}"\n[host."http://{empty.where}"]\ncapabilities = ["pull", "resolve"]\n')
        engine.docker("tag", "busybox", "some.example/pushed:1")
        engine.docker("push", "some.example/pushed:1")
        assert full.requests("PUT /v2/pushed/manifests") and not empty.requests("PUT|POST|PATCH")
    with certificates("some.example") as folder:
        hosts(folder, f'server = "http://{full.where}"\n[host."http://{empty.where}"]\ncapabilities = ["push"]\n')
        engine.docker("tag", "busybox", "some.example/other:1")
        engine.docker("push", "some.example/other:1")
        assert empty.requests("PUT /v2/other/manifests") and not full.requests("PUT /v2/other/manifests")


class Told(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("X-Own")))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_headers_and_paths_are_sent_as_the_file_says(registries):
    engine, _, full = registries
    with serving(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)) as server:
        server.seen = []
        with certificates("some.example") as folder:
            hosts(
                folder,
                f'server = "http://{full.where}"\n[host."http://127.0.0.1:{server.server_port}/own/prefix"]\noverride_path = true\n'
                f'[host."http://127.0.0.1:{server.server_port}/own/prefix".header]\nX-Own = "value"\n',
            )
            engine.docker("pull", "some.example/library/mirrored:1")
        paths = [path for path, _ in server.seen if "manifests" in path]
        assert paths and all(path.startswith("/own/prefix/library/mirrored/manifests/") for path in paths), server.seen
        assert {own for path, own in server.seen if "manifests" in path} == {"value"}


def test_a_registry_may_ask_for_a_client_certificate_and_may_go_unverified(fresh, outside, authority, tmp_path):  # noqa: F811
    engine = fresh()
    ca, leaf = authority
    key, request, mine = tmp_path / "me.key", tmp_path / "me.csr", tmp_path / "me.cert"
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=me", "-keyout", key, "-out", request)
    run("openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca.with_suffix(".key"), "-CAcreateserial", "-days", "2", "-out", mine)
    registry = Registry(outside(engine), tmp_path / "r", "10.99.7.2", tls=leaf, clients=ca)
    try:
        name = f"{registry.where}/mine/busybox:1"
        engine.docker("tag", "busybox", name)
        with certificates(registry.where) as folder:
            shutil.copy(ca, folder / "ca.crt")
            done = engine.docker("push", name, check=False, timeout=180)
            assert done.returncode == 1 and "certificate" in done.stderr, done.stderr
            for path in (key, mine):
                shutil.copy(path, folder / path.name)
            engine.docker("push", name)
            gone(engine, name)
            engine.docker("pull", name)
            gone(engine, name)
        with certificates(registry.where) as folder:
            for path in (key, mine):
                shutil.copy(path, folder / path.name)
            hosts(folder, f'[host."https://{registry.where}"]\nskip_verify = true\nclient = [["me.cert", "me.key"]]\n')
            engine.docker("pull", name)
    finally:
        registry.close()


def test_hosts_without_a_folder_have_the_default_one_and_names_can_do_without_a_colon(registries):
    engine, _, full = registries
    mirror = f'[host."http://{full.where}"]\ncapabilities = ["pull", "resolve"]\n'
    for folder_name, host in (("_default", "127.0.0.1:1"), ("some.example_5000_", "some.example:5000")):
        with certificates(folder_name) as folder:
            hosts(folder, mirror)
            engine.docker("pull", f"{host}/library/mirrored:1")
            assert full.requests(f"/v2/library/mirrored/manifests/1\\?ns={host.replace(':', '%3A')}"), "a mirror is told whose repository it is"
        gone(engine, f"{host}/library/mirrored:1")
    assert engine.docker("pull", "127.0.0.1:1/library/mirrored:1", check=False).returncode == 1


class Tunnel(http.server.BaseHTTPRequestHandler):
    """A proxy that knows CONNECT alone."""

    def do_CONNECT(self):
        self.server.seen.append((self.path, self.headers.get("Proxy-Authorization")))
        host, port = self.path.rsplit(":", 1)
        there = self.server.connect(host, int(port))
        self.send_response(200)
        self.end_headers()
        back = threading.Thread(target=self.copy, args=(there, self.connection), daemon=True)
        back.start()
        self.copy(self.connection, there)
        back.join()

    @staticmethod
    def copy(source, to):
        try:
            while data := source.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def test_a_verified_registry_is_reached_through_a_tunnel(fresh, outside, authority, tmp_path):  # noqa: F811
    from test_auth import inside

    ca, leaf = authority
    engine = fresh(env={"SSL_CERT_FILE": str(ca)})
    space = outside(engine)
    registry = Registry(space, tmp_path / "r", "10.99.7.2", tls=leaf)
    try:
        with serving(engine.namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tunnel)) as proxy:
            proxy.seen = []
            proxy.connect = lambda host, port: inside(space, lambda: socket.create_connection((host, port)))
            proxy.daemon_threads = True
            url = f"http://me:pass@127.0.0.1:{proxy.server_port}"
            engine.config.write_text(json.dumps({"proxies": {"https-proxy": url}}))
            engine.restart()
            name = f"{registry.where}/tunnel:1"
            engine.docker("tag", "busybox", name)
            engine.docker("push", name)
            gone(engine, name)
            engine.docker("pull", name)
            assert {path for path, _ in proxy.seen} == {registry.where}
            assert all(sent and sent.startswith("Basic ") for _, sent in proxy.seen)
    finally:
        registry.close()


class Counting(Liar):
    """Counts how many layers it sends at a time."""

    def __init__(self, address):
        super().__init__(address)
        self.lock, self.now, self.most = threading.Lock(), 0, 0
        words = self.RequestHandlerClass

        class Slow(words):
            def reply(self, status, data, kind, headers=None):
                server = self.server
                if "/blobs/" not in self.path or self.command == "HEAD" or len(data) < 2000:
                    return super().reply(status, data, kind, headers)
                with server.lock:
                    server.now += 1
                    server.most = max(server.most, server.now)
                time.sleep(0.3)
                with server.lock:
                    server.now -= 1
                return super().reply(status, data, kind, headers)

            do_GET = do_HEAD = lambda self: words.do_GET(self)

        self.RequestHandlerClass = Slow


@pytest.mark.parametrize("most", [1, 3, 5])
def test_no_more_layers_come_at_a_time_than_the_configuration_says(fresh, most):
    engine = fresh(start=False)
    engine.config.write_text(json.dumps({"max-concurrent-downloads": most} if most != 3 else {}))
    engine.start()
    with serving(engine.namespace, lambda: Counting(("127.0.0.1", 0))) as server:
        plain = [tar_of({f"f{number}": b"x" * 3000}) for number in range(8)]
        config = {"rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in plain]}}
        server.image("1", config=config, layers=[server.blob(LAYER, layer) for layer in plain])
        engine.docker("pull", f"{server.where}/layers:1")
        assert server.most == most
