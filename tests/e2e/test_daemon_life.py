"""gantryd's start and end: one for each root, gone within five seconds, containers left alone, or stopped with the host."""

import json
import pathlib
import re
import struct
import subprocess
import time

import pytest
from daemon_process import Variant, leave
from harness import wait_until


def test_a_second_gantryd_on_the_root_leaves_after_ten_seconds_and_names_the_first(fresh):
    first = fresh(busybox=False)
    second = fresh(start=False)
    second.data = first.data
    second.start(wait=False)
    code, seconds, said = leave(second)
    assert code == 1 and 9 < seconds < 20, (code, seconds, said)
    assert f"another gantryd (process {first.process.pid}) uses the data root {first.data}" in said
    assert first.api("GET", "/_ping", raw=True)[0] == 200


def test_a_second_gantryd_takes_over_when_the_first_goes_meanwhile(fresh):
    first = fresh(busybox=False)
    first_process = first.process
    first.start(wait=False)
    first_process.terminate()
    assert first_process.wait(10) == 0
    first.wait_ready()


def test_sigterm_ends_within_five_seconds_whoever_is_connected_and_containers_go_on(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", "while echo tick; do sleep 0.2; done")
    before = engine.inspect("one")["State"]
    clients = [
        engine.docker_popen(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        for argv in (["logs", "-f", "one"], ["events"], ["wait", "one"], ["attach", "--no-stdin", "one"], ["stats", "one"])
    ]
    half = engine.connection()
    half.sock.sendall(b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 1000\r\n\r\n{")
    wait_until(lambda: "tick" in engine.out("logs", "one"), what="a line of the container")
    started = time.monotonic()
    assert engine.stop() == 0
    assert time.monotonic() - started < 5
    assert pathlib.Path(f"/proc/{before['Pid']}").exists()
    assert not (engine.root / "gantryd.pid").exists()
    for client in clients:
        client.kill()
        client.wait()
    engine.start()
    after = engine.inspect("one")["State"]
    assert (after["Pid"], after["StartedAt"], after["Running"]) == (before["Pid"], before["StartedAt"], True)


def test_a_second_sigterm_ends_at_once(fresh):
    engine = fresh(busybox=False)
    half = engine.connection()
    half.sock.sendall(b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\n{")
    engine.process.terminate()
    time.sleep(0.1)
    if engine.process.poll() is None:
        engine.process.terminate()
    assert engine.process.wait(3) == 0


@pytest.fixture
def hosted():
    """An engine on a host whose init keeps utmp: in a mount namespace, where /run is a folder of the test's."""
    engine = Variant(change=lambda engine, argv: ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--", *argv])
    folder = engine.root / "hostrun"
    folder.mkdir()
    script = 'mount --bind "$0" /run && echo made && exec sleep 3600'
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, str(folder)], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"made\n"
        yield engine.start().load_busybox()
    finally:
        engine.close()
        holder.kill()
        holder.wait()


def go_to_run_level(engine, level):
    record = struct.pack("=hxx i 372x", 1, ord(level))
    assert len(record) in (380, 384)
    (engine.root / "hostrun" / "utmp").write_bytes(record.ljust(384, b"\0"))


def test_when_the_host_goes_down_containers_are_stopped_first(hosted):
    engine = hosted
    polite = "trap 'echo asked; exit 7' USR1; echo ready; while :; do sleep 0.1; done"
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    engine.docker("run", "-d", "--name", "polite", "--stop-signal", "USR1", "busybox", "sh", "-c", polite)
    engine.docker("run", "-d", "--name", "always", "--restart", "always", "--stop-signal", "USR1", "busybox", "sh", "-c", polite)
    for name in ("stubborn1", "stubborn2"):
        engine.docker("run", "-d", "--name", name, "--stop-timeout", "3", "busybox", "sh", "-c", stubborn)
    for name in ("polite", "always", "stubborn1", "stubborn2"):
        wait_until(lambda name=name: "ready" in engine.out("logs", name), what=f"{name} to be ready")
    pids = [engine.inspect(name)["State"]["Pid"] for name in ("polite", "always", "stubborn1", "stubborn2")]

    go_to_run_level(engine, "0")
    started = time.monotonic()
    assert engine.stop(timeout=30) == 0
    seconds = time.monotonic() - started
    assert 3 <= seconds < 6.5, f"the two that wait three seconds are stopped at the same time: {seconds}"
    assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids)

    go_to_run_level(engine, "5")
    engine.start()
    states = {name: engine.inspect(name)["State"] for name in ("polite", "stubborn1", "stubborn2")}
    codes = {name: (state["Status"], state["ExitCode"]) for name, state in states.items()}
    assert codes == {"polite": ("exited", 7), "stubborn1": ("exited", 137), "stubborn2": ("exited", 137)}
    assert "asked" in engine.out("logs", "polite")
    wait_until(lambda: engine.inspect("always")["State"]["Running"], what="the start of what always runs")


def test_sigterm_in_run_level_five_leaves_containers(hosted):
    engine = hosted
    engine.docker("run", "-d", "--name", "one", "busybox", "sleep", "600")
    pid = engine.inspect("one")["State"]["Pid"]
    go_to_run_level(engine, "5")
    assert engine.stop() == 0
    assert pathlib.Path(f"/proc/{pid}").exists()


def test_strict_runtime_refuses_a_runtime_with_known_holes(fresh):
    """Debian 12's containerd and runc bear numbers of releases with known holes."""
    engine = fresh(busybox=False)
    version = engine.api("GET", "/version")[1]
    parts = {part["Name"]: part["Version"] for part in version["Components"]}
    old = any(re.match(r"v?1\.[0-6]\.", parts[name]) for name in ("containerd",)) or re.match(r"1\.[01]\.", parts["runc"])
    assert old, f"this host has newer ones, the test needs Debian 12's: {json.dumps(parts)}"
    warnings = engine.api("GET", "/info")[1]["Warnings"]
    for program in ("containerd", "runc"):
        told = f"WARNING: {program} {parts[program]} is a release with known holes"
        assert any(line.startswith(told) for line in warnings), warnings
    engine.stop()
    engine.flags.append("--strict-runtime")
    engine.start(wait=False)
    code, _, said = leave(engine)
    assert code == 1 and "strict-runtime: " in said and "known holes" in said
