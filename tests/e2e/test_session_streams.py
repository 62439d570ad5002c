"""Sessions without a terminal: input and output of run and exec to their last byte, and the end of each direction."""

import hashlib
import io
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
