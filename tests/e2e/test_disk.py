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


def fill_but(engine, kib):
    """The same, and so much is left."""
    fill(engine)
    ballast = engine.data / "ballast"
    os.truncate(ballast, max(0, ballast.stat().st_size - (kib << 10)))


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


# In the order of their life: (what, method, path, body, what must be true of it if it was answered with a 2xx).
VERBS = [
    ("create", "POST", "/containers/create?name=it", {"Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": {"Binds": ["data:/data"]}}),
    ("start", "POST", "/containers/it/start", None),
    ("exec", "POST", "/containers/it/exec", {"Cmd": ["true"]}),
    ("rename", "POST", "/containers/it/rename?name=other", None),
    ("rename back", "POST", "/containers/other/rename?name=it", None),
    ("update", "POST", "/containers/it/update", {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}),
    ("pause", "POST", "/containers/it/pause", None),
    ("unpause", "POST", "/containers/it/unpause", None),
    ("volume", "POST", "/volumes/create", {"Name": "made"}),
    ("network", "POST", "/networks/create", {"Name": "net"}),
    ("connect", "POST", "/networks/net/connect", {"Container": "it"}),
    ("tag", "POST", "/images/busybox/tag?repo=tagged&tag=1", None),
    ("copy", "PUT", "/containers/it/archive?path=/", b"\0" * 10240),
    ("commit", "POST", "/commit?container=it&repo=committed", {}),
    ("restart", "POST", "/containers/it/restart?t=0", None),
    ("stop", "POST", "/containers/it/stop?t=0", None),
]


def things(engine):
    """Names of what is listed, by kind."""
    return {
        "containers": {c["Names"][0][1:] for c in engine.api("GET", "/containers/json?all=1")[1]},
        "volumes": {v["Name"] for v in engine.api("GET", "/volumes")[1]["Volumes"] or []},
        "networks": {n["Name"] for n in engine.api("GET", "/networks")[1]},
        "tags": {tag for image in engine.api("GET", "/images/json")[1] for tag in image["RepoTags"] or []},
    }


@pytest.mark.parametrize("kib", [0, 40, 80, 120, 160, 240])
def test_a_disk_that_fills_anywhere_in_a_life_leaves_what_was_answered_and_nothing_else(small, kib):
    """T55: each level of what is left lets another write be the one that fails."""
    engine = small
    bystander = engine.out("run", "-d", "--name", "bystander", "busybox", "sleep", "600")
    before = things(engine)
    fill_but(engine, kib)
    done = {}
    for what, method, path, body in VERBS:
        answer = engine.api(method, path, body, {"Content-Type": "application/x-tar"} if isinstance(body, bytes) else None)
        done[what] = answer[0] < 400
        # What was not made cannot be found, or cannot be done to one that does not run.
        if not done[what] and answer[0] not in (404, 409) and "is not paused" not in str(answer[1]):
            refused(answer)
    print(f"{kib} KiB:", *(what for what in done if not done[what]))
    now = things(engine)
    assert ("it" in now["containers"] or "other" in now["containers"]) == done["create"], (done, now)
    assert ("made" in now["volumes"], "net" in now["networks"], "tagged:1" in now["tags"]) == (done["volume"], done["network"], done["tag"])
    assert ("committed:latest" in now["tags"]) == done["commit"]
    # Also for the next gantryd, on the disk as it is.
    engine.restart()
    assert things(engine) == now
    assert engine.inspect("bystander")["State"]["Running"] and engine.inspect("bystander")["Id"] == bystander
    if done["create"]:
        name = "other" if done["rename"] and not done["rename back"] else "it"
        about = engine.inspect(name)
        # A restart that failed was to run: where its failure could not be written down, the next gantryd obeys the policy.
        if done["restart"] or not done["start"]:
            assert about["State"]["Running"] == (done["start"] and not done["stop"]), (done, about["State"])
        assert (about["HostConfig"]["RestartPolicy"]["MaximumRetryCount"] == 3) == done["update"]
        removed = engine.api("DELETE", f"/containers/{name}?force=1")
        assert removed[0] == 204, (removed, done, about["State"], engine.tail())
    for made, path in (("volume", "/volumes/made"), ("network", "/networks/net"), ("tag", "/images/tagged:1"), ("commit", "/images/committed")):
        if done[made]:
            assert engine.api("DELETE", path)[0] in (200, 204), made
    assert engine.api("DELETE", "/volumes/data")[0] in (204, 404)
    room(engine)
    assert things(engine) == before
    wait_until(lambda: not leftovers(engine), 30, lambda: f"nothing left: {leftovers(engine)}")
    engine.docker("rm", "-f", "bystander")
    engine.docker("rmi", "busybox")
    wait_until(lambda: not image_leftovers(engine), 30, lambda: f"no image left: {image_leftovers(engine)}")
