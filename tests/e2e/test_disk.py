"""A full disk (T55): clear errors, nothing half made, removals that still work, containers that go on; then room again."""

import io
import os
import re
import subprocess
import tarfile

import pytest
from harness import Engine, busybox_archive, wait_until
from leftovers import ctr
from registries import Registry
from storage import Disk, image_leftovers, leftovers


@pytest.fixture
def small():
    """An engine on a small disk, with a busybox."""
    engine = Engine()
    try:
        Disk(engine.root / "disk.img", engine.data, size="96M")
        yield engine.start().load_busybox()
    finally:
        engine.close()


def fill(engine):
    """Takes every last block; `room` gives them back."""
    with open(engine.data / "ballast", "ab", buffering=0) as ballast:
        for block in (1 << 20, 4096, 1):
            try:
                while True:
                    ballast.write(b"\0" * block)
            except OSError:
                continue


def room(engine):
    (engine.data / "ballast").unlink()


def archive(megabytes=8):
    """An image's file system that does not fit."""
    import os

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(megabytes):
            info = tarfile.TarInfo(f"file{number}")
            info.size = 1 << 20
            tar.addfile(info, io.BytesIO(os.urandom(1 << 20)))
    return out.getvalue()




FULL = ("no space left", "disk quota", "StorageFull", "ENOSPC")


def refused(answer):
    """A server's error that names the disk."""
    status, body = answer
    text = body["message"] if isinstance(body, dict) else body.decode(errors="replace")
    assert any(word.lower() in text.lower() for word in FULL), (status, text)
    return status


def test_a_full_disk_refuses_clearly_and_leaves_nothing_half_made(small):
    engine = small
    assert engine.api("POST", "/containers/create?name=before", {"Image": "busybox", "Cmd": ["true"]})[0] == 201
    assert engine.api("POST", "/volumes/create", {"Name": "before"})[0] == 201
    fill(engine)

    # A create may find a last block; it ends in a container that is whole, or in a refusal that says why.
    refusals = 0
    for number in range(12):
        status, body = engine.api("POST", f"/containers/create?name=n{number}", {"Image": "busybox", "Cmd": ["true"]})
        if status != 201:
            assert refused((status, body)) == 500
            refusals += 1
    assert refusals >= 3
    for number in range(3):
        answer = engine.api("POST", "/volumes/create", {"Name": f"v{number}"})
        if answer[0] != 201:
            assert refused(answer) == 500
    done = engine.docker("import", "-", "big", check=False, text=False, input=archive())
    assert done.returncode != 0 and b"no space left on device" in done.stderr, done.stderr
    listed = {c["Names"][0] for c in engine.api("GET", "/containers/json?all=1")[1]}
    assert "/before" in listed and len(listed) == 13 - refusals
    assert all("big" not in tag for image in engine.api("GET", "/images/json")[1] for tag in image["RepoTags"])

    # What frees room works without any.
    assert engine.api("DELETE", "/containers/before")[0] == 204
    assert engine.api("DELETE", "/volumes/before")[0] == 204
    room(engine)

    for container in engine.api("GET", "/containers/json?all=1")[1]:
        assert engine.api("DELETE", f"/containers/{container['Id']}")[0] == 204
    assert engine.out("run", "--rm", "-v", "again:/x", "busybox", "echo", "works") == "works"
    wait_until(lambda: not leftovers(engine), 30, f"nothing left behind: {leftovers(engine)}")
    engine.docker("rmi", "busybox")
    wait_until(lambda: not image_leftovers(engine), 30, f"no image left: {image_leftovers(engine)}")
    engine.load_busybox()


