"""Bad input and clients that hang up: Docker's status and text, nothing half made, no descriptor or task left behind."""

import json
import os
import re
import socket
import time

import pytest
from harness import busybox_archive, wait_until
from storage import leftovers


def descriptors(engine):
    """gantryd's own process below nsenter has the same pid: nsenter executes it."""
    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))


@pytest.fixture
def clean(engine):
    """The engine is afterwards what it was before: containers, objects in containerd, descriptors."""
    engine.api("GET", "/info")
    engine.out("run", "--rm", "busybox", "true")
    before, containers = descriptors(engine), engine.out("ps", "-aq")
    yield engine
    assert engine.out("ps", "-aq") == containers
    wait_until(lambda: not leftovers(engine), 20, f"nothing left: {leftovers(engine)}")
    wait_until(lambda: descriptors(engine) <= before + 2, 20, f"{before} descriptors, there are {descriptors(engine)}")


@pytest.mark.parametrize(
    "change, status, text",
    [
        ({"Image": "nosuch"}, 404, "No such image: nosuch:latest"),
        ({"Image": "nosuch@sha256:12"}, 400, "invalid reference format"),
        ({"Image": "UPPER"}, 400, "repository name (library/UPPER) must be lowercase"),
        ({"Image": "a::b"}, 400, "invalid reference format"),
        ({"HostConfig": {"Binds": ["/no such/path"]}}, 201, ""),
        ({"HostConfig": {"Binds": ["relative/x:/y"]}}, 400, "includes invalid characters for a local volume name"),
        ({"HostConfig": {"Binds": ["/tmp:relative"]}}, 400, "mount path must be absolute"),
        ({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]}}, 400, "bind source path does not exist: /no/such"),
        ({"HostConfig": {"Mounts": [{"Type": "odd", "Target": "/x"}]}}, 400, "mount type unknown"),
        ({"HostConfig": {"PortBindings": {"80/odd": [{}]}}}, 400, ""),
        ({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}}, 400, ""),
        ({"HostConfig": {"Memory": 1}}, 400, "Minimum memory limit allowed is 6MB"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_bad_create_is_refused_with_dockers_words(clean, change, status, text):
    answer = clean.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], **change})
    if answer[0] == 201:
        clean.api("DELETE", f"/containers/{answer[1]['Id']}?v=1")
    assert answer[0] == status and text in answer[1].get("message", ""), answer


@pytest.mark.parametrize("host, config, status, text", [
    # The request is in order; what it starts is not.
    ({}, {"User": "nobodyhere"}, 500, "unable to find user nobodyhere: no matching entries in passwd file"),
    ({}, {"Cmd": ["nosuchprogram"]}, 400, "executable file not found in $PATH"),
])  # fmt: skip
def test_a_bad_start_is_refused_and_leaves_no_task(clean, host, config, status, text):
    id = clean.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], "HostConfig": host, **config})[1]["Id"]
    got, body = clean.api("POST", f"/containers/{id}/start")
    assert got == status and text in body["message"], (got, body)
    assert clean.api("DELETE", f"/containers/{id}")[0] == 204


def test_a_port_that_is_taken_fails_the_start_and_only_that(clean):
    publish = {"Image": "busybox", "Cmd": ["sleep", "60"], "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "18080"}]}}}
    first, second = (clean.api("POST", "/containers/create", publish)[1]["Id"] for _ in range(2))
    assert clean.api("POST", f"/containers/{first}/start")[0] == 204
    status, body = clean.api("POST", f"/containers/{second}/start")
    assert status == 500 and "port is already allocated" in body["message"], (status, body)
    assert clean.api("DELETE", f"/containers/{first}?force=1")[0] == 204
    assert clean.api("POST", f"/containers/{second}/start")[0] == 204
    assert clean.api("DELETE", f"/containers/{second}?force=1")[0] == 204


def test_a_name_that_is_taken_is_a_conflict_that_names_its_owner(clean):
    id = clean.api("POST", "/containers/create?name=taken", {"Image": "busybox"})[1]["Id"]
    status, body = clean.api("POST", "/containers/create?name=taken", {"Image": "busybox"})
    assert status == 409 and body["message"] == (
        f'Conflict. The container name "/taken" is already in use by container "{id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    assert clean.api("DELETE", f"/containers/{id}")[0] == 204


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"Image": 1}', b"\xff\xfe", b'{"Image":"busybox"} {"x":1}', b"nul", b"[" * 100_000])
def test_malformed_json_is_a_400(clean, body):
    status, answer = clean.api("POST", "/containers/create", body, {"Content-Type": "application/json"})
    assert status == 400 and answer["message"], (status, answer)


def raw(engine, timeout=20):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout)
    client.connect(str(engine.socket))
    return client


