"""Limits on what a container or a volume may hold: project quotas of the data root's file system."""

import pytest
from harness import Engine, run
from storage import Disk


class QuotaDisk(Disk):
    OPTIONS = "prjquota"

    def __init__(self, file, place):
        self.file, self.place = file, place
        place.mkdir(parents=True, exist_ok=True)
        run("truncate", "-s", "600M", file)
        run("mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota", file)
        self.mount()


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """An engine on an ext4 with project quotas."""
    folder = tmp_path_factory.mktemp("quota")
    engine = Engine()
    try:
        disk = QuotaDisk(folder / "disk", engine.data)
    except AssertionError:
        engine.close()
        # `make vm-test` has a kernel that has them.
        pytest.skip("this kernel has no project quotas on ext4")
    try:
        engine.start()
        engine.load_busybox()
        yield engine
    finally:
        engine.close()
        disk.unmount()





def test_a_container_holds_no_more_than_it_may(limited):
    docker = limited.docker
    docker("run", "-d", "--name", "small", "--storage-opt", "size=20M", "busybox", "sleep", "1000")
    docker("run", "-d", "--name", "large", "busybox", "sleep", "1000")
    assert limited.inspect("small")["HostConfig"]["StorageOpt"] == {"size": "20M"}
    refused = docker("exec", "small", "dd", "if=/dev/zero", "of=/full", "bs=1M", "count=40", check=False)
    assert refused.returncode != 0 and ("Disk quota exceeded" in refused.stderr or "No space left" in refused.stderr)
    held = int(docker("exec", "small", "du", "-m", "/full").stdout.split()[0])
    assert 15 <= held <= 20
    docker("exec", "large", "dd", "if=/dev/zero", "of=/full", "bs=1M", "count=40")
    # Room that is given back can be used again, and a restart changes nothing.
    docker("exec", "small", "rm", "/full")
    docker("restart", "-t", "0", "small")
    docker("exec", "small", "dd", "if=/dev/zero", "of=/some", "bs=1M", "count=10")
    assert docker("exec", "small", "dd", "if=/dev/zero", "of=/more", "bs=1M", "count=15", check=False).returncode != 0
    docker("rm", "-f", "small", "large")


def test_a_volume_holds_no_more_than_it_may(limited):
    docker = limited.docker
    docker("volume", "create", "-o", "size=10m", "bounded")
    done = docker("run", "--rm", "-v", "bounded:/v", "busybox", "dd", "if=/dev/zero", "of=/v/f", "bs=1M", "count=20", check=False)
    assert done.returncode != 0 and ("Disk quota exceeded" in done.stderr or "No space left" in done.stderr)
    # Filled from the image like any other.
    docker("volume", "create", "-o", "size=10m", "filled")
    assert docker("run", "--rm", "-v", "filled:/etc", "busybox", "test", "-f", "/etc/passwd").returncode == 0
    assert limited.api("GET", "/volumes/bounded")[1]["Options"] == {"size": "10m"}
    docker("volume", "rm", "bounded", "filled")


def test_bad_sizes_are_refused(limited):
    docker = limited.docker
    done = docker("create", "--storage-opt", "colour=red", "busybox", check=False)
    assert "Unknown option colour" in done.stderr
    assert docker("create", "--storage-opt", "size=much", "busybox", check=False).returncode != 0
    assert docker("volume", "create", "-o", "size=much", check=False).returncode != 0


def test_without_quotas_it_is_said_and_nothing_is_left(engine):
    done = engine.docker("create", "--name", "none", "--storage-opt", "size=20M", "busybox", check=False)
    text = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
    assert done.returncode != 0 and text in done.stderr
    assert engine.docker("container", "inspect", "none", check=False).returncode != 0
    done = engine.docker("volume", "create", "-o", "size=10m", "none", check=False)
    assert done.returncode != 0 and "quota size requested but no quota support" in done.stderr
    assert engine.docker("volume", "inspect", "none", check=False).returncode != 0
    assert not (engine.data / "volumes" / "none").exists()
