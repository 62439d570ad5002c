"""How a container is confined and run as HostConfig says: filters, hidden paths, propagation, annotations, runtimes."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from harness import run, wait_until


def sh(engine, script, *options, check=True):
    return engine.docker("run", "--rm", *options, "busybox", "sh", "-c", script, check=check).stdout.strip()


# -- filters and hidden paths ------------------------------------------------------------------------------------------------

DENY = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}


@pytest.fixture
def profile(tmp_path):
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(DENY))
    return file


def test_a_filter_from_a_file_is_in_force_also_in_an_exec(engine, profile):
    script = "mkdir /made 2>&1; grep Seccomp: /proc/self/status; unshare -U true && echo unshared"
    out = sh(engine, script, "--security-opt", f"seccomp={profile}")
    assert "Operation not permitted" in out and "Seccomp:\t2" in out and "unshared" in out
    id = engine.out("run", "-d", "--security-opt", f"seccomp={profile}", "busybox", "sleep", "600")
    # The client sends the file's text: it may go.
    profile.unlink()
    try:
        assert "Operation not permitted" in engine.docker("exec", id, "mkdir", "/made", check=False).stderr
        engine.docker("restart", "-t", "0", id)
        assert "Operation not permitted" in engine.docker("exec", id, "mkdir", "/made", check=False).stderr
        assert engine.docker("exec", "--privileged", id, "true")
    finally:
        engine.docker("rm", "-f", id)


def test_a_filter_sent_inline_is_the_same_and_one_that_is_none_is_refused(engine):
    body = {"Image": "busybox", "Cmd": ["mkdir", "/made"], "HostConfig": {"SecurityOpt": [f"seccomp={json.dumps(DENY)}"]}}
    id = engine.api("POST", "/containers/create", body)[1]["Id"]
    assert engine.docker("start", "-a", id, check=False).returncode == 1
    engine.docker("rm", id)
    for text in ("{", "[]", '{"defaultAction": 7}', "/no/such/file"):
        body["HostConfig"]["SecurityOpt"] = [f"seccomp={text}"]
        status, made = engine.api("POST", "/containers/create", body)
        if status == 201:
            status, answer = engine.api("POST", f"/containers/{made['Id']}/start")
            assert status in (400, 500) and answer["message"], (text, status, answer)
            engine.docker("rm", made["Id"])
        else:
            assert status == 400, (text, status, made)


def test_without_hidden_system_paths_all_of_proc_is_seen_and_written(engine):
    look = "grep -c ' /proc/' /proc/self/mounts; [ -s /proc/timer_list ] && echo seen; true"
    hidden = sh(engine, look).split()
    assert int(hidden[0]) >= 5 and "seen" not in hidden
    shown = sh(engine, look, "--security-opt", "systempaths=unconfined").split()
    assert shown[0] == "0", shown
    about = engine.out("create", "--security-opt", "systempaths=unconfined", "busybox")
    host = engine.inspect(about)["HostConfig"]
    assert (host["MaskedPaths"], host["ReadonlyPaths"]) == ([], [])
    engine.docker("rm", about)


# -- mounts --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path):
    """A folder of the host that is a mount point with shared propagation, and a folder to mount below it."""
    folder = tmp_path / "shared"
    (folder).mkdir()
    run("mount", "-t", "tmpfs", "gantry-test", folder)
    run("mount", "--make-shared", folder)
    (folder / "below").mkdir()
    yield folder
    for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(str(folder)):
            run("umount", "-l", line.split()[4], check=False)


@pytest.mark.parametrize("mode, seen", [("rprivate", False), ("rslave", True), ("rshared", True), ("slave", True), ("private", False)])
def test_a_mount_of_the_host_reaches_a_bind_by_its_propagation(engine, shared, mode, seen):
    id = engine.out("run", "-d", "-v", f"{shared}:/b:{mode}", "busybox", "sleep", "600")
    try:
        assert engine.inspect(id)["Mounts"][0]["Propagation"] == mode
        run("mount", "-t", "tmpfs", "late", shared / "below")
        mounts = engine.out("exec", id, "cat", "/proc/self/mounts")
        assert ("late /b/below" in mounts) is seen
        # And from a container that may mount, back to the host only where it is shared.
        run("umount", shared / "below")
        engine.docker("rm", "-f", id)
        id = engine.out("run", "-d", "--privileged", "-v", f"{shared}:/b:{mode}", "busybox", "sh", "-c", "mount -t tmpfs inner /b/below && echo done; exec sleep 600")
        wait_until(lambda: "done" in engine.out("logs", id), what="the mount in the container")
        assert (f"inner {shared}/below" in pathlib.Path("/proc/mounts").read_text()) is (mode == "rshared")
    finally:
        engine.docker("rm", "-f", id)


def test_sharing_below_a_private_mount_is_refused(engine, tmp_path):
    folder = tmp_path / "private"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "gantry-test", folder)
    run("mount", "--make-private", folder)
    try:
        done = engine.docker("run", "--rm", "-v", f"{folder}:/b:rshared", "busybox", "true", check=False)
        assert done.returncode == 125 and "is not a shared mount" in done.stderr, done.stderr
        done = engine.docker("run", "--rm", "-v", f"{folder}:/b:rslave", "busybox", "true", check=False)
        assert done.returncode == 125 and "is not a shared or slave mount" in done.stderr, done.stderr
    finally:
        run("umount", "-l", folder)


def mount(**options):
    return {"Type": "bind", "Target": "/b", **options}


def start_with(engine, mounts, program="sleep 600"):
    body = {"Image": "busybox", "Cmd": ["sh", "-c", program], "HostConfig": {"Mounts": mounts}}
    status, made = engine.api("POST", "/containers/create", body)
    assert status == 201, made
    assert engine.api("POST", f"/containers/{made['Id']}/start") == (204, b"")
    return made["Id"]


def test_a_bind_brings_the_mounts_below_it_unless_told_not_to(engine, shared):
    run("mount", "-t", "tmpfs", "inner", shared / "below")
    (shared / "below" / "file").write_text("x")
    for options, seen in (({}, True), ({"NonRecursive": True}, False)):
        id = start_with(engine, [mount(Source=str(shared), BindOptions=options)])
        assert (engine.docker("exec", id, "cat", "/b/below/file", check=False).stdout == "x") is seen, options
        engine.docker("rm", "-f", id)


def test_a_read_only_bind_is_so_below_as_far_as_it_is_told(engine, shared):
    run("mount", "-t", "tmpfs", "inner", shared / "below")
    write = ("sh", "-c", "touch /b/x 2>/dev/null && echo top; touch /b/below/x 2>/dev/null && echo below")
    for options, wanted in (({"ReadOnlyNonRecursive": True}, "below"), ({"ReadOnlyForceRecursive": True, "Propagation": "rprivate"}, "")):
        body = {"Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": {"Mounts": [mount(Source=str(shared), ReadOnly=True, BindOptions=options)]}}
        made = engine.api("POST", "/containers/create", body)[1]
        status, answer = engine.api("POST", f"/containers/{made['Id']}/start")
        # A runtime without recursive read-only mounts may refuse what it is forced to, never half do it.
        assert status == 204 or "ReadOnlyForceRecursive" in options and "recursive" in answer["message"].lower(), answer
        if status == 204:
            assert engine.docker("exec", made["Id"], *write, check=False).stdout.strip() == wanted, options
        engine.docker("rm", "-f", made["Id"])


def test_a_missing_source_is_made_where_that_is_asked_for(engine, tmp_path):
    source = tmp_path / "made" / "deep"
    status, answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Mounts": [mount(Source=str(source))]}})
    assert status == 400 and f"bind source path does not exist: {source}" in answer["message"]
    id = start_with(engine, [mount(Source=str(source), BindOptions={"CreateMountpoint": True})], "touch /b/x; sleep 600")
    wait_until(lambda: (source / "x").exists(), what="the container's file in it")
    engine.docker("rm", "-f", id)


# -- annotations and runtimes --------------------------------------------------------------------------------------------------

# Keeps the spec that it is given, and is runc.
SPY = """#!/bin/sh
prev=; for word; do [ "$prev" = --bundle ] && cp "$word/config.json" {folder}/spec.json; prev=$word; done
echo called >> {folder}/calls
exec runc "$@"
"""


def test_a_second_runtime_is_used_by_its_name_and_gets_the_annotations(fresh, tmp_path):
    spy = tmp_path / "spy"
    spy.write_text(SPY.format(folder=tmp_path))
    os.chmod(spy, 0o755)
    engine = fresh("--add-runtime", f"spy={spy}")
    assert set(engine.api("GET", "/info")[1]["Runtimes"]) >= {"runc", "spy"}
    engine.docker("run", "--rm", "busybox", "true")
    assert not (tmp_path / "calls").exists()
    id = engine.out("run", "-d", "--runtime", "spy", "--annotation", "org.test.key=value", "--annotation", "empty=", "busybox", "sleep", "600")
    spec = json.loads((tmp_path / "spec.json").read_text())
    assert spec["annotations"]["org.test.key"] == "value" and spec["annotations"]["empty"] == ""
    about = engine.inspect(id)["HostConfig"]
    assert (about["Runtime"], about["Annotations"]) == ("spy", {"org.test.key": "value", "empty": ""})
    calls = len((tmp_path / "calls").read_text().split())
    engine.docker("exec", id, "true")
    assert len((tmp_path / "calls").read_text().split()) > calls
    engine.docker("restart", "-t", "0", id)
    engine.restart()
    engine.docker("exec", id, "true")
    engine.docker("rm", "-f", id)
    done = engine.docker("run", "--rm", "--runtime", "nosuch", "busybox", "true", check=False)
    assert done.returncode == 125 and 'unknown or invalid runtime name: nosuch' in done.stderr, done.stderr


HYBRID = os.path.isdir("/sys/fs/cgroup/unified") and any("0::" not in line for line in open("/proc/self/cgroup"))


@pytest.mark.skipif(HYBRID, reason="crun refuses to run where control groups of both versions have controllers, as here")
def test_crun_runs_beside_runc(fresh):
    assert shutil.which("crun"), "make packages-test installs it"
    engine = fresh("--add-runtime", f"crun={shutil.which('crun')}")
    id = engine.out("run", "-d", "--runtime", "crun", "-m", "64m", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/var/www")
    assert engine.namespace.exec("curl", "-sS", "--retry", "10", "--retry-connrefused", "http://127.0.0.1:8080/").stdout == "hello from gantry\n"
    assert engine.out("exec", id, "echo", "in crun") == "in crun"
    engine.docker("pause", id)
    engine.docker("unpause", id)
    engine.restart()
    engine.docker("stop", "-t", "0", id)
    assert engine.inspect(id)["State"]["ExitCode"] == 137
    done = subprocess.run(engine.docker_argv("run", "--rm", "-i", "--runtime", "crun", "busybox", "cat"), env=engine.docker_env(), input=b"through", capture_output=True, timeout=60)
    assert done.stdout == b"through"
    engine.docker("rm", id)
