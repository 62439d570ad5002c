"""How a `docker run` ends: exit codes, signals, restarts, create and start; and what it refuses, in Docker's words."""

import signal
import subprocess

import pytest
from harness import wait_until


def ended(engine, *argv, **more):
    return engine.docker("run", *argv, check=False, **more)


def nothing_left(engine):
    return engine.out("ps", "-aq") == ""


# -- exit codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_the_programs_own_exit_code_is_the_clients(engine, code):
    assert ended(engine, "--rm", "busybox", "sh", "-c", f"exit {code}").returncode == code


def test_a_program_ended_by_a_signal_gives_128_and_its_number(engine):
    id = engine.out("run", "-d", "busybox", "sleep", "600")
    engine.docker("kill", id)
    assert engine.out("wait", id) == "137" and engine.inspect(id)["State"]["ExitCode"] == 137
    engine.docker("rm", id)
    assert ended(engine, "--rm", "busybox", "sh", "-c", "sh -c 'kill -15 $$'; exit $?").returncode == 143


def test_a_missing_program_gives_127_and_docker_says_which(engine):
    done = ended(engine, "--rm", "busybox", "nosuchprogram")
    assert done.returncode == 127 and done.stdout == ""
    assert done.stderr.startswith("docker: Error response from daemon: failed to create task for container: "), done.stderr
    assert 'exec: "nosuchprogram": executable file not found in $PATH' in done.stderr
    done = ended(engine, "--rm", "busybox", "/no/such/program")
    assert done.returncode == 127 and "no such file or directory" in done.stderr


def test_a_file_that_cannot_run_gives_126(engine):
    done = ended(engine, "--rm", "busybox", "/etc/passwd")
    assert done.returncode == 126 and "permission denied" in done.stderr
    done = ended(engine, "--rm", "busybox", "/etc")
    assert done.returncode == 126


