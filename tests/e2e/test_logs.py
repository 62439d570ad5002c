"""`docker logs` in all its options, and exec with its exit codes."""

import re
import struct
import time

import pytest
from harness import wait_until

STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (.*)$")


@pytest.fixture(scope="module")
def ten(engine):
    """Ten lines, odd ones on stdout and even ones on stderr, a tenth of a second apart."""
    name = "ten"
    program = "for n in 1 2 3 4 5 6 7 8 9 10; do [ $((n % 2)) = 1 ] && echo $n || echo $n >&2; sleep 0.1; done"
    engine.docker("run", "--name", name, "-l", "b=2", "-e", "SHOWN=1", "--log-opt", "labels=b", "--log-opt", "env=SHOWN",
                  "busybox", "sh", "-c", program)  # fmt: skip
    return name


def frames(data):
    """The frames of the multiplexed stream: (stream, payload)."""
    found = []
    while data:
        stream, size = struct.unpack(">BxxxI", data[:8])
        found.append((stream, data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def test_streams_are_kept_apart_and_in_order(engine, ten):
    done = engine.docker("logs", ten)
    assert done.stdout.split() == ["1", "3", "5", "7", "9"]
    assert done.stderr.split() == ["2", "4", "6", "8", "10"]
    status, data = engine.api("GET", f"/containers/{ten}/logs?stdout=1&stderr=1", raw=True)
    assert status == 200
    assert frames(data) == [(1 + (n + 1) % 2, f"{n}\n".encode()) for n in range(1, 11)]
    assert frames(engine.api("GET", f"/containers/{ten}/logs?stderr=1", raw=True)[1])[0] == (2, b"2\n")


def test_a_stream_must_be_chosen(engine, ten):
    text = "Bad parameters: you must choose at least one stream"
    assert engine.api("GET", f"/containers/{ten}/logs") == (400, {"message": text})
    assert engine.api("GET", "/containers/nosuch/logs?stdout=1")[0] == 404


@pytest.mark.parametrize("tail, count", [("0", 0), ("1", 1), ("3", 3), ("10", 10), ("99", 10), ("all", 10), ("-1", 10), ("x", 10)])
def test_tail_gives_the_last_lines(engine, ten, tail, count):
    data = engine.api("GET", f"/containers/{ten}/logs?stdout=1&stderr=1&tail={tail}", raw=True)[1]
    assert [int(line) for _, line in frames(data)] == list(range(11 - count, 11))


def test_since_and_until_cut_at_a_moment(engine, ten):
    lines = engine.docker("logs", "-t", ten)
    lines = sorted(lines.stdout.splitlines() + lines.stderr.splitlines())
    assert [STAMP.match(line).group(1) for line in lines] == [str(n) for n in range(1, 11)]
    fourth = lines[3].split()[0]
    since = engine.docker("logs", "--since", fourth, ten)
    assert sorted(map(int, (since.stdout + since.stderr).split())) == [4, 5, 6, 7, 8, 9, 10]
    until = engine.docker("logs", "--until", fourth, ten)
    assert sorted(map(int, (until.stdout + until.stderr).split())) == [1, 2, 3, 4]
    both = engine.docker("logs", "--since", lines[2].split()[0], "--until", fourth, ten)
    assert sorted(map(int, (both.stdout + both.stderr).split())) == [3, 4]
    whole_second = int(time.time()) + 100
    assert engine.api("GET", f"/containers/{ten}/logs?stdout=1&since={whole_second}", raw=True)[1] == b""
    assert engine.api("GET", f"/containers/{ten}/logs?stdout=1&since=x", raw=True)[0] == 400
    assert engine.docker("logs", "--since", "1h", "--tail", "1", ten).stderr == "10\n"


def test_details_show_what_log_opt_names(engine, ten):
    done = engine.docker("logs", "--details", "--tail", "2", ten)
    assert done.stdout == "SHOWN=1,b=2 9\n" and done.stderr == "SHOWN=1,b=2 10\n"
    stamped = engine.docker("logs", "--details", "-t", "--tail", "1", ten).stderr
    assert STAMP.match(stamped.strip()).group(1) == "SHOWN=1,b=2 10"


def test_follow_gives_old_and_new_lines_and_ends_with_the_container(engine):
    engine.docker("rm", "-f", "followed", check=False)
    engine.docker("run", "-d", "--name", "followed", "busybox", "sh", "-c",
                  "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after")  # fmt: skip
    wait_until(lambda: engine.docker("logs", "followed").stdout == "before\n")
    import subprocess

    client = engine.docker_popen("logs", "-f", "followed", stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "before\n"
    engine.docker("exec", "followed", "touch", "/go")
    assert client.stdout.read() == "after\n"
    assert client.wait(20) == 0
    assert engine.docker("logs", "-f", "followed").stdout == "before\nafter\n"
    assert engine.docker("logs", "-f", "--tail", "0", "followed").stdout == ""
    engine.docker("rm", "followed")


def test_follow_stops_at_until(engine):
    engine.docker("run", "-d", "--name", "endless", "busybox", "sh", "-c", "while :; do echo x; sleep 0.1; done")
    done = engine.docker("logs", "-f", "--until", "2s", "endless", timeout=30)
    assert set(done.stdout.split()) <= {"x"}
    until = time.time() + 1.5
    before = time.monotonic()
    data = engine.api("GET", f"/containers/endless/logs?stdout=1&follow=1&until={until:.3f}", raw=True)[1]
    assert time.monotonic() - before < 15 and frames(data)
    engine.docker("rm", "-f", "endless")


def test_of_a_terminal_the_log_is_raw(engine):
    engine.docker("run", "-d", "-t", "--name", "tty", "busybox", "sh", "-c", "echo out; echo err >&2")
    engine.docker("wait", "tty")
    connection = engine.connection()
    connection.request("GET", "/containers/tty/logs?stdout=1&stderr=1")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "application/vnd.docker.raw-stream"
    assert answer.getheader("Transfer-Encoding") == "chunked"
    assert answer.read() == b"out\r\nerr\r\n"
    assert engine.docker("logs", "tty").stdout == "out\r\nerr\r\n" or engine.docker("logs", "tty").stdout == "out\nerr\n"
    engine.docker("rm", "tty")


def test_logs_say_what_they_carry_and_follow_answers_at_once(engine):
    engine.docker("run", "-d", "--name", "silent", "busybox", "sleep", "100")
    connection = engine.connection(timeout=20)
    connection.request("GET", "/containers/silent/logs?stdout=1&follow=1")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/vnd.docker.multiplexed-stream")
    connection.close()
    connection = engine.connection(timeout=20)
    connection.request("GET", "/v1.41/containers/silent/logs?stdout=1&follow=1")
    assert connection.getresponse().getheader("Content-Type") == "application/vnd.docker.raw-stream"
    connection.close()
    engine.docker("rm", "-f", "silent")


def test_long_lines_come_whole_and_a_last_line_without_its_end_too(engine):
    engine.docker("run", "--name", "long", "busybox", "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' a; echo; printf end")
    assert engine.docker("logs", "long").stdout == "a" * 100000 + "\nend"
    assert engine.docker("logs", "--tail", "1", "long").stdout == "end"
    engine.docker("rm", "long")


def test_the_file_at_log_path_is_dockers_and_none_cannot_be_read(engine):
    import json

    engine.docker("run", "--name", "filed", "busybox", "echo", "hello")
    lines = open(engine.inspect("filed")["LogPath"]).read().splitlines()
    entry = json.loads(lines[0])
    assert len(lines) == 1 and entry["log"] == "hello\n" and entry["stream"] == "stdout" and entry["time"].endswith("Z")
    engine.docker("run", "--name", "nolog", "--log-driver", "none", "busybox", "echo", "hello")
    status, body = engine.api("GET", "/containers/nolog/logs?stdout=1")
    assert (status, body["message"]) == (501, "configured logging driver does not support reading")
    assert engine.inspect("nolog")["LogPath"] == ""
    engine.docker("run", "--name", "local", "--log-driver", "local", "busybox", "echo", "hello")
    assert engine.docker("logs", "local").stdout == "hello\n" and engine.inspect("local")["LogPath"] == ""
    engine.docker("rm", "filed", "nolog", "local")


# -- exec ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(engine):
    engine.docker("run", "-d", "--name", "host", "-e", "BASE=1", "-w", "/tmp", "busybox", "sleep", "1000")
    return "host"


@pytest.mark.parametrize("program, status", [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_the_exit_code_of_exec_is_the_programs(engine, host, program, status):
    assert engine.docker("exec", host, "sh", "-c", program, check=False).returncode == status


def test_exec_of_a_missing_program_is_127_and_of_a_folder_126(engine, host):
    missing = engine.docker("exec", host, "nosuch", check=False)
    assert missing.returncode == 127
    assert 'exec: "nosuch": executable file not found in $PATH' in missing.stdout + missing.stderr
    assert engine.docker("exec", host, "/etc", check=False).returncode == 126


def test_exec_has_its_environment_folder_and_user(engine, host):
    show = ("sh", "-c", "echo $BASE $MORE; pwd; id -u; id -g; echo $HOME")
    assert engine.out("exec", "-e", "MORE=2", "-w", "/var", "-u", "user", host, *show).split() == ["1", "2", "/var", "1000", "1000", "/home"]
    assert engine.out("exec", host, *show).split() == ["1", "/tmp", "0", "0", "/root"]
    assert engine.out("exec", "-u", "7:8", host, "sh", "-c", "id -u; id -g").split() == ["7", "8"]
    unknown = engine.docker("exec", "-u", "nobody-here", host, "true", check=False)
    assert "unable to find user nobody-here: no matching entries in passwd file" in unknown.stderr
    caps = engine.out("exec", "--privileged", host, "grep", "CapEff", "/proc/self/status").split()[1]
    plain = engine.out("exec", host, "grep", "CapEff", "/proc/self/status").split()[1]
    assert plain == "00000000a80425fb" and int(caps, 16) > int(plain, 16)


def test_exec_inspect_tells_of_before_during_and_after(engine, host):
    container = engine.inspect(host)["Id"]
    status, made = engine.api(
        "POST", f"/containers/{host}/exec",
        body={"Cmd": ["sh", "-c", "while [ ! -e /tmp/ready ]; do sleep 0.05; done; exit 5"], "AttachStdout": True},
    )  # fmt: skip
    assert status == 201
    exec_id = made["Id"]
    seen = engine.api("GET", f"/exec/{exec_id}/json")[1]
    assert (seen["Running"], seen["ExitCode"], seen["Pid"], seen["CanRemove"]) == (False, None, 0, False)
    assert seen["ContainerID"] == container and seen["ID"] == exec_id
    assert seen["ProcessConfig"]["entrypoint"] == "sh" and seen["ProcessConfig"]["tty"] is False
    assert seen["ProcessConfig"]["arguments"][0] == "-c" and seen["ProcessConfig"]["privileged"] is False
    assert (seen["OpenStdin"], seen["OpenStdout"], seen["OpenStderr"]) == (False, True, False)
    assert engine.api("POST", f"/exec/{exec_id}/start", body={"Detach": True}) == (200, b"")
    seen = engine.api("GET", f"/exec/{exec_id}/json")[1]
    assert seen["Running"] and seen["ExitCode"] is None and seen["Pid"] > 0
    assert engine.inspect(host)["ExecIDs"] == [exec_id]
    assert engine.api("POST", f"/exec/{exec_id}/start", body={"Detach": True})[0] == 409
    engine.docker("exec", host, "touch", "/tmp/ready")
    seen = wait_until(lambda: (s := engine.api("GET", f"/exec/{exec_id}/json")[1])["ExitCode"] is not None and s)
    assert (seen["Running"], seen["ExitCode"]) == (False, 5)
    assert wait_until(lambda: engine.inspect(host)["ExecIDs"] is None)
    assert engine.api("POST", f"/exec/{exec_id}/start", body={})[0] == 409


def test_exec_is_refused_where_it_cannot_be(engine, host):
    assert engine.api("POST", f"/containers/{host}/exec", body={"Cmd": []}) == (400, {"message": "No exec command specified"})
    assert engine.api("POST", "/containers/nosuch/exec", body={"Cmd": ["x"]})[0] == 404
    assert engine.api("GET", "/exec/nosuch/json") == (404, {"message": "No such exec instance: nosuch"})
    assert engine.api("POST", "/exec/nosuch/start", body={}) == (404, {"message": "No such exec instance: nosuch"})
    idle = engine.out("create", "busybox")
    status, body = engine.api("POST", f"/containers/{idle}/exec", body={"Cmd": ["x"]})
    assert (status, body["message"]) == (409, f"container {idle} is not running")
    engine.docker("rm", idle)


def test_a_detached_exec_runs(engine, host):
    assert engine.out("exec", "-d", host, "sh", "-c", "echo done > /tmp/detached") == ""
    wait_until(lambda: engine.docker("exec", host, "cat", "/tmp/detached", check=False).stdout == "done\n")
