"""kill -9 of gantryd (T52): no container notices, nothing is lost, and what happened meanwhile is caught up."""

import datetime
import pathlib
import time

import pexpect
import pytest
from harness import wait_until
from killing import Poller, assert_whole, events, give_address, write_lines

HOST = "192.0.2.7"
ADDRESSES = ("127.0.0.1", HOST, "::1")
# Waits for a file of the test's, so that the moment of an exit is the test's to choose.
AT = 'while [ ! -e /t/%s ]; do usleep 20000; done; '
# The first run waits for the moment and fails; the second stays.
TWICE = 'echo run >> /t/%s; [ "$(wc -l < /t/%s)" -gt 1 ] && exec sleep 1000; ' + AT % "go" + "exit %d"


def moment(text):
    return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def addresses(engine, names):
    return {name: engine.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for name in names}


def has_line(log, number):
    """Whether the writer's line of this number is among the last ones of the file."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        return b"%099d" % number in file.read()


@pytest.mark.parametrize(
    "lines, dead", [(300_000, 2), pytest.param(1_000_000, 6, marks=pytest.mark.soak)], ids=["tenth", "full"]
)
def test_gantryd_killed_under_load_disturbs_nobody(fresh, lines, dead):
    engine = fresh(start=False)
    give_address(engine, HOST)
    engine.start().load_busybox()
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/var/www")
    engine.docker("run", "-dit", "--name", "terminal", "busybox", "sh")
    write_lines(engine, "lines", lines)
    names = ["web", "terminal", "lines"]
    before, ids = addresses(engine, names), {name: engine.inspect(name)["Id"] for name in names}
    pids = {name: engine.inspect(name)["State"]["Pid"] for name in names}
    poller = Poller(engine, 8080, ADDRESSES)
    shell = pexpect.spawn("docker", ["attach", "terminal"], env=engine.docker_env(), encoding="utf-8", timeout=20)
    shell.sendline("word=kept; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo tick $i; usleep 1000; done; echo $((6 * 7))$word")
    shell.expect("tick 20")
    log = pathlib.Path(engine.inspect("lines")["LogPath"])
    engine.kill()
    # gantryd is dead for this long: that is what is tested. The writer and its log go on meanwhile, or come to their end.
    for _ in range(4):
        written = log.stat().st_size
        time.sleep(dead / 4)
        grown = log.stat().st_size > written
        assert grown or has_line(log, lines), "the writer or its log stood still while gantryd was dead"
    engine.start()
    assert {name: engine.inspect(name)["Id"] for name in names} == ids
    # On a slow machine the writer may be at its end by now.
    running = [name for name in names if name != "lines" or engine.inspect(name)["State"]["Running"]]
    assert {name: engine.inspect(name)["State"]["Pid"] for name in running} == {name: pids[name] for name in running}
    assert addresses(engine, running) == {name: before[name] for name in running}
    shell.close(force=True)
    engine.docker("wait", "lines", timeout=120)
    polled = poller.end()
    assert polled["failed"] == [], polled["failed"][:5]
    assert all(count > 20 for count in polled["done"].values()), polled
    # Nobody waited: not for a packet that was sent again, which takes a second, nor for gantryd.
    assert max(polled["longest"].values()) < 1, polled["longest"]
    assert_whole(engine, "lines", lines)
    # The program on the terminal went on, all it wrote is there, and a new client talks to the same shell.
    shell = pexpect.spawn("docker", ["attach", "terminal"], env=engine.docker_env(), encoding="utf-8", timeout=60)
    wait_until(lambda: "42kept" in engine.out("logs", "terminal"), 60, "the end of the program on the terminal")
    ticks = [line.strip() for line in engine.docker("logs", "terminal").stdout.splitlines() if line.startswith("tick ")]
    assert ticks == [f"tick {n}" for n in range(1, 2001)]
    shell.sendline("echo again-$word")
    shell.expect("again-kept")
    shell.close(force=True)


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """An engine that was killed while everything happened: containers and execs ended, others go on."""
    from harness import Engine

    engine = Engine().start()
    try:
        engine.load_busybox()
        engine.shared = tmp_path_factory.mktemp("shared")
        _begin(engine)
        engine.kill()
        engine.killed = time.time()
        (engine.shared / "go").touch()
        engine.went = time.time()
        time.sleep(1)
        (engine.shared / "later").touch()
        time.sleep(1)
        engine.started = time.time()
        engine.start()
        yield engine
    finally:
        engine.close()


def _begin(engine):
    engine.began = time.time()

    def container(name, program, *options):
        engine.docker("run", "-d", "--name", name, "-v", f"{engine.shared}:/t", *options, "busybox", "sh", "-c", program)

    container("seven", AT % "go" + "echo bye; exit 7")
    container("eight", AT % "later" + "exit 8")
    container("fleeting", AT % "go" + "exit 0", "--rm")
    container("killed", "exec sleep 1000")
    container("always", TWICE % ("always", "always", 0), "--restart", "always")
    container("failing", TWICE % ("failing", "failing", 3), "--restart", "on-failure:5")
    container("content", TWICE % ("content", "content", 0), "--restart", "on-failure:5")
    container("unless", TWICE % ("unless", "unless", 4), "--restart", "unless-stopped")
    container("stopped", "exec sleep 1000", "--restart", "unless-stopped", "--stop-signal", "KILL")
    engine.docker("stop", "stopped")
    container("frozen", "n=0; while :; do n=$((n+1)); echo $n; usleep 20000; done")
    engine.docker("pause", "frozen")
    container("home", "exec sleep 1000")
    engine.execs = {name: _exec(engine, AT % name + f"exit {code}") for name, code in (("go", 5), ("afterwards", 9))}


def _exec(engine, program):
    body = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", program]}
    exec_id = engine.api("POST", "/containers/home/exec", body)[1]["Id"]
    assert engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True})[0] == 200
    return exec_id


def test_exit_codes_and_their_true_times_are_known(after):
    for name, code, at in (("seven", 7, after.went), ("eight", 8, after.went + 1)):
        state = after.inspect(name)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", code)
        assert at - 0.05 <= moment(state["FinishedAt"]) < after.started, (at, state["FinishedAt"], after.started)
    assert after.docker("logs", "seven").stdout == "bye\n"


def test_die_events_come_in_the_order_of_the_ends(after):
    dies = events(after, after.killed, "type=container", "event=die")
    codes = {event["Actor"]["Attributes"]["name"]: event["Actor"]["Attributes"]["exitCode"] for event in dies}
    expected = {"seven": "7", "eight": "8", "fleeting": "0", "always": "0", "failing": "3", "content": "0", "unless": "4"}
    assert codes == expected
    assert len(dies) == len(expected), dies
    times = [event["timeNano"] for event in dies]
    assert times == sorted(times) and dies[-1]["Actor"]["Attributes"]["name"] == "eight"


def test_auto_remove_is_caught_up(after):
    wait_until(lambda: "fleeting" not in after.out("ps", "-a", "--format", "{{.Names}}").split())
    assert [event["Action"] for event in events(after, after.killed, "container=fleeting", "event=destroy")] == ["destroy"]


@pytest.mark.parametrize("name", ["always", "failing", "unless"])
def test_restart_policies_are_caught_up(after, name):
    wait_until(lambda: after.inspect(name)["State"]["Status"] == "running", what=f"the restart of {name}")
    assert (after.shared / name).read_text() == "run\n" * 2
    assert after.inspect(name)["RestartCount"] == 1


def test_what_needs_no_restart_stays_ended(after):
    for name in ("content", "stopped"):
        assert after.inspect(name)["State"]["Status"] == "exited", name
    assert (after.shared / "content").read_text() == "run\n"


def test_paused_stays_paused_and_goes_on(after):
    assert after.inspect("frozen")["State"]["Status"] == "paused"
    after.docker("unpause", "frozen")
    seen = len(after.docker("logs", "frozen").stdout.split())
    wait_until(lambda: len(after.docker("logs", "frozen").stdout.split()) > seen + 5)
    lines = after.docker("logs", "frozen").stdout.split()
    assert lines == [str(n + 1) for n in range(len(lines))]


def test_an_exec_goes_on_and_both_exit_codes_are_there(after):
    ended = after.api("GET", f"/exec/{after.execs['go']}/json")[1]
    assert (ended["Running"], ended["ExitCode"]) == (False, 5)
    running = after.api("GET", f"/exec/{after.execs['afterwards']}/json")[1]
    assert running["Running"] and running["Pid"] > 0
    (after.shared / "afterwards").touch()
    asked = lambda: after.api("GET", f"/exec/{after.execs['afterwards']}/json")[1]  # noqa: E731
    wait_until(lambda: not asked()["Running"])
    assert asked()["ExitCode"] == 9
    dies = events(after, after.killed, "event=exec_die")
    assert sorted(event["Actor"]["Attributes"]["exitCode"] for event in dies) == ["5", "9"]


def test_a_container_killed_while_gantryd_is_dead_is_137(after):
    import os
    import signal

    pid = after.inspect("killed")["State"]["Pid"]
    after.kill()
    os.kill(pid, signal.SIGKILL)
    after.start()
    state = after.inspect("killed")["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 137, False)


def test_sigterm_leaves_containers_running_and_takes_less_than_five_seconds(after):
    before = after.inspect("home")["State"]["Pid"]
    began = time.monotonic()
    assert after.stop() == 0
    assert time.monotonic() - began < 5
    after.start()
    state = after.inspect("home")["State"]
    assert (state["Status"], state["Pid"]) == ("running", before)
