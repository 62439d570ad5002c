"""`--userns-remap`: root of a container is somebody else on the host, and everything else is as it was."""

import io
import json
import os
import pathlib
import signal
import tarfile

import pytest
from harness import BIN, run, wait_until
from remapping import GIDS, UIDS, USER, RemappedEngine

needs_failpoints = pytest.mark.skipif(
    b"GANTRY_FAILPOINTS_FILE" not in (BIN / "gantryd").read_bytes(), reason="gantryd is built without the feature `failpoints`"
)
PRIVILEGED = (
    "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when "
    "running privileged mode"
)


@pytest.fixture(scope="module")
def engine():
    engine = RemappedEngine().start()
    try:
        engine.load_busybox()
        yield engine
    finally:
        engine.close()


@pytest.fixture
def remapped():
    """Makes engines that are closed with the test."""
    made = []

    def make(*flags, start=True, **more):
        engine = RemappedEngine(*flags, **more)
        made.append(engine)
        if start:
            engine.start().load_busybox()
        return engine

    yield make
    for engine in made:
        engine.close()


def owner(path):
    found = os.stat(path, follow_symlinks=False)
    return found.st_uid - UIDS[0], found.st_gid - GIDS[0]


def busybox(engine, *argv, options=(), **more):
    return engine.out("run", "--rm", *options, "busybox", *argv, **more)


def test_info_tells_of_the_namespaces_and_their_root(engine):
    _, info = engine.api("GET", "/info")
    assert "name=userns" in info["SecurityOptions"]
    assert info["DockerRootDir"] == str(engine.data / f"{UIDS[0]}.{GIDS[0]}")


def test_root_of_a_container_is_the_mapped_user_on_the_host(engine, tmp_path):
    tmp_path.chmod(0o777)
    script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /mnt/made; chown 1000:100 /mnt/made; stat -c %u:%g /"
    lines = busybox(engine, "sh", "-c", script, options=("-v", f"{tmp_path}:/mnt")).splitlines()
    assert [line.split() for line in lines[:2]] == [["0", *map(str, UIDS)], ["0", *map(str, GIDS)]]
    assert lines[2:] == ["0", "0:0"]
    assert owner(tmp_path / "made") == (1000, 100)


def test_a_container_cannot_do_what_only_the_hosts_root_may(engine, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("of the host's root")
    (tmp_path / "secret").chmod(0o600)
    for attempt in ("cat /mnt/secret", "touch /mnt/new", "chown 0 /mnt/secret", "echo 1 > /proc/sys/kernel/panic", "mknod /x b 7 0"):
        done = engine.docker("run", "--rm", "-v", f"{tmp_path}:/mnt", "busybox", "sh", "-c", attempt, check=False)
        assert done.returncode != 0, attempt


def test_missing_bind_sources_are_made_for_the_mapped_root(engine, tmp_path):
    tmp_path.chmod(0o755)
    source = tmp_path / "made" / "deep"
    busybox(engine, "touch", "/mnt/f", options=("-v", f"{source}:/mnt"))
    assert (owner(source), owner(source / "f"), os.stat(tmp_path).st_uid) == ((0, 0), (0, 0), 0)


def test_what_needs_the_hosts_namespaces_is_refused_unless_they_are_off(engine):
    cases = [
        ("--privileged", PRIVILEGED),
        ("--network=host", "cannot share the host's network namespace when user namespaces are enabled"),
        ("--pid=host", "cannot share the host PID namespace when user namespaces are enabled"),
    ]
    for option, text in cases:
        done = engine.docker("create", option, "busybox", "true", check=False)
        assert done.returncode != 0 and text in done.stderr, option
        map_ = busybox(engine, "cat", "/proc/self/uid_map", options=("--userns=host", option))
        assert map_.split() == ["0", "0", "4294967295"]
    _, body = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"UsernsMode": "other"}})
    assert body["message"] == "invalid USER mode: other"


def test_without_a_namespace_the_files_are_the_mapped_users(engine):
    script = "stat -c %u:%g /bin; touch /own; stat -c %u:%g /own"
    assert busybox(engine, "sh", "-c", script, options=("--userns=host",)).split() == [f"{UIDS[0]}:{GIDS[0]}", "0:0"]


def test_the_engines_files_and_mounts_belong_to_the_containers_root(engine):
    script = "echo >> /etc/hosts; echo >> /etc/resolv.conf; touch /dev/shm/x /tmp/t/x; stat -c %u:%g /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm /tmp/t"
    assert busybox(engine, "sh", "-c", script, options=("--tmpfs", "/tmp/t")).split() == ["0:0"] * 5


