"""T52 whole: gantryd is killed at its failpoints while many containers serve, resolve and write. None of them notices."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
from harness import wait_until
from test_failpoints import Create, Lab, NetworkConnect, NetworkCreate, NetworkDisconnect, RemoveRunning, Start, Stop, needs_failpoints

pytestmark = needs_failpoints
# A lost packet would be sent again after one second: no request and no name may have waited for that.
STALL = 1.0

PAGES = r"""
import json, socket, sys, threading, time
pause, ports = float(sys.argv[1]), [int(port) for port in sys.argv[2:]]
end, failed, longest, done = threading.Event(), [], [0.0], [0]
def once(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        got = b""
        while piece := peer.recv(65536):
            got += piece
    if b"hello from gantry" not in got:
        raise OSError(f"answered {got!r}")
def poll(port):
    while not end.is_set():
        began = time.monotonic()
        try:
            once(port)
            done[0] += 1
        except OSError as error:
            failed.append((time.time(), port, repr(error)))
        took = time.monotonic() - began
        longest[0] = max(longest[0], took)
        end.wait(max(0, pause - took))
threads = [threading.Thread(target=poll, args=(port,)) for port in ports]
for thread in threads: thread.start()
sys.stdin.readline()
end.set()
for thread in threads: thread.join()
print(json.dumps({"done": done[0], "failed": failed, "longest": longest[0]}))
"""

NAMES = r"""
import json, os, select, socket, struct, sys, time
name, address = sys.argv[1], socket.inet_aton(sys.argv[2])
question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.connect(("127.0.0.11", 53))
number, done, failed, longest, last = 0, 0, [], 0.0, time.monotonic()
while not select.select([sys.stdin], [], [], 0.01)[0]:
    number = (number + 1) % 65536
    began = time.monotonic()
    try:
        peer.send(struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question)
        if not select.select([peer], [], [], 5)[0]:
            raise OSError("no answer")
        got = peer.recv(4096)
        if got[:2] != struct.pack(">H", number) or not got.endswith(address):
            raise OSError(f"answered {got!r}")
        done += 1
    except OSError as error:
        failed.append((time.time(), repr(error)))
    longest = max(longest, time.monotonic() - began)
print(json.dumps({"done": done, "failed": failed, "longest": longest}))
"""

WRITE = 'BEGIN { for (n = 1; ; n++) { printf "%09d\\n", n; if (n % 5 == 0) system("usleep 5000") } }'


class Watch:
    """A program of ours that watches something until it is asked what it saw."""

    def __init__(self, *argv):
        self.process = subprocess.Popen(list(map(str, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end(self):
        out, _ = self.process.communicate("\n", timeout=60)
        return json.loads(out)


@pytest.fixture
def lab():
    lab = Lab()
    try:
        yield lab
    finally:
        lab.engine.close()


@pytest.mark.parametrize(
    "containers, rate, kills", [(5, 20, 8), pytest.param(50, 20, 1000, marks=[pytest.mark.soak, pytest.mark.timeout(5400)])], ids=["tenth", "full"]
)
def test_t52_a_kill_at_a_failpoint_costs_no_request_no_name_and_no_line(lab, containers, rate, kills):
    engine = lab.engine
    engine.docker("network", "create", "front")
    for number in range(containers):
        engine.docker("run", "-d", "--name", f"web{number}", "--network", "front", "-p", f"{8100 + number}:80", "busybox", "httpd", "-f", "-h", "/var/www")
    engine.docker("run", "-d", "--name", "asks", "--network", "front", "busybox", "sleep", "100000")
    engine.docker("run", "-d", "--name", "writes", "busybox", "awk", WRITE)
    asks = engine.inspect("asks")["State"]["Pid"]
    address = engine.inspect("web0")["NetworkSettings"]["Networks"]["front"]["IPAddress"]
    before = {name: engine.inspect(name)["State"]["Pid"] for name in ["asks", "writes", *(f"web{number}" for number in range(containers))]}
    enter = ("nsenter", f"--net=/run/netns/{engine.namespace.name}", "--")
    pages = Watch(*enter, sys.executable, "-c", PAGES, 1 / rate, *(8100 + number for number in range(containers)))
    names = Watch("nsenter", "-t", asks, "-n", "--", sys.executable, "-c", NAMES, "web0", address)

    chance = random.Random(int(os.environ.get("GANTRY_SEED", time.time_ns() % 100_000)))
    verbs = [Create, Start, Stop, RemoveRunning, NetworkCreate, NetworkConnect, NetworkDisconnect]
    points = [(verb, point) for verb in verbs for point in lab.trace(verb)]
    if len(points) > kills:
        points = chance.sample(points, kills)
    died = 0
    for verb, point in points:
        died += lab.kill_at(verb, point)
        verb.clean(lab)
    assert died >= len(points) // 2, f"{died} kills at {len(points)} points"

    seen = pages.end(), names.end()
    for watched in seen:
        assert watched["failed"] == [], watched["failed"][:5]
        assert watched["done"] > 100 and watched["longest"] < STALL, watched
    assert {name: engine.inspect(name)["State"]["Pid"] for name in before} == before
    engine.docker("stop", "-t", "0", "writes")
    lines = engine.docker("logs", "writes", timeout=300).stdout.split()
    assert lines == [f"{n + 1:09d}" for n in range(len(lines))] and len(lines) > 1000
    wait_until(lambda: engine.docker("exec", "asks", "nslookup", "-type=a", "web1", check=False).returncode == 0, 10)
