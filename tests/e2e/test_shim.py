"""Which shim runs a container, what it keeps, and what its process finds."""

import json
import os
import pathlib
import shutil

import pytest

from harness import run, wait_until

OURS, STOCK = "containerd-shim-gantry-v1", "containerd-shim-runc-v2"
STOCK_NAME = "io.containerd.runc.v2"


def shim_of(engine, container):
    """Process id and program of the parent of the container's first process."""
    pid = engine.inspect(container)["State"]["Pid"]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
    program = pathlib.Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")[0].decode()
    return parent, program.rsplit("/", 1)[-1]


def test_a_container_is_run_by_our_shim_and_is_said_to_be_runcs(engine):
    engine.docker("run", "-d", "--name", "ours", "busybox", "sleep", "1000")
    assert shim_of(engine, "ours")[1] == OURS
    assert engine.inspect("ours")["HostConfig"]["Runtime"] == "runc"


def test_containerds_own_shim_runs_a_container_that_asks_for_it(engine):
    engine.docker("run", "-d", "--name", "stock", "--runtime", STOCK_NAME, "busybox", "sleep", "1000")
    assert shim_of(engine, "stock")[1] == STOCK
    assert engine.inspect("stock")["HostConfig"]["Runtime"] == STOCK_NAME
    assert engine.out("exec", "stock", "echo", "hello") == "hello"
    engine.docker("rm", "-f", "stock")


def test_info_lists_the_runtimes_as_docker_does(engine):
    assert engine.out("info", "-f", "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}").split() == [STOCK_NAME, "runc"]
    assert engine.out("info", "-f", "{{.DefaultRuntime}}") == "runc"


def test_the_default_runtime_turns_our_shim_off(fresh):
    engine = fresh("--default-runtime", STOCK_NAME)
    engine.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    assert shim_of(engine, "one")[1] == STOCK


# Another type's shim: containerd's own, under a name of its own.
OTHER, OTHER_NAME = "containerd-shim-other-v3", "io.containerd.other.v3"


@pytest.fixture
def path_with_other(tmp_path):
    """A PATH on which a shim of another type lies."""
    folder = tmp_path / "shims"
    folder.mkdir()
    shutil.copy(shutil.which(STOCK), folder / OTHER)
    return f"{folder}:{os.environ['PATH']}"


def test_a_shim_that_is_named_by_its_type_runs_a_container(fresh, path_with_other):
    engine = fresh(env={"PATH": path_with_other})
    engine.docker("run", "-d", "--name", "other", "--runtime", OTHER_NAME, "busybox", "sh", "-c", "echo said; exec sleep 1000")
    assert shim_of(engine, "other")[1] == OTHER
    assert engine.inspect("other")["HostConfig"]["Runtime"] == OTHER_NAME
    assert OTHER_NAME not in engine.api("GET", "/info")[1]["Runtimes"]
    assert engine.out("exec", "other", "echo", "hello") == "hello"
    assert engine.out("logs", "other") == "said"
    engine.restart()
    engine.docker("restart", "-t", "0", "other")
    assert shim_of(engine, "other")[1] == OTHER
    assert engine.out("exec", "other", "echo", "hello") == "hello"
    engine.docker("rm", "-f", "other")


def test_a_shim_that_is_configured_by_its_type_gets_its_options(fresh, path_with_other, tmp_path):
    spy = tmp_path / "spy"
    spy.write_text(f'#!/bin/sh\necho called >> {tmp_path}/calls\nexec runc "$@"\n')
    spy.chmod(0o755)
    engine = fresh(start=False, env={"PATH": path_with_other})
    stock = {"runtimeType": STOCK_NAME, "options": {"BinaryName": str(spy)}}
    engine.config.write_text(json.dumps({"runtimes": {"named": {"runtimeType": OTHER_NAME}, "spied": stock}}))
    engine.start()
    engine.load_busybox()
    assert engine.api("GET", "/info")[1]["Runtimes"]["named"] == {}
    engine.docker("run", "-d", "--name", "one", "--runtime", "named", "busybox", "sleep", "1000")
    assert shim_of(engine, "one")[1] == OTHER and not (tmp_path / "calls").exists()
    engine.docker("run", "-d", "--name", "two", "--runtime", "spied", "busybox", "sleep", "1000")
    assert shim_of(engine, "two")[1] == STOCK and (tmp_path / "calls").exists()
    engine.docker("rm", "-f", "one", "two")


