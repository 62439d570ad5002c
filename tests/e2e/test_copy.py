"""`docker cp` both ways: on created, running and stopped containers, through what is mounted, by CLI and SDK.

The real tar and the kernel's own view of the files are the judges.
"""

import base64
import gzip
import hashlib
import io
import json
import lzma
import os
import pathlib
import socket
import tarfile
import threading
import time
import urllib.parse

import docker
import pytest
from harness import run, wait_until


def tar_of(*members, **more):
    """A tar of (name, kind, data or target) members."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.mtime, info.uid, info.gid = 1_000_000_000, more.get("uid", 0), more.get("gid", 0)
            info.mode = more.get("mode", 0o755 if kind == "d" else 0o644)
            content = b""
            if kind == "f":
                content, info.size = data, len(data)
            elif kind == "d":
                info.type = tarfile.DIRTYPE
            elif kind in ("l", "h"):
                info.type, info.linkname = (tarfile.SYMTYPE if kind == "l" else tarfile.LNKTYPE), data
            elif kind == "c":
                info.type, (info.devmajor, info.devminor) = tarfile.CHRTYPE, data
            elif kind == "p":
                info.type = tarfile.FIFOTYPE
            tar.addfile(info, io.BytesIO(content))
    return body.getvalue()


def archive_path(name, path, **query):
    return f"/containers/{name}/archive?" + urllib.parse.urlencode({"path": path, **query})


def put(engine, name, path, body, **query):
    return engine.api("PUT", archive_path(name, path, **query), body, {"Content-Type": "application/x-tar"})


def get(engine, name, path, method="GET", headers=None):
    """(status, stat header, body)."""
    connection = engine.connection()
    try:
        connection.request(method, archive_path(name, path), None, headers or {})
        answer = connection.getresponse()
        stat = answer.getheader("X-Docker-Container-Path-Stat")
        return answer.status, stat and json.loads(base64.b64decode(stat)), answer.read()
    finally:
        connection.close()


def members(body):
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return tar.getmembers()


@pytest.fixture(params=["created", "running", "stopped"])
def container(request, engine):
    """A container in each state that has files, with a volume, a read-only one and a bind mount."""
    name = f"cp-{request.param}-{os.getpid()}"
    bind = engine.root / f"bind-{request.param}"
    bind.mkdir(exist_ok=True)
    flags = ["--name", name, "-v", f"{name}:/vol", "-v", f"{name}-ro:/fixed:ro", "-v", f"{bind}:/deep/bind"]
    command = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
    engine.docker("create", *flags, "busybox", "sh", "-c", command)
    if request.param != "created":
        engine.docker("start", name)
    if request.param == "stopped":
        engine.docker("stop", "-t", "5", name)
    yield name
    engine.docker("rm", "-f", "-v", name)
    engine.docker("volume", "rm", name, f"{name}-ro")


def test_files_and_folders_come_and_go(engine, container, tmp_path):
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_text("hello")
    (source / "sub" / "ünï ☃.txt").write_text("name")
    os.symlink("a.txt", source / "link")
    os.symlink("/nowhere/at all", source / "dangling")
    os.chmod(source / "a.txt", 0o4750)
    for place in ("/tmp", "/vol", "/deep/bind"):
        engine.docker("cp", source, f"{container}:{place}/tree")
        out = tmp_path / place.replace("/", "_")
        engine.docker("cp", f"{container}:{place}/tree", out)
        assert (out / "a.txt").read_text() == "hello"
        assert (out / "a.txt").stat().st_mode & 0o7777 == 0o4750
        assert (out / "sub" / "ünï ☃.txt").read_text() == "name"
        assert os.readlink(out / "link") == "a.txt"
        assert os.readlink(out / "dangling") == "/nowhere/at all"
        # The end with a dot means what is in it.
        dotted = tmp_path / f"{out.name}-dot"
        dotted.mkdir()
        engine.docker("cp", f"{container}:{place}/tree/.", dotted)
        assert sorted(os.listdir(dotted)) == sorted(os.listdir(source))
    volume = pathlib.Path(json.loads(engine.out("volume", "inspect", container))[0]["Mountpoint"])
    assert (volume / "tree" / "a.txt").read_text() == "hello"
    assert (engine.root / f"bind-{container.split('-')[1]}" / "tree" / "a.txt").read_text() == "hello"


def test_a_file_takes_a_new_name_and_an_old_ones_place(engine, container, tmp_path):
    file = tmp_path / "f"
    file.write_text("one")
    engine.docker("cp", file, f"{container}:/tmp/renamed")
    file.write_text("two")
    engine.docker("cp", file, f"{container}:/tmp/renamed")
    engine.docker("cp", f"{container}:/tmp/renamed", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "two"
    # Through a pipe, both ways.
    piped = engine.docker("cp", f"{container}:/tmp/renamed", "-", text=False).stdout
    assert [member.name for member in members(piped)] == ["renamed"]
    engine.docker("cp", "-", f"{container}:/tmp", input=tar_of(("piped", "f", b"from a pipe")), text=False)
    assert get(engine, container, "/tmp/piped")[2].find(b"from a pipe") > 0


def test_links_are_followed_where_docker_follows_them(engine, container, tmp_path):
    links = tar_of(("there", "d", None), ("there/f", "f", b"behind"), ("to", "l", "/tmp/there"), ("loop", "l", "loop"))
    assert put(engine, container, "/tmp", links)[0] == 200
    status, stat, _ = get(engine, container, "/tmp/to", "HEAD")
    assert (status, stat["linkTarget"], stat["mode"] >> 27 & 1) == (200, "/tmp/there", 1)
    engine.docker("cp", "-L", f"{container}:/tmp/to", tmp_path / "followed")
    assert (tmp_path / "followed" / "f").read_text() == "behind"
    engine.docker("cp", f"{container}:/tmp/to", tmp_path / "itself")
    assert os.readlink(tmp_path / "itself") == "/tmp/there"
    engine.docker("cp", f"{container}:/tmp/to/.", tmp_path / "inside")
    assert (tmp_path / "inside" / "f").read_text() == "behind"
    # An archive goes to where a link leads.
    assert put(engine, container, "/tmp/to", tar_of(("g", "f", b"x")))[0] == 200
    assert get(engine, container, "/tmp/there/g", "HEAD")[0] == 200
    assert get(engine, container, "/tmp/loop/x")[0] in (400, 500)


def test_the_stat_header_is_gos(engine, container):
    body = tar_of(("set", "d", None), mode=0o1777) + b""
    assert put(engine, container, "/tmp", body)[0] == 200
    _, stat, _ = get(engine, container, "/tmp/set", "HEAD")
    assert stat["mode"] == 1 << 31 | 1 << 20 | 0o777 and stat["name"] == "set"
    assert put(engine, container, "/tmp", tar_of(("s", "f", b"xyz"), mode=0o6755))[0] == 200
    _, stat, data = get(engine, container, "/tmp/s")
    assert stat["mode"] == 1 << 23 | 1 << 22 | 0o755
    assert (stat["size"], stat["mtime"], stat["linkTarget"]) == (3, "2001-09-09T01:46:40Z", "")
    assert members(data)[0].mode == 0o6755
    assert put(engine, container, "/tmp", tar_of(("null", "c", (1, 3)), ("pipe", "p", None)))[0] == 200
    assert get(engine, container, "/tmp/null", "HEAD")[1]["mode"] == 1 << 26 | 1 << 21 | 0o644
    assert get(engine, container, "/tmp/pipe", "HEAD")[1]["mode"] == 1 << 25 | 0o644
    assert [m.type for m in members(get(engine, container, "/tmp/null")[2])] == [tarfile.CHRTYPE]
    assert get(engine, container, "/tmp/.", "HEAD")[1]["name"] == "."
    assert get(engine, container, "/", "HEAD")[1]["name"] == "/"


def test_the_names_in_an_archive_begin_with_the_last_of_the_path(engine, container):
    assert put(engine, container, "/tmp", tar_of(("d", "d", None), ("d/f", "f", b"x")))[0] == 200
    names = lambda path: [member.name for member in members(get(engine, container, path)[2])]  # noqa: E731
    assert names("/tmp/d") == ["d", "d/f"] == names("tmp/d/") == names("/tmp/../tmp/d")
    assert names("/tmp/d/.") == [".", "./f"]
    assert names("/tmp/d/f") == ["f"]
    assert "/tmp/d/f" in names("/") and "./tmp/d/f" in names("/.")


def test_refusals_have_dockers_words(engine, container):
    body = tar_of(("f", "f", b"x"))
    name = container
    cases = [
        (get(engine, name, "/nope/x"), 404, f"Could not find the file /nope/x in container {name}"),
        (get(engine, name, ""), 400, "bad parameter: pathcannot be empty"),
        (get(engine, name, "/etc/passwd/"), 500, "lstat /etc/passwd/: not a directory"),
        (get(engine, "cp-none", "/"), 404, "No such container: cp-none"),
    ]
    for (status, _, answer), expected, text in cases:
        assert (status, json.loads(answer)["message"]) == (expected, text)
    cases = [
        (put(engine, name, "/etc/passwd", body), 400, "extraction point is not a directory"),
        (put(engine, name, "/nope", body), 404, f"Could not find the file /nope in container {name}"),
        (put(engine, name, "/fixed", body), 400, "mounted volume is marked read-only"),
    ]
    for (status, answer), expected, text in cases:
        assert (status, answer["message"]) == (expected, text)
    put(engine, name, "/tmp", tar_of(("file", "f", b"x"), ("folder", "d", None)))
    status, answer = put(engine, name, "/tmp", tar_of(("file", "d", None)), noOverwriteDirNonDir="true")
    assert status == 400 and 'cannot overwrite non-directory "file" with directory "/tmp"' in answer["message"]
    status, answer = put(engine, name, "/tmp", tar_of(("folder", "f", b"x")), noOverwriteDirNonDir="true")
    assert status == 400 and 'cannot overwrite directory "folder" with non-directory "/tmp"' in answer["message"]
    assert put(engine, name, "/tmp", tar_of(("folder", "f", b"x")))[0] == 200
    assert put(engine, name, "/tmp", b"garbage" * 300)[0] == 400
    assert put(engine, name, "/tmp", b"")[0] == 200
    # Through a link of the archive, into the read-only volume: the kernel refuses.
    body = tar_of(("way", "l", "/fixed"), ("way/f", "f", b"x"))
    assert put(engine, name, "/tmp", body)[0] != 200
    assert get(engine, name, "/fixed/f", "HEAD")[0] == 404


def test_a_read_only_root_is_refused_and_its_volumes_are_not(engine):
    for running in (False, True):
        engine.docker("create", "--name", "cp-fixed", "--read-only", "-v", "/vol", "--tmpfs", "/scratch", "busybox", "sleep", "60")
        try:
            if running:
                engine.docker("start", "cp-fixed")
            status, answer = put(engine, "cp-fixed", "/tmp", tar_of(("f", "f", b"x")))
            assert (status, answer["message"]) == (400, "container rootfs is marked read-only")
            assert put(engine, "cp-fixed", "/vol", tar_of(("f", "f", b"x")))[0] == 200
            assert get(engine, "cp-fixed", "/vol/f", "HEAD")[0] == 200
            # A link in the archive does not lead past the refusal.
            put(engine, "cp-fixed", "/vol", tar_of(("way", "l", "/tmp"), ("way/f", "f", b"x")))
            assert get(engine, "cp-fixed", "/tmp/f", "HEAD")[0] == 404
            if running:
                assert put(engine, "cp-fixed", "/scratch", tar_of(("f", "f", b"in memory")))[0] == 200
                assert engine.out("exec", "cp-fixed", "cat", "/scratch/f") == "in memory"
        finally:
            engine.docker("rm", "-f", "-v", "cp-fixed")


def test_owners_are_the_archives_or_the_containers_user(engine):
    engine.docker("run", "-d", "--name", "cp-user", "--user", "user", "busybox", "sleep", "300")
    try:
        for name in ("cp-user",):
            body = tar_of(("f", "f", b"x"), ("d", "d", None), uid=4242, gid=4343)
            assert put(engine, name, "/tmp", body)[0] == 200
            assert engine.out("exec", name, "stat", "-c", "%u:%g", "/tmp/f", "/tmp/d").split() == ["4242:4343"] * 2
            assert put(engine, name, "/tmp", body, copyUIDGID="1")[0] == 200
            assert engine.out("exec", name, "stat", "-c", "%u:%g", "/tmp/f", "/tmp/d").split() == ["1000:1000"] * 2
    finally:
        engine.docker("rm", "-f", "cp-user")


def test_what_is_mounted_is_seen_and_what_the_kernel_invents_is_not(engine):
    engine.docker("run", "-d", "--name", "cp-seen", "--tmpfs", "/t", "busybox", "sh", "-c", "echo mem >/t/f; sleep 300")
    try:
        wait_until(lambda: get(engine, "cp-seen", "/t/f", "HEAD")[0] == 200)
        assert get(engine, "cp-seen", "/proc/1/status")[0] == 404
        assert get(engine, "cp-seen", "/sys/kernel")[0] == 404
        assert [m.name for m in members(get(engine, "cp-seen", "/proc")[2])] == ["proc"]
        names = {m.name for m in members(get(engine, "cp-seen", "/.")[2])}
        assert {"./t/f", "./etc/hosts", "./proc", "./dev", "./bin/busybox"} <= names
        assert not any(name.startswith(("./proc/", "./sys/", "./dev/")) for name in names)
        # The engine's own file, as the container sees it.
        hosts = get(engine, "cp-seen", "/etc/hosts")[2]
        assert b"127.0.0.1" in hosts
    finally:
        engine.docker("rm", "-f", "cp-seen")


def test_a_big_tree_comes_back_as_it_was(engine, container, tmp_path):
    """Hard links, holes, attributes, capabilities, times, and thousands of files; GNU tar is the judge."""
    source = tmp_path / "src"
    source.mkdir()
    run("cp", "-a", "/usr/share/perl5" if pathlib.Path("/usr/share/perl5").exists() else "/usr/share/doc", source / "tree")
    (source / "one").write_text("two names")
    os.link(source / "one", source / "two")
    with open(source / "holes", "wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
    (source / "cap").write_text("x")
    os.chown(source / "cap", 1000, 100)
    os.setxattr(source / "cap", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(source / "cap", "user.note", b"a\nb=c\0d")
    packed = tmp_path / "src.tar"
    run("tar", "--format=pax", "--sparse", "--xattrs", "--xattrs-include=*", "-C", source, "-cf", packed, ".")
    with open(packed, "rb") as body:
        length = {"Content-Type": "application/x-tar", "Content-Length": str(packed.stat().st_size)}
        put(engine, container, "/", tar_of(("big", "d", None)))
        assert engine.api("PUT", archive_path(container, "/big"), body, length)[0] == 200
    back, out = tmp_path / "back.tar", tmp_path / "out"
    out.mkdir()
    back.write_bytes(get(engine, container, "/big/.")[2])
    run("tar", "--xattrs", "--xattrs-include=*", "--same-owner", "-C", out, "-xpf", back)
    assert summary(out) == summary(source)
    assert (out / "one").stat().st_ino == (out / "two").stat().st_ino
    assert os.getxattr(out / "cap", "user.note") == b"a\nb=c\0d"
    assert os.getxattr(out / "cap", "security.capability") == os.getxattr(source / "cap", "security.capability")


def summary(folder):
    """Everything that should survive a copy, by path."""
    found = {}
    for path, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            at = pathlib.Path(path, name)
            stat = at.lstat()
            shape = os.readlink(at) if at.is_symlink() else hashlib.sha256(at.read_bytes()).hexdigest() if at.is_file() else ""
            found[str(at.relative_to(folder))] = (stat.st_mode, stat.st_uid, stat.st_gid, int(stat.st_mtime), shape)
    return found


def test_holes_of_a_sparse_archive_stay_holes(engine, container, tmp_path):
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    packed = run("tar", "--sparse", "--format=pax", "-C", tmp_path, "-c", "sparse", text=False).stdout
    assert len(packed) < 1 << 20
    assert put(engine, container, "/vol", packed)[0] == 200
    volume = pathlib.Path(json.loads(engine.out("volume", "inspect", container))[0]["Mountpoint"])
    stat = (volume / "sparse").stat()
    assert stat.st_size == 1 << 30 and stat.st_blocks * 512 < 1 << 20


def test_compressed_bodies_are_taken_and_compressed_answers_given_on_request(engine, container):
    plain = tar_of(("packed", "f", b"unpacked " * 1000))
    for body in (gzip.compress(plain), lzma.compress(plain)):
        put(engine, container, "/tmp", tar_of(("packed", "f", b"")))
        assert put(engine, container, "/tmp", body)[0] == 200
        assert get(engine, container, "/tmp/packed", "HEAD")[1]["size"] == 9000
    answer = get(engine, container, "/tmp/packed", headers={"Accept-Encoding": "gzip"})[2]
    assert members(gzip.decompress(answer))[0].size == 9000
    # Cut in the middle: an error, and no hang.
    assert put(engine, container, "/tmp", lzma.compress(plain)[:-20])[0] == 400


def test_docker_py_copies_both_ways(engine, container):
    client = docker.DockerClient(base_url=engine.host)
    try:
        there = client.containers.get(container)
        assert there.put_archive("/tmp", tar_of(("py", "d", None), ("py/f", "f", b"from python")))
        bits, stat = there.get_archive("/tmp/py")
        assert (stat["name"], stat["mode"]) == ("py", 1 << 31 | 0o755)
        body = b"".join(bits)
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            assert tar.extractfile("py/f").read() == b"from python"
        with pytest.raises(docker.errors.NotFound):
            there.get_archive("/nope")
    finally:
        client.close()


def test_a_created_containers_volume_is_filled_before_it_starts(engine, tmp_path):
    """What Compose does with secrets and configs."""
    engine.docker("create", "--name", "cp-first", "-v", "/made/by/no/image", "busybox", "cat", "/made/by/no/image/f", "/run/secrets/s")
    try:
        assert put(engine, "cp-first", "/", tar_of(("/run/secrets/s", "f", b"secret\n"), ("/made/by/no/image/f", "f", b"ours\n")))[0] == 200
        assert engine.out("start", "-a", "cp-first") == "ours\nsecret"
    finally:
        engine.docker("rm", "-f", "-v", "cp-first")


def test_events_tell_of_copies(engine):
    engine.docker("create", "--name", "cp-events", "busybox")
    since = str(int(time.time()) - 1)
    try:
        put(engine, "cp-events", "/tmp", tar_of(("f", "f", b"x")))
        get(engine, "cp-events", "/tmp/f")
        until = str(int(time.time()) + 1)
        told = engine.out("events", "--since", since, "--until", until, "-f", "container=cp-events", "--format", "{{.Action}}")
        assert told.split()[-2:] == ["extract-to-dir", "archive-path"]
    finally:
        engine.docker("rm", "cp-events")


def descriptors(engine):
    """(mount namespaces held, threads) of gantryd."""
    process = pathlib.Path(f"/proc/{engine.process.pid}")
    held = 0
    for fd in (process / "fd").iterdir():
        try:
            held += os.readlink(fd).startswith("mnt:")
        except OSError:
            pass
    return held


def test_a_client_that_hangs_up_leaves_nothing(engine, container):
    before = engine.mounts()
    put(engine, container, "/tmp", tar_of(("big", "f", b"x" * (32 << 20))))
    wait_until(lambda: descriptors(engine) == 0, what="the end of the first copy")
    # A download of which one piece is read.
    down = socket.socket(socket.AF_UNIX)
    down.connect(str(engine.socket))
    down.sendall(f"GET {archive_path(container, '/tmp/big')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert down.recv(1000).startswith(b"HTTP/1.1 200")
    # An upload that stops in the middle of a file.
    up = socket.socket(socket.AF_UNIX)
    up.connect(str(engine.socket))
    body = tar_of(("half", "f", b"y" * (8 << 20)))
    up.sendall(f"PUT {archive_path(container, '/tmp')} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    up.sendall(body[: 4 << 20])
    wait_until(lambda: get(engine, container, "/tmp/half", "HEAD")[0] == 200, what="the first half")
    down.close()
    up.close()
    wait_until(lambda: get(engine, container, "/tmp/half", "HEAD")[0] == 404, what="the half file to go")
    wait_until(lambda: descriptors(engine) == 0, what="the files to be let go")
    assert engine.mounts() == before


def stalled_upload(engine, name):
    """An upload whose client stands still in the middle of a file."""
    up = socket.socket(socket.AF_UNIX)
    up.connect(str(engine.socket))
    body = tar_of(("half", "f", b"y" * (8 << 20)))
    up.sendall(f"PUT {archive_path(name, '/tmp')} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    up.sendall(body[: 1 << 20])
    wait_until(lambda: get(engine, name, "/tmp/half", "HEAD")[0] == 200, what="the first half")
    return up


def test_a_copy_that_stands_still_blocks_neither_start_nor_removal(engine):
    engine.docker("create", "--name", "cp-still", "busybox", "sleep", "300")
    up = stalled_upload(engine, "cp-still")
    begin = time.monotonic()
    engine.docker("start", "cp-still", timeout=40)
    assert time.monotonic() - begin < 30
    up.close()
    up = stalled_upload(engine, "cp-still")
    begin = time.monotonic()
    engine.docker("rm", "-f", "cp-still", timeout=40)
    assert time.monotonic() - begin < 15
    up.close()
    wait_until(lambda: descriptors(engine) == 0, what="the files to be let go")


def test_a_kill_in_the_middle_of_a_copy_leaves_no_mount(fresh):
    engine = fresh()
    engine.docker("create", "--name", "cp-killed", "-v", "/vol", "busybox", "true")
    before = engine.mounts()
    up = stalled_upload(engine, "cp-killed")
    assert engine.mounts() == before
    engine.restart()
    up.close()
    assert engine.mounts() == before
    engine.docker("start", "-a", "cp-killed")
    engine.docker("rm", "-v", "cp-killed")


def resident(engine):
    status = pathlib.Path(f"/proc/{engine.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


@pytest.mark.parametrize("size", [pytest.param(2 << 30, marks=pytest.mark.soak), 200 << 20])
def test_memory_stays_flat_while_a_copy_streams(engine, size):
    engine.docker("run", "-d", "--name", "cp-flat", "busybox", "sleep", "600")
    try:
        head = tarfile.TarInfo("big")
        head.size = size
        prefix = head.tobuf(tarfile.PAX_FORMAT)
        piece = os.urandom(1 << 20)
        put(engine, "cp-flat", "/tmp", tar_of(("warm", "f", piece)))
        begin, most = resident(engine), 0
        done = threading.Event()

        def watch():
            nonlocal most
            while not done.wait(0.02):
                most = max(most, resident(engine))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            up = engine.connection(timeout=300)
            up.putrequest("PUT", archive_path("cp-flat", "/tmp"))
            up.putheader("Content-Length", str(len(prefix) + size + 1024))
            up.endheaders(prefix)
            for _ in range(size >> 20):
                up.send(piece)
            up.send(bytes(1024))
            assert up.getresponse().status == 200
            up.close()
            down = engine.connection(timeout=300)
            down.request("GET", archive_path("cp-flat", "/tmp/big"))
            answer, count = down.getresponse(), 0
            while data := answer.read(1 << 20):
                count += len(data)
            down.close()
        finally:
            done.set()
            watcher.join()
        assert count >= size
        assert most - begin < 48 << 20, f"{(most - begin) >> 20} MiB more than before"
    finally:
        engine.docker("rm", "-f", "cp-flat")
