"""Start, stop, kill, restart, wait, remove and rename, as the docker CLI and bare requests see them."""

import json
import threading
import time

import pytest
from harness import wait_until

SLEEPER = ("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")


def run_up(engine, *argv):
    """Runs a container and waits for its line `up`: its traps are set."""
    container = engine.out("run", "-d", *argv)
    wait_until(lambda: "up" in engine.docker("logs", container).stdout, what="the line `up`")
    return container


def error(engine, *argv):
    done = engine.docker(*argv, check=False)
    assert done.returncode != 0, done
    return done.stderr.strip()


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_exit_code_of_the_program_is_that_of_docker_run(engine, status):
    assert engine.docker("run", "--rm", "busybox", "sh", "-c", f"exit {status}", check=False).returncode == status


def test_a_program_that_a_signal_ended_exits_128_and_its_number(engine):
    assert engine.docker("run", "--rm", "busybox", "sh", "-c", "kill -9 $$ ; sleep 5", check=False).returncode in (0, 137)
    name = run_up(engine, "busybox", "sh", "-c", "echo up; exec sleep 100")
    engine.docker("kill", name)
    assert engine.out("wait", name) == "137"
    engine.docker("rm", name)


def test_a_missing_program_is_127_one_that_may_not_run_126_and_a_bad_flag_125(engine):
    missing = engine.docker("run", "--name", "missing", "busybox", "nosuch", check=False)
    assert missing.returncode == 127
    assert 'exec: "nosuch": executable file not found in $PATH' in missing.stderr
    state = engine.inspect("missing")["State"]
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("created", 127, False)
    assert "executable file not found" in state["Error"]
    assert engine.docker("run", "--rm", "busybox", "/etc", check=False).returncode == 126
    assert engine.docker("run", "--rm", "busybox", "/etc/passwd", check=False).returncode == 126
    assert engine.docker("run", "--rm", "--memory", "1m", "busybox", "true", check=False).returncode == 125
    engine.docker("rm", "missing")
    assert engine.out("ps", "-aq", "-f", "name=missing") == ""


def test_stop_sends_the_terms_signal_and_the_program_may_end_itself(engine):
    name = run_up(engine, "--name", "polite", "busybox", *SLEEPER)
    assert engine.out("stop", "polite") == "polite"
    state = engine.inspect(name)["State"]
    assert (state["Status"], state["ExitCode"], state["Running"], state["Pid"]) == ("exited", 7, False, 0)
    assert state["FinishedAt"] > state["StartedAt"]
    assert engine.api("POST", "/containers/polite/stop")[0] == 304
    engine.docker("rm", "polite")


