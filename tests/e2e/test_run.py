"""`docker run`: what each option asks for is so inside, with the stock CLI."""

import re
import subprocess

from harness import wait_until


def inside(engine, *argv, **more):
    """The standard output of one `docker run --rm` on busybox; the last words are the command."""
    return engine.out("run", "--rm", *argv, **more)


def sh(engine, script, *options):
    return inside(engine, *options, "busybox", "sh", "-c", script)


# -- identity: names, environment, user, folder, entry point -----------------------------------------------------------


def test_a_detached_container_prints_its_id_and_bears_its_name(engine):
    id = engine.out("run", "-d", "--name", "run-named", "busybox", "sleep", "600")
    assert re.fullmatch("[0-9a-f]{64}", id)
    seen = engine.inspect("run-named")
    assert (seen["Id"], seen["Name"], seen["State"]["Status"]) == (id, "/run-named", "running")
    assert engine.out("ps", "-q", "--no-trunc", "--filter", "name=run-named") == id
    engine.docker("rm", "-f", "run-named")


def test_a_container_without_a_name_gets_one_of_two_words(engine):
    id = engine.out("create", "busybox")
    assert re.fullmatch("/[a-z]+_[a-z]+[0-9]?", engine.inspect(id)["Name"])
    engine.docker("rm", id)


def test_rm_takes_the_container_away_with_its_anonymous_volumes(engine):
    before = set(engine.out("volume", "ls", "-q").split())
    inside(engine, "--name", "run-gone", "-v", "/data", "busybox", "touch", "/data/x")
    assert engine.docker("inspect", "run-gone", check=False).returncode == 1
    assert set(engine.out("volume", "ls", "-q").split()) == before


