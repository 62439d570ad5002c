"""Hazard T36: clients of exec and attach that read nothing or come and go cost neither memory nor descriptors."""

import pathlib
import socket
import time

import pytest
from harness import wait_until
from test_leaks import anonymous_kib, ask, settled, SLACK, sums

MIB = 1 << 20
# What a session may hold of a stream that nobody reads, in gantryd and in the companion together.
HELD_KIB = 8 << 10


def hijack(engine, method, path, body=b"{}"):
    """A raw connection, its answer's head read."""
    client = socket.socket(socket.AF_UNIX)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect(str(engine.socket))
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
    client.sendall(head.encode() + body)
    seen = b""
    while b"\r\n\r\n" not in seen:
        piece = client.recv(1)
        assert piece, seen
        seen += piece
    assert seen.startswith(b"HTTP/1.1 101 "), seen
    return client


def written(pid):
    """How many bytes a process has got rid of."""
    fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])


@pytest.mark.parametrize("megabytes", [512, pytest.param(10 << 10, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])], ids=["tenth", "full"])
@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_t36_output_that_nobody_reads_is_not_kept_and_the_client_may_go(engine, megabytes, terminal):
    """CVE-2022-23471 and its like."""
    box = engine.out("run", "-d", "busybox", "sleep", "100000")
    try:
        before = anonymous_kib(engine) + anonymous_kib(engine, "gantry-stdio")
        body = {"Cmd": ["head", "-c", str(megabytes * MIB), "/dev/zero"], "AttachStdout": True, "Tty": terminal}
        made = ask(engine, "POST", f"/containers/{box}/exec", body)["Id"]
        start = b'{"Tty":true}' if terminal else b"{}"
        client = hijack(engine, "POST", f"/exec/{made}/start", start)
        pid = wait_until(lambda: ask(engine, "GET", f"/exec/{made}/json")["Pid"], what="the exec's process")
        seen = [-1]

        def stands():
            seen.append(written(pid))
            return seen[-1] == seen[-2] > 0

        wait_until(stands, 30, "the program to wait for its reader", every=0.5)
        held = anonymous_kib(engine) + anonymous_kib(engine, "gantry-stdio") - before
        assert held < HELD_KIB, f"{held} KiB are kept of {seen[-1]} bytes"
        assert engine.api("GET", "/containers/json", timeout=5)[0] == 200
        client.close()
        wait_until(lambda: not ask(engine, "GET", f"/exec/{made}/json")["Running"], megabytes // 4, "the program's end without its reader")
        held = anonymous_kib(engine) + anonymous_kib(engine, "gantry-stdio") - before
        assert held < HELD_KIB, f"{held} KiB are kept when nobody is left"
    finally:
        engine.docker("rm", "-f", box)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])], ids=["tenth", "full"])
def test_t36_clients_that_attach_and_go_leave_nothing(fresh, count):
    """CVE-2025-64329: a goroutine for each attach was left."""
    engine = fresh()
    box = engine.out("run", "-di", "busybox", "sh", "-c", "while read line; do echo got $line; done")
    path = f"/containers/{box}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    for _ in range(20):
        hijack(engine, "POST", path, b"").close()
    before = sums(engine)
    memory = anonymous_kib(engine) + anonymous_kib(engine, "gantry-stdio")
    for number in range(count):
        client = hijack(engine, "POST", path, b"")
        if number % 10 == 0:
            client.sendall(b"x\n")
            assert client.recv(8)[:1] == b"\x01"
        client.close()
    after = settled(engine, before)
    assert all(after[kind] <= before[kind] + SLACK[kind] for kind in SLACK), (before, after)
    assert anonymous_kib(engine) + anonymous_kib(engine, "gantry-stdio") - memory < 4 << 10
    # Who comes next has the same program, and its input goes on.
    client = hijack(engine, "POST", path, b"")
    client.sendall(b"last\n")
    seen, end = b"", time.monotonic() + 20
    while b"got last\n" not in seen and time.monotonic() < end:
        seen += client.recv(4096)
    client.close()
    assert b"got last\n" in seen