def test_stop_kills_when_its_time_is_over(engine):
    run_up(engine, "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    before = time.monotonic()
    engine.docker("stop", "-t", "1", "deaf")
    assert 0.9 < time.monotonic() - before < 8
    assert engine.inspect("deaf")["State"]["ExitCode"] == 137
    engine.docker("rm", "deaf")


def test_stop_uses_the_containers_own_signal_and_time(engine):
    program = "trap 'exit 9' QUIT; trap '' TERM; echo up; while :; do sleep 0.05; done"
    run_up(engine, "--name", "own", "--stop-signal", "SIGQUIT", "busybox", "sh", "-c", program)
    engine.docker("stop", "own")
    assert engine.inspect("own")["State"]["ExitCode"] == 9
    run_up(engine, "--name", "own-time", "--stop-timeout", "1", "busybox", "sh", "-c", program)
    before = time.monotonic()
    assert engine.api("POST", "/containers/own-time/stop")[0] == 204
    assert 0.9 < time.monotonic() - before < 8
    assert engine.inspect("own-time")["State"]["ExitCode"] == 137
    engine.docker("start", "own-time")
    wait_until(lambda: engine.docker("logs", "own-time").stdout.count("up") == 2)
    engine.docker("stop", "--signal", "QUIT", "own-time")
    assert engine.inspect("own-time")["State"]["ExitCode"] == 9
    engine.docker("rm", "own", "own-time")


@pytest.mark.parametrize("signal, number", [("USR1", 10), ("SIGUSR2", 12), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("2", 2)])
def test_kill_sends_any_signal_by_name_or_number(engine, signal, number):
    name = f"kill-{number}"
    run_up(engine, "--name", name, "busybox", "sh", "-c", f"trap 'exit {number}' {number}; echo up; while :; do sleep 0.05; done")
    engine.docker("kill", "-s", signal, name)
    assert engine.out("wait", name) == str(number)
    engine.docker("rm", name)


def test_kill_answers_when_the_container_is_dead_and_of_a_dead_one_conflicts(engine):
    name = run_up(engine, "--name", "killed", "busybox", *SLEEPER)
    assert engine.api("POST", "/containers/killed/kill") == (204, b"")
    assert engine.inspect("killed")["State"]["Status"] == "exited"
    status, body = engine.api("POST", "/containers/killed/kill")
    assert status == 409
    assert body["message"] == f"cannot kill container: killed: container {name} is not running"
    assert engine.api("POST", "/containers/killed/kill?signal=NOSUCH")[0] == 400
    engine.docker("rm", "killed")


def test_start_of_a_running_container_is_304_and_a_stopped_one_runs_again(engine):
    engine.docker("create", "--name", "again", "busybox", *SLEEPER)
    assert engine.inspect("again")["State"]["Status"] == "created"
    assert engine.api("POST", "/containers/again/start") == (204, b"")
    assert engine.api("POST", "/containers/again/start") == (304, b"")
    first = engine.inspect("again")["State"]
    engine.docker("kill", "again")
    engine.docker("start", "again")
    second = engine.inspect("again")["State"]
    assert second["Running"] and second["Pid"] > 0 and second["Pid"] != first["Pid"]
    assert second["StartedAt"] > first["StartedAt"] and second["ExitCode"] == 0
    status, body = engine.api("POST", "/containers/again/start", body={"Memory": 1})
    assert status == 400
    assert body["message"] == (
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
    )
    engine.docker("rm", "-f", "again")


def test_restart_works_on_running_and_on_stopped_ones(engine):
    run_up(engine, "--name", "turn", "busybox", *SLEEPER)
    pid = engine.inspect("turn")["State"]["Pid"]
    engine.docker("restart", "-t", "5", "turn")
    state = engine.inspect("turn")["State"]
    assert state["Running"] and state["Pid"] != pid
    engine.docker("kill", "turn")
    engine.docker("restart", "turn")
    assert engine.inspect("turn")["State"]["Running"]
    assert engine.inspect("turn")["RestartCount"] == 0
    engine.docker("rm", "-f", "turn")


def test_restart_does_not_remove_an_auto_remove_container(engine):
    run_up(engine, "--rm", "--name", "kept", "busybox", *SLEEPER)
    engine.docker("restart", "-t", "5", "kept")
    assert engine.inspect("kept")["State"]["Running"]
    engine.docker("stop", "kept")
    wait_until(lambda: engine.out("ps", "-aq", "-f", "name=kept") == "", what="the removal")


def test_pause_freezes_and_unpause_goes_on(engine):
    name = run_up(engine, "--name", "frozen", "busybox", "sh", "-c", "echo up; while :; do echo x; sleep 0.02; done")
    engine.docker("pause", "frozen")
    state = engine.inspect("frozen")["State"]
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    assert "(Paused)" in engine.out("ps", "-f", "name=frozen", "--format", "{{.Status}}")
    assert f"Container {name} is already paused" in error(engine, "pause", "frozen")
    assert "cannot start a paused container, try unpause instead" in error(engine, "start", "frozen")
    assert "Container frozen is paused, unpause the container before exec" in error(engine, "exec", "frozen", "true")
    assert 'cannot remove container "frozen": container is paused and must be unpaused first' in error(engine, "rm", "frozen")
    engine.docker("top", "frozen")
    engine.docker("unpause", "frozen")
    assert engine.inspect("frozen")["State"]["Status"] == "running"
    status, body = engine.api("POST", "/containers/frozen/unpause")
    assert (status, body["message"]) == (500, f"Container {name} is not paused")
    engine.docker("pause", "frozen")
    engine.docker("rm", "-f", "frozen")
    engine.docker("create", "--name", "cold", "busybox")
    status, body = engine.api("POST", "/containers/cold/pause")
    assert status == 409 and body["message"].endswith("is not running")
    engine.docker("rm", "cold")


def test_a_paused_container_is_stopped_and_killed_too(engine):
    run_up(engine, "--name", "ice", "busybox", *SLEEPER)
    engine.docker("pause", "ice")
    engine.docker("stop", "-t", "3", "ice")
    assert engine.inspect("ice")["State"]["Status"] == "exited"
    engine.docker("start", "ice")
    engine.docker("pause", "ice")
    engine.docker("kill", "ice")
    assert engine.inspect("ice")["State"]["Status"] == "exited"
    engine.docker("rm", "ice")


def waiter(engine, name, condition):
    """A wait whose headers have come; its `answer()` blocks for the body."""
    connection = engine.connection(timeout=60)
    connection.request("POST", f"/containers/{name}/wait?condition={condition}")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    return lambda: json.loads(answer.read())


def test_waits_are_answered_by_their_condition(engine):
    engine.docker("create", "--name", "waited", "busybox", *SLEEPER)
    assert waiter(engine, "waited", "not-running")() == {"StatusCode": 0}
    next_exit, removed = waiter(engine, "waited", "next-exit"), waiter(engine, "waited", "removed")
    engine.docker("start", "waited")
    default = waiter(engine, "waited", "")
    wait_until(lambda: "up" in engine.docker("logs", "waited").stdout)
    engine.docker("stop", "waited")
    assert next_exit() == {"StatusCode": 7}
    assert default() == {"StatusCode": 7}
    assert waiter(engine, "waited", "not-running")() == {"StatusCode": 7}
    engine.docker("rm", "waited")
    assert removed() == {"StatusCode": 7}
    assert engine.api("POST", "/containers/nosuch/wait")[0] == 404


def test_an_unknown_condition_is_refused(engine):
    engine.docker("create", "--name", "cond", "busybox")
    assert engine.api("POST", "/containers/cond/wait?condition=x") == (400, {"message": 'invalid condition: "x"'})
    engine.docker("rm", "cond")


def test_a_running_container_is_removed_by_force_alone(engine):
    run_up(engine, "--name", "alive", "busybox", *SLEEPER)
    text = 'cannot remove container "alive": container is running: stop the container before removing or force remove'
    assert engine.api("DELETE", "/containers/alive") == (409, {"message": text})
    assert engine.out("rm", "-f", "alive") == "alive"
    assert engine.api("DELETE", "/containers/alive") == (404, {"message": "No such container: alive"})
    assert engine.docker("rm", "-f", "alive", check=False).returncode == 0


def test_removals_at_the_same_time_end_in_one(engine):
    run_up(engine, "--name", "raced", "busybox", *SLEEPER)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(engine.api("DELETE", "/containers/raced?force=1"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} <= {204, 404, 409}
    assert 204 in {status for status, _ in answers}
    for status, body in answers:
        if status == 409:
            assert body["message"].startswith("removal of container raced is already in progress")
    assert engine.api("GET", "/containers/raced/json")[0] == 404


def test_a_rename_frees_the_old_name_at_once(engine):
    first = engine.out("create", "--name", "old-name", "busybox")
    engine.docker("rename", "old-name", "new-name")
    assert engine.inspect("new-name")["Name"] == "/new-name"
    engine.docker("create", "--name", "old-name", "busybox")
    status, body = engine.api("POST", "/containers/old-name/rename?name=new-name")
    assert status == 409
    assert body["message"] == (
        f'Error when allocating new name: Conflict. The container name "/new-name" is already in use by container "{first}".'
        " You have to remove (or rename) that container to be able to reuse that name."
    )
    for name, text in (
        ("", "Neither old nor new names may be empty"),
        ("old-name", "Renaming a container with the same name as its current name"),
    ):
        assert engine.api("POST", f"/containers/old-name/rename?name={name}") == (400, {"message": text})
    assert engine.api("POST", "/containers/old-name/rename?name=-bad")[0] == 400
    engine.docker("rm", "old-name", "new-name")


def test_containers_are_found_by_name_id_and_prefix(engine):
    container = engine.out("create", "--name", "found", "busybox")
    for name in (container, container[:12], container[:5], "found", "/found"):
        assert engine.inspect(name)["Id"] == container
    engine.docker("create", "--name", container[:6], "busybox")
    assert engine.inspect(container[:6])["Id"] != container
    assert "no such object: nosuch" in error(engine, "inspect", "nosuch").lower()
    assert engine.api("GET", "/containers/nosuch/json") == (404, {"message": "No such container: nosuch"})
    engine.docker("rm", "found", container[:6])


def test_top_lists_the_processes_of_the_container(engine):
    run_up(engine, "--name", "busy", "busybox", *SLEEPER)
    status, body = engine.api("GET", "/containers/busy/top")
    assert status == 200
    assert body["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert any("trap 'exit 7' TERM" in row[-1] for row in body["Processes"])
    assert all(len(row) == 8 for row in body["Processes"])
    lines = engine.out("top", "busy", "-o", "pid,comm").splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert str(engine.inspect("busy")["State"]["Pid"]) in [line.split()[0] for line in lines[1:]]
    engine.docker("kill", "busy")
    status, body = engine.api("GET", "/containers/busy/top")
    assert status == 409 and "is not running" in body["message"]
    engine.docker("rm", "busy")


def test_an_image_in_use_cannot_be_removed(engine):
    stale = engine.out("ps", "-aq").split()
    if stale:
        engine.docker("rm", "-f", *stale)
    running = run_up(engine, "busybox", *SLEEPER)
    image = engine.inspect("busybox")["Id"].split(":")[1][:12]
    text = error(engine, "image", "rm", "busybox")
    assert text == (
        "Error response from daemon: conflict: unable to delete busybox:latest (must be forced) - "
        f"container {running[:12]} is using its referenced image {image}"
    )
    assert engine.api("DELETE", "/images/busybox")[0] == 409
    hard = f"conflict: unable to delete {image} (cannot be forced) - image is being used by running container {running[:12]}"
    assert engine.api("DELETE", f"/images/{image}?force=1") == (409, {"message": hard})
    engine.docker("kill", running)
    soft = f"conflict: unable to delete {image} (must be forced) - image is being used by stopped container {running[:12]}"
    assert engine.api("DELETE", f"/images/{image}") == (409, {"message": soft})
    engine.docker("rm", running)
