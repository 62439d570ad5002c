"""`docker diff`, `docker export` and `docker commit`: what a container changed, as a list, a tar and an image."""

import io
import os
import subprocess
import tarfile
import time

import docker
import pytest
from harness import wait_until

CHANGES = "echo new >/new; rm /etc/group; mkdir /etc/d; chmod 700 /home; rm -r /var/www; mkdir /var/www; echo own >/var/www/own; sleep 300"


@pytest.fixture
def changed(engine):
    """A running container that has changed its files; its name."""
    name = f"changed-{os.getpid()}"
    engine.docker("run", "-d", "--name", name, "-v", "/newvol/deep", "busybox", "sh", "-c", CHANGES)
    wait_until(lambda: engine.docker("exec", name, "test", "-e", "/var/www/own", check=False).returncode == 0)
    yield name
    engine.docker("rm", "-f", "-v", name)


def diff(engine, name):
    return sorted(line.split(" ", 1)[::-1] for line in engine.out("diff", name).splitlines())


def test_diff_lists_what_the_container_changed_and_not_what_the_engine_made(engine, changed):
    expected = [
        ["/etc", "C"], ["/etc/d", "A"], ["/etc/group", "D"], ["/home", "C"], ["/new", "A"],
        ["/newvol", "A"], ["/newvol/deep", "A"], ["/var", "C"], ["/var/www", "C"],
        ["/var/www/index.html", "D"], ["/var/www/own", "A"],
    ]  # fmt: skip
    # Where a folder is made anew with the same mode it is changed by what is in it.
    assert diff(engine, changed) == expected
    engine.docker("stop", "-t", "0", changed)
    assert diff(engine, changed) == expected


def test_diff_of_an_untouched_container_is_null(engine):
    engine.docker("create", "--name", "untouched", "busybox", "true")
    try:
        for _ in range(2):
            status, body = engine.api("GET", "/containers/untouched/changes", raw=True)
            assert (status, body) == (200, b"null\n")
            engine.docker("start", "-a", "untouched")
        assert engine.api("GET", "/containers/none/changes")[0] == 404
    finally:
        engine.docker("rm", "untouched")


def test_export_is_the_root_without_what_is_mounted(engine, changed, tmp_path):
    engine.docker("exec", changed, "sh", "-c", "echo in the volume >/newvol/deep/f; echo mine >/etc/hostname")
    out = tmp_path / "export.tar"
    engine.docker("export", "-o", out, changed)
    with tarfile.open(out) as tar:
        names = {member.name: member for member in tar.getmembers()}
        assert tar.extractfile("new").read() == b"new\n"
        assert names["etc/hostname"].size == 0
    assert names["home"].mode == 0o700 and names["tmp"].mode == 0o1777
    assert {"bin/busybox", "var/www/own", "newvol/deep"} <= names.keys()
    assert not {"etc/group", "var/www/index.html", "newvol/deep/f", "."} & names.keys()
    assert not any(name.startswith(("proc/", "sys/", "/")) for name in names)
    # It is an image's root as any other.
    engine.docker("import", out, "exported:test")
    assert engine.out("run", "--rm", "exported:test", "cat", "/new") == "new"
    engine.docker("rmi", "exported:test")


