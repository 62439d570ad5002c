"""Answers and outcomes that dockerd's sources lay down, each for a case that is easily missed."""

import pathlib

import pytest

MAC = "02:42:ac:11:00:63"
NOT_EXPERIMENTAL = (
    "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."
)


def create(engine, version="", **body):
    return engine.api("POST", f"{version}/containers/create", {"Image": "busybox", "Cmd": ["sleep", "1000"], **body})


@pytest.fixture
def clean(engine):
    """What a test makes is taken away after it."""
    yield engine
    for container in engine.out("ps", "-aq", "--no-trunc").split():
        engine.docker("rm", "-f", "-v", container, check=False)
    engine.docker("network", "prune", "-f")


@pytest.mark.parametrize("method, path", [("GET", ""), ("POST", ""), ("DELETE", "/one")])
def test_checkpoints_are_experimental(clean, method, path):
    clean.docker("create", "--name", "web", "busybox")
    for name in ("web", "not-there"):
        status, body = clean.api(method, f"/containers/{name}/checkpoints{path}", {} if method == "POST" else None)
        assert (status, body) == (501, {"message": NOT_EXPERIMENTAL})


def test_a_start_from_a_checkpoint_is_experimental(clean):
    clean.docker("create", "--name", "web", "busybox")
    status, body = clean.api("POST", "/containers/web/start?checkpoint=one")
    assert (status, body["message"]) == (400, "checkpoint is only supported in experimental mode")
    status, body = clean.api("POST", "/containers/web/start?checkpoint-dir=/x")
    assert (status, body["message"]) == (403, "custom checkpointdir is not supported")
    assert clean.inspect("web")["State"]["Status"] == "created"


def test_a_domain_name_is_the_kernels(clean):
    name = ("cat", "/proc/sys/kernel/domainname")
    assert clean.docker("run", "--rm", "--domainname", "example.org", "busybox", *name).stdout == "example.org\n"
    # The CLI lets nobody ask for it.
    asked = {"Domainname": "example.org", "HostConfig": {"Sysctls": {"kernel.domainname": "example.net"}}}
    id = create(clean, **{**asked, "Cmd": list(name)})[1]["Id"]
    assert clean.docker("start", "-a", id).stdout == "example.net\n"


def test_the_working_directory_is_there_before_the_first_start(clean, tmp_path):
    (tmp_path / "file").write_text("content\n")
    clean.docker("create", "--name", "web", "-w", "/src/deep", "busybox", "cat", "file")
    clean.docker("cp", str(tmp_path / "file"), "web:/src/deep/")
    assert clean.docker("start", "-a", "web").stdout == "content\n"
    for _ in range(2):
        status, body = create(clean, WorkingDir="/etc/passwd")
        assert (status, body["message"]) == (500, "Cannot mkdir: /etc/passwd is not a directory")
    assert clean.out("ps", "-aq").split() == [clean.inspect("web")["Id"][:12]]


def test_a_volume_of_the_image_over_a_file_is_refused_at_the_create(clean):
    status, body = create(clean, Volumes={"/etc/passwd": {}})
    assert status == 500 and body["message"] == "cannot mount volume over existing file, file exists /etc/passwd"
    assert clean.out("volume", "ls", "-q") == ""


def test_a_bind_of_the_data_root_follows_the_hosts_mounts(clean):
    for source in ("/", str(clean.data), str(clean.data / "volumes")):
        clean.docker("run", "-d", "--name", "bound", "-v", f"{source}:/x:ro", "busybox", "sleep", "1000")
        assert clean.inspect("bound")["Mounts"][0]["Propagation"] == "rslave", source
        clean.docker("rm", "-f", "bound")
    status, body = create(clean, HostConfig={"Binds": ["/:/x:private"]})
    assert status == 400
    assert body["message"] == (
        'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the '
        f'daemon root, daemon root: "{clean.data}", bind mount source: "/", propagation: "private"'
    )
    status, body = create(clean, HostConfig={"Binds": ["/etc:/x:private"]})
    assert status == 201


def test_an_update_that_contradicts_the_container_is_a_conflict(clean):
    create_with = lambda name, **host: clean.api(
        "POST", f"/containers/create?name={name}", {"Image": "busybox", "HostConfig": host}
    )
    create_with("nano", NanoCpus=500_000_000)
    create_with("plain")
    create_with("gone", AutoRemove=True)
    prefix = lambda name: f"Cannot update container {clean.inspect(name)['Id']}: "
    memory = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
    for name, change, text in (
        ("nano", {"CpuPeriod": 10_000}, "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"),
        ("plain", {"Memory": 64 << 20}, memory),
        ("gone", {"RestartPolicy": {"Name": "always"}},
         "Restart policy cannot be updated because AutoRemove is enabled for the container"),
    ):  # fmt: skip
        status, body = clean.api("POST", f"/containers/{name}/update", change)
        assert (status, body["message"]) == (409, prefix(name) + text)
    assert clean.api("POST", "/containers/plain/update", {"Memory": 64 << 20, "MemorySwap": -1})[0] == 200