def test_a_failed_start_is_kept_with_its_code_and_words(engine):
    done = ended(engine, "--name", "ends-failed", "busybox", "nosuchprogram")
    assert done.returncode == 127
    state = engine.inspect("ends-failed")["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127) and "nosuchprogram" in state["Error"]
    assert engine.docker("start", "ends-failed", check=False).returncode == 1
    engine.docker("rm", "ends-failed")


# -- refusals ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv, text",
    [
        (["-u", "nobodyhere", "busybox", "id"], "unable to find user nobodyhere: no matching entries in passwd file"),
        (["-u", "root:nogroup1", "busybox", "id"], "unable to find group nogroup1: no matching entries in group file"),
        (["--mount", "type=bind,src=/nosuch/a,dst=/x", "busybox"], 'invalid mount config for type "bind": bind source path does not exist: /nosuch/a'),
        (["-v", "/tmp:relative", "busybox"], "invalid volume specification: '/tmp:relative': invalid mount config for type \"bind\": invalid mount path: 'relative' mount path must be absolute"),
        (["-v", "a+b:/x", "busybox"], '"a+b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed'),
        (["-v", "/tmp:/", "busybox"], "invalid specification: destination can't be '/'"),
        (["-v", "/tmp:/x", "-v", "/etc:/x", "busybox"], "Duplicate mount point: /x"),
        (["--network", "nosuchnet", "busybox"], "network nosuchnet not found"),
        (["--network", "container:nosuch", "busybox"], "No such container: nosuch"),
        (["--memory", "1m", "busybox"], "Minimum memory limit allowed is 6MB"),
        (["--cpus", "4096", "busybox"], "range of CPUs is from 0.01 to"),
        (["--name", "bad/name", "busybox"], "Invalid container name (bad/name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["--cap-add", "NOSUCH", "busybox"], 'invalid CapAdd: unknown capability: "CAP_NOSUCH"'),
        (["--stop-signal", "NOSUCH", "busybox"], "invalid signal: NOSUCH"),
        (["-w", "relative", "busybox"], "the working directory 'relative' is invalid, it needs to be an absolute path"),
        (["--restart", "always:3", "busybox"], "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
        (["--runtime", "nosuch", "busybox"], "unknown or invalid runtime name: nosuch"),
        (["--log-driver", "nosuch", "busybox"], "nosuch"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_is_refused_with_125_and_dockers_words(fresh_shared, argv, text):
    engine = fresh_shared
    done = ended(engine, *argv)
    assert done.returncode == 125, done.stderr
    assert done.stderr.startswith("docker: Error response from daemon: ") and text in done.stderr, done.stderr
    for id in engine.out("ps", "-aq").split():  # without --rm a refusal at the start leaves the container, as dockerd does
        engine.docker("rm", id)


@pytest.fixture(scope="module")
def fresh_shared():
    from harness import Engine

    engine = Engine().start()
    try:
        yield engine.load_busybox()
    finally:
        engine.close()


def test_an_unknown_user_is_refused_and_nothing_is_left_with_rm(fresh_shared):
    done = ended(fresh_shared, "--rm", "-u", "nobodyhere", "busybox", "id")
    assert done.returncode == 125 and "Error waiting" not in done.stderr
    assert nothing_left(fresh_shared)


def test_a_bad_reference_never_leaves_the_client(engine):
    done = ended(engine, "BAD:::x")
    assert done.returncode == 125 and "invalid reference format" in done.stderr
    status, body = engine.api("POST", "/containers/create", {"Image": "BAD:::x"})
    assert status == 400 and body["message"].startswith("invalid reference format")


def test_an_unknown_image_is_a_404_in_dockers_words(engine):
    status, body = engine.api("POST", "/containers/create", {"Image": "nosuch"})
    assert (status, body["message"]) == (404, "No such image: nosuch:latest")
    done = ended(engine, "--pull", "never", "nosuch")
    assert done.returncode == 125 and "No such image: nosuch:latest" in done.stderr


def test_a_name_is_given_once(engine):
    id = engine.out("create", "--name", "ends-taken", "busybox")
    done = ended(engine, "--name", "ends-taken", "busybox")
    words = f'Conflict. The container name "/ends-taken" is already in use by container "{id}". You have to remove (or rename) that container to be able to reuse that name.'
    assert done.returncode == 125 and words in done.stderr
    engine.docker("rm", id)


# -- create, start, stop, restart ----------------------------------------------------------------------------------------------


def test_a_created_container_starts_when_told(engine):
    id = engine.out("create", "--name", "ends-created", "busybox", "echo", "later")
    state = engine.inspect(id)["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["StartedAt"]) == ("created", False, 0, "0001-01-01T00:00:00Z")
    assert engine.out("start", "ends-created") == "ends-created"
    assert engine.out("wait", id) == "0" and engine.out("logs", id) == "later"
    assert engine.out("start", "-a", id) == "later"
    engine.docker("rm", id)


def test_start_with_attach_gives_the_exit_code_and_takes_input(engine):
    id = engine.out("create", "-i", "busybox", "sh", "-c", "cat; exit 9")
    done = engine.docker("start", "-ai", id, check=False, input="through\n")
    assert (done.returncode, done.stdout) == (9, "through\n")
    engine.docker("rm", id)


def test_the_stop_signal_is_the_containers_own(engine):
    script = "trap 'echo int; exit 3' INT; echo up; while :; do sleep 0.1; done"
    id = engine.out("run", "-d", "--stop-signal", "SIGINT", "busybox", "sh", "-c", script)
    wait_until(lambda: "up" in engine.out("logs", id), what="the trap")
    engine.docker("stop", id)
    assert engine.inspect(id)["State"]["ExitCode"] == 3 and engine.out("logs", id).split() == ["up", "int"]
    engine.docker("rm", id)


def test_on_failure_restarts_as_often_as_it_says(engine):
    id = engine.out("run", "-d", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 5")
    wait_until(lambda: engine.inspect(id)["State"]["Status"] == "exited", what="the last exit")
    seen = engine.inspect(id)
    assert (seen["RestartCount"], seen["State"]["ExitCode"]) == (2, 5)
    assert engine.out("logs", id).split() == ["run"] * 3
    engine.docker("rm", id)


def test_always_restarts_until_it_is_stopped(engine):
    id = engine.out("run", "-d", "--restart", "always", "busybox", "sh", "-c", "echo run; sleep 0.05")
    wait_until(lambda: engine.inspect(id)["RestartCount"] >= 2, what="two restarts")
    engine.docker("stop", "-t", "1", id)
    count = engine.inspect(id)["RestartCount"]
    assert engine.inspect(id)["State"]["Status"] == "exited"
    engine.docker("rm", id)
    assert count >= 2


def test_rm_and_restart_exclude_each_other(engine):
    done = ended(engine, "--rm", "--restart", "always", "busybox")
    assert done.returncode == 125 and "conflicting options" in done.stderr.lower()


# -- streams and signals of the client -------------------------------------------------------------------------------------------


def test_only_the_streams_asked_for_are_attached(engine):
    done = ended(engine, "--rm", "-a", "stdout", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "")
    done = ended(engine, "--rm", "-a", "stderr", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("", "err\n")


def client(engine, *options):
    script = "trap 'echo got-term; exit 6' TERM; echo up; while :; do sleep 0.1; done"
    process = engine.docker_popen("run", *options, "busybox", "sh", "-c", script, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process


def test_the_clients_signals_reach_the_program(engine):
    process = client(engine, "--rm")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "got-term\n" and process.returncode == 6


def test_sig_proxy_false_keeps_them(engine):
    process = client(engine, "--name", "ends-proxy", "--sig-proxy=false")
    process.send_signal(signal.SIGTERM)
    # A round trip through the container: a signal sent before it would have been seen.
    engine.docker("exec", "ends-proxy", "sleep", "0.3")
    process.kill()
    process.communicate(timeout=30)
    assert engine.inspect("ends-proxy")["State"]["Running"] and "got-term" not in engine.out("logs", "ends-proxy")
    engine.docker("rm", "-f", "ends-proxy")
