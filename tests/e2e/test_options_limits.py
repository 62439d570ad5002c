"""Limits that HostConfig names, as they stand in the container's control group and are felt by its processes."""

import os
import pathlib
import time

import pytest
from harness import run, wait_until
from test_inside import cgroup

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def groups(engine, id):
    """Controller -> the container's group, by the kernel's own word."""
    found = {}
    for line in open(f"/proc/{engine.inspect(id)['State']['Pid']}/cgroup"):
        _, controllers, path = line.strip().split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def has(controller):
    if V2:
        return controller in pathlib.Path("/sys/fs/cgroup/cgroup.controllers").read_text().replace("io", "io blkio").split()
    return os.path.isdir(f"/sys/fs/cgroup/{controller}")


@pytest.fixture
def limited(engine):
    """Starts containers with options that last as long as the test."""
    made = []

    def start(*options, program=("sleep", "600")):
        made.append(engine.out("run", "-d", *options, "busybox", *program))
        return made[-1]

    yield start
    for id in made:
        engine.docker("rm", "-fv", id)


def test_processors_and_memory_nodes_are_those_named(engine, limited):
    id = limited("--cpuset-cpus", "0", "--cpuset-mems", "0")
    assert cgroup(engine, id, "cpuset.cpus", "cpuset/cpuset.cpus") == "0"
    assert cgroup(engine, id, "cpuset.mems", "cpuset/cpuset.mems") == "0"
    status = engine.out("exec", id, "grep", "-E", "^(Cpus|Mems)_allowed_list", "/proc/self/status").split()
    assert status == ["Cpus_allowed_list:", "0", "Mems_allowed_list:", "0"]
    assert engine.out("exec", id, "nproc") == "1"
    done = engine.docker("create", "--cpuset-cpus", "4095", "busybox", check=False)
    assert done.returncode != 0 and "Requested CPUs are not available" in done.stderr


