"""`docker update`: limits of a running container take force at once and stay."""

import pathlib


def cgroup_value(engine, name, controller, file):
    pid = engine.inspect(name)["State"]["Pid"]
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    unified = [line.split(":", 2)[2] for line in lines if line.startswith("0::")]
    v1 = [line.split(":", 2)[2] for line in lines if controller in line.split(":", 2)[1].split(",")]
    base = pathlib.Path("/sys/fs/cgroup")
    folder = base / controller / v1[0].lstrip("/") if v1 else base / unified[0].lstrip("/")
    return (folder / file).read_text().strip()


def test_an_update_takes_force_on_the_running_task_and_shows_in_inspect(engine):
    engine.docker("run", "-d", "--name", "limits", "--memory", "64m", "busybox", "sleep", "1000")
    try:
        engine.docker("update", "--memory", "96m", "--memory-swap", "-1", "--cpu-shares", "512", "--restart", "on-failure:3", "limits")
        host = engine.inspect("limits")["HostConfig"]
        assert (host["Memory"], host["CpuShares"]) == (96 << 20, 512)
        assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
        if pathlib.Path("/sys/fs/cgroup/memory").is_dir():
            assert cgroup_value(engine, "limits", "memory", "memory.limit_in_bytes") == str(96 << 20)
            assert cgroup_value(engine, "limits", "cpu", "cpu.shares") == "512"
        engine.docker("restart", "-t", "0", "limits")
        assert engine.inspect("limits")["HostConfig"]["Memory"] == 96 << 20
    finally:
        engine.docker("rm", "-f", "limits")


def test_a_limit_under_the_minimum_is_refused_in_dockers_words(engine):
    engine.docker("create", "--name", "small", "busybox", "true")
    try:
        done = engine.docker("update", "--memory", "1m", "small", check=False)
        assert done.returncode == 1
        assert "Minimum memory limit allowed is 6MB" in done.stderr
    finally:
        engine.docker("rm", "small")


def test_a_pids_limit_is_lifted_from_the_running_task(engine):
    engine.docker("run", "-d", "--name", "counted", "--pids-limit", "40", "busybox", "sleep", "1000")
    try:
        assert cgroup_value(engine, "counted", "pids", "pids.max") == "40"
        engine.docker("update", "--pids-limit", "-1", "counted")
        assert cgroup_value(engine, "counted", "pids", "pids.max") == "max"
        assert not engine.inspect("counted")["HostConfig"]["PidsLimit"]
    finally:
        engine.docker("rm", "-f", "counted")
