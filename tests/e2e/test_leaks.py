"""Containers that came and went leave nothing: not in gantryd, not in its companions, not on the host."""

import os
import pathlib

import pytest

from harness import wait_until
from leftovers import difference, inventory

TENTH, FULL = 100, 1000
COUNTS = [TENTH, pytest.param(FULL, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
# What comes and goes by itself: a connection that is kept, a thread of the pool that has not gone to rest yet.
SLACK = {"descriptors": 4, "threads": 4, "processes": 0, "zombies": 0}
# The allocator's own: what a cycle leaves behind would be a multiple of this after so many.
GROWTH_KIB = 4096


def cycle(engine):
    """A container with an address, a published port, a volume and an input, run and removed."""
    body = {
        "Image": "busybox:latest",
        "Cmd": ["sh", "-c", "echo hello; cat"],
        "OpenStdin": True,
        "StdinOnce": True,
        "Volumes": {"/data": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}},
    }
    container = ask(engine, "POST", "/containers/create", body)["Id"]
    ask(engine, "POST", f"/containers/{container}/start")
    ask(engine, "POST", f"/containers/{container}/kill?signal=KILL")
    assert ask(engine, "POST", f"/containers/{container}/wait")["StatusCode"] == 137
    ask(engine, "DELETE", f"/containers/{container}?v=1")
    return container


def executed(engine, container):
    made = ask(engine, "POST", f"/containers/{container}/exec", {"Cmd": ["echo", "x"], "AttachStdout": True})["Id"]
    assert b"x\n" in ask(engine, "POST", f"/exec/{made}/start", {"Detach": False}, raw=True)


def ask(engine, method, path, body=None, raw=False):
    status, answer = engine.api(method, path, body, raw=raw)
    assert status < 400, (method, path, status, answer, engine.tail(20))
    return answer


def sums(engine):
    """Of every process of this engine, shims and companions included."""
    found = dict.fromkeys(SLACK, 0)
    for pid in family(engine):
        try:
            found["descriptors"] += len(os.listdir(f"/proc/{pid}/fd"))
            fields = status_of(pid)
        except OSError:
            continue
        found["processes"] += 1
        found["threads"] += int(fields.get("Threads", 0))
        found["zombies"] += fields["State"].startswith("Z")
    return found


def family(engine):
    found = [engine.process.pid, *engine.processes()]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                children = pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()
                found += [int(child) for child in children if int(child) not in found]
        except OSError:
            continue
    return set(found)


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines if ":" in line)}


def anonymous_kib(engine, name="gantryd"):
    """Memory of its own; pages of its binary come and go with the machine."""
    pids = [pid for pid in family(engine) if status_of(pid)["Name"] == name]
    return sum(int(status_of(pid)["RssAnon"].split()[0]) for pid in pids)


def cgroups_of(containers):
    wanted = set(containers)
    found = []
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{folder}/{name}" for name in names if any(one in wanted for one in name.split("-"))]
    return found


def settled(engine, before):
    """The sums when they are back to what they were; else the last ones, for the message."""
    last = {}

    def back():
        last.update(sums(engine))
        return all(last[kind] <= before[kind] + slack for kind, slack in SLACK.items())

    try:
        wait_until(back, 45, "the sums of before", every=0.25)
    except AssertionError:
        pass
    return last


@pytest.mark.parametrize("count", COUNTS, ids=["tenth", "full"])
def test_cycles_of_run_and_rm_leave_the_sums_what_they_were(fresh, count):
    engine = fresh()
    # Pools, caches and the firewall's sets are there after the first.
    for _ in range(20):
        cycle(engine)
    things = inventory(engine)
    before = sums(engine)
    memory, netd = anonymous_kib(engine), anonymous_kib(engine, "gantry-netd")
    containers = [cycle(engine) for _ in range(count)]
    after = settled(engine, before)
    more = {kind: (before[kind], after[kind]) for kind in SLACK if after[kind] > before[kind] + SLACK[kind]}
    assert not more, f"before and after {count} cycles: {more}"
    left = {}
    try:
        wait_until(lambda: not difference(things, inventory(engine)), 30, "what was there before", every=0.5)
    except AssertionError:
        left = difference(things, inventory(engine))
    assert not left, left
    assert cgroups_of(containers) == []
    assert anonymous_kib(engine) - memory <= GROWTH_KIB, f"gantryd: {memory} KiB before, {anonymous_kib(engine)} after"
    assert anonymous_kib(engine, "gantry-netd") - netd <= GROWTH_KIB // 4


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.soak)], ids=["tenth", "full"])
def test_execs_leave_the_sums_what_they_were(fresh, count):
    engine = fresh()
    container = engine.out("run", "-d", "busybox", "sleep", "100000")
    for _ in range(10):
        executed(engine, container)
    before, things = sums(engine), inventory(engine)
    for _ in range(count):
        executed(engine, container)
    after = settled(engine, before)
    assert all(after[kind] <= before[kind] + SLACK[kind] for kind in SLACK), (before, after)
    assert difference(things, inventory(engine)) == {}


def test_failed_starts_leave_nothing(fresh):
    engine = fresh()

    def fail():
        created = ask(engine, "POST", "/containers/create", {"Image": "busybox:latest", "Cmd": ["no-such-program"]})
        status, answer = engine.api("POST", f"/containers/{created['Id']}/start")
        assert status == 400, answer
        ask(engine, "DELETE", f"/containers/{created['Id']}")
        return created["Id"]

    for _ in range(3):
        fail()
    before, things = sums(engine), inventory(engine)
    containers = [fail() for _ in range(20)]
    after = settled(engine, before)
    assert all(after[kind] <= before[kind] + SLACK[kind] for kind in SLACK), (before, after)
    assert difference(things, inventory(engine)) == {}
    assert cgroups_of(containers) == []