def test_commit_makes_an_image_that_runs_and_travels(engine, changed, tmp_path):
    engine.docker("exec", changed, "sh", "-c", "ln /new /hard; ln -s /new /soft; mkfifo /pipe; chown 7:8 /new; chmod 4755 /new")
    before = engine.inspect("busybox")
    changes = ['CMD ["cat", "/new"]', "ENV PATH=$PATH:/x A=1", "LABEL who=me", "EXPOSE 80", "WORKDIR /tmp", "HEALTHCHECK NONE"]
    flags = [word for change in changes for word in ("-c", change)]
    made = engine.out("commit", "-a", "an author", "-m", "a message", *flags, changed, "committed:one")
    try:
        image = engine.inspect("committed:one")
        assert image["Id"] == made and (image["Author"], image["Comment"]) == ("an author", "a message")
        config = image["Config"]
        assert config["Cmd"] == ["cat", "/new"] and config["WorkingDir"] == "/tmp"
        assert config["Env"][-1] == "A=1" and config["Env"][0].endswith(":/bin:/x")
        assert config["Labels"] == {"who": "me"} and config["ExposedPorts"] == {"80/tcp": {}}
        assert image["RootFS"]["Layers"][:-1] == before["RootFS"]["Layers"]
        history = engine.out("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "committed:one").splitlines()
        assert history[0] == f"sh -c {CHANGES}|a message" and history[1].startswith("busybox-static")
        check = "cat /new /var/www/own; ls /var/www; stat -c '%u:%g %a %h %F' /new /pipe; readlink /soft; test -e /etc/group || echo gone"
        expected = ["new", "own", "own", "7:8 4755 2 regular file", "0:0 644 1 fifo", "/new", "gone"]
        assert engine.out("run", "--rm", "committed:one", "sh", "-c", check).splitlines() == expected
        # Away and back: it is whole without the container and without a name.
        archive = tmp_path / "one.tar"
        engine.docker("save", "-o", archive, "committed:one")
        engine.docker("rmi", "committed:one")
        engine.docker("load", "-i", archive)
        assert engine.inspect("committed:one")["Id"] == made
        assert engine.out("run", "--rm", "committed:one") == "new"
        assert engine.out("diff", changed)
    finally:
        engine.docker("rmi", "-f", "committed:one", check=False)


def test_commit_upon_commit_and_of_nothing(engine):
    engine.docker("create", "--name", "layers", "busybox", "true")
    try:
        one = engine.out("commit", "-m", "empty", "layers")
        assert engine.inspect(one)["RootFS"] == engine.inspect("busybox")["RootFS"]
        engine.docker("run", "--name", "second", one, "touch", "/second")
        two = engine.out("commit", "second", "layers:two")
        assert len(engine.inspect(two)["RootFS"]["Layers"]) == 2
        assert engine.out("run", "--rm", "layers:two", "ls", "/second") == "/second"
        shown = engine.out("images", "-q", "--no-trunc", "--filter", "dangling=true").split()
        assert one in shown and two not in shown
    finally:
        engine.docker("rm", "-f", "layers", "second", check=False)
        engine.docker("rmi", "-f", "layers:two", one, check=False)


def test_a_commit_pauses_the_container_unless_told_not_to(engine, changed):
    def told(*flags):
        since = time.time()
        engine.docker("commit", *flags, changed, "paused:test")
        done = time.time()
        wait_until(lambda: time.time() > int(done) + 1.1, what="the next second")
        lines = engine.out("events", "--since", f"{since:.6f}", "--until", str(int(time.time())), "--format", "{{.Type}} {{.Action}}")
        return [line for line in lines.splitlines() if line.split()[0] in ("container", "image")]

    assert told() == ["container pause", "image create", "image tag", "container commit", "container unpause"]
    assert told("--pause=false") == ["image create", "image tag", "container commit"]
    assert engine.inspect(changed)["State"]["Status"] == "running"
    engine.docker("pause", changed)
    engine.docker("commit", changed, "paused:test")
    assert engine.inspect(changed)["State"]["Status"] == "paused"
    engine.docker("unpause", changed)
    engine.docker("rmi", "-f", "paused:test")


def test_refusals_of_commit_have_dockers_words(engine, changed):
    cases = [
        ("container=none", 404, "No such container: none"),
        ("", 400, 'invalid name or ID supplied: ""'),
        (f"container={changed}&changes=run%20x", 400, "run is not a valid change command"),
        (f"container={changed}&repo=UPPER", 400, "repository name (library/UPPER) must be lowercase"),
    ]
    for query, status, text in cases:
        answer = engine.api("POST", f"/commit?{query}")
        assert answer[0] == status and text in answer[1]["message"], answer
    # A body that says nothing, and one that does.
    status, answer = engine.api("POST", f"/commit?container={changed}&pause=0", {"Cmd": ["ls"], "Labels": {"a": "b"}})
    assert status == 201
    assert engine.inspect(answer["Id"])["Config"]["Cmd"] == ["ls"]
    engine.docker("rmi", "-f", answer["Id"])


def test_docker_py_commits_exports_and_diffs(engine, changed):
    client = docker.DockerClient(base_url=engine.host)
    try:
        there = client.containers.get(changed)
        assert {"Path": "/new", "Kind": 1} in there.diff()
        image = there.commit("bypy", "one", message="m", author="a", changes=["CMD true"])
        assert image.tags == ["bypy:one"] and image.attrs["Config"]["Cmd"] == ["/bin/sh", "-c", "true"]
        with tarfile.open(fileobj=io.BytesIO(b"".join(there.export()))) as tar:
            assert "new" in tar.getnames()
        client.images.remove("bypy:one", force=True)
    finally:
        client.close()


def test_a_gantryd_killed_in_a_commit_leaves_no_container_paused(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "woken", "busybox", "sh", "-c", "dd if=/dev/urandom of=/part bs=1M count=300; mv /part /big; sleep 1000")
    wait_until(lambda: engine.docker("exec", "woken", "test", "-e", "/big", check=False).returncode == 0, 60, "the big file")
    commit = engine.docker_popen("commit", "woken", "big:test", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: engine.inspect("woken")["State"]["Paused"], what="the pause")
    engine.kill()
    commit.wait(30)
    engine.start()
    wait_until(lambda: engine.inspect("woken")["State"]["Status"] == "running", what="the container to run")
    assert engine.out("exec", "woken", "echo", "awake") == "awake"
    assert engine.docker("commit", "woken", "big:test").returncode == 0
    assert engine.out("run", "--rm", "big:test", "stat", "-c", "%s", "/big") == str(300 << 20)


def test_a_container_the_user_paused_stays_paused_over_a_kill(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "asleep", "busybox", "sleep", "1000")
    engine.docker("pause", "asleep")
    engine.restart()
    assert engine.inspect("asleep")["State"]["Status"] == "paused"
    engine.docker("unpause", "asleep")
