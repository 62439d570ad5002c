"""Copies against hostile containers and archives (T01 to T06): nothing outside the container is read, made or changed."""

import http.client
import io
import os
import pathlib
import subprocess
import tarfile
import time

import pytest
from harness import wait_until
from test_copy import archive_path, get, members, put, tar_of

# The container swaps a folder and links that lead out of it, as fast as it can.
SWAP = """
mkdir -p /play/real; echo inside >/play/real/secret; ln -s OUT /play/out; ln -s /play/real /play/in
cd /play; while :; do mv -T real aside; mv -T out real; mv -T real out; mv -T aside real; done
"""


@pytest.mark.parametrize("rounds", [pytest.param(10_000, marks=pytest.mark.soak), 300])
def test_a_container_that_swaps_folders_and_links_gets_nobody_out_of_it(engine, outside, rounds):
    """CVE-2018-15664: the link leads to a folder of the host."""
    engine.docker("run", "-d", "--name", "swaps", "busybox", "sh", "-c", SWAP.replace("OUT", str(outside)))
    try:
        wait_until(lambda: get(engine, "swaps", "/play", "HEAD")[0] == 200)
        body = tar_of(("evil", "f", b"evil"), ("d", "d", None), ("d/evil", "f", b"evil"), mode=0o777)
        seen = set()
        for n in range(rounds):
            status, _, answer = get(engine, "swaps", "/play/real/secret")
            seen.add(status)
            assert b"of the host" not in answer
            if n % 3 == 0:
                assert b"of the host" not in get(engine, "swaps", "/play/.")[2]
            seen.add(put(engine, "swaps", "/play/real", body)[0])
            assert not (outside / "evil").exists()
        assert 200 in seen and seen <= {200, 400, 404, 500}, seen
    finally:
        engine.docker("rm", "-f", "swaps")


def test_hostile_archives_stay_inside(engine, outside):
    """Absolute and climbing links, hard links to the host, names with dots, devices: into each kind of container."""
    out, up = str(outside), "../" * 20 + str(outside).lstrip("/")
    archives = [
        tar_of(("l", "l", out), ("l/evil", "f", b"x"), ("l", "d", None), mode=0o777),
        tar_of(("l", "l", up), ("l/evil", "f", b"x"), ("l/secret", "f", b"x")),
        tar_of(("a", "l", "b"), ("b", "l", out), ("a/evil", "f", b"x")),
        tar_of(("h", "h", out + "/secret"), ("h", "f", b"x")),
        tar_of(("h", "h", up + "/secret")),
        tar_of(("s", "l", out + "/secret"), ("h", "h", "s"), ("h", "f", b"x")),
        tar_of((up + "/evil", "f", b"x")),
        tar_of(("x/../../../.." + out + "/evil", "f", b"x")),
        tar_of((out + "/evil", "f", b"x")),
        tar_of((".wh..wh..opq", "f", b""), (".wh.secret", "f", b""), ("..", "l", out)),
    ]
    for running in (False, True):
        engine.docker("create", "--name", "hostile", "-v", "/vol", "busybox", "sleep", "100")
        try:
            if running:
                engine.docker("start", "hostile")
            for place in ("/tmp", "/vol", "/"):
                for body in archives:
                    assert put(engine, "hostile", place, body)[0] in (200, 400, 404)
                    assert os.listdir(outside) == ["secret"]
        finally:
            engine.docker("rm", "-f", "-v", "hostile")


def test_a_link_in_the_image_leads_a_copy_nowhere(engine, outside):
    """A root with links to the host in the place of its folders, also where a volume is mounted."""
    body = tar_of(("bin", "d", None), ("data", "l", str(outside)), ("way", "l", "/../../.." + str(outside)), ("etc", "l", str(outside)))
    made = engine.api("POST", "/images/create?fromSrc=-&repo=links&tag=test", body, raw=True)
    assert made[0] == 200, made
    engine.docker("create", "--name", "links", "-v", "/data/vol", "links:test", "x")
    try:
        for path in ("/data/secret", "/way/secret", "/etc/secret"):
            assert get(engine, "links", path)[0] == 404
        put(engine, "links", "/way", tar_of(("evil", "f", b"x")))
        put(engine, "links", "/", tar_of(("way/evil", "f", b"x"), ("data/vol/f", "f", b"x")))
        names = [m.name for m in members(get(engine, "links", "/.")[2])]
        assert "./way" in names and not any("secret" in name for name in names)
        exported = engine.api("GET", "/containers/links/export", raw=True)[1]
        assert b"of the host" not in exported and "way" in [m.name for m in members(exported)]
    finally:
        engine.docker("rm", "-v", "links")
        engine.docker("rmi", "links:test")


