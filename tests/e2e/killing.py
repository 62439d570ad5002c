"""For the tests that kill: an engine's processes by name, a poller of published ports, a writer of numbered lines."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from harness import run, wait_until

# 5,000 lines of 100 bytes, a tenth of a second less what the lines themselves take, and again.
WRITER = (
    'BEGIN { for (n = 1; n <= %d; n++) { printf "%%099d\\n", n; if (n %% 5000 == 0) system("usleep 80000") } }'
)
GAP = re.compile(r"gantry: up to (\d+) bytes of output were lost here")


def processes(engine, name):
    """Process ids of one program of this engine: gantry-stdio, gantry-netd or containerd."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            about = [*words, os.readlink(entry / "cwd"), *(_links(entry) if name == "gantry-stdio" else [])]
        except OSError:
            continue
        if words[0].rsplit("/", 1)[-1] == name and any(str(engine.root) in text for text in about):
            found.append(int(entry.name))
    return found


def _links(entry):
    links = []
    for fd in (entry / "fd").iterdir():
        try:
            links.append(os.readlink(fd))
        except OSError:
            pass
    return links


def companion(engine, container):
    """The gantry-stdio that holds a container's log file."""
    log = engine.inspect(container)["LogPath"]
    holders = [pid for pid in processes(engine, "gantry-stdio") if log in _links(pathlib.Path(f"/proc/{pid}"))]
    assert len(holders) == 1, (container, log, holders)
    return holders[0]


def kill_9(pid):
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}/exe").exists() or _is_zombie(pid), 5, f"the end of {pid}")


def _is_zombie(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    # The second where it goes between the opening and the reading.
    except (FileNotFoundError, ProcessLookupError):
        return True


def write_lines(engine, name, count, *options):
    engine.docker("run", "-d", "--name", name, *options, "busybox", "awk", WRITER % count)


def numbers(engine, name):
    """What `docker logs` has: the numbers in order, and how many bytes each gap line admits."""
    lines, gaps = [], []
    logs = engine.docker("logs", name, timeout=300)
    # The gap is said on stderr: it is not the program's output.
    for line in logs.stdout.splitlines() + logs.stderr.splitlines():
        gap = GAP.search(line)
        if gap:
            gaps.append(int(gap.group(1)))
        else:
            lines.append(line)
    return lines, gaps


def assert_whole(engine, name, count):
    lines, gaps = numbers(engine, name)
    assert gaps == []
    wrong = next((at for at, line in enumerate(lines) if line != f"{at + 1:099d}"), None)
    assert wrong is None, (wrong, lines[max(0, wrong - 2) : wrong + 3])
    assert len(lines) == count


def assert_bounded_loss(engine, name, count, kills=1, each=64 << 10):
    """Every loss is said; beside the gaps all lines are there, once and in order. Returns the bytes lost."""
    lines, gaps = numbers(engine, name)
    whole = [int(line) for line in lines if re.fullmatch(r"\d{99}", line)]
    assert all(a < b for a, b in zip(whole, whole[1:])), "lines are doubled or out of order"
    lost = 100 * (count - len(whole))
    assert 1 <= len(gaps) <= kills and all(gap <= each for gap in gaps), gaps
    # A line that was cut by the gap's edges counts as lost too.
    assert lost <= kills * (each + 200), (lost, gaps)
    assert whole[-1] == count
    return lost


POLLER = r"""
import json, socket, sys, threading, time
port, pause = int(sys.argv[1]), float(sys.argv[2])
addresses = sys.argv[3:]
end, failed, done = threading.Event(), [], dict.fromkeys(addresses, 0)
longest = dict.fromkeys(addresses, 0.0)
def once(address):
    with socket.create_connection((address, port), timeout=5) as peer:
        peer.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        got = b""
        while piece := peer.recv(65536):
            got += piece
    if b"hello from gantry" not in got:
        raise OSError(f"answered {got!r}")
def poll(address):
    while not end.is_set():
        began = time.monotonic()
        try:
            once(address)
            done[address] += 1
        except OSError as error:
            failed.append((time.time(), address, repr(error)))
        took = time.monotonic() - began
        longest[address] = max(longest[address], took)
        end.wait(max(0, pause - took))
threads = [threading.Thread(target=poll, args=(address,)) for address in addresses]
for thread in threads: thread.start()
sys.stdin.readline()
end.set()
for thread in threads: thread.join()
print(json.dumps({"done": done, "failed": failed, "longest": longest}))
"""


class Poller:
    """Asks a published port for its page 100 times a second on each address, inside the engine's namespace."""

    def __init__(self, engine, port, addresses, pause=0.01):
        self.process = engine.namespace.popen(
            sys.executable, "-c", POLLER, port, pause, *addresses,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self):
        out, _ = self.process.communicate("\n", timeout=60)
        return json.loads(out)


def answers(engine, port, address):
    host = f"[{address}]" if ":" in address else address
    done = engine.namespace.exec("curl", "-gsS", "-m", "2", f"http://{host}:{port}/index.html", check=False)
    return done.stdout.startswith("hello from gantry")


def give_address(engine, address):
    """An address of the host's own beside loopback."""
    run("ip", "-n", engine.namespace.name, "link", "add", "host0", "type", "veth", "peer", "name", "host1")
    run("ip", "-n", engine.namespace.name, "addr", "add", f"{address}/24", "dev", "host0")
    for link in ("host0", "host1"):
        run("ip", "-n", engine.namespace.name, "link", "set", link, "up")


def events(engine, since, *filters):
    argv = [word for text in filters for word in ("--filter", text)]
    text = engine.out("events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}", *argv, "--format", "{{json .}}")
    return [json.loads(line) for line in text.splitlines()]