def test_what_an_ended_run_held_is_free_for_the_next(clean):
    for turn in range(10):
        clean.docker("network", "create", "brief")
        clean.docker("run", "--name", f"a{turn}", "--network", "brief", "-p", "8099:80", "busybox", "true")
        clean.docker("run", "-d", "--name", f"b{turn}", "--network", "brief", "-p", "8099:80", "busybox", "sleep", "1000")
        clean.docker("kill", f"b{turn}")
        clean.docker("network", "rm", "brief")


def test_a_link_is_a_name_of_its_target(clean):
    clean.docker("run", "-d", "--name", "db", "busybox", "sleep", "1000")
    clean.docker("run", "-d", "--name", "web", "--link", "db:database", "busybox", "sleep", "1000")
    names = {tuple(item["Names"]) for item in clean.api("GET", "/containers/json")[1]}
    assert names == {("/web",), ("/db", "/web/database")}


def test_a_mac_address_of_the_container_is_that_of_its_main_network(clean):
    deprecated = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
    for version, warnings in (("/v1.43", []), ("/v1.44", [deprecated]), ("/v1.51", [deprecated])):
        status, body = create(clean, version, MacAddress=MAC)
        assert (status, body["Warnings"]) == (201, warnings)
        clean.docker("start", body["Id"])
        about = clean.inspect(body["Id"])
        assert about["NetworkSettings"]["Networks"]["bridge"]["MacAddress"] == MAC
        assert about["Config"].get("MacAddress", MAC) == MAC
        clean.docker("rm", "-f", body["Id"])
    status, body = create(clean, MacAddress="no address")
    assert status == 400 and "invalid MAC address no address" in body["message"]


def test_a_setting_of_eth0_is_one_of_the_main_network(clean):
    sysctls = {"net.ipv4.conf.eth0.log_martians": "1"}
    status, body = create(clean, "/v1.48", HostConfig={"Sysctls": sysctls})
    assert (status, body["Warnings"]) == (201, [
        'Migrated sysctl "net.ipv4.conf.eth0.log_martians" to '
        'DriverOpts{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.log_martians=1"}.'
    ])  # fmt: skip
    clean.docker("start", body["Id"])
    assert clean.docker("exec", body["Id"], "cat", "/proc/sys/net/ipv4/conf/eth0/log_martians").stdout == "1\n"
    status, body = create(clean, HostConfig={"Sysctls": sysctls})
    assert status == 400 and "must be supplied using driver option" in body["message"]


def test_what_is_wrong_with_a_request_is_said_before_its_image_is_missed(clean):
    status, body = create(clean, Image="not-there", HostConfig={"Memory": 1})
    assert (status, body["message"]) == (400, "Minimum memory limit allowed is 6MB")
    assert create(clean, Image="not-there")[0] == 404


def test_a_memory_node_that_the_host_does_not_have_is_refused(clean):
    there = pathlib.Path("/sys/devices/system/node/online").read_text().strip()
    status, body = create(clean, HostConfig={"CpusetMems": "900"})
    if status == 400:
        text = f"Requested memory nodes are not available - requested 900, available: {there}"
        assert body["message"] == text
    else:
        assert any("does not support cpuset" in warning for warning in body["Warnings"])


def test_times_tell_the_run_before(clean):
    never = "0001-01-01T00:00:00Z"
    clean.docker("create", "--name", "web", "busybox", "no-such-program")
    clean.docker("start", "web", check=False)
    state = clean.inspect("web")["State"]
    assert (state["StartedAt"], state["FinishedAt"], state["ExitCode"]) == (never, never, 127)
    clean.docker("run", "--name", "again", "busybox", "true")
    ended = clean.inspect("again")["State"]
    clean.docker("start", "again")
    clean.docker("wait", "again")
    clean.docker("run", "-d", "--name", "on", "busybox", "sleep", "1000")
    clean.docker("restart", "-t", "0", "on")
    state = clean.inspect("on")["State"]
    assert state["Running"] and never < state["FinishedAt"] < state["StartedAt"]
    assert clean.inspect("again")["State"]["FinishedAt"] > ended["FinishedAt"]


def test_interfaces_of_a_shared_network_are_counted_for_who_shares_it(clean):
    clean.docker("run", "-d", "--name", "donor", "busybox", "sleep", "1000")
    clean.docker("run", "-d", "--name", "guest", "--network", "container:donor", "busybox", "sleep", "1000")
    for version, shown in (("/v1.51", True), ("/v1.40", True)):
        stats = clean.api("GET", f"{version}/containers/guest/stats?stream=0&one-shot=1")[1]
        assert ("eth0" in stats["networks"]) == shown
        # Read since 1.41 only: an older client gets two samples.
        assert (stats["precpu_stats"]["cpu_usage"]["total_usage"] > 0) == (version == "/v1.40")