def test_nothing_of_the_container_is_run_or_loaded_for_a_copy(engine, tmp_path):
    """CVE-2019-14271, CVE-2026-41567: neither its unpackers nor its libraries; the kernel tells who runs what."""
    engine.docker("run", "-d", "--name", "trojan", "--user", "user", "busybox", "sleep", "300")
    trace = tmp_path / "trace"
    try:
        script = b"#!/bin/sh\ntouch /trojan\n"
        put(engine, "trojan", "/bin", tar_of(*[(name, "f", script) for name in ("xz", "unpigz", "gzip", "zstd", "unxz", "tar")], mode=0o755))
        put(engine, "trojan", "/", tar_of(("lib/libnss_files.so.2", "f", b"x"), ("etc/nsswitch.conf", "f", b"passwd: files evil\n")))
        spy = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=execve,execveat,openat,open", "-o", trace, "-p", str(engine.process.pid)], stderr=subprocess.DEVNULL)
        wait_until(lambda: "TracerPid:\t0" not in pathlib.Path(f"/proc/{engine.process.pid}/status").read_text())
        for suffix in ("gz", "xz", "bz2"):
            body = io.BytesIO()
            with tarfile.open(fileobj=body, mode=f"w:{suffix}") as tar:
                tar.addfile(tarfile.TarInfo("packed"), io.BytesIO())
            assert put(engine, "trojan", "/tmp", body.getvalue(), copyUIDGID="1")[0] == 200
            assert get(engine, "trojan", "/tmp/packed")[0] == 200
        spy.terminate()
        spy.wait(20)
        text = trace.read_text()
        assert "openat" in text
        assert not [line for line in text.splitlines() if "exec" in line or "libnss" in line or ".so" in line]
        assert get(engine, "trojan", "/trojan", "HEAD")[0] == 404
    finally:
        engine.docker("rm", "-f", "trojan")


def test_a_bomb_ends_in_an_error_and_little_memory(engine):
    """T08: much out of little, and headers that promise more than there is."""
    engine.docker("create", "--name", "bomb", "busybox")
    try:
        info = tarfile.TarInfo("huge")
        info.size = 1 << 60
        cut = info.tobuf(tarfile.PAX_FORMAT) + b"x" * 1000
        assert put(engine, "bomb", "/tmp", cut)[0] == 400
        assert get(engine, "bomb", "/tmp/huge", "HEAD")[0] == 404
        long = tarfile.TarInfo("n" * (2 << 20))
        assert put(engine, "bomb", "/tmp", long.tobuf(tarfile.GNU_FORMAT))[0] == 400
        deep = tar_of(("/".join(["d"] * 600), "f", b"x"))
        begin = time.monotonic()
        assert put(engine, "bomb", "/tmp", deep)[0] in (200, 400, 500)
        # Deeper than what is packed: the answer breaks off, and the engine goes on.
        with pytest.raises(http.client.IncompleteRead):
            get(engine, "bomb", "/tmp")
        assert get(engine, "bomb", "/tmp", "HEAD")[0] == 200
        assert time.monotonic() - begin < 30
    finally:
        engine.docker("rm", "-f", "bomb")


def test_paths_of_every_kind_are_answered(engine):
    """T10: traversal, NUL, bad UTF-8, and names as long as a header may be."""
    engine.docker("create", "--name", "paths", "busybox")
    try:
        for path in ("../../../etc/shadow", "/../../etc/shadow", "/x" * 5000, "/\0", "\udcff", "/tmp/" + "n" * 300):
            raw = archive_path("paths", path) if "\udcff" not in path else "/containers/paths/archive?path=%ff%fe"
            for method in ("GET", "HEAD", "PUT"):
                status, answer = engine.api(method, raw, b"" if method == "PUT" else None, raw=True)
                assert status in (400, 404), (path[:20], method, status, answer)
    finally:
        engine.docker("rm", "paths")
