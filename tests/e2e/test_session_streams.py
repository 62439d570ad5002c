"""Sessions without a terminal: input and output of run and exec to their last byte, and the end of each direction."""

import hashlib
import io
import socket
import subprocess
import tarfile

import pytest
from harness import wait_until


def piped(engine, *argv, data=b"", timeout=300):
    """Standard output and code of a client that is given `data` and then the end of input."""
    done = subprocess.run(engine.docker_argv(*argv), env=engine.docker_env(), input=data, capture_output=True, timeout=timeout)
    return done.stdout, done.returncode, done.stderr


@pytest.fixture(scope="module")
def box(engine):
    id = engine.out("run", "-d", "busybox", "sleep", "3600")
    yield id
    engine.docker("rm", "-f", id)


@pytest.mark.parametrize("round", range(5))
def test_what_goes_into_cat_comes_out_and_the_end_ends_it(engine, round):
    assert piped(engine, "run", "--rm", "-i", "busybox", "cat", data=b"x\n", timeout=60)[:2] == (b"x\n", 0)


def test_no_input_at_all_is_the_end_of_input(engine):
    assert piped(engine, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 3", timeout=60)[:2] == (b"", 3)


def test_without_i_input_is_empty(engine):
    assert piped(engine, "run", "--rm", "busybox", "cat", data=b"ignored", timeout=60)[:2] == (b"", 0)


def test_eight_megabytes_go_through_run_unchanged(engine):
    data = bytes(range(256)) * (8 << 12)
    out, code, _ = piped(engine, "run", "--rm", "-i", "busybox", "cat", data=data)
    assert code == 0 and hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def archive(megabytes):
    content = hashlib.sha256(b"seed").digest() * (megabytes << 15)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("big")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return file.getvalue(), hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("megabytes", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_an_archive_is_unpacked_through_exec_and_comes_back(engine, box, megabytes):
    data, digest = archive(megabytes)
    _, code, err = piped(engine, "exec", "-i", box, "tar", "x", "-C", "/tmp", data=data, timeout=600)
    assert code == 0, err
    assert engine.out("exec", box, "sha256sum", "/tmp/big").split()[0] == digest
    out, code, _ = piped(engine, "exec", box, "tar", "c", "-C", "/tmp", "big", timeout=600)
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert hashlib.sha256(tar.extractfile("big").read()).hexdigest() == digest
    engine.docker("exec", box, "rm", "/tmp/big")


def test_a_program_that_closes_its_output_early_ends_the_session(engine, box):
    out, code, _ = piped(engine, "exec", "-i", box, "head", "-c", "5", data=b"y" * (4 << 20))
    assert (out, code) == (b"yyyyy", 0)


def test_output_and_error_arrive_apart(engine, box):
    for verb in (["run", "--rm", "busybox"], ["exec", box]):
        out, code, err = piped(engine, *verb, "sh", "-c", "echo out; echo err >&2; exit 4")
        assert (out, err, code) == (b"out\n", b"err\n", 4)


def test_exec_takes_environment_folder_and_user(engine, box):
    ask = "echo $A; pwd; id -un; id -gn"
    assert engine.out("exec", "-e", "A=b", "-w", "/var", "-u", "user", box, "sh", "-c", ask).split() == ["b", "/var", "user", "user"]
    assert engine.out("exec", "-u", "1000:1", box, "id", "-g") == "1"


def test_a_detached_exec_goes_on_alone(engine, box):
    assert engine.out("exec", "-d", box, "sh", "-c", "echo done > /tmp/detached") == ""
    wait_until(lambda: engine.docker("exec", box, "cat", "/tmp/detached", check=False).stdout == "done\n", what="the file")


def test_exec_has_dockers_exit_codes_and_words(engine, box):
    done = engine.docker("exec", box, "nosuchprogram", check=False)
    assert done.returncode == 127 and 'exec: "nosuchprogram": executable file not found in $PATH' in done.stdout + done.stderr
    assert engine.docker("exec", box, "/etc/passwd", check=False).returncode == 126
    assert engine.docker("exec", box, "sh", "-c", "exit 77", check=False).returncode == 77
    done = engine.docker("exec", "-u", "nobodyhere", box, "id", check=False)
    assert done.returncode in (1, 126) and "unable to find user nobodyhere: no matching entries in passwd file" in done.stdout + done.stderr
    done = engine.docker("exec", "nosuch", "id", check=False)
    assert done.returncode == 1 and done.stderr.strip() == "Error response from daemon: No such container: nosuch"
    id = engine.out("create", "busybox")
    done = engine.docker("exec", id, "id", check=False)
    assert done.returncode == 1 and done.stderr.strip() == f"Error response from daemon: container {id} is not running"
    engine.docker("rm", id)


def test_attach_sees_what_comes_and_gives_the_exit_code(engine):
    id = engine.out("run", "-di", "busybox", "sh", "-c", "while read line; do echo got $line; [ $line = end ] && exit 8; done")
    process = engine.docker_popen("attach", id, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write("one\n")
    process.stdin.flush()
    assert process.stdout.readline() == "got one\n"
    process.stdin.write("end\n")
    process.stdin.flush()
    assert process.stdout.read() == "got end\n" and process.wait(30) == 8
    engine.docker("rm", id)


def test_every_attached_client_sees_all_output(engine):
    id = engine.out("create", "-i", "busybox", "sh", "-c", "cat; echo last")
    first = engine.docker_popen("start", "-ai", id, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    first.stdin.write("one\n")
    first.stdin.flush()
    assert first.stdout.readline() == "one\n"
    second = engine.docker_popen("attach", "--no-stdin", id, stdout=subprocess.PIPE, text=True)
    # It is attached when its event is there.
    wait_until(lambda: engine.out("events", "--since", "1h", "--until", "0s", "--filter", f"container={id}", "--filter", "event=attach").count("attach") > 1, what="the second client")  # fmt: skip
    first.stdin.write("two\n")
    first.stdin.close()
    assert first.stdout.read() == "two\nlast\n" and second.stdout.read().endswith("two\nlast\n")
    assert (first.wait(30), second.wait(30)) == (0, 0)
    engine.docker("rm", id)


def plain(engine, method, path, body=b"", headers=""):
    """A connection that asks without `Upgrade`, and the head of its answer."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(engine.socket))
    client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        assert piece, head
        head += piece
    return client, head.decode()


def rest(client):
    data = b""
    while piece := client.recv(65536):
        data += piece
    client.close()
    return data


@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_a_client_that_asks_for_no_upgrade_is_answered_200_and_has_the_stream(engine, box, terminal):
    """Docker's oldest form, of clients that take the connection over themselves."""
    body = {"Cmd": ["sh", "-c", "read line; echo got $line; exit 3"], "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": terminal}
    made = engine.api("POST", f"/containers/{box}/exec", body)[1]["Id"]
    client, head = plain(engine, "POST", f"/exec/{made}/start", b'{"Tty":true}' if terminal else b"{}")
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n") and "pgrade" not in head
    client.sendall(b"words\n")
    assert rest(client) == (b"words\r\ngot words\r\n" if terminal else b"\x01\0\0\0\0\0\0\x0agot words\n")
    assert engine.api("GET", f"/exec/{made}/json")[1]["ExitCode"] == 3

    id = engine.out("run", "-di", *(["-t"] if terminal else []), "busybox", "sh", "-c", "read line; echo got $line")
    client, head = plain(engine, "POST", f"/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1")
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n")
    client.sendall(b"words\n")
    assert rest(client) == (b"words\r\ngot words\r\n" if terminal else b"\x01\0\0\0\0\0\0\x0agot words\n")
    engine.docker("rm", id)


@pytest.mark.parametrize("end", ["kill", "stop", "rm", "own"])
def test_an_exec_whose_container_ends_under_it_ends_with_137_and_says_so(engine, end):
    id = engine.out("run", "-d", "--init", "busybox", "sh", "-c", "while [ ! -e /end ]; do usleep 20000; done; exit 9")
    client = engine.docker_popen("exec", "-i", id, "sh", "-c", "echo begun; exec sleep 1000", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout.readline() == b"begun\n"
    [exec_id] = engine.inspect(id)["ExecIDs"]
    ends = {"kill": ("kill", id), "stop": ("stop", "-t", "0", id), "rm": ("rm", "-f", id), "own": ("exec", id, "touch", "/end")}
    engine.docker(*ends[end], check=end != "own")
    out, err = client.communicate(timeout=30)
    if end == "rm":
        assert client.returncode != 0
        assert engine.api("GET", f"/exec/{exec_id}/json")[0] == 404
        return
    assert (client.returncode, out) == (137, b""), err
    wait_until(lambda: engine.inspect(id)["State"]["Status"] == "exited", what="the container's end")
    assert engine.inspect(id)["State"]["ExitCode"] in ((9,) if end == "own" else (137, 143))
    about = engine.api("GET", f"/exec/{exec_id}/json")
    assert about[0] == 404 or (about[1]["Running"], about[1]["ExitCode"]) == (False, 137), about
    assert engine.inspect(id)["ExecIDs"] is None
    # It runs again, and so do others in it.
    engine.docker("start", id)
    assert engine.docker("exec", id, "rm", "-f", "/end", check=False).returncode in (0, 1, 137)
    engine.docker("rm", "-f", id)