@pytest.mark.parametrize("options", [("--ipc=host",), ("--uts=host",), ("--read-only",), ("--init",), ("--memory=64m", "--cpus=1", "--pids-limit=50"), ("--sysctl", "kernel.shmmax=4096"), ("--device", "/dev/null:/dev/mine"), ("--cgroupns=private",), ("--ulimit", "nofile=100"), ("--oom-score-adj=5",), ("--network=none",), ("--cap-add=ALL",), ("--security-opt", "no-new-privileges"), ("--ipc=none",)], ids=lambda options: options[0][2:])  # fmt: skip
def test_options_work_in_a_user_namespace(engine, options):
    assert busybox(engine, "id", "-u", options=options) == "0"


def test_execs_users_and_health_checks_run_in_the_namespace(engine):
    engine.docker(
        "run", "-d", "--name", "healthy", "--health-cmd", "test $(id -u) = 0 && touch /probed", "--health-interval", "200ms",
        "busybox", "sleep", "300",
    )  # fmt: skip
    try:
        assert engine.out("exec", "healthy", "cat", "/proc/self/uid_map").split() == ["0", *map(str, UIDS)]
        assert engine.out("exec", "-u", "user", "healthy", "sh", "-c", "id -u; echo x > /tmp/u; stat -c %u:%g /tmp/u").split() == ["1000", "1000:1000"]
        wait_until(lambda: engine.inspect("healthy")["State"]["Health"]["Status"] == "healthy")
        assert engine.out("exec", "healthy", "stat", "-c", "%u", "/probed") == "0"
        done = engine.docker("exec", "-t", "healthy", "sh", "-c", "echo > /dev/stdout; tty", check=False)
        assert done.returncode == 0, done.stderr
    finally:
        engine.docker("rm", "-f", "healthy")
    assert busybox(engine, "sh", "-c", "id -u; echo > /dev/stderr; pwd; touch x && stat -c %u x", options=("-u", "1000:1000", "-w", "/tmp")).split() == ["1000", "/tmp", "1000"]
    # A working folder that is made is root's, in the container.
    assert busybox(engine, "stat", "-c", "%u:%g", "/made/for", options=("-w", "/made/for")) == "0:0"


def test_volumes_are_filled_with_the_images_owners_and_shared_among_containers(engine):
    script = "mkdir -p /data/sub && echo x > /data/f && chown -R 1000:100 /data"
    engine.docker("run", "--name", "maker", "busybox", "sh", "-c", script)
    engine.docker("commit", "maker", "with-data")
    engine.docker("rm", "maker")
    try:
        show = ("stat", "-c", "%u:%g", "/data", "/data/f")
        assert engine.out("run", "--rm", "-v", "filled:/data", "with-data", *show).split() == ["1000:100"] * 2
        mountpoint = pathlib.Path(json.loads(engine.out("volume", "inspect", "filled"))[0]["Mountpoint"])
        assert owner(mountpoint / "f") == (1000, 100)
        assert busybox(engine, "sh", "-c", "touch /v/new && stat -c %u:%g /v /v/new", options=("-v", "empty:/v")).split() == ["0:0"] * 2
        assert busybox(engine, "cat", "/v/f", options=("-v", "filled:/v:ro")) == "x"
        assert busybox(engine, "cat", "/v/f", options=("--mount", "type=volume,src=filled,dst=/v,volume-subpath=.")) == "x"
        image = {"Type": "image", "Source": "with-data", "Target": "/i"}
        body = {"Image": "busybox", "Cmd": ["stat", "-c", "%u", "/i/data/f"], "HostConfig": {"Mounts": [image]}}
        made = engine.api("POST", "/containers/create?name=with-image", body)
        assert made[0] == 201, made
        assert engine.out("start", "-a", "with-image") == "1000"
        engine.docker("rm", "with-image")
    finally:
        engine.docker("volume", "rm", "-f", "filled", "empty")
        engine.docker("rmi", "with-data")


