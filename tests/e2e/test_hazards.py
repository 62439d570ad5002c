"""Hazards T40a, T40b and T56, and containerd killed in the middle of a create and a load."""

import collections
import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import stat
import threading

import pytest
from harness import busybox_archive, run, wait_until
from storage import leftovers


def walkable_by_others(root):
    """Folders and files below that another user reaches, starting at `root` itself."""
    found, todo = [], [pathlib.Path(root)]
    while todo:
        folder = todo.pop()
        mode = folder.lstat().st_mode
        if not stat.S_ISDIR(mode):
            continue
        if not mode & 0o001:
            continue
        found.append(f"{folder} {stat.filemode(mode)}")
        todo += [child for child in folder.iterdir() if child.is_dir() and not child.is_symlink()]
    return found


def as_nobody(*argv):
    return run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv, check=False)


def test_no_rootfs_file_or_volume_is_reached_by_another_user(engine):
    """T40a: CVE-2021-41091, CVE-2021-41103, CVE-2024-25621."""
    id = engine.out("run", "-d", "-v", "secret:/data", "busybox", "sleep", "600")
    try:
        os.chmod(engine.root, 0o755)  # the temporary folder above hides all; a real /var/lib does not
        wanted = [engine.data / "volumes" / "secret" / "_data"]
        mounts = [pathlib.Path(mount) for mount in engine.mounts()]
        wanted += [mount / "bin" / "busybox" for mount in mounts if mount.name == "rootfs"]
        wanted += [engine.data / "records.log", engine.data / "containers" / id, engine.data / "containerd" / "daemon"]
        wanted += list((engine.data / "containerd" / "daemon").glob("*snapshotter*/snapshots/*/fs"))
        assert any("rootfs" in str(path) for path in wanted)
        for path in wanted:
            assert path.exists(), path
            assert as_nobody("stat", path).returncode != 0, f"another user reaches {path}"
        for root in (engine.data, engine.exec_root):
            for line in walkable_by_others(root):
                path, mode = line.rsplit(" ", 1)
                assert mode[7] != "r", f"another user lists {line}"
    finally:
        engine.docker("rm", "-f", id)


def test_the_socket_is_for_root_and_its_group(engine):
    about = engine.socket.stat()
    assert stat.S_IMODE(about.st_mode) == 0o660 and about.st_uid == 0
    assert as_nobody("python3", "-c", f"import socket; socket.socket(socket.AF_UNIX).connect({str(engine.socket)!r})").returncode != 0


def test_no_abstract_socket_is_opened_by_us(engine):
    """T40b: CVE-2020-15257. A container on the host's network sees the abstract sockets of its namespace."""
    id = engine.out("run", "-d", "--network", "host", "busybox", "sleep", "600")
    try:
        inodes = set()
        for pid in engine.processes():
            for fd in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    link = os.readlink(fd)
                except OSError:
                    continue
                if link.startswith("socket:["):
                    inodes.add(link[8:-1])
        lines = engine.namespace.exec("cat", "/proc/net/unix").stdout.splitlines()[1:]
        lines += pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
        ours = [line for line in lines if line.split()[6] in inodes]
        assert ours, "the sockets of this engine were not found"
        abstract = [line for line in ours if len(line.split()) > 7 and line.split()[7].startswith("@")]
        assert not abstract, abstract
    finally:
        engine.docker("rm", "-f", id)


# Clients that make events at once.
STORM = 4


@pytest.mark.parametrize("count", [3000, pytest.param(600_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_a_slow_reader_of_events_gets_all_or_is_told_of_a_gap(engine, count):
    """T56: it does not read while events come; then it reads to the end."""
    slow = socket.socket(socket.AF_UNIX)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(str(engine.socket))
    slow.settimeout(60)
    slow.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    slow.recv(12)

    def make_and_remove(worker):
        """Several at once share the disk's time."""
        name, statuses, line = f"ev{worker}", collections.Counter(), engine.connection(120)
        for _ in range(count // 2 // STORM):
            for method, path, body in (
                ("POST", "/volumes/create", json.dumps({"Name": name}).encode()), ("DELETE", f"/volumes/{name}", None),
            ):  # fmt: skip
                line.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                answer = line.getresponse()
                answer.read()
                statuses[answer.status] += 1
        line.close()
        return statuses

    with concurrent.futures.ThreadPoolExecutor(STORM) as pool:
        for statuses in pool.map(make_and_remove, range(STORM)):
            assert set(statuses) == {201, 204}, statuses
    connection = engine.connection(120)
    connection.request("POST", "/volumes/create", b'{"Name":"last-of-all"}', {"Content-Type": "application/json"})
    assert connection.getresponse().status == 201
    seen = bytearray()
    try:
        while b"last-of-all" not in seen:
            data = slow.recv(1 << 20)
            if not data:
                break
            seen += data
    finally:
        slow.close()
        connection.close()
        engine.docker("volume", "rm", "last-of-all")
    events = [json.loads(line) for line in seen.decode(errors="replace").splitlines() if line.startswith("{")]
    mine = [event for event in events if event["Type"] == "volume" and event["Actor"]["ID"].startswith("ev")]
    gaps = [event for event in events if "gap" in json.dumps(event) or "lost" in json.dumps(event) or "missed" in json.dumps(event)]
    assert len(mine) == count or gaps, (len(mine), count, bytes(seen[-300:]))


def containerd_pid(engine):
    return int((engine.exec_root / "containerd" / "containerd.pid").read_text().split()[0])


def killed(pid):
    """Whether there was such a process: between a death and the next start the file names the dead one."""
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


@pytest.mark.parametrize("what", ["create", "load"])
def test_containerd_killed_in_the_middle_leaves_it_whole_or_gone(fresh, what):
    engine = fresh()
    done = []

    def busy():
        for number in range(30):
            if what == "create":
                answer = engine.api("POST", f"/containers/create?name=n{number}", {"Image": "busybox", "Cmd": ["true"]})
            else:
                with open(busybox_archive(), "rb") as archive:
                    answer = engine.api("POST", "/images/load", archive, {"Content-Type": "application/x-tar"}, raw=True)
            done.append((number, *answer))

    worker = threading.Thread(target=busy)
    worker.start()
    try:
        for times in range(2):
            wait_until(lambda: len(done) >= 4 + 8 * times or not worker.is_alive(), 60, "some work")
            wait_until(lambda: killed(containerd_pid(engine)), 30, "a containerd to kill")
    finally:
        worker.join(120)
    assert not worker.is_alive() and len(done) == 30
    assert all(status in (200, 201, 500, 503) for _, status, _ in done), done
    if what == "create":
        listed = {c["Names"][0][1:] for c in engine.api("GET", "/containers/json?all=1")[1]}
        assert listed == {f"n{number}" for number, status, _ in done if status == 201}
        for name in listed:
            assert engine.api("DELETE", f"/containers/{name}")[0] == 204
    else:
        engine.load_busybox()
    assert engine.out("run", "--rm", "busybox", "echo", "works") == "works"
    wait_until(lambda: not leftovers(engine), 40, lambda: f"nothing left: {leftovers(engine)}")
