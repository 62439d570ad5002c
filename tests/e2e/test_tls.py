"""TLS on both sides, with the certificates of the docker CLI, made by openssl as Docker's manual makes them."""

import subprocess

import pytest
from harness import Engine, run


class Certificates:
    """An authority, a server's certificate for 127.0.0.1, and a client's; in the CLI's file names."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca-key.pem"
        run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN=authority of {folder.name}",
            "-keyout", self.ca_key, "-out", self.ca,
        )  # fmt: skip
        self.server = self.issue("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth")
        self.client = self.issue("client", "extendedKeyUsage=clientAuth")

    def issue(self, name, extensions):
        request, key, certificate = (self.folder / f"{name}{end}" for end in (".csr", "-key.pem", "-cert.pem"))
        extra = self.folder / f"{name}.cnf"
        extra.write_text(extensions + "\n")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        run(
            "openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key,
            "-CAcreateserial", "-extfile", extra, "-out", certificate,
        )  # fmt: skip
        return certificate, key


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    return Certificates(folder / "ours"), Certificates(folder / "strangers")


@pytest.fixture(scope="module")
def secure(made):
    ours, _ = made
    certificate, key = ours.server
    engine = Engine(
        "-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", ours.ca, "--tlscert", certificate, "--tlskey", key
    )
    try:
        engine.start().load_busybox()
        yield engine
    finally:
        engine.close()


def docker(engine, ca, pair, *argv, check=True, **more):
    flags = ["--tlsverify", "--tlscacert", ca]
    if pair:
        flags += ["--tlscert", pair[0], "--tlskey", pair[1]]
    env = {name: value for name, value in engine.docker_env().items() if name != "DOCKER_HOST"}
    return engine.namespace.exec("docker", "-H", "tcp://127.0.0.1:2376", *flags, *argv, env=env, check=check, **more)


def test_the_cli_works_with_its_certificates(secure, made):
    ours, _ = made
    assert docker(secure, ours.ca, ours.client, "run", "--rm", "busybox", "echo", "hi").stdout == "hi\n"
    assert docker(secure, ours.ca, ours.client, "info", "--format", "{{.Warnings}}").stdout.find("without encryption") < 0


def test_streams_in_both_directions_go_through_tls(secure, made):
    ours, _ = made
    text = "line of input\n" * 200_000
    done = docker(secure, ours.ca, ours.client, "run", "--rm", "-i", "busybox", "cat", input=text)
    assert done.stdout == text


def test_the_clis_own_folder_of_certificates_is_enough(secure, made, tmp_path):
    ours, _ = made
    for source, name in ((ours.ca, "ca.pem"), (ours.client[0], "cert.pem"), (ours.client[1], "key.pem")):
        (tmp_path / name).write_bytes(source.read_bytes())
    env = {
        **secure.docker_env(),
        "DOCKER_HOST": "tcp://127.0.0.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path),
    }  # fmt: skip
    assert secure.namespace.exec("docker", "version", "--format", "{{.Server.Os}}", env=env).stdout == "linux\n"


def test_a_client_without_a_certificate_is_refused(secure, made):
    ours, _ = made
    done = docker(secure, ours.ca, None, "ps", check=False)
    assert done.returncode != 0 and "certificate" in done.stderr, done.stderr


def test_a_client_of_a_strange_authority_is_refused(secure, made):
    ours, strangers = made
    done = docker(secure, ours.ca, strangers.client, "ps", check=False)
    assert done.returncode != 0 and "certificate" in done.stderr, done.stderr


def test_a_servers_certificate_is_no_clients(secure, made):
    ours, _ = made
    assert docker(secure, ours.ca, ours.server, "ps", check=False).returncode != 0


def test_a_client_sees_a_strange_server(secure, made):
    _, strangers = made
    done = docker(secure, strangers.ca, strangers.client, "ps", check=False)
    assert done.returncode != 0 and "unknown authority" in done.stderr, done.stderr


def test_plain_http_is_told_so_by_the_tls_socket(secure):
    done = secure.namespace.exec("curl", "-s", "-i", "-m", "10", "http://127.0.0.1:2376/info", check=False)
    assert done.stdout == "HTTP/1.0 400 Bad Request\n\nClient sent an HTTP request to an HTTPS server.\n"
    done = secure.namespace.exec("curl", "-s", "-m", "10", "--http0.9", "gopher://127.0.0.1:2376/x", check=False)
    assert "HTTP" not in done.stdout


def test_old_protocols_are_refused(secure, made):
    ours, _ = made
    done = secure.namespace.exec(
        "openssl", "s_client", "-connect", "127.0.0.1:2376", "-tls1_1", "-cipher", "ALL@SECLEVEL=0",
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode != 0


def test_a_silent_client_does_not_hold_others_up(secure, made):
    ours, _ = made
    silent = [
        secure.namespace.popen("busybox", "nc", "127.0.0.1", "2376", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(20)
    ]
    try:
        assert docker(secure, ours.ca, ours.client, "ps", "-q", timeout=10).returncode == 0
    finally:
        for client in silent:
            client.kill()
            client.wait()
