"""Inside it is a real container: namespaces, capabilities, filter, hidden paths, limits, descriptors, reaping."""

import json
import os
import re
import time

import pytest

DEFAULT_CAPABILITIES = 0xA80425FB  # the fourteen of moby's caps/defaults.go
PROBE = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; ls -l /proc/self/fd | grep -o ' [0-9]* ->'"


@pytest.fixture(scope="module")
def box(engine):
    """One container that stays, to look into."""
    id = engine.out("run", "-d", "--name", "inside", "busybox", "sleep", "3600")
    yield id
    engine.docker("rm", "-f", id)


def sh(engine, script, *options):
    return engine.out("run", "--rm", *options, "busybox", "sh", "-c", script)


def pid(engine, name):
    return engine.inspect(name)["State"]["Pid"]


def namespace(process, kind):
    return os.readlink(f"/proc/{process}/ns/{kind}")


@pytest.mark.parametrize("kind", ["pid", "mnt", "uts", "ipc", "net"])
def test_each_namespace_is_the_containers_own(engine, box, kind):
    inside = namespace(pid(engine, box), kind)
    assert inside != namespace("self", kind) and inside != namespace(engine.process.pid, kind)


def test_ps_shows_the_program_as_process_one(engine):
    lines = engine.out("run", "--rm", "busybox", "ps", "-ef").splitlines()
    assert len(lines) == 2 and re.match(r"\s*1 root\s+ps -ef", lines[1])


def test_host_namespaces_are_shared_where_asked(engine):
    ask = "for k in pid uts ipc net; do readlink /proc/self/ns/$k; done"
    own = sh(engine, ask).split()
    shared = sh(engine, ask, "--pid", "host", "--uts", "host", "--ipc", "host", "--network", "host").split()
    assert shared == [namespace(engine.process.pid, kind) for kind in ("pid", "uts", "ipc", "net")]
    assert not set(own) & set(shared)


def test_a_pid_namespace_is_shared_with_the_container_named(engine, box):
    assert "sleep 3600" in sh(engine, "ps -ef", "--pid", f"container:{box}")


def probed(text):
    fields = dict(re.findall(r"^(\w+):\s+(\S+)$", text, re.M))
    descriptors = [int(n) for n in re.findall(r"^ (\d+) ->", text, re.M)]
    return fields, descriptors


def check_probe(text):
    """T23: bounding set of fourteen, nothing inheritable or ambient. T27: no descriptor but 0 to 2."""
    fields, descriptors = probed(text)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(fields[name], 16) == DEFAULT_CAPABILITIES, (name, fields)
    assert int(fields["CapInh"], 16) == 0 and int(fields["CapAmb"], 16) == 0
    assert fields["Seccomp"] == "2" and fields["NoNewPrivs"] == "0"
    # `ls` holds one of its own while it reads the folder; the shell's pipe took 1's place.
    assert descriptors and set(descriptors) <= {0, 1, 2}, descriptors


def test_t23_t27_run_has_default_capabilities_the_filter_and_three_descriptors(engine):
    check_probe(sh(engine, PROBE))


def test_t23_t27_exec_has_default_capabilities_the_filter_and_three_descriptors(engine, box):
    check_probe(engine.out("exec", box, "sh", "-c", PROBE))


def test_t27_the_first_process_inherits_no_descriptor(engine, box):
    assert sorted(os.listdir(f"/proc/{pid(engine, box)}/fd")) == ["0", "1", "2"]


def test_t27_every_descriptor_of_the_daemon_closes_on_exec(engine):
    base = f"/proc/{engine.process.pid}"
    for fd in os.listdir(f"{base}/fdinfo"):
        try:
            flags = int(re.search(r"flags:\s+(\d+)", open(f"{base}/fdinfo/{fd}").read()).group(1), 8)
            target = os.readlink(f"{base}/fd/{fd}")
        except OSError:
            continue
        assert int(fd) <= 2 or flags & os.O_CLOEXEC, (fd, target)


def test_an_exec_of_another_user_has_no_capabilities(engine, box):
    fields, _ = probed(engine.out("exec", "-u", "user", box, "sh", "-c", PROBE))
    assert int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == DEFAULT_CAPABILITIES


def test_a_privileged_exec_has_every_capability(engine, box):
    fields, _ = probed(engine.out("exec", "--privileged", box, "sh", "-c", PROBE))
    assert int(fields["CapEff"], 16) & (1 << 21)