def test_the_environment_is_the_images_then_the_files_then_the_options(engine, tmp_path):
    file = tmp_path / "env"
    file.write_text("# a comment\nA=file\nB=file with  spaces\nFROM_CLIENT\n\n")
    env = {**engine.docker_env(), "FROM_CLIENT": "client"}
    done = subprocess.run(
        engine.docker_argv("run", "--rm", "--env-file", file, "-e", "A=option", "-e", "EMPTY=", "-e", "UNSET", "busybox", "env"),
        env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    got = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert got["A"] == "option" and got["B"] == "file with  spaces" and got["FROM_CLIENT"] == "client"
    assert got["EMPTY"] == "" and "UNSET" not in got
    assert got["PATH"].endswith(":/sbin:/bin") and got["HOME"] == "/root" and re.fullmatch("[0-9a-f]{12}", got["HOSTNAME"])


def test_a_terminal_brings_term(engine):
    assert "TERM=xterm" in sh(engine, "env", "-t")


def test_the_working_folder_is_made_where_it_is_missing(engine):
    assert sh(engine, "pwd; ls -ld . | cut -c1-10", "-w", "/made/for/it").splitlines() == ["/made/for/it", "drwxr-xr-x"]


def test_a_user_is_looked_up_in_the_images_passwd(engine):
    ids = "id -u; id -g; id -G; echo $HOME"

    def lines(user):
        return sh(engine, ids, "-u", user).splitlines()

    assert lines("user") == ["1000", "1000", "1000 100", "/home"]
    assert lines("1000") == ["1000", "1000", "1000 100", "/home"]
    assert lines("user:daemon") == ["1000", "1", "1", "/home"]
    assert lines("user:777") == ["1000", "777", "777", "/home"]
    assert lines("4242") == ["4242", "0", "0", "/"]
    assert lines("4242:4243") == ["4242", "4243", "4243", "/"]


def test_groups_are_added_by_name_and_number(engine):
    groups = sh(engine, "id -G", "-u", "user", "--group-add", "daemon", "--group-add", "4000").split()
    assert groups[0] == "1000" and sorted(groups) == sorted(["1000", "1", "100", "4000"])


def test_an_entry_point_takes_the_command_as_its_arguments(engine):
    assert inside(engine, "--entrypoint", "echo", "busybox", "a", "b c") == "a b c"
    assert inside(engine, "--entrypoint", "/bin/ls", "busybox") != ""


def test_the_host_name_is_set_and_stands_in_hosts(engine):
    out = sh(engine, "hostname; cat /etc/hostname; grep web.example /etc/hosts", "--hostname", "web.example.org").splitlines()
    assert out[:2] == ["web.example.org"] * 2
    assert re.fullmatch(r"172\.\d+\.\d+\.\d+\tweb\.example\.org web", out[2])


def test_labels_are_kept_from_options_and_files(engine, tmp_path):
    file = tmp_path / "labels"
    file.write_text("from=file\n")
    id = engine.out("create", "-l", "a=b=c", "-l", "bare", "--label-file", file, "busybox")
    assert engine.inspect(id)["Config"]["Labels"] == {"a": "b=c", "bare": "", "from": "file"}
    assert engine.out("ps", "-aq", "--no-trunc", "--filter", "label=a=b=c") == id
    engine.docker("rm", id)


def test_the_id_is_written_to_the_cidfile(engine, tmp_path):
    file = tmp_path / "cid"
    id = engine.out("run", "-d", "--cidfile", file, "busybox", "true")
    assert file.read_text() == id
    again = engine.docker("run", "--cidfile", file, "busybox", "true", check=False)
    assert again.returncode == 125 and "container ID file found" in again.stderr
    engine.docker("rm", "-f", id)


# -- mounts --------------------------------------------------------------------------------------------------------------


def test_a_bind_is_the_hosts_folder_and_made_by_v_where_missing(engine, tmp_path):
    sh(engine, "echo written > /host/made/x", "-v", f"{tmp_path}/new:/host/made")
    assert (tmp_path / "new" / "x").read_text() == "written\n"

    done = engine.docker("run", "--rm", "--mount", f"type=bind,src={tmp_path}/new,dst=/m,readonly", "busybox", "touch", "/m/y", check=False)
    assert done.returncode == 1 and "Read-only file system" in done.stderr


def test_a_bind_of_a_file_is_that_file(engine, tmp_path):
    (tmp_path / "f").write_text("text\n")
    assert inside(engine, "-v", f"{tmp_path}/f:/etc/f:ro", "busybox", "cat", "/etc/f") == "text"


def test_a_named_volume_is_shared_and_outlives_its_containers(engine):
    sh(engine, "echo kept > /v/x", "-v", "run-vol:/v")
    assert sh(engine, "cat /w/x", "--mount", "type=volume,src=run-vol,dst=/w") == "kept"
    assert sh(engine, "touch /w/y 2>&1 || echo no", "-v", "run-vol:/w:ro").endswith("no")
    engine.docker("volume", "rm", "run-vol")


def test_a_new_volume_starts_with_what_the_image_has_there(engine):
    assert sh(engine, "cat /var/www/index.html", "-v", "run-www:/var/www") == "hello from gantry"
    assert sh(engine, "ls /x", "-v", "run-empty:/var/www:nocopy", "-v", "run-www:/x") == "index.html"
    assert sh(engine, "ls /var/www", "-v", "run-empty:/var/www:nocopy") == ""
    engine.docker("volume", "rm", "run-www", "run-empty")


def test_an_anonymous_volume_is_kept_without_rm_and_named_by_its_digest(engine):
    id = engine.out("run", "-d", "-v", "/data", "busybox", "true")
    [mount] = engine.inspect(id)["Mounts"]
    assert (mount["Type"], mount["Destination"], mount["RW"]) == ("volume", "/data", True)
    assert re.fullmatch("[0-9a-f]{64}", mount["Name"]) and mount["Source"].endswith(f"/{mount['Name']}/_data")
    engine.docker("rm", "-v", "-f", id)
    assert mount["Name"] not in engine.out("volume", "ls", "-q")


def test_a_tmpfs_has_its_size_and_mode(engine):
    out = sh(engine, "grep ' /t ' /proc/mounts; stat -c %a /t", "--tmpfs", "/t:size=1m,mode=700").splitlines()
    assert "tmpfs" in out[0] and "size=1024k" in out[0] and "noexec" in out[0] and out[1] == "700"
    out = sh(engine, "grep ' /t ' /proc/mounts", "--mount", "type=tmpfs,dst=/t,tmpfs-size=2097152")
    assert "size=2048k" in out


def test_volumes_from_gives_the_other_containers_mounts(engine):
    engine.docker("run", "-d", "--name", "run-from", "-v", "/shared", "busybox", "sh", "-c", "echo theirs > /shared/x")
    engine.docker("wait", "run-from")
    assert sh(engine, "cat /shared/x", "--volumes-from", "run-from") == "theirs"
    engine.docker("rm", "-fv", "run-from")


# -- network -------------------------------------------------------------------------------------------------------------


def test_network_none_has_loopback_alone(engine):
    assert sh(engine, "ls /sys/class/net; ip route", "--network", "none").split() == ["lo"]
    assert "LOOPBACK,UP" in sh(engine, "ip link show lo", "--network", "none")


def test_network_host_is_the_engines_own_namespace(engine):
    mine = engine.namespace.exec("readlink", "/proc/self/ns/net").stdout.strip()
    assert sh(engine, "readlink /proc/self/ns/net", "--network", "host") == mine


def test_network_bridge_gives_an_address_and_a_way_out(engine):
    out = sh(engine, "ip -4 addr show eth0; ip route")
    address = re.search(r"inet (172\.\d+\.\d+\.\d+)/16", out).group(1)
    assert re.search(rf"default via {'.'.join(address.split('.')[:2])}\.0\.1 dev eth0", out)


def test_network_of_another_container_is_shared(engine):
    engine.docker("run", "-d", "--name", "run-net", "busybox", "sleep", "600")
    one = engine.out("exec", "run-net", "readlink", "/proc/self/ns/net")
    assert sh(engine, "readlink /proc/self/ns/net", "--network", "container:run-net") == one
    engine.docker("rm", "-f", "run-net")


# -- rights and limits -----------------------------------------------------------------------------------------------------


def test_init_is_process_one_and_reaps(engine):
    script = "(sleep 0.1 & exec true); (sh -c 'sleep 0.1 & exit 0'); sleep 1; ps -o pid,stat,comm"
    out = sh(engine, script, "--init")
    assert re.search(r"^\s*1 \S+\s+docker-init", out, re.M) and not re.search(r"\sZ", out)


def test_init_passes_signals_and_the_exit_code(engine):
    id = engine.out("run", "-d", "--init", "busybox", "sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.1; done")
    wait_until(lambda: "up" in engine.out("logs", id), what="the trap")
    engine.docker("stop", id)
    assert engine.inspect(id)["State"]["ExitCode"] == 42
    engine.docker("rm", id)


def test_read_only_leaves_tmpfs_and_volumes_writable(engine):
    out = sh(engine, "touch /x 2>&1; touch /t/x /v/x /dev/shm/x && echo ok", "--read-only", "--tmpfs", "/t", "-v", "/v")
    assert "Read-only file system" in out and out.endswith("ok")


def caps(engine, *options):
    return int(sh(engine, "grep CapEff /proc/self/status", *options).split()[1], 16)


def test_capabilities_are_added_and_dropped(engine):
    default = 0xA80425FB
    assert caps(engine) == default
    assert caps(engine, "--cap-drop", "ALL") == 0
    assert caps(engine, "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE") == 1 << 10
    assert caps(engine, "--cap-add", "SYS_ADMIN", "--cap-drop", "cap_chown") == (default | 1 << 21) & ~1
    assert caps(engine, "-u", "user") == 0


def test_privileged_has_every_capability_device_and_no_filter(engine):
    out = sh(engine, "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev | wc -l; mount -t tmpfs x /tmp && echo mounted", "--privileged")
    fields = out.split()
    assert int(fields[1], 16) == int(open("/proc/1/status").read().split("CapBnd:")[1].split()[0], 16)
    assert fields[3] == "0" and int(fields[4]) > 20 and fields[5] == "mounted"


def test_ulimits_arrive(engine):
    assert sh(engine, "ulimit -Sn; ulimit -Hn; ulimit -c", "--ulimit", "nofile=1000:2000", "--ulimit", "core=0").split() == ["1000", "2000", "0"]


def test_sysctls_are_set_in_the_containers_namespaces(engine):
    assert sh(engine, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "--sysctl", "net.ipv4.ip_unprivileged_port_start=90") == "90"


def test_inspect_tells_every_option_back(engine):
    id = engine.out(
        "create", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--restart", "on-failure:3", "--stop-signal", "SIGINT",
        "--ulimit", "nofile=10:20", "--cap-add", "SYS_TIME", "--init", "--read-only", "--privileged", "--shm-size", "1m", "busybox",
    )  # fmt: skip
    seen = engine.inspect(id)
    host = seen["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (64 << 20, 500_000_000, 50, 1 << 20)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert seen["Config"]["StopSignal"] == "SIGINT" and host["Ulimits"] == [{"Name": "nofile", "Hard": 20, "Soft": 10}]
    assert (host["Init"], host["ReadonlyRootfs"], host["Privileged"]) == (True, True, True)
    assert host["CapAdd"] in (["SYS_TIME"], ["CAP_SYS_TIME"])
    engine.docker("rm", id)
