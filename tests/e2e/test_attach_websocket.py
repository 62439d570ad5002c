"""`GET /containers/{id}/attach/ws`, spoken to by a client of RFC 6455 that is written out here."""

import base64
import os
import socket
import struct
import threading
import time
import urllib.parse

import pytest
from harness import wait_until

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocket:
    def __init__(self, engine, name, version="v1.51", **query):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(engine.socket))
        path = f"/{version}/containers/{name}/attach/ws?{urllib.parse.urlencode(query)}"
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: docker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        self.status = int(self.stream.readline().split()[1])
        self.headers = {}
        while (line := self.stream.readline().strip()) != b"":
            self.headers[line.split(b":")[0].decode().lower()] = line.split(b":", 1)[1].strip().decode()
        self.body = self.stream.read(int(self.headers["content-length"])) if self.status != 101 else b""

    def frame(self, kind, data, last=True):
        mask = os.urandom(4)
        head = bytes([kind | (0x80 if last else 0)])
        if len(data) < 126:
            head += bytes([0x80 | len(data)])
        elif len(data) < 1 << 16:
            head += bytes([0x80 | 126]) + struct.pack(">H", len(data))
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", len(data))
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
        self.socket.sendall(head + mask + masked)

    def send(self, data):
        self.frame(BINARY, data)

    def receive(self):
        """One frame: kind and data; `None` at the end of the connection."""
        head = self.stream.read(2)
        if len(head) < 2:
            return None
        assert head[0] & 0x80 and not head[1] & 0x80, "whole, and not masked by a server"
        size = head[1]
        if size == 126:
            size = struct.unpack(">H", self.stream.read(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.stream.read(8))[0]
        return head[0] & 0x0F, self.stream.read(size)

    def until(self, text):
        seen = b""
        while text not in seen:
            frame = self.receive()
            assert frame and frame[0] != CLOSE, seen
            seen += frame[1]
        return seen

    def rest(self):
        """All output, to the server's Close."""
        seen = b""
        while (frame := self.receive()) and frame[0] != CLOSE:
            seen += frame[1]
        assert frame and frame[1][:2] == struct.pack(">H", 1000), "closed in order"
        assert self.receive() is None
        return seen

    def close(self):
        self.stream.close()
        self.socket.close()


def create(engine, name, *argv):
    engine.docker("create", "--name", name, *argv)


BOTH = {"stream": 1, "stdout": 1, "stderr": 1}


def test_a_client_that_waits_before_the_start_gets_all_output_unframed_and_a_close(engine):
    create(engine, "early", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    client = WebSocket(engine, "early", **BOTH)
    assert client.status == 101 and client.headers["upgrade"].lower() == "websocket"
    engine.docker("start", "early")
    assert sorted(client.rest().splitlines()) == [b"err", b"out"]


def test_input_goes_in_and_a_clients_end_leaves_the_output_going(engine):
    for end in ("close frame", "half closed"):
        name = end.replace(" ", "-")
        create(engine, name, "-i", "busybox", "sh", "-c", "wc -c; echo after")
        client = WebSocket(engine, name, stdin=1, **BOTH)
        engine.docker("start", name)
        client.send(b"x" * 70_000)
        client.frame(TEXT, b"split ", last=False)
        client.frame(0, b"in two")
        client.frame(PING, b"still there?")
        assert client.receive() == (PONG, b"still there?")
        if end == "close frame":
            client.frame(CLOSE, struct.pack(">H", 1000))
        else:
            client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b"70012\nafter\n", end
        assert engine.out("wait", name) == "0"


def test_many_clients_see_the_same_and_the_history_comes_first(engine):
    create(engine, "many", "-i", "busybox", "sh", "-c", "echo one; while read x; do echo got $x; done; echo bye")
    clients = [WebSocket(engine, "many", stdin=1, **BOTH) for _ in range(20)]
    engine.docker("start", "many")
    for client in clients:
        client.until(b"one\n")
    clients[3].send(b"hello\n")
    for client in clients:
        assert client.until(b"got hello\n")
    late = WebSocket(engine, "many", logs=1, stdin=1, **BOTH)
    assert late.until(b"got hello\n") == b"one\ngot hello\n"
    for client in clients[5:]:
        client.close()  # without a word
    clients[4].frame(CLOSE, struct.pack(">H", 1000))
    for client in (late, *clients[:4]):
        assert client.rest() == b"bye\n"
    history = WebSocket(engine, "many", logs=1, stdout=1)
    assert history.rest() == b"one\ngot hello\nbye\n", "without stream it ends there"


def test_streams_are_chosen_since_1_42_and_messages_are_text_before_1_28(engine):
    create(engine, "choice", "busybox", "sh", "-c", "echo out; echo err >&2")
    errors = WebSocket(engine, "choice", stream=1, stderr=1)
    old = WebSocket(engine, "choice", version="v1.41", stream=1)
    oldest = WebSocket(engine, "choice", version="v1.24", stream=1)
    engine.docker("start", "choice")
    kind, _ = oldest.receive()
    assert kind == TEXT
    assert errors.rest() == b"err\n"
    assert sorted(old.rest().splitlines()) == [b"err", b"out"]


def test_a_terminal_echoes_and_the_detach_keys_leave_it_running(engine):
    engine.docker("run", "-dit", "--name", "term", "busybox", "cat")
    client = WebSocket(engine, "term", stdin=1, detachKeys="ctrl-a,x", **BOTH)
    client.send(b"hi\r")
    assert b"hi\r\n" in client.until(b"hi\r\nhi\r\n")
    since = str(time.time() - 1)
    client.send(b"\x01")
    client.send(b"x")
    client.rest()
    assert engine.inspect("term")["State"]["Running"]
    told = engine.out("events", "--since", since, "--until", str(time.time()), "--format", "{{.Action}}",
                      "--filter", "container=term")  # fmt: skip
    assert "detach" in told.splitlines()
    engine.docker("rm", "-f", "term")


@pytest.mark.parametrize("name, query, status, text", [
    ("nobody", {}, 404, "No such container: nobody"),
    ("plain", {"detachKeys": "ctrl-!"}, 400, "Invalid detach keys (ctrl-!) provided"),
])  # fmt: skip
def test_refusals_come_as_json_before_the_handshake(engine, name, query, status, text):
    engine.docker("rm", "-f", "plain", check=False)
    create(engine, "plain", "busybox", "true")
    client = WebSocket(engine, name, **query)
    assert client.status == status and text in client.body.decode()


def test_a_paused_container_and_a_client_without_handshake_are_refused(engine):
    engine.docker("run", "-d", "--name", "frozen", "busybox", "sleep", "1000")
    assert engine.api("GET", "/containers/frozen/attach/ws?stream=1")[0] == 400
    engine.docker("pause", "frozen")
    client = WebSocket(engine, "frozen", **BOTH)
    assert client.status == 409
    assert "container frozen is paused, unpause the container before attach" in client.body.decode()
    engine.docker("rm", "-f", "frozen")


def test_a_client_that_reads_nothing_holds_nobody_else_up_for_ever(engine):
    create(engine, "flood", "busybox", "sh", "-c", "dd if=/dev/zero bs=64k count=80 2>/dev/null; echo; echo end")
    deaf = WebSocket(engine, "flood", **BOTH)
    client = WebSocket(engine, "flood", **BOTH)
    engine.docker("start", "flood")
    threading.Timer(1, deaf.close).start()
    assert len(client.rest()) == 80 * 65536 + 5
    wait_until(lambda: not engine.inspect("flood")["State"]["Running"])
