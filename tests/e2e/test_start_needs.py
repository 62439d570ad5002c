"""What a start needs of others: namespaces to join, folders of the host to bind."""


def refused(engine, *argv):
    done = engine.docker("run", "--rm", *argv, check=False)
    assert done.returncode == 125
    return done.stderr


def test_shared_memory_is_that_of_a_shareable_donor(engine):
    engine.docker("run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "1m", "busybox", "sh", "-c",
                  "echo said > /dev/shm/word; exec sleep 1000")  # fmt: skip
    engine.docker("run", "-d", "--name", "joiner", "--ipc", "container:donor", "busybox", "sleep", "1000")
    assert engine.docker("exec", "joiner", "cat", "/dev/shm/word").stdout == "said\n"
    engine.docker("exec", "joiner", "sh", "-c", "echo back > /dev/shm/answer")
    assert engine.docker("exec", "donor", "cat", "/dev/shm/answer").stdout == "back\n"
    ipc = [engine.docker("exec", name, "readlink", "/proc/self/ns/ipc").stdout for name in ("donor", "joiner")]
    assert ipc[0] == ipc[1]
    # It goes on through a third one, and outlives a restart of who joins.
    engine.docker("restart", "-t", "0", "joiner")
    third = engine.docker("run", "--rm", "--ipc", "container:joiner", "busybox", "cat", "/dev/shm/word", "/dev/shm/answer")
    assert third.stdout == "said\nback\n"
    engine.docker("rm", "-f", "donor", "joiner")
    assert not [line for line in open("/proc/mounts") if str(engine.exec_root) in line and "shm" in line]


def test_memory_that_is_a_containers_own_is_not_joined(engine):
    for mode in ("private", "none"):
        engine.docker("run", "-d", "--name", "donor", "--ipc", mode, "busybox", "sleep", "1000")
        donor = engine.inspect("donor")["Id"]
        text = (f"failed to join IPC namespace: container {donor}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)")  # fmt: skip
        assert text in refused(engine, "--ipc", "container:donor", "busybox", "true")
        engine.docker("rm", "-f", "donor")


def test_what_cannot_be_joined_is_said_in_dockers_words(engine):
    engine.docker("create", "--name", "donor", "busybox", "true")
    donor = engine.inspect("donor")["Id"]
    for flag, status, text in (
        ("NetworkMode", 409, "cannot join network namespace of a non running container: container donor is created"),
        ("IpcMode", 409, f"failed to join IPC namespace: container {donor} is not running"),
        ("PidMode", 500, f"failed to join PID namespace: container {donor} is not running"),
    ):
        body = {"Image": "busybox", "HostConfig": {flag: "container:donor"}}
        made = engine.api("POST", "/containers/create", body)[1]["Id"]
        got = engine.api("POST", f"/containers/{made}/start")
        assert (got[0], got[1]["message"]) == (status, text)
        engine.docker("rm", made)
    engine.docker("rm", "donor")


def test_a_bind_source_that_has_gone_is_made_at_each_start(engine, tmp_path):
    source = tmp_path / "gone" / "deep"
    engine.docker("run", "-d", "--name", "bound", "-v", f"{source}:/x", "busybox", "sleep", "1000")
    engine.docker("stop", "-t", "0", "bound")
    source.rmdir()
    engine.docker("start", "bound")
    assert source.is_dir()
    engine.docker("stop", "-t", "0", "bound")
    source.rmdir()
    engine.docker("cp", "bound:/etc/passwd", str(tmp_path))
    assert source.is_dir()
    engine.docker("rm", "bound")