@pytest.mark.parametrize("running", [True, False])
def test_copies_have_the_containers_owners_on_both_sides(engine, running):
    name = f"copied-{running}"
    engine.docker("create", "--name", name, "busybox", "sleep", "300")
    try:
        if running:
            engine.docker("start", name)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo("in")
            info.uid, info.gid, info.size = 1000, 100, 1
            tar.addfile(info, io.BytesIO(b"x"))
        status, _ = engine.api("PUT", f"/containers/{name}/archive?path=/tmp", archive.getvalue(), {"Content-Type": "application/x-tar"})
        assert status == 200
        if running:
            assert engine.out("exec", name, "stat", "-c", "%u:%g", "/tmp/in") == "1000:100"
        for path in ("/tmp/in", "/bin/busybox"):
            _, data = engine.api("GET", f"/containers/{name}/archive?path={path}", raw=True)
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                member = tar.getmembers()[0]
            assert (member.uid, member.gid) == ((1000, 100) if path == "/tmp/in" else (0, 0))
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo("nobodys")
            info.uid = UIDS[1]
            tar.addfile(info)
        status, body = engine.api("PUT", f"/containers/{name}/archive?path=/tmp", archive.getvalue(), {"Content-Type": "application/x-tar"})
        assert status == 400 and body["message"].endswith(f"container ID {UIDS[1]} cannot be mapped to a host ID"), body
        assert engine.api("GET", f"/containers/{name}/archive?path=/tmp/nobodys", raw=True)[0] == 404
    finally:
        engine.docker("rm", "-f", name)


def test_diff_commit_export_and_save_show_the_containers_owners(engine, tmp_path):
    script = "echo x > /own; chown 1000:100 /own; mkdir /folder; rm /etc/group"
    engine.docker("run", "--name", "changed", "busybox", "sh", "-c", script)
    try:
        assert sorted(engine.out("diff", "changed").splitlines()) == ["A /folder", "A /own", "C /etc", "D /etc/group"]
        engine.docker("export", "-o", tmp_path / "export.tar", "changed")
        owners = {member.name.rstrip("/"): (member.uid, member.gid) for member in tarfile.open(tmp_path / "export.tar")}
        assert (owners["own"], owners["folder"], owners["bin/busybox"]) == ((1000, 100), (0, 0), (0, 0))
        engine.docker("commit", "changed", "committed")
        engine.docker("save", "-o", tmp_path / "save.tar", "committed")
        with tarfile.open(tmp_path / "save.tar") as saved:
            manifest = json.load(saved.extractfile("manifest.json"))
            top = tarfile.open(fileobj=saved.extractfile(manifest[0]["Layers"][-1]))
            owners = {member.name.rstrip("/"): (member.uid, member.gid) for member in top}
        assert (owners["own"], owners["folder"], owners["etc/.wh.group"]) == ((1000, 100), (0, 0), (0, 0))
        shown = engine.out("run", "--rm", "committed", "stat", "-c", "%u:%g", "/own", "/folder", "/").split()
        assert shown == ["1000:100", "0:0", "0:0"]
    finally:
        engine.docker("rm", "-f", "changed")
        engine.docker("rmi", "-f", "committed", check=False)