def test_a_body_without_end_is_cut_off(clean):
    client = raw(clean)
    client.sendall(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent, chunk = 0, b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    try:
        while sent < 512 << 20:
            client.sendall(chunk)
            sent += len(chunk)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sent < 64 << 20
    answer = b""
    try:
        answer = client.recv(65536)
    except ConnectionResetError:
        pass
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer
    client.close()


def test_ten_thousand_headers_are_refused(clean):
    client = raw(clean)
    try:
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n")
        answer = client.recv(65536)
    except (BrokenPipeError, ConnectionResetError):
        answer = b""
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer
    client.close()
    assert clean.api("GET", "/_ping", raw=True)[0] == 200


def test_a_client_that_hangs_up_in_a_create_leaves_a_whole_container_or_none(clean):
    body = json.dumps({"Image": "busybox", "Cmd": ["true"]}).encode()
    head = b"POST /containers/create?name=hung HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    for wait in (None, 0, 0.002, 0.01, 0.05):
        client = raw(clean)
        client.sendall(head + (body[:10] if wait is None else body))
        time.sleep(wait or 0)
        client.close()

        def settled():
            status, answer = clean.api("POST", "/containers/create?name=hung", {"Image": "busybox", "Cmd": ["true"]})
            return status in (201, 409) and clean.api("POST", "/containers/hung/start")[0] == 204

        wait_until(settled, 10, "a container that starts")
        clean.api("POST", "/containers/hung/wait")
        assert clean.api("DELETE", "/containers/hung")[0] == 204


@pytest.mark.parametrize("request_line", [
    b"POST /containers/%s/attach?stream=1&stdout=1&stdin=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n",
    b"GET /containers/%s/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /containers/%s/wait HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /containers/%s/stats HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /containers/%s/export HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /events?filter=%s HTTP/1.1\r\nHost: x\r\n\r\n",
], ids=["attach", "logs", "wait", "stats", "export", "events"])  # fmt: skip
def test_clients_that_hang_up_leave_no_descriptor(clean, request_line):
    id = clean.out("run", "-di", "busybox", "sh", "-c", "while :; do echo x; sleep 0.1; done")
    settled = descriptors(clean)
    clients = []
    for _ in range(20):
        client = raw(clean)
        client.sendall(request_line % id.encode())
        clients.append(client)
    for client in clients[::2]:
        try:
            client.settimeout(2)
            client.recv(1)
        except TimeoutError:
            pass  # a wait answers at its end only
    for client in clients:
        client.close()
    wait_until(lambda: descriptors(clean) <= settled + 2, 20, f"{settled} descriptors again")
    assert clean.api("DELETE", f"/containers/{id}?force=1")[0] == 204


def test_a_client_that_hangs_up_in_a_load_leaves_nothing(clean):
    tags = clean.out("images", "-aq", "--no-trunc")
    data = busybox_archive().read_bytes()
    for part in (0, 100, 2000, len(data) // 2, len(data) - 10):
        client = raw(clean)
        client.sendall(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: %d\r\n\r\n" % len(data))
        client.sendall(data[:part])
        client.close()
    assert clean.out("images", "-aq", "--no-trunc") == tags