def test_records_survive_a_full_disk_and_a_kill_on_it(small):
    engine = small
    id = engine.out("run", "-d", "--name", "lives", "busybox", "sleep", "600")
    engine.docker("create", "--name", "rests", "busybox")
    engine.docker("volume", "create", "data")
    fill(engine)
    engine.kill()
    engine.start()
    assert engine.inspect("lives")["Id"] == id and engine.inspect("lives")["State"]["Running"]
    assert engine.inspect("rests")["State"]["Status"] == "created"
    assert engine.out("volume", "ls", "-q") == "data"
    assert engine.api("DELETE", "/containers/rests")[0] == 204
    assert engine.api("POST", "/containers/lives/stop?t=0")[0] == 204
    assert engine.inspect("lives")["State"]["ExitCode"] == 137
    room(engine)
    assert engine.restart().inspect("lives")["State"]["ExitCode"] == 137
    assert engine.docker("start", "lives") and engine.inspect("lives")["State"]["Running"]


def test_a_container_goes_on_and_its_lost_lines_are_counted(small):
    engine = small
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; touch /dev/shm/wrote; exec sleep 600"
    id = engine.out("run", "-d", "--name", "talks", "busybox", "sh", "-c", f"while [ ! -e /dev/shm/go ]; do sleep 0.05; done; {script}")
    fill(engine)
    pid = engine.inspect("talks")["State"]["Pid"]
    shm = f"/proc/{pid}/root/dev/shm"
    open(f"{shm}/go", "w").close()
    import os

    wait_until(lambda: os.path.exists(f"{shm}/wrote"), 30, "the container's last line")
    assert engine.inspect(id)["State"]["Running"]
    room(engine)
    engine.docker("exec", "talks", "sh", "-c", "echo after > /proc/1/fd/1")

    def lines():
        text = engine.out("logs", "talks", stderr=subprocess.STDOUT).splitlines()
        return text if text and text[-1] == "after" else None

    lines = wait_until(lines, 30, "the line after it")
    kept = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert kept == sorted(set(kept))
    gaps = [re.match(r"gantry: (\d+) lines of output were lost here", line) for line in lines]
    assert len(kept) + sum(int(gap[1]) for gap in gaps if gap) == 3000, (len(kept), lines[-5:])


def test_a_load_on_a_full_disk_leaves_no_image_and_no_blob(small):
    engine = small
    engine.docker("rmi", "busybox")
    wait_until(lambda: not image_leftovers(engine), 30, "an empty store")
    fill(engine)
    with open(busybox_archive(), "rb") as tar:
        status, body = engine.api("POST", "/images/load", tar, {"Content-Type": "application/x-tar"}, raw=True)
    assert b"no space left" in body, (status, body[:500])
    assert engine.api("GET", "/images/json")[1] == []
    room(engine)
    wait_until(lambda: not image_leftovers(engine) and not leftovers(engine), 30, f"nothing left: {image_leftovers(engine)}, {leftovers(engine)}")
    engine.load_busybox()
    assert engine.out("run", "--rm", "busybox", "echo", "works") == "works"


def test_a_pull_on_a_full_disk_leaves_no_stuck_lease_and_goes_on_when_there_is_room(small, tmp_path):
    engine = small
    registry = Registry(engine.namespace, tmp_path / "registry")
    try:
        name = f"{registry.where}/busybox:1"
        engine.docker("tag", "busybox", name)
        engine.docker("push", name)
        engine.docker("rmi", name, "busybox")
        wait_until(lambda: not image_leftovers(engine), 30, "an empty store")
        fill(engine)
        done = engine.docker("pull", name, check=False)
        assert done.returncode == 1 and "no space left" in done.stderr, done.stderr
        assert engine.api("GET", "/images/json")[1] == []
        room(engine)
        engine.docker("pull", name)
        assert engine.out("run", "--rm", name, "echo", "works") == "works"
        engine.docker("rmi", name)
        engine.docker("image", "prune", "-f")
        wait_until(lambda: not image_leftovers(engine) and not leftovers(engine), 30, f"nothing left: {image_leftovers(engine)}, {leftovers(engine)}")
        assert ctr(engine, "leases", "ls", "-q") == []
    finally:
        registry.close()
