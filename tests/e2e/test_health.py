"""Health checks, run by the engine and judged by the docker CLI."""

import json
import os
import pathlib
import time

import pytest
from harness import wait_until


def health(engine, name):
    return engine.inspect(name)["State"].get("Health")


def healthy(engine, name, status="healthy", timeout=30):
    wait_until(lambda: health(engine, name)["Status"] == status, timeout, f"{name} to be {status}")


def run(engine, name, *options, program=("sleep", "1000")):
    engine.docker("run", "-d", "--name", name, *options, "busybox", *program)


def events(engine, name, since="0"):
    out = engine.out("events", "--since", since, "--until", str(time.time()), "--filter", f"container={name}",
                     "--format", "{{.Action}}")  # fmt: skip
    return out.splitlines()


def test_a_check_moves_from_starting_to_healthy_to_unhealthy_and_back(engine):
    answer = engine.docker(
        "run", "-d", "--name", "web", "--health-cmd", "cat /flag", "--health-interval", "300ms", "--health-retries", "2",
        "busybox", "sh", "-c", "sleep 1; echo fine >/flag; exec sleep 1000",
    )  # fmt: skip
    assert answer.stderr == "", "nothing to warn of"
    assert health(engine, "web")["Status"] == "starting"
    assert "(health: starting)" in engine.out("ps", "--filter", "name=web", "--format", "{{.Status}}")
    healthy(engine, "web")
    assert engine.out("ps", "--filter", "name=web", "--format", "{{.Status}}").endswith(" (healthy)")
    assert engine.out("ps", "--filter", "health=healthy", "--format", "{{.Names}}") == "web"
    seen = health(engine, "web")
    last = seen["Log"][-1]
    assert (seen["FailingStreak"], last["ExitCode"], last["Output"]) == (0, 0, "fine\n")
    assert last["Start"] < last["End"]
    engine.docker("exec", "web", "rm", "/flag")
    healthy(engine, "web", "unhealthy")
    seen = health(engine, "web")
    assert seen["FailingStreak"] >= 2 and seen["Log"][-1]["ExitCode"] == 1
    assert "No such file or directory" in seen["Log"][-1]["Output"]
    assert engine.out("ps", "--filter", "health=unhealthy", "--format", "{{.Names}} {{.Status}}").endswith("(unhealthy)")
    engine.docker("exec", "web", "touch", "/flag")
    healthy(engine, "web")
    told = [action for action in events(engine, "web") if action.startswith("health_status")]
    assert told[-3:] == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    probes = [action for action in events(engine, "web") if action.startswith("exec_")]
    assert {"exec_create: /bin/sh -c cat /flag", "exec_start: /bin/sh -c cat /flag", "exec_die"} <= set(probes)
    wait_until(lambda: len(health(engine, "web")["Log"]) == 5)
    time.sleep(1)  # more results than are kept
    assert len(health(engine, "web")["Log"]) == 5


def test_the_check_of_an_image_is_run_and_none_switches_it_off(engine):
    config = {"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["NONE"], "Interval": 200_000_000}}
    assert engine.api("POST", "/containers/create?name=none", body=config)[0] == 201
    engine.docker("start", "none")
    assert health(engine, "none") is None
    assert "none" in engine.out("ps", "--filter", "health=none", "--format", "{{.Names}}").splitlines()
    assert "(" not in engine.out("ps", "--filter", "name=none", "--format", "{{.Status}}")
    config["Healthcheck"]["Test"] = ["CMD", "echo", "no", "shell: $HOME"]
    assert engine.api("POST", "/containers/create?name=cmd", body=config)[0] == 201
    assert health(engine, "cmd") is None, "not before it has run"
    engine.docker("start", "cmd")
    healthy(engine, "cmd")
    assert health(engine, "cmd")["Log"][0]["Output"] == "no shell: $HOME\n"
    run(engine, "off", "--no-healthcheck")
    assert health(engine, "off") is None


def test_a_check_sees_the_containers_user_folder_and_environment(engine):
    run(engine, "sees", "--health-cmd", "id -u; pwd; echo $WHAT; grep CapInh /proc/self/status", "--health-interval", "300ms",
        "-u", "123", "-w", "/tmp", "-e", "WHAT=ever")  # fmt: skip
    healthy(engine, "sees")
    assert health(engine, "sees")["Log"][0]["Output"] == "123\n/tmp\never\nCapInh:\t0000000000000000\n"


def test_output_is_cut_and_a_check_that_takes_too_long_is_killed(engine):
    run(engine, "long", "--health-cmd", "echo begun; exec sleep 777", "--health-interval", "300ms",
        "--health-timeout", "1500ms", "--health-retries", "1")  # fmt: skip
    run(engine, "much", "--health-cmd", "head -c 5000 /dev/zero | tr '\\0' x", "--health-interval", "300ms")
    healthy(engine, "much")
    output = health(engine, "much")["Log"][0]["Output"]
    assert output == "x" * 4096 + "..."
    healthy(engine, "long", "unhealthy")
    first = health(engine, "long")["Log"][0]
    assert first["ExitCode"] == -1
    assert first["Output"] == "Health check exceeded timeout (1.5s): begun\n"
    engine.docker("pause", "long")
    engine.docker("unpause", "long")
    # Never two at a time, and the one that was cut off is gone.
    assert engine.docker("top", "long").stdout.count("sleep 777") <= 1


def test_a_check_without_its_program_says_so(engine):
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"],
            "Healthcheck": {"Test": ["CMD", "nothing"], "Interval": 200_000_000, "Retries": 1}}  # fmt: skip
    engine.api("POST", "/containers/create?name=without", body=body)
    engine.docker("start", "without")
    healthy(engine, "without", "unhealthy")
    first = health(engine, "without")["Log"][0]
    assert first["ExitCode"] == -1
    assert 'exec: "nothing": executable file not found in $PATH' in first["Output"]
    assert first["Output"].startswith("OCI runtime exec failed: exec failed: ")


