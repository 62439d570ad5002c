"""Nothing is stuck (T53): a container is ended within 15 seconds beyond the time asked for, whatever hangs below it."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from harness import run, wait_until
from killing import companion

BEYOND = 15
# A bridge with room for one container.
NARROW, ONLY = ("--bip", "172.17.0.1/30"), "172.17.0.2"
LOOP = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")


def state(engine, name):
    return engine.inspect(name)["State"]


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def start(engine, name, *options, program=LOOP):
    engine.docker("run", "-d", "--name", name, "-p", "8097:80", *options, "busybox", *program)
    pid = state(engine, name)["Pid"]
    return pid, parent(pid)


def timed(engine, *argv):
    began = time.monotonic()
    answer = engine.docker(*argv, check=False, timeout=90)
    return answer, time.monotonic() - began


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def is_gone(pid):
    path = pathlib.Path(f"/proc/{pid}/stat")
    try:
        return path.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def assert_free(engine, name):
    """Name, address and port can be had again."""
    engine.docker("rm", "-f", name, check=False)
    address = engine.out("run", "--rm", "--name", name, "-p", "8097:80", "busybox", "hostname", "-i")
    assert address == ONLY


VERBS = [
    pytest.param(("stop", "-t", "0"), id="stop"),
    pytest.param(("kill",), id="kill"),
    pytest.param(("rm", "-f"), id="rm"),
]

# What takes ten seconds each is done for a removal, and for the others in the long run.
SLOW_VERBS = [
    pytest.param(("stop", "-t", "0"), id="stop", marks=pytest.mark.soak),
    pytest.param(("kill",), id="kill", marks=pytest.mark.soak),
    pytest.param(("rm", "-f"), id="rm"),
]


@pytest.mark.parametrize("verb", VERBS)
def test_a_shim_that_hangs_is_given_up(fresh, verb):
    engine = fresh(*NARROW)
    pid, shim = start(engine, "stuck", "--restart", "always")
    os.kill(shim, signal.SIGSTOP)
    try:
        for read in (("ps",), ("inspect", "stuck"), ("logs", "stuck"), ("port", "stuck")):
            _, took = timed(engine, *read)
            assert took < 2, read
        answer, took = timed(engine, *verb, "stuck")
        assert answer.returncode == 0 and took < BEYOND, (took, answer)
        if verb[0] != "rm":
            seen = state(engine, "stuck")
            assert (seen["Status"], seen["Running"], seen["Pid"]) == ("exited", False, 0)
        wait_until(lambda: is_gone(pid) and is_gone(shim))
        assert_free(engine, "stuck")
    finally:
        send(shim, signal.SIGCONT)


@pytest.mark.parametrize("verb", VERBS)
def test_a_shim_that_was_killed_leaves_nothing_behind(fresh, verb):
    engine = fresh(*NARROW)
    pid, shim = start(engine, "orphan")
    os.kill(shim, signal.SIGKILL)
    answer, took = timed(engine, *verb, "orphan")
    # It may have been seen to have ended by then.
    assert took < BEYOND and (answer.returncode == 0 or "is not running" in answer.stderr), (took, answer)
    if verb[0] != "rm":
        wait_until(lambda: state(engine, "orphan")["Status"] == "exited")
    wait_until(lambda: is_gone(pid))
    assert_free(engine, "orphan")


@pytest.mark.parametrize("verb", SLOW_VERBS)
def test_a_process_that_no_signal_ends_keeps_neither_name_nor_port(fresh, verb):
    freezer = pathlib.Path("/sys/fs/cgroup/freezer")
    if not (freezer / "cgroup.procs").exists():
        pytest.skip("needs the freezer of cgroup v1, which holds off SIGKILL")
    engine = fresh(*NARROW)
    pid, _ = start(engine, "asleep", program=("sleep", "1000"))
    cold = freezer / f"gt-{engine.number}"
    cold.mkdir()
    try:
        (cold / "cgroup.procs").write_text(str(pid))
        (cold / "freezer.state").write_text("FROZEN")
        wait_until(lambda: (cold / "freezer.state").read_text().strip() == "FROZEN")
        answer, took = timed(engine, *verb, "asleep")
        assert answer.returncode == 0 and took < BEYOND, (took, answer)
        if verb[0] != "rm":
            assert state(engine, "asleep")["Status"] == "exited"
        assert not is_gone(pid), "the test's own frost"
        assert_free(engine, "asleep")
    finally:
        (cold / "freezer.state").write_text("THAWED")
        wait_until(lambda: is_gone(pid), what="the end of what was frozen")
        wait_until(lambda: not (cold / "cgroup.procs").read_text())
        cold.rmdir()
    wait_until(lambda: not [mount for mount in engine.mounts() if "rootfs" in mount], 60, "the end of its mounts")


@pytest.mark.parametrize("verb", SLOW_VERBS)
def test_an_unmount_that_hangs_holds_nobody_up(fresh, verb):
    engine = fresh(*NARROW)
    pid, shim = start(engine, "mounted")
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", engine.root / "strace", "-p", str(shim), "-e", "trace=umount2",
         "-e", "inject=umount2:delay_enter=60000000"],
    )  # fmt: skip
    try:
        status = pathlib.Path(f"/proc/{shim}/status")
        wait_until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), what="the tracer")
        answer, took = timed(engine, *verb, "mounted")
        assert answer.returncode == 0 and took < BEYOND, (took, answer)
        if verb[0] != "rm":
            assert state(engine, "mounted")["Status"] == "exited"
        assert_free(engine, "mounted")
        wait_until(lambda: is_gone(pid))
    finally:
        tracer.kill()
        tracer.wait()


def test_a_companion_that_hangs_does_not_keep_its_container(fresh):
    engine = fresh(*NARROW)
    start(engine, "mute")
    one = companion(engine, engine.inspect("mute")["Id"])
    os.kill(one, signal.SIGSTOP)
    try:
        answer, took = timed(engine, "rm", "-f", "mute")
        assert answer.returncode == 0 and took < BEYOND, (took, answer)
        assert_free(engine, "mute")
    finally:
        send(one, signal.SIGCONT)


def with_slow_runtime(fresh, word):
    """An engine whose second runtime never ends the step that `word` names."""
    engine = fresh(*NARROW, start=False)
    slow = engine.root / "slow-runc"
    slow.write_text(f'#!/bin/sh\nfor word; do [ "$word" = {word} ] && exec sleep 1000; done\nexec runc "$@"\n')
    slow.chmod(0o755)
    engine.config.write_text(json.dumps({"runtimes": {"slow": {"path": str(slow)}}}))
    engine.start()
    engine.load_busybox()
    return engine


@pytest.mark.parametrize("word", ["create", "start"])
def test_a_start_that_hangs_does_not_hold_a_removal(fresh, word):
    engine = with_slow_runtime(fresh, word)
    engine.docker("create", "--name", "slow", "--runtime", "slow", "-p", "8097:80", "busybox", "true")
    starting = engine.docker_popen("start", "slow", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: "slow-runc" in run("ps", "-eo", "args").stdout or "sleep 1000" in run("ps", "-eo", "args").stdout)
    for read in (("ps", "-a"), ("inspect", "slow")):
        _, took = timed(engine, *read)
        assert took < 2, read
    assert state(engine, "slow")["Status"] == "created"
    answer, took = timed(engine, "rm", "-f", "slow")
    assert answer.returncode == 0 and took < BEYOND, (took, answer)
    _, error = starting.communicate(timeout=30)
    assert starting.returncode != 0 and error
    assert_free(engine, "slow")
    wait_until(lambda: not [mount for mount in engine.mounts() if "rootfs" in mount], 60, "the end of its mounts")


def test_a_gantryd_that_starts_beside_a_hanging_shim_takes_nothing_for_dead(fresh):
    engine = fresh(*NARROW)
    pid, shim = start(engine, "slow", program=("sleep", "1000"))
    engine.docker("run", "-d", "--name", "other", "--network", "none", "busybox", "sleep", "1000")
    os.kill(shim, signal.SIGSTOP)
    try:
        engine.restart()
        seen = state(engine, "slow")
        assert (seen["Status"], seen["Pid"]) == ("running", pid)
        assert state(engine, "other")["Status"] == "running"
        engine.docker("exec", "other", "true")
    finally:
        send(shim, signal.SIGCONT)
    engine.docker("exec", "slow", "true")
    engine.docker("stop", "-t", "0", "slow")
    assert state(engine, "slow")["ExitCode"] == 137
    assert is_gone(pid)