def test_ports_names_and_networks_come_between_create_and_start(engine):
    engine.docker("network", "create", "front")
    engine.docker("network", "create", "back")
    try:
        engine.docker("run", "-d", "--name", "web", "--network", "name=front,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.rp_filter=0", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/var/www")  # fmt: skip
        assert engine.out("exec", "web", "cat", "/proc/sys/net/ipv4/conf/eth0/rp_filter") == "0"
        # A port below 1024 and the first packet of all need no privilege of the host's.
        for address in ("127.0.0.1", "172.17.0.1"):
            assert engine.namespace.exec("wget", "-qO-", f"http://{address}:8080/").stdout == "hello from gantry\n"
        assert busybox(engine, "wget", "-qO-", "http://web/", options=("--network", "front")) == "hello from gantry"
        engine.docker("network", "connect", "back", "web")
        assert busybox(engine, "wget", "-qO-", "http://web/", options=("--network", "back")) == "hello from gantry"
        engine.docker("network", "disconnect", "front", "web")
        assert "eth0" not in engine.out("exec", "web", "ip", "-o", "link")
        assert busybox(engine, "wget", "-qO-", "http://127.0.0.1/", options=("--network", "container:web")) == "hello from gantry"
        assert "httpd" in busybox(engine, "ps", options=("--pid", "container:web"))
        engine.docker("restart", "-t", "0", "web")
        assert busybox(engine, "wget", "-qO-", "http://web/", options=("--network", "back")) == "hello from gantry"
        assert engine.api("GET", "/containers/web/stats?stream=0")[1]["networks"]
        engine.docker("run", "-d", "--name", "open", "--userns=host", "busybox", "sleep", "300")
        done = engine.docker("run", "--rm", "--network", "container:open", "busybox", "true", check=False)
        assert "which runs in the host's user namespace" in done.stderr
        assert busybox(engine, "wget", "-qO-", "http://127.0.0.1/", options=("--userns=host", "--network", "container:web")) == "hello from gantry"
    finally:
        engine.docker("rm", "-f", "web", "open", check=False)
        engine.docker("network", "rm", "front", "back", check=False)


def test_a_shareable_memory_is_shared_within_the_namespace(engine):
    engine.docker("run", "-d", "--name", "sharing", "--ipc=shareable", "busybox", "sh", "-c", "echo shared > /dev/shm/x; sleep 300")
    try:
        wait_until(lambda: engine.docker("exec", "sharing", "test", "-s", "/dev/shm/x", check=False).returncode == 0)
        assert busybox(engine, "cat", "/dev/shm/x", options=("--ipc=container:sharing",)) == "shared"
        engine.docker("run", "-d", "--name", "keeping", "busybox", "sleep", "300")
        done = engine.docker("run", "--rm", "--ipc=container:keeping", "busybox", "true", check=False)
        assert "non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in done.stderr
    finally:
        engine.docker("rm", "-f", "sharing", "keeping", check=False)


def test_a_failed_start_leaves_no_namespace(engine):
    pins = engine.inside() / str(engine.exec_root / f"{UIDS[0]}.{GIDS[0]}" / "netns").lstrip("/")
    before = sorted(os.listdir(pins))
    links = engine.namespace.exec("ip", "-o", "link").stdout
    for broken in (("nosuchprogram",), ("sh",)):
        options = ("--sysctl", "net.ipv4.conf.nosuch0.rp_filter=1") if broken == ("sh",) else ()
        done = engine.docker("run", "--rm", *options, "busybox", *broken, check=False)
        assert done.returncode != 0
    assert sorted(os.listdir(pins)) == before
    count = lambda text: sum("veth" in line for line in text.splitlines())  # noqa: E731
    wait_until(lambda: count(engine.namespace.exec("ip", "-o", "link").stdout) == count(links))


def test_containers_outlive_a_killed_gantryd_and_are_adopted(remapped):
    engine = remapped()
    engine.docker("network", "create", "net")
    for name in ("one", "two"):
        engine.docker("run", "-d", "--name", name, "--network", "net", "--restart=always", "busybox", "httpd", "-f", "-p", "80", "-h", "/var/www")
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/var/www")
    pid = engine.inspect("one")["State"]["Pid"]
    engine.restart()
    assert engine.inspect("one")["State"]["Pid"] == pid
    assert engine.namespace.exec("wget", "-qO-", "http://127.0.0.1:8080/").stdout == "hello from gantry\n"
    assert engine.out("exec", "one", "wget", "-qO-", "http://two/") == "hello from gantry"
    engine.docker("network", "connect", "net", "web")
    assert engine.out("exec", "one", "wget", "-qO-", "http://web/") == "hello from gantry"
    engine.docker("restart", "-t", "0", "one")
    assert engine.out("exec", "two", "wget", "-qO-", "http://one/") == "hello from gantry"
    engine.docker("rm", "-f", "one", "two", "web")
    pins = engine.inside() / str(engine.exec_root / f"{UIDS[0]}.{GIDS[0]}" / "netns").lstrip("/")
    assert os.listdir(pins) == []


@needs_failpoints
@pytest.mark.parametrize("point", ["network.wire_sandbox", "runtime.create_task", "runtime.start_task"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_kill_in_the_middle_of_a_start_leaves_nothing(remapped, point, side):
    engine = remapped()
    engine.docker("create", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/var/www")
    engine.stop()
    engine.start(GANTRY_KILL_AT=f"{point}:{side}")
    engine.docker("start", "web", check=False)
    wait_until(lambda: engine.process.poll() is not None, what="the end of gantryd")
    engine.start()
    state = engine.inspect("web")["State"]["Status"]
    if state != "running":
        pins = engine.inside() / str(engine.exec_root / f"{UIDS[0]}.{GIDS[0]}" / "netns").lstrip("/")
        wait_until(lambda: os.listdir(pins) == [], what="the end of the namespace")
        engine.docker("start", "web")
    assert engine.namespace.exec("wget", "-qO-", "http://127.0.0.1:8080/").stdout == "hello from gantry\n"


def test_default_makes_its_user_and_ids_once(remapped):
    engine = remapped(remap="default", subuid="other:100000:65536\n", subgid="")
    assert run("grep", "dockremap", engine.etc / "passwd").stdout
    assert (engine.etc / "subuid").read_text().splitlines()[-1] == "dockremap:165536:65536"
    assert (engine.etc / "subgid").read_text().splitlines()[-1] == "dockremap:100000:65536"
    assert busybox(engine, "cat", "/proc/self/uid_map").split() == ["0", "165536", "65536"]
    before = (engine.etc / "subuid").read_text(), (engine.etc / "passwd").read_text()
    engine.restart()
    assert ((engine.etc / "subuid").read_text(), (engine.etc / "passwd").read_text()) == before
    assert busybox(engine, "id", "-u") == "0"


def test_several_ranges_follow_one_another(remapped):
    engine = remapped(remap="4711:4711", subuid="4711:700000:1000\nmapped:900000:9000\n", subgid="mapped:800000:10000\n")
    maps = [line.split() for line in busybox(engine, "cat", "/proc/self/uid_map").splitlines()]
    assert maps == [["0", "700000", "1000"], ["1000", "900000", "9000"]]
    assert busybox(engine, "sh", "-c", "touch /tmp/x; stat -c %u /tmp/x", options=("-u", "1000:1000")) == "1000"
    done = engine.docker("run", "--rm", "-u", "10000", "busybox", "true", check=False)
    assert done.returncode != 0


def test_an_engine_that_cannot_remap_does_not_start(remapped):
    for more, text in (
        ({"remap": "nosuchuser"}, 'Error during uid lookup for "nosuchuser"'),
        ({"subuid": ""}, 'no subuid ranges found for user "mapped"'),
        ({"subgid": f"{USER}:0:10\n"}, "root cannot be remapped with itself"),
        ({"remap": "root"}, "root cannot be remapped with itself"),
    ):
        engine = remapped(start=False, **more)
        engine.start(wait=False)
        assert engine.process.wait(30) != 0
        assert text in engine.tail()
    engine = remapped(start=False)
    engine.root.chmod(0o700)
    engine.start(wait=False)
    assert engine.process.wait(30) != 0 and "restricts access to the remapped root uid/gid" in engine.tail()


def test_engines_with_and_without_remapping_keep_apart(remapped):
    """The same roots, in turn: neither sees the other's images or touches its containers."""
    engine = remapped(remap=None)
    engine.docker("run", "-d", "--name", "plain", "busybox", "sleep", "1000")
    pid = engine.inspect("plain")["State"]["Pid"]
    engine.stop()
    engine.flags += ["--userns-remap", USER]
    engine.start()
    assert engine.api("GET", "/images/json")[1] == [] and engine.api("GET", "/containers/json?all=1")[1] == []
    engine.load_busybox()
    engine.docker("run", "-d", "--name", "mapped", "busybox", "sleep", "1000")
    mapped = engine.inspect("mapped")["State"]["Pid"]
    assert os.path.exists(f"/proc/{pid}")
    engine.stop()
    engine.flags = engine.flags[:-2]
    engine.start()
    assert engine.inspect("plain")["State"]["Pid"] == pid
    assert engine.out("exec", "plain", "cat", "/proc/self/uid_map").split()[1] == "0"
    assert os.path.exists(f"/proc/{mapped}")
    engine.stop()
    engine.flags += ["--userns-remap", USER]
    engine.start()
    assert engine.inspect("mapped")["State"]["Pid"] == mapped
    engine.docker("rm", "-f", "mapped")


def test_validate_and_a_reload_change_nothing(remapped):
    engine = remapped()
    run(*engine.argv()[:-2], "--userns-remap", "default", "--validate")
    assert "dockremap" not in (engine.etc / "passwd").read_text()
    engine.config.write_text(json.dumps({"debug": True}))
    engine.process.send_signal(signal.SIGHUP)
    wait_until(lambda: engine.api("GET", "/info")[1]["Debug"])
    _, info = engine.api("GET", "/info")
    assert info["DockerRootDir"].endswith(f"{UIDS[0]}.{GIDS[0]}") and "name=userns" in info["SecurityOptions"]
    assert busybox(engine, "cat", "/proc/self/uid_map").split()[1] == str(UIDS[0])

