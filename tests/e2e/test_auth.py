"""`docker login`: registries by password and by token, on loopback and verified, and who gets to see credentials."""

import base64
import http.server
import json
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from harness import Namespace, run

PASSWORD = "canary-s3cret"
ANN = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()


class Registry(http.server.ThreadingHTTPServer):
    """A registry that wants the password itself, or (`realm`) a token that its realm gives for it."""

    def __init__(self, address, token=False, tls=None, realm=None, refresh="", silent=False):
        super().__init__(address, Answers)
        self.token, self.refresh, self.silent = token, refresh, silent
        self.scheme = "https" if tls else "http"
        self.where = f"{address[0]}:{self.server_port}"
        self.realm = realm or f"{self.scheme}://{self.where}/token"
        self.seen = []
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request, client_address):
        """A client that speaks no TLS, or went away, is the client's affair."""


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, sent = self.server, self.headers.get("Authorization")
        server.seen.append((self.path, sent))
        if server.silent:
            time.sleep(60)
        if self.path.startswith("/token"):
            if sent == ANN:
                return self.reply(200, {"token": "t0k3n", "refresh_token": server.refresh})
            return self.reply(401, {"details": "incorrect username or password"})
        if sent == ("Bearer t0k3n" if server.token else ANN):
            return self.reply(200, {})
        challenge = f'Bearer realm="{server.realm}",service="stub"' if server.token else 'Basic realm="stub"'
        self.reply(401, {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}, challenge)

    def reply(self, status, body, challenge=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def inside(namespace, make):
    """What `make` returns, made by a thread that is in the network namespace: its sockets stay there."""
    import ctypes

    made = []

    def enter():
        with open(f"/run/netns/{namespace.name}") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(make())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture
def registry(engine):
    """Starts registries next to the engine, on its loopback unless another namespace is named."""
    running = []

    def start(namespace=engine.namespace, address="127.0.0.1", **more):
        server = inside(namespace, lambda: Registry((address, 0), **more))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def login(engine, address, password=PASSWORD, **more):
    return engine.docker("login", "-u", "ann", "--password-stdin", address, input=password, check=False, **more)


def stored(engine):
    path = engine.root / "docker-config" / "config.json"
    return json.loads(path.read_text()).get("auths", {}) if path.exists() else {}


def test_a_login_with_the_right_password_succeeds_and_with_a_wrong_one_does_not(engine, registry):
    server = registry()
    done = login(engine, server.where, "wrong")
    assert done.returncode == 1
    assert f"login attempt to http://{server.where}/v2/ failed with status: 401 Unauthorized" in done.stderr
    assert server.where not in stored(engine)
    done = login(engine, server.where)
    assert done.returncode == 0 and "Login Succeeded" in done.stdout, done.stderr
    assert server.where in stored(engine)
    # Stored credentials are asked again without a password at hand.
    again = engine.docker("login", server.where)
    assert "Authenticating with existing credentials" in again.stdout + again.stderr
    assert "Login Succeeded" in again.stdout
    engine.docker("logout", server.where)
    assert server.where not in stored(engine)


def test_a_token_realm_is_asked_and_its_refusal_told(engine, registry):
    server = registry(token=True)
    done = login(engine, server.where)
    assert done.returncode == 0 and "Login Succeeded" in done.stdout, done.stderr
    paths = [path.split("?")[0] for path, _ in server.seen]
    assert paths == ["/v2/", "/token", "/v2/"]
    assert server.seen[0][1] is None, "credentials went out before the registry asked"
    done = login(engine, server.where, "wrong")
    assert f'Get "http://{server.where}/v2/": unauthorized: incorrect username or password' in done.stderr


def test_the_answers_have_dockers_shape(engine, registry):
    server = registry(token=True, refresh="r3fresh")
    auth = {"username": "ann", "password": PASSWORD, "serveraddress": f"http://{server.where}/v1/", "email": "a@b"}
    assert engine.api("POST", "/auth", auth) == (200, {"IdentityToken": "r3fresh", "Status": "Login Succeeded"})
    status, answer = engine.api("POST", "/v1.24/auth", {**auth, "password": "wrong"})
    message = f'Get "http://{server.where}/v2/": unauthorized: incorrect username or password'
    assert (status, answer) == (401, {"message": message})
    plain = registry()
    auth["serveraddress"] = plain.where
    assert engine.api("POST", "/auth", auth) == (200, {"IdentityToken": "", "Status": "Login Succeeded"})
    status, answer = engine.api("POST", "/auth", {"serveraddress": plain.where})
    assert (status, answer) == (401, {"message": f'Get "http://{plain.where}/v2/": no basic auth credentials'})
    status, answer = engine.api("POST", "/auth", {**auth, "serveraddress": "user:pw@host"})
    assert status == 400 and answer["message"].startswith("unable to parse server address")


def test_a_registry_that_is_not_there_is_an_error_and_docker_hub_too(engine):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    done = login(engine, f"127.0.0.1:{port}")
    assert f"dial tcp 127.0.0.1:{port}: connect: connection refused" in done.stderr
    # The engine's namespace has no way out.
    started = time.monotonic()
    status, answer = engine.api("POST", "/auth", {"username": "ann", "password": PASSWORD})
    assert status == 500 and answer["message"].startswith('Get "https://registry-1.docker.io/v2/": dial tcp')
    assert time.monotonic() - started < 30


def test_a_registry_that_never_answers_costs_a_bounded_time_and_nothing_else(engine, registry):
    server = registry(silent=True)
    started = time.monotonic()
    done = login(engine, server.where)
    assert "Client.Timeout exceeded" in done.stderr
    assert time.monotonic() - started < 45
    assert engine.api("GET", "/_ping", raw=True)[1] == b"OK"


def test_credentials_never_reach_the_log(fresh, registry):
    engine = fresh("-D", busybox=False)
    server = registry(engine.namespace, token=True)
    assert login(engine, server.where).returncode == 0
    assert login(engine, server.where, PASSWORD + "x").returncode == 1
    text = engine.log.read_text()
    for secret in (PASSWORD, ANN, ANN.split()[1], "t0k3n"):
        assert secret not in text


# -- beyond loopback ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An authority of the test's own, and a certificate of it for 10.99.7.2."""
    folder = tmp_path_factory.mktemp("authority")
    ca, key = folder / "ca.pem", folder / "ca.key"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    run(*new, "-subj", "/CN=authority", "-keyout", key, "-out", ca)
    run(
        *new, "-subj", "/CN=registry", "-addext", "subjectAltName=IP:10.99.7.2", "-addext", "basicConstraints=CA:FALSE",
        "-CA", ca, "-CAkey", key, "-keyout", folder / "leaf.key", "-out", folder / "leaf.pem",
    )  # fmt: skip
    return ca, (folder / "leaf.pem", folder / "leaf.key")


@pytest.fixture
def outside():
    """A neighbour of engines: `outside(engine)` links it as 10.99.7.2."""
    made = []

    def join(engine):
        space = Namespace(f"gt-out-{engine.number}")
        made.append(space)
        engine.namespace.connect(space, "10.99.7.1/24", "10.99.7.2/24")
        return space

    yield join
    for space in made:
        space.delete()


def test_beyond_loopback_only_a_verified_registry_gets_credentials(fresh, registry, outside, authority):
    ca, leaf = authority
    trusting = fresh(busybox=False, env={"SSL_CERT_FILE": str(ca)})
    space = outside(trusting)
    server = registry(space, "10.99.7.2", tls=leaf)
    done = login(trusting, server.where)
    assert done.returncode == 0 and "Login Succeeded" in done.stdout, done.stderr
    plain = registry(space, "10.99.7.2")
    done = login(trusting, plain.where)
    assert "http: server gave HTTP response to HTTPS client" in done.stderr
    assert plain.seen == []


def test_an_unknown_authority_is_refused_unless_the_registry_is_listed_as_insecure(fresh, registry, outside, authority):
    engine = fresh(busybox=False)
    space = outside(engine)
    server = registry(space, "10.99.7.2", tls=authority[1])
    done = login(engine, server.where)
    assert "tls: failed to verify certificate: x509:" in done.stderr
    assert server.seen == []
    # SIGHUP: the list can change while gantryd runs.
    engine.config.write_text(json.dumps({"insecure-registries": [server.where]}))
    since = str(int(time.time()) - 1)
    reloaded = engine.docker_popen("events", "--since", since, "-f", "event=reload", stdout=subprocess.PIPE, text=True)
    try:
        engine.process.send_signal(signal.SIGHUP)
        assert "reload" in reloaded.stdout.readline()
    finally:
        reloaded.kill()
        reloaded.wait()
    done = login(engine, server.where)
    assert done.returncode == 0 and "Login Succeeded" in done.stdout, done.stderr


def test_a_verified_registry_cannot_have_credentials_sent_to_a_plain_realm(fresh, registry, outside, authority):
    ca, leaf = authority
    engine = fresh(busybox=False, env={"SSL_CERT_FILE": str(ca)})
    thief = registry(engine.namespace, token=True)
    server = registry(outside(engine), "10.99.7.2", tls=leaf, token=True, realm=f"http://{thief.where}/token")
    done = login(engine, server.where)
    assert done.returncode == 1 and "is not https" in done.stderr
    assert thief.seen == []
