"""Restart policies with their back-off, --rm, and a container whose shim hangs or is gone."""

import os
import pathlib
import signal
import time

from harness import wait_until


def state(engine, name):
    return engine.inspect(name)["State"]


def test_on_failure_tries_as_often_as_it_is_told(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "fails", "--restart", "on-failure:3", "busybox", "sh", "-c", "echo run; exit 3")
    assert engine.api("POST", "/containers/fails/wait?condition=not-running", timeout=30)[1] == {"StatusCode": 3}
    wait_until(lambda: state(engine, "fails")["Status"] == "exited" and engine.inspect("fails")["RestartCount"] == 3)
    assert engine.docker("logs", "fails").stdout == "run\n" * 4
    engine.docker("run", "-d", "--name", "fine", "--restart", "on-failure:3", "busybox", "true")
    engine.docker("wait", "fine")
    assert engine.inspect("fine")["RestartCount"] == 0 and state(engine, "fine")["Status"] == "exited"


def test_the_back_off_doubles_and_shows_as_restarting(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "loop", "--restart", "always", "busybox", "sh", "-c", "exit 1")
    wait_until(lambda: engine.inspect("loop")["RestartCount"] >= 4, what="the fourth restart")
    wait_until(lambda: state(engine, "loop")["Status"] == "restarting")
    seen = state(engine, "loop")
    assert (seen["Running"], seen["Restarting"], seen["ExitCode"]) == (True, True, 1)
    assert engine.out("ps", "--format", "{{.Status}}").startswith("Restarting (1) ")
    text = engine.docker("exec", "loop", "true", check=False).stderr
    assert "is restarting, wait until the container is running" in text
    events = engine.out("events", "--since", "0", "--until", str(time.time()), "--filter", "container=loop",
                        "--filter", "type=container", "--format", "{{.Action}} {{.TimeNano}}")  # fmt: skip
    moments = [line.split() for line in events.splitlines()]
    dies = [int(at) for action, at in moments if action == "die"]
    starts = [int(at) for action, at in moments if action == "start"]
    assert "restart" not in [action for action, _ in moments]
    pauses = [(start - die) / 1e9 for die, start in zip(dies, starts[1:])]
    for n, pause in enumerate(pauses):
        assert pause >= 0.1 * 2**n, pauses
    engine.docker("stop", "loop")
    assert state(engine, "loop")["Status"] == "exited"
    count = engine.inspect("loop")["RestartCount"]
    time.sleep(2)  # nothing must happen: there is no event to wait for
    assert engine.inspect("loop")["RestartCount"] == count and state(engine, "loop")["Status"] == "exited"


def test_a_stopped_container_is_not_restarted_and_one_that_was_signalled_otherwise_is(fresh):
    engine = fresh()
    program = ("sh", "-c", "trap 'exit 1' USR1; echo up; while :; do sleep 0.05; done")
    engine.docker("run", "-d", "--name", "always", "--restart", "always", "--stop-signal", "KILL", "busybox", *program)
    wait_until(lambda: "up" in engine.docker("logs", "always").stdout)
    engine.docker("kill", "-s", "USR1", "always")
    wait_until(lambda: engine.inspect("always")["RestartCount"] == 1 and state(engine, "always")["Status"] == "running")
    engine.docker("stop", "-t", "1", "always")
    assert state(engine, "always")["Status"] == "exited"
    engine.docker("start", "always")
    engine.docker("kill", "always")
    assert state(engine, "always")["Status"] == "exited"


def test_an_auto_remove_container_and_its_anonymous_volume_go(fresh):
    engine = fresh()
    engine.docker("run", "--rm", "-v", "/data", "-v", "named:/named", "busybox", "touch", "/data/x")
    assert engine.out("ps", "-aq") == ""
    assert engine.out("volume", "ls", "-q") == "named"
    answer = engine.docker("run", "--rm", "--restart", "always", "busybox", check=False)
    assert answer.returncode == 125 and "conflicting options" in answer.stderr
    status, body = engine.api(
        "POST", "/containers/create",
        body={"Image": "busybox", "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}},
    )  # fmt: skip
    assert (status, body["message"]) == (400, "can't create 'AutoRemove' container with restart policy")


def shim_of(engine, container):
    """The shim is the parent of the container's first process."""
    pid = state(engine, container)["Pid"]
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_container_whose_shim_was_killed_is_removed_and_its_name_and_port_are_free(fresh):
    engine = fresh()
    argv = ("run", "-d", "--name", "orphan", "-p", "8099:80", "busybox", "sh", "-c", "echo up; exec sleep 1000")
    engine.docker(*argv)
    pid = state(engine, "orphan")["Pid"]
    os.kill(shim_of(engine, "orphan"), signal.SIGKILL)
    before = time.monotonic()
    engine.docker("rm", "-f", "orphan")
    assert time.monotonic() - before < 15
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), what="the end of the process")
    engine.docker(*argv)
    engine.docker("rm", "-f", "orphan")


def test_a_container_whose_shim_hangs_is_removed_within_fifteen_seconds(fresh):
    engine = fresh()
    argv = ("run", "-d", "--name", "stuck", "-p", "8098:80", "busybox", "sh", "-c", "echo up; exec sleep 1000")
    engine.docker(*argv)
    shim = shim_of(engine, "stuck")
    os.kill(shim, signal.SIGSTOP)
    try:
        before = time.monotonic()
        answer = engine.docker("rm", "-f", "stuck", check=False, timeout=60)
        took = time.monotonic() - before
        assert took < 15, (took, answer)
        assert answer.returncode == 0, answer.stderr
        engine.docker(*argv)
    finally:
        try:
            os.kill(shim, signal.SIGCONT)
        except ProcessLookupError:
            pass
    assert state(engine, "stuck")["Running"]
