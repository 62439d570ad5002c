"""Debian's docker-registry behind a token server of the tests' that checks who asks and signs what it grants."""

import base64
import http.server
import json
import subprocess
import threading
import time
import urllib.parse

import pytest
from harness import run
from registries import Registry, auth_header
from test_auth import inside

PASSWORD = "canary-s3cret"
IDENTITY = "canary-identity-token"
ANN = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Authority(http.server.ThreadingHTTPServer):
    """Grants what is asked for to ann, by her password or by the identity token that stands for it."""

    daemon_threads = True

    def __init__(self, address, folder):
        super().__init__(address, Grants)
        self.key, self.certificate = folder / "token.key", folder / "token.crt"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key, "-out", self.certificate,
            "-days", "2", "-subj", "/CN=tests")  # fmt: skip
        self.realm = f"http://{address[0]}:{self.server_port}/token"
        self.lifetime, self.asked, self.busy = 300, [], 0

    def registry_part(self):
        return {"realm": self.realm, "service": "tests", "issuer": "tests", "rootcertbundle": str(self.certificate)}

    def token(self, scopes):
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        der = run("openssl", "x509", "-in", self.certificate, "-outform", "DER", text=None).stdout
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {"iss": "tests", "sub": "ann", "aud": "tests", "exp": now + self.lifetime, "nbf": now - 5, "iat": now, "jti": str(now), "access": access}
        text = ".".join(b64(json.dumps(part).encode()) for part in (head, claims))
        sign = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        return f"{text}.{b64(subprocess.run(sign, input=text.encode(), capture_output=True, check=True).stdout)}"


class Grants(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.grant(self.headers.get("Authorization") == ANN, query, "password")

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.grant(form["grant_type"] == ["refresh_token"] and form["refresh_token"] == [IDENTITY], form, "identity")

    def grant(self, allowed, fields, how):
        if self.server.busy:
            self.server.busy -= 1
            return self.reply(503 if self.server.busy % 2 else 429, {})
        scopes = [scope for text in fields.get("scope", []) for scope in text.split()]
        self.server.asked.append((how, allowed, tuple(scopes)))
        if not allowed:
            return self.reply(401, {"details": "incorrect username or password"})
        self.reply(200, {"token": self.server.token(scopes), "access_token": self.server.token(scopes), "expires_in": self.server.lifetime})

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def authority(engine, tmp_path_factory):
    server = inside(engine.namespace, lambda: Authority(("127.0.0.1", 0), tmp_path_factory.mktemp("authority")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def registry(engine, authority, tmp_path_factory):
    registry = Registry(engine.namespace, tmp_path_factory.mktemp("guarded"), token=authority.registry_part())
    yield registry
    registry.close()


def forget(engine, name):
    engine.docker("rmi", name, check=False)


def test_a_password_opens_push_and_pull_and_nothing_else_does(engine, registry, authority):
    name = f"{registry.where}/guarded/busybox:1"
    engine.docker("tag", "busybox", name)
    refused = engine.docker("push", name, check=False)
    assert refused.returncode == 1 and "denied" in refused.stderr + refused.stdout or "unauthorized" in refused.stderr
    assert engine.docker("login", "-u", "ann", "--password-stdin", registry.where, input="wrong", check=False).returncode == 1
    engine.docker("login", "-u", "ann", "--password-stdin", registry.where, input=PASSWORD)
    authority.asked.clear()
    engine.docker("push", name)
    scopes = {scope for _, allowed, scopes in authority.asked if allowed for scope in scopes}
    assert scopes and all(scope.startswith("repository:guarded/busybox:") for scope in scopes), scopes
    forget(engine, name)
    authority.asked.clear()
    engine.docker("pull", name)
    assert {scopes for _, _, scopes in authority.asked} == {("repository:guarded/busybox:pull",)}
    engine.docker("logout", registry.where)
    forget(engine, name)
    refused = engine.docker("pull", name, check=False)
    assert refused.returncode == 1 and "repository does not exist or may require 'docker login'" in refused.stderr or "unauthorized" in refused.stderr
    assert PASSWORD not in engine.log.read_text(errors="replace")


def test_an_identity_token_stands_for_the_password_in_pull_and_push(engine, registry, authority):
    name = f"{registry.where}/guarded/identity"
    engine.docker("tag", "busybox", f"{name}:1")
    auth = auth_header(identitytoken=IDENTITY, serveraddress=registry.where)
    authority.asked.clear()
    status, body = engine.api("POST", f"/images/{name}/push?tag=1", headers=auth, raw=True)
    assert status == 200 and b'"aux"' in body and b"errorDetail" not in body, body
    forget(engine, f"{name}:1")
    status, body = engine.api("POST", f"/images/create?fromImage={name}&tag=1", headers=auth, raw=True)
    assert status == 200 and b"Downloaded newer image" in body or b"up to date" in body, body
    assert {how for how, allowed, _ in authority.asked if allowed} == {"identity"}
    wrong = auth_header(identitytoken="another", serveraddress=registry.where)
    status, body = engine.api("POST", f"/images/create?fromImage={name}&tag=1", headers=wrong, raw=True)
    assert status >= 400, body
    assert IDENTITY not in engine.log.read_text(errors="replace")
    forget(engine, f"{name}:1")


def test_a_token_that_has_run_out_is_got_anew_in_the_middle_of_a_push(engine, registry, authority):
    """Each request finds its token expired: all of them get a new one."""
    name = f"{registry.where}/guarded/short:1"
    engine.docker("tag", "busybox", name)
    # The registry grants no more than a minute of leeway.
    authority.lifetime, whole = -70, authority.lifetime
    authority.asked.clear()
    try:
        engine.docker("login", "-u", "ann", "--password-stdin", registry.where, input=PASSWORD, check=False)
        refused = engine.docker("push", name, check=False)
        assert refused.returncode == 1, "a server that grants what has run out is not asked for ever"
        assert len(authority.asked) < 30
    finally:
        authority.lifetime = whole
    engine.docker("login", "-u", "ann", "--password-stdin", registry.where, input=PASSWORD)
    engine.docker("push", name)
    engine.docker("logout", registry.where)


def test_a_token_server_that_is_busy_for_a_moment_is_asked_again(engine, registry, authority):
    name = f"{registry.where}/guarded/busy:1"
    engine.docker("tag", "busybox", name)
    engine.docker("login", "-u", "ann", "--password-stdin", registry.where, input=PASSWORD)
    authority.busy = 3
    engine.docker("push", name)
    assert authority.busy == 0
    engine.docker("logout", registry.where)
