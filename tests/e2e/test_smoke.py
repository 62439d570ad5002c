"""The main line once through: run, exit codes, a published web server, logs, exec, stop, kill -9 of the engine, rm."""

from harness import wait_until


def test_the_programs_exit_code_is_the_clis(engine):
    for code in (0, 1, 42, 255):
        assert engine.docker("run", "--rm", "busybox", "sh", "-c", f"exit {code}", check=False).returncode == code
    assert engine.docker("run", "--rm", "busybox", "nosuchprogram", check=False).returncode == 127
    assert engine.docker("run", "--rm", "busybox", "/etc", check=False).returncode == 126
    assert engine.docker("run", "--rm", "--memory", "1", "busybox", "true", check=False).returncode == 125
    assert engine.docker("run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$", check=False).returncode == 137


def test_input_goes_in_and_output_comes_out(engine):
    done = engine.docker("run", "-i", "--rm", "busybox", "cat", input="one\ntwo\n")
    assert done.stdout == "one\ntwo\n"
    done = engine.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_a_published_web_server_lives_through_the_engines_death(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "-v", "pages:/var/www", "busybox", "httpd", "-f", "-h", "/var/www")
    page = lambda host: engine.namespace.exec("busybox", "wget", "-qO-", f"http://{host}:8080/", timeout=10).stdout  # noqa: E731
    bridge = engine.inspect("bridge")["IPAM"]["Config"][0]["Gateway"]
    for host in ("127.0.0.1", "[::1]", bridge):
        wait_until(lambda host=host: "hello from gantry" in page(host), what=f"the page at {host}")
    address = engine.inspect("web")["NetworkSettings"]["IPAddress"]
    engine.kill()
    assert "hello from gantry" in page("127.0.0.1")
    assert "hello from gantry" in page(bridge)
    engine.start()
    after = engine.inspect("web")
    assert after["State"]["Status"] == "running" and after["NetworkSettings"]["IPAddress"] == address
    assert "hello from gantry" in page("[::1]")
    assert engine.out("exec", "web", "cat", "/var/www/index.html") == "hello from gantry"
    engine.docker("stop", "-t", "1", "web")
    assert "Exited (" in engine.out("ps", "-a", "--format", "{{.Status}}")
    assert engine.docker("rmi", "busybox", check=False).returncode == 1
    engine.docker("rm", "web")
    assert engine.out("ps", "-aq") == ""
    engine.docker("rmi", "busybox")
    engine.docker("volume", "rm", "pages")


def test_an_exit_while_the_engine_is_dead_is_worked_off(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "short", "busybox", "sh", "-c", "echo before; sleep 1; echo after; exit 7")
    engine.docker("run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "1")
    pid = engine.inspect("short")["State"]["Pid"]
    engine.kill()
    import pathlib

    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), what="the container's end")
    engine.start()
    wait_until(lambda: engine.inspect("short")["State"]["Status"] == "exited", what="the exit")
    state = engine.inspect("short")["State"]
    assert state["ExitCode"] == 7
    assert engine.out("logs", "short") == "before\nafter"
    wait_until(lambda: engine.docker("inspect", "gone", check=False).returncode != 0, what="the removal of --rm")