def test_the_filter_refuses_what_dockers_profile_refuses(engine):
    for script in ("unshare -U true", "unshare -m true"):
        assert "Operation not permitted" in sh(engine, f"{script} 2>&1 || true"), script
    assert "permission denied" in sh(engine, "mount -t tmpfs x /tmp 2>&1 || true")
    assert "Operation not permitted" not in sh(engine, "unshare -U true 2>&1 || true", "--security-opt", "seccomp=unconfined")


def test_no_new_privileges_holds_where_asked(engine):
    assert sh(engine, "grep NoNewPrivs /proc/self/status", "--security-opt", "no-new-privileges").split()[1] == "1"


def test_masked_paths_are_empty_and_kernel_settings_read_only(engine):
    script = """
    for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -e $f ] && wc -c < $f; done | sort -u
    ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | tr -d '\\n'
    for p in bus fs irq sys sysrq-trigger; do grep -q " /proc/$p proc ro" /proc/self/mounts && echo ro-$p; done
    echo 1 > /proc/sys/kernel/panic || echo refused
    d=/sys/fs/cgroup; [ -d $d/memory ] && d=$d/memory
    mkdir $d/x || echo refused
    """
    out = sh(engine, script).split("\n")
    assert out[0] == "0"
    for name in ("ro-bus", "ro-fs", "ro-irq", "ro-sys"):
        assert name in out
    assert out.count("refused") == 2, out


# -- limits ---------------------------------------------------------------------------------------------------------------------


def cgroup(engine, name, v2, v1):
    """A limit's file in the container's group, whichever version this host has."""
    for line in open(f"/proc/{pid(engine, name)}/cgroup"):
        _, controllers, path = line.strip().split(":", 2)
        if not controllers and os.path.exists(f"/sys/fs/cgroup/{path}/{v2}"):
            return open(f"/sys/fs/cgroup/{path}/{v2}").read().strip()
        if v1.split("/")[0] in controllers.split(","):
            return open(f"/sys/fs/cgroup/{v1.split('/')[0]}/{path}/{v1.split('/')[1]}").read().strip()
    raise AssertionError(f"no group of the container {name} has {v2} or {v1}")


def test_limits_stand_in_the_containers_group(engine):
    id = engine.out("run", "-d", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpu-shares", "512", "busybox", "sleep", "600")
    try:
        assert cgroup(engine, id, "memory.max", "memory/memory.limit_in_bytes") == str(64 << 20)
        assert cgroup(engine, id, "pids.max", "pids/pids.max") == "20"
        quota = cgroup(engine, id, "cpu.max", "cpu/cpu.cfs_quota_us").split()[0]
        assert quota == "50000"
    finally:
        engine.docker("rm", "-f", id)


def test_the_limit_of_processes_is_felt(engine):
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"
    done = engine.docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script, check=False)
    assert done.returncode == 2 and "can't fork" in done.stderr


def test_out_of_memory_is_137_with_its_mark_and_event(engine):
    since = int(time.time())
    id = engine.out("run", "-d", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "exec tail /dev/zero")
    assert engine.out("wait", id) == "137"
    state = engine.inspect(id)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (137, True)

    def events():
        text = engine.out("events", "--since", str(since), "--until", str(int(time.time()) + 1), "--filter", f"container={id}", "--format", "{{json .}}")
        return [json.loads(line)["Action"] for line in text.splitlines()]

    assert "oom" in events() and "die" in events()
    engine.docker("rm", id)


def test_shm_has_its_size(engine):
    assert "64.0M" in sh(engine, "df -h /dev/shm")
    assert "1.0M" in sh(engine, "df -h /dev/shm", "--shm-size", "1m")


def test_zombies_are_reaped_with_init(engine):
    script = "for i in 1 2 3 4 5; do sh -c 'sh -c \"sleep 0.1\" & exit 0'; done; sleep 0.6; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"
    assert sh(engine, script, "--init") == "0"


def test_the_terminal_is_a_device_of_the_containers_own(engine):
    id = engine.out("run", "-dt", "busybox", "sleep", "600")
    assert engine.out("exec", "-t", id, "tty").startswith("/dev/pts/")
    assert "/dev/console" in engine.out("exec", id, "ls", "/dev/console")
    engine.docker("rm", "-f", id)


def test_devices_are_the_default_ones_and_those_named(engine):
    names = sh(engine, "cd /dev; ls").split()
    assert set(names) == {
        "console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    } - {"console"}  # fmt: skip
    assert "1,   9" in sh(engine, "ls -l /dev/mine; head -c1 /dev/mine | wc -c", "--device", "/dev/urandom:/dev/mine:r")
    assert "Operation not permitted" in sh(engine, "mknod /tmp/d b 254 0; head -c1 /tmp/d 2>&1 || true")