def test_memory_is_limited_reserved_and_swapped_as_told(engine, limited):
    id = limited("--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "96m")
    assert cgroup(engine, id, "memory.max", "memory/memory.limit_in_bytes") == str(64 << 20)
    assert cgroup(engine, id, "memory.low", "memory/memory.soft_limit_in_bytes") == str(32 << 20)
    # Version 2 counts swap apart, version 1 together with the memory.
    swap = ("memory.swap.max", "memory/memory.memsw.limit_in_bytes")
    if V2 or os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        assert cgroup(engine, id, *swap) == str((32 if V2 else 96) << 20)


@pytest.mark.skipif(V2, reason="this host has no cgroup v1, whose setting this is")
def test_swappiness_and_a_disabled_killer_are_settings_of_version_one(engine, limited):
    id = limited("--memory", "64m", "--oom-kill-disable", "--memory-swappiness", "17")
    assert "oom_kill_disable 1" in cgroup(engine, id, "", "memory/memory.oom_control")
    assert cgroup(engine, id, "", "memory/memory.swappiness") == "17"


def test_the_score_for_the_killer_is_the_processs_own(engine, limited):
    id = limited("--oom-score-adj", "321")
    assert engine.out("exec", id, "cat", "/proc/1/oom_score_adj") == "321"
    assert engine.out("run", "--rm", "busybox", "cat", "/proc/self/oom_score_adj") == "0"


def test_processor_time_is_shared_and_bounded_as_told(engine, limited):
    id = limited("--cpu-shares", "512", "--cpu-period", "50000", "--cpu-quota", "25000")
    if V2:
        assert cgroup(engine, id, "cpu.max", "") == "25000 50000"
        assert cgroup(engine, id, "cpu.weight", "") == "20"
    else:
        assert cgroup(engine, id, "", "cpu/cpu.cfs_quota_us") == "25000"
        assert cgroup(engine, id, "", "cpu/cpu.cfs_period_us") == "50000"
        assert cgroup(engine, id, "", "cpu/cpu.shares") == "512"


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A block device of the test's own: (path, "major:minor")."""
    file = tmp_path_factory.mktemp("disk") / "image"
    run("truncate", "-s", "64M", file)
    device = run("losetup", "-f", "--show", "--direct-io=on", file).stdout.strip()
    number = os.stat(device).st_rdev
    yield device, f"{os.major(number)}:{os.minor(number)}"
    run("losetup", "-d", device)


@pytest.mark.skipif(not has("blkio"), reason="this host has no control group for block devices")
def test_reads_and_writes_of_a_device_are_throttled(engine, limited, disk):
    device, number = disk
    options = ("--device-read-bps", f"{device}:2mb", "--device-write-bps", f"{device}:4mb", "--device-read-iops", f"{device}:300",
               "--device-write-iops", f"{device}:400")  # fmt: skip
    id = limited(*options, "--device", device)
    if V2:
        rates = cgroup(engine, id, "io.max", "")
        assert set(rates.split()) == {number, "rbps=2097152", "wbps=4194304", "riops=300", "wiops=400"}
    else:
        for name, rate in (("read_bps", 2 << 20), ("write_bps", 4 << 20), ("read_iops", 300), ("write_iops", 400)):
            assert cgroup(engine, id, "", f"blkio/blkio.throttle.{name}_device") == f"{number} {rate}"
    # Felt: six megabytes past the page cache take three seconds; unbounded they take none.
    read = ("dd", f"if={device}", "of=/dev/null", "bs=64k", "count=96", "iflag=direct")

    def took(id):
        began = time.monotonic()
        engine.docker("exec", id, *read)
        return time.monotonic() - began

    assert took(limited("--device", device)) < 2 < took(id)


@pytest.mark.skipif(not has("blkio"), reason="this host has no control group for block devices")
def test_weights_of_block_devices_are_kept_or_warned_of(engine):
    """Whether they are in force depends on the device's scheduler: then the client is told."""
    done = engine.docker("create", "--blkio-weight", "300", "busybox", "true")
    id = done.stdout.strip()
    warned = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded." in done.stderr
    assert (engine.inspect(id)["HostConfig"]["BlkioWeight"], warned) in [(300, False), (0, True)]
    engine.docker("start", "-a", id)
    engine.docker("rm", id)
    if not warned:
        done = engine.docker("create", "--blkio-weight", "5", "busybox", check=False)
        assert done.returncode != 0 and "Range of blkio weight is from 10 to 1000" in done.stderr


def test_a_group_is_made_below_the_parent_that_is_named(engine, limited):
    parent = f"gantry-test-{os.getpid()}"
    id = limited("--cgroup-parent", f"/{parent}/below")
    assert {path for path in groups(engine, id).values() if parent in path} == {f"/{parent}/below/{id}"}
    assert engine.inspect(id)["HostConfig"]["CgroupParent"] == f"/{parent}/below"
    made = [folder for depth in ("", "*/") for folder in pathlib.Path("/sys/fs/cgroup").glob(f"{depth}{parent}/below/{id}")]
    assert made
    engine.docker("kill", id)
    wait_until(lambda: not any(folder.exists() for folder in made), 20, "the end of its groups")
    for folder in made:
        folder.parent.rmdir()
        folder.parent.parent.rmdir()


def test_control_groups_of_its_own_hide_the_hosts_and_shared_ones_do_not(engine):
    show = ("busybox", "cat", "/proc/self/cgroup")
    own = {line.split(":", 2)[2] for line in engine.out("run", "--rm", "--cgroupns", "private", *show).splitlines()}
    assert own == {"/"}
    shared = {line.split(":", 2)[2] for line in engine.out("run", "--rm", "--cgroupns", "host", *show).splitlines()}
    assert any(len(path) > 60 for path in shared), shared
    inside = engine.out("run", "--rm", "--cgroupns", "host", "busybox", "readlink", "/proc/self/ns/cgroup")
    assert inside == os.readlink("/proc/self/ns/cgroup")


def test_a_rule_for_devices_lets_in_what_it_names_and_nothing_else(engine):
    # 10:237 is loop-control, which the default rules do not have and which asks for no capability.
    def opened(how, *options):
        script = ("busybox", "sh", "-c", f"mknod /tmp/d c 10 237; exec 3{how}/tmp/d && echo open")
        return engine.docker("run", "--rm", *options, *script, check=False).stdout.strip() == "open"

    assert not opened("<") and not opened(">")
    assert opened("<", "--device-cgroup-rule", "c 10:237 r") and not opened(">", "--device-cgroup-rule", "c 10:237 r")
    assert opened(">", "--device-cgroup-rule", "c 10:* w") and not opened(">", "--device-cgroup-rule", "b 10:237 rwm")
    done = engine.docker("create", "--device-cgroup-rule", "x 1:2 r", "busybox", check=False)
    assert done.returncode != 0 and "invalid device cgroup format" in done.stderr