def test_a_shim_that_is_not_there_fails_the_start_and_a_path_is_no_name(engine):
    engine.docker("create", "--name", "absent", "--runtime", "io.containerd.absent.v2", "busybox", "true")
    done = engine.docker("start", "absent", check=False)
    said = 'failed to resolve runtime path: runtime "io.containerd.absent.v2" binary not installed "containerd-shim-absent-v2": file does not exist'
    assert done.returncode == 1 and said in done.stderr, done.stderr
    state = engine.inspect("absent")["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 128)
    assert state["Error"] == f"failed to create task for container: failed to start shim: {said}"
    engine.docker("rm", "absent")
    for name in (shutil.which(STOCK), "nosuch", ".kata.v2"):
        done = engine.docker("create", "--runtime", name, "busybox", "true", check=False)
        assert f"unknown or invalid runtime name: {name}" in done.stderr, done.stderr
    # Ours is used as before.
    engine.docker("run", "-d", "--name", "after", "busybox", "sleep", "1000")
    assert shim_of(engine, "after")[1] == OURS
    engine.docker("rm", "-f", "after")


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ({}, "either a runtimeType or a path must be configured"),
        ({"path": "/x", "runtimeType": "a.b"}, "cannot configure both path and runtimeType for the same runtime"),
        ({"path": "/x", "options": {"Root": "/y"}}, "options cannot be used with a path runtime"),
        ({"runtimeType": "a.b", "runtimeArgs": ["-x"]}, "args cannot be used with a runtimeType runtime"),
        ({"runtimeType": "a.b", "options": {"ConfigPath": 7}}, "invalid type"),
    ],
)
def test_a_runtime_that_is_configured_in_two_ways_is_refused(fresh, runtime, said):
    engine = fresh(start=False)
    engine.config.write_text(json.dumps({"runtimes": {"x": runtime}}))
    done = run(*engine.argv(), "--validate", check=False)
    assert done.returncode == 1 and "runtime x: " in done.stderr and said in done.stderr, done.stderr


def test_a_shim_keeps_little_and_one_thread(engine):
    engine.docker("run", "-d", "--name", "small", "busybox", "sleep", "1000")
    engine.docker("exec", "small", "true")
    shim, _ = shim_of(engine, "small")
    status = pathlib.Path(f"/proc/{shim}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert int(fields["Threads"]) == 1
    # What is its own; the pages of a debug build's binary are many.
    assert int(fields["RssAnon"].split()[0]) <= 512, fields["RssAnon"]


@pytest.mark.parametrize("terminal", [(), ("-t",)], ids=["pipes", "terminal"])
def test_a_process_finds_three_descriptors_and_no_signal_blocked_or_ignored(engine, terminal):
    signals = ("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
    engine.docker("run", "-d", "--name", "ours-fds", "busybox", "sleep", "1000")
    for command in (("run", "--rm", *terminal, "busybox"), ("exec", *terminal, "ours-fds")):
        # `ls` has the folder open as the fourth.
        assert engine.docker(*command, "ls", "/proc/self/fd").stdout.split() == ["0", "1", "2", "3"]
        assert engine.docker(*command, *signals).stdout.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    engine.docker("rm", "-f", "ours-fds")


def test_a_terminal_that_nobody_has_open_for_a_while_goes_on(engine):
    script = "exec 0<&- 1>&- 2>&-; sleep 1; echo hi >/dev/console; sleep 1; echo again >/dev/console; sleep 1000"
    engine.docker("run", "-dt", "--name", "reopen", "busybox", "sh", "-c", script)
    wait_until(lambda: engine.out("logs", "reopen").split() == ["hi", "again"], what="both words")
    engine.docker("rm", "-f", "reopen")


def test_a_user_may_open_its_outputs_anew(engine):
    script = "echo one > /dev/stdout; echo two > /dev/stderr; echo three > /proc/self/fd/1"
    done = engine.docker("run", "--rm", "-u", "1000", "busybox", "sh", "-c", script)
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    engine.docker("run", "-d", "--name", "anew", "-u", "1000", "busybox", "sleep", "1000")
    done = engine.docker("exec", "anew", "sh", "-c", script)
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    engine.docker("rm", "-f", "anew")


def test_what_runc_says_of_a_failed_start_is_no_output_of_the_container(engine):
    engine.docker("create", "--name", "failed", "busybox", "/no/such/program")
    done = engine.docker("start", "failed", check=False)
    assert "OCI runtime create failed: runc create failed: unable to start container process" in done.stderr
    assert engine.docker("logs", "failed").stdout + engine.docker("logs", "failed").stderr == ""
    engine.docker("rm", "failed")


def test_no_socket_is_left_when_a_container_has_gone(engine):
    folder = pathlib.Path("/run/containerd/s")
    engine.docker("run", "-d", "--name", "socket", "busybox", "sleep", "1000")
    shim, _ = shim_of(engine, "socket")
    bundle = pathlib.Path(f"/proc/{shim}/cwd").resolve()
    address = pathlib.Path((bundle / "address").read_text().removeprefix("unix://"))
    assert address.parent == folder and address.is_socket() and address.stat().st_mode & 0o077 == 0
    engine.docker("rm", "-f", "socket")
    wait_until(lambda: not address.exists())