def test_failures_of_the_start_period_do_not_count_and_come_at_the_start_interval(engine):
    run(engine, "slow", "--health-cmd", "test -e /up", "--health-interval", "60s", "--health-start-period", "50s",
        "--health-start-interval", "300ms", "--health-retries", "1")  # fmt: skip
    wait_until(lambda: len(health(engine, "slow")["Log"]) >= 3)
    assert (health(engine, "slow")["Status"], health(engine, "slow")["FailingStreak"]) == ("starting", 0)
    engine.docker("exec", "slow", "touch", "/up")
    healthy(engine, "slow")
    count = len(health(engine, "slow")["Log"])
    last = health(engine, "slow")["Log"][-1]
    time.sleep(1)  # the next check is a minute away
    assert health(engine, "slow")["Log"][-1] == last and len(health(engine, "slow")["Log"]) == count


def test_nobody_checks_a_paused_or_a_stopped_container(engine):
    run(engine, "rest", "--health-cmd", "true", "--health-interval", "200ms")
    healthy(engine, "rest")
    engine.docker("pause", "rest")
    last = health(engine, "rest")["Log"][-1]
    assert health(engine, "rest")["Status"] == "unhealthy", "as under dockerd"
    assert engine.out("ps", "--filter", "name=rest", "--format", "{{.Status}}").endswith("(Paused)")
    time.sleep(1)
    assert health(engine, "rest")["Log"][-1] == last
    engine.docker("unpause", "rest")
    healthy(engine, "rest")
    engine.docker("stop", "-t", "0", "rest")
    last = health(engine, "rest")["Log"][-1]
    time.sleep(1)
    assert health(engine, "rest")["Log"][-1] == last
    engine.docker("start", "rest")
    healthy(engine, "rest")
    engine.docker("rm", "-f", "rest")


@pytest.mark.parametrize("what, text", [
    ({"Interval": 1000}, "Interval in Healthcheck cannot be less than 1ms"),
    ({"StartInterval": 1000}, "StartInterval in Healthcheck cannot be less than 1ms"),
    ({"Retries": -1}, "Retries in Healthcheck cannot be negative"),
])  # fmt: skip
def test_bad_times_are_refused_in_dockers_words(engine, what, text):
    status, body = engine.api("POST", "/containers/create", body={"Image": "busybox", "Healthcheck": what})
    assert (status, body["message"]) == (400, text)


def test_health_outlives_a_killed_gantryd_and_checks_go_on(fresh):
    engine = fresh()
    run(engine, "web", "--health-cmd", "echo $$; sleep 0.2", "--health-interval", "300ms")
    run(engine, "hangs", "--health-cmd", "exec sleep 777", "--health-interval", "300ms", "--health-timeout", "600s")
    healthy(engine, "web")
    wait_until(lambda: "sleep 777" in engine.docker("top", "hangs").stdout)
    time.sleep(1)  # the log is kept lazily
    before = health(engine, "web")
    since = str(time.time())
    engine.restart()
    after = health(engine, "web")
    assert after["Status"] == "healthy" and after["Log"], "known at once"
    assert after["Log"][0]["Start"] >= before["Log"][0]["Start"]
    last = after["Log"][-1]["Start"]
    wait_until(lambda: health(engine, "web")["Log"][-1]["Start"] > last)
    assert not [action for action in events(engine, "web", since) if action.startswith("health_status")]
    # What the dead gantryd was at has been ended; the new one has one of its own.
    wait_until(lambda: engine.docker("top", "hangs").stdout.count("sleep 777") == 1)
    engine.docker("stop", "-t", "0", "web")
    engine.restart()
    assert health(engine, "web")["Log"], "also of a stopped one"
    engine.docker("rm", "-f", "web", "hangs")
    notes = engine.exec_root / "execs"
    assert not notes.exists() or not list(notes.iterdir())


def cpu(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.soak)])
def test_a_check_each_second_is_cheap_for_the_engine(fresh, count):
    engine = fresh()
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"},
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000}}  # fmt: skip
    for n in range(count):
        assert engine.api("POST", f"/containers/create?name=c{n}", body=body)[0] == 201
        assert engine.api("POST", f"/containers/c{n}/start")[0] == 204
    wait_until(lambda: all("(healthy)" in c["Status"] for c in engine.api("GET", "/containers/json")[1]), 120)
    descriptors = len(os.listdir(f"/proc/{engine.process.pid}/fd"))
    checks = len([a for a in events(engine, "c0") if a == "exec_die"])
    before, began = cpu(engine.process.pid), time.monotonic()
    time.sleep(10)
    spent, took = cpu(engine.process.pid) - before, time.monotonic() - began
    print(json.dumps({"containers": count, "cpu_s": spent, "wall_s": took, "checks_before_of_c0": checks}))
    assert spent < 0.015 * count * took, "a debug build: 15 ms of CPU for each second of each container"
    assert len(os.listdir(f"/proc/{engine.process.pid}/fd")) < descriptors + 8 * count
    assert len(engine.inspect("c0")["ExecIDs"] or []) <= 1
