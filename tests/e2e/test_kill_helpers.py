"""kill -9 of gantry-stdio, gantry-netd and containerd, alone and while gantryd is dead: loss is bounded and shown."""

import time

import pytest
from harness import wait_until
from killing import (
    Poller, answers, assert_bounded_loss, assert_whole, companion, give_address, kill_9, processes, write_lines,
)  # fmt: skip

HOST = "192.0.2.7"
ADDRESSES = ("127.0.0.1", HOST, "::1")


def size_of_log(engine, name):
    import pathlib

    path = pathlib.Path(engine.inspect(name)["LogPath"])
    return path.stat().st_size if path.exists() else 0


def test_a_killed_companion_costs_at_most_one_read_and_says_so(fresh):
    engine = fresh()
    write_lines(engine, "lines", 200_000)
    wait_until(lambda: size_of_log(engine, "lines") > 1_000_000)
    kill_9(companion(engine, "lines"))
    assert engine.out("wait", "lines", timeout=120) == "0"
    assert_bounded_loss(engine, "lines", 200_000)


def test_a_companion_killed_while_gantryd_is_dead_costs_no_more(fresh):
    engine = fresh()
    write_lines(engine, "lines", 200_000)
    wait_until(lambda: size_of_log(engine, "lines") > 1_000_000)
    pid = companion(engine, "lines")
    engine.kill()
    kill_9(pid)
    time.sleep(1)  # nobody reads: the container waits in its FIFO, or is not there to be asked
    engine.start()
    assert engine.out("wait", "lines", timeout=120) == "0"
    assert_bounded_loss(engine, "lines", 200_000)


def test_a_companion_killed_again_and_again_is_succeeded_each_time(fresh):
    engine = fresh()
    write_lines(engine, "lines", 300_000)
    kills = 3
    for _ in range(kills):
        before = size_of_log(engine, "lines")
        wait_until(lambda: size_of_log(engine, "lines") > before + 1_000_000)  # noqa: B023
        kill_9(companion(engine, "lines"))
        wait_until(lambda: size_of_log(engine, "lines") > before + 2_000_000)  # noqa: B023
    assert engine.out("wait", "lines", timeout=120) == "0"
    assert_bounded_loss(engine, "lines", 300_000, kills=kills)


@pytest.fixture
def web(fresh):
    engine = fresh(start=False)
    give_address(engine, HOST)
    engine.start().load_busybox()
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/var/www")
    for address in ADDRESSES:
        wait_until(lambda: answers(engine, 8080, address))  # noqa: B023
    return engine


def test_a_killed_netd_has_a_successor_that_answers_on_every_port(web):
    (old,) = processes(web, "gantry-netd")
    poller = Poller(web, 8080, ADDRESSES)
    kill_9(old)
    began = time.monotonic()
    wait_until(lambda: all(answers(web, 8080, address) for address in ADDRESSES), 20)
    took = time.monotonic() - began
    assert took < 10, took
    (new,) = processes(web, "gantry-netd")
    assert new != old
    time.sleep(0.5)  # a while of polls with the successor
    polled = poller.end()
    # The kernel's own translation never stopped; only relayed connections of the moment may be lost.
    assert [entry for entry in polled["failed"] if entry[1] == HOST] == []
    assert {entry[1] for entry in polled["failed"]} <= {"127.0.0.1", "::1"}
    assert len(polled["failed"]) <= 6, polled["failed"][:10]
    assert web.docker("run", "-d", "-p", "8080:80", "busybox", "true", check=False).returncode == 125, "the port is held"


def test_a_netd_killed_while_gantryd_is_dead_comes_back_with_gantryd(web):
    (old,) = processes(web, "gantry-netd")
    web.kill()
    kill_9(old)
    assert answers(web, 8080, HOST), "the kernel's translation needs neither"
    web.start()
    for address in ADDRESSES:
        wait_until(lambda: answers(web, 8080, address), 20, f"an answer on {address}")  # noqa: B023
    assert web.docker("run", "-d", "-p", "8080:80", "busybox", "true", check=False).returncode == 125, "the port is held"
    web.docker("rm", "-f", "web")
    web.docker("run", "-d", "--name", "again", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/var/www")
    for address in ADDRESSES:
        wait_until(lambda: answers(web, 8080, address), 20, f"an answer on {address}")  # noqa: B023


def test_a_killed_containerd_costs_no_container_and_no_exit(fresh):
    engine = fresh()
    write_lines(engine, "lines", 200_000)
    engine.docker("run", "-d", "--name", "home", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 1; exit 6")
    engine.docker("run", "-d", "--name", "policy", "--restart", "always", "busybox", "sh", "-c", "sleep 1.5; exit 1")
    pid = engine.inspect("home")["State"]["Pid"]
    (old,) = processes(engine, "containerd")
    kill_9(old)
    # A request made meanwhile waits for the next containerd.
    assert engine.out("exec", "home", "echo", "hello") == "hello"
    assert engine.out("run", "--rm", "busybox", "echo", "new") == "new"
    (new,) = processes(engine, "containerd")
    assert new != old
    assert engine.inspect("home")["State"]["Pid"] == pid
    assert engine.out("wait", "ends") == "6"
    wait_until(lambda: engine.inspect("policy")["RestartCount"] >= 1)
    assert engine.out("wait", "lines", timeout=120) == "0"
    assert_whole(engine, "lines", 200_000)
    engine.docker("stop", "-t", "1", "home")
    assert engine.inspect("home")["State"]["ExitCode"] == 137


def test_gantryd_and_containerd_killed_together_are_both_back(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "home", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 2; exit 6")
    pid = engine.inspect("home")["State"]["Pid"]
    (containerd,) = processes(engine, "containerd")
    engine.kill()
    kill_9(containerd)
    time.sleep(2)  # the exit happens while neither is there
    engine.start()
    assert engine.inspect("home")["State"]["Pid"] == pid
    assert engine.out("wait", "ends") == "6"
    state = engine.inspect("ends")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 6)
    assert engine.out("exec", "home", "echo", "hello") == "hello"
