"""Sessions on a terminal, as people have them: a Debian's bash, job control, sizes, an editor, detaching."""

import signal
import time

import pexpect
import pyte
import pytest
from harness import Engine, wait_until

PROMPT = r"root@\w+:[^\r\n]*# "


@pytest.fixture(scope="module")
def engine():
    engine = Engine().start()
    try:
        engine.load_busybox()
        engine.import_debian()
        yield engine
    finally:
        engine.close()


def terminal(engine, *argv, size=(30, 100)):
    child = pexpect.spawn("docker", [str(a) for a in argv], env=engine.docker_env(), dimensions=size, timeout=60, encoding="utf-8")
    child.delaybeforesend = None
    return child


@pytest.fixture
def bash(engine):
    child = terminal(engine, "run", "--rm", "-it", "debian:test", "bash")
    child.expect(PROMPT)
    yield child
    child.close(force=True)


def say(child, line, answer=None):
    """Types a line; returns the match of the answer, and waits for the next prompt."""
    child.sendline(line)
    if answer:
        child.expect(answer)
        match = child.match
    else:
        match = None
    child.expect(PROMPT)
    return match


def resized(child, rows, columns):
    """Gives the window another size and waits until the shell has it. The CLI listens for the signal only once its start
    was answered, and the prompt may be there before: a change that it did not hear is made again."""
    child.sendline(f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.05; done; echo now-$(stty size)")
    for _ in range(20):
        child.setwinsize(rows, columns)
        child.kill(signal.SIGWINCH)
        if child.expect([rf"[\r\n]now-{rows} {columns}\r\n", pexpect.TIMEOUT], timeout=3) == 0:
            child.expect(PROMPT)
            return
    raise AssertionError(f"the window never had {rows} rows and {columns} columns")


def leave(child, code=0):
    child.sendline(f"exit {code}")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code


def test_the_windows_size_is_right_at_the_first_prompt_and_after_a_resize(bash):
    say(bash, "stty size", r"[\r\n]30 100\r\n")
    resized(bash, 41, 133)
    leave(bash)


def test_the_size_is_right_for_a_program_that_asks_at_once(engine):
    child = terminal(engine, "run", "--rm", "-it", "debian:test", "stty", "size", size=(33, 77))
    child.expect("33 77")
    child.expect(pexpect.EOF)


def test_ctrl_c_ends_the_job_and_not_the_shell(bash):
    bash.sendline("sleep 1000")
    bash.expect("sleep 1000\r\n")
    # The shell has handed the terminal over when the job runs; what is typed before would be for the shell.
    time.sleep(0.3)
    bash.sendintr()
    bash.expect(PROMPT)
    say(bash, "echo code-$?", r"code-130")
    leave(bash, 5)


def test_jobs_are_stopped_continued_and_listed(bash):
    bash.sendline("sleep 1000")
    bash.expect("sleep 1000\r\n")
    time.sleep(0.3)
    bash.send("\x1a")
    bash.expect(r"\[1\]\+\s+Stopped\s+sleep 1000")
    bash.expect(PROMPT)
    say(bash, "bg", r"\[1\]\+ sleep 1000 &")
    say(bash, "jobs", r"Running\s+sleep 1000")
    say(bash, "kill %1; wait; echo over", r"over")
    leave(bash)


def test_ctrl_d_is_the_end_and_the_exit_code_the_shells(bash):
    say(bash, "false")
    bash.send("\x04")
    bash.expect(pexpect.EOF)
    bash.close()
    assert bash.exitstatus == 1


def test_a_full_screen_editor_draws_and_saves(bash):
    screen = pyte.Screen(100, 30)
    stream = pyte.Stream(screen)

    def shown(text):
        def look():
            try:
                stream.feed(bash.read_nonblocking(65536, timeout=0.1))
            except pexpect.TIMEOUT:
                pass
            return any(text in line for line in screen.display)

        wait_until(look, 30, f"{text!r} on the screen:\n" + "\n".join(screen.display))

    bash.sendline("TERM=xterm nano /tmp/file")
    shown("GNU nano")
    bash.send("hello from nano")
    shown("hello from nano")
    assert "Exit" in screen.display[29] or "Exit" in screen.display[28]
    bash.send("\x0f")
    shown("File Name to Write")
    bash.send("\r")
    shown("Wrote 1 line")
    bash.send("\x18")
    bash.expect(PROMPT)
    say(bash, "cat /tmp/file", r"[\r\n]hello from nano\r\n")
    leave(bash)


def test_the_shell_is_process_one_of_a_whole_process_list(bash):
    say(bash, "ps -elf | cat; echo end", r"\s1\s+0\s+\d+\s+\d+\s.*bash\r\n(.*\r\n)*.*ps -elf")
    leave(bash)


def test_an_exec_on_a_terminal_is_a_session_of_its_own(engine):
    id = engine.out("run", "-d", "debian:test", "sleep", "3600")
    child = terminal(engine, "exec", "-it", "-e", "MINE=yes", "-w", "/var", id, "bash", size=(22, 66))
    child.expect(r"root@\w+:/var# ")
    say(child, "echo $MINE $(stty size)", r"[\r\n]yes 22 66\r\n")
    resized(child, 44, 88)
    child.sendline("exit 6")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 6 and engine.inspect(id)["State"]["Running"]
    engine.docker("rm", "-f", id)


@pytest.mark.parametrize("options, keys", [([], "\x10\x11"), (["--detach-keys", "ctrl-a,x"], "\x01x")])
def test_the_detach_keys_leave_the_container_running_and_attach_comes_back(engine, options, keys):
    child = terminal(engine, "run", "-it", *options, "debian:test", "bash")
    child.expect(PROMPT)
    say(child, "echo in-$((40+2))", "in-42")
    child.send(keys[0])
    child.send(keys[1])
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    id = engine.out("ps", "-ql", "--no-trunc")
    assert engine.inspect(id)["State"]["Running"]
    again = terminal(engine, "attach", *options, id)
    again.sendline("")
    again.expect(PROMPT)
    say(again, "echo back-$((40+3))", "back-43")
    leave(again, 9)
    assert engine.inspect(id)["State"]["ExitCode"] == 9
    third = terminal(engine, "start", "-ai", id)
    third.sendline("")
    third.expect(PROMPT)
    leave(third, 4)
    engine.docker("rm", id)


def test_exec_is_left_by_its_detach_keys(engine):
    id = engine.out("run", "-d", "debian:test", "sleep", "3600")
    child = terminal(engine, "exec", "-it", "--detach-keys", "ctrl-b,q", id, "bash")
    child.expect(PROMPT)
    child.send("\x02")
    child.send("q")
    child.expect(pexpect.EOF)
    wait_until(lambda: "bash" in engine.out("top", id))
    engine.docker("rm", "-f", id)


def test_output_on_a_terminal_has_carriage_returns_and_is_logged(engine):
    child = terminal(engine, "run", "-it", "--name", "tty-log", "debian:test", "printf", r"a\nb\n")
    child.expect("a\r\nb\r\n")
    child.expect(pexpect.EOF)
    assert engine.docker("logs", "tty-log", text=False).stdout == b"a\r\nb\r\n"
    engine.docker("rm", "tty-log")
