"""What dockerd 28.5.2 says, word for word, with its status: each line was read off one."""

import json
import time
import urllib.parse

import pytest
from harness import BIN, run, wait_until

NO_NETWORK = "user specified IP address is supported on user defined networks only"
NO_SUBNET = "user specified IP address is supported only when connecting to networks with user configured subnets"
CPUSET = "Invalid value {0} for cpuset cpus: {1}"
LOOK_UP = "error while looking up for "


def plain(engine, name, **host):
    status, made = engine.api(
        "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host}
    )
    assert status == 201, made
    return made["Id"]


@pytest.fixture(scope="module")
def host(engine):
    """A container that runs, one that does not, and one that is paused."""
    for name in ("up", "down", "frozen"):
        plain(engine, name)
    for name in ("up", "frozen"):
        engine.api("POST", f"/containers/{name}/start")
    engine.api("POST", "/containers/frozen/pause")
    return engine


def said(answer):
    status, body = answer
    return status, body.get("message", body) if isinstance(body, dict) else body


@pytest.mark.parametrize(
    "path, body, status, text",
    [
        ("up/kill?signal=FOO", None, 400, "cannot kill container: up: invalid signal: FOO"),
        ("up/kill?signal=99", None, 400, "cannot kill container: up: the linux daemon does not support signal 99"),
        ("nosuch/kill", None, 404, "cannot kill container: nosuch: No such container: nosuch"),
        ("nosuch/kill?signal=FOO", None, 400, "cannot kill container: nosuch: invalid signal: FOO"),
        ("down/update", {"Memory": 1}, 400, "Minimum memory limit allowed is 6MB"),
        ("nosuch/update", {"Memory": 1}, 400, "Minimum memory limit allowed is 6MB"),
        ("down/update", {"NanoCpus": 10**9, "CpuPeriod": 1000}, 400,
         "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ("down/update", {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}, 400,
         "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
        ("down/rename?name=bad%20name", None, 400,
         "Error when allocating new name: Invalid container name (/bad name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ("down/rename?name=/", None, 400,
         "Error when allocating new name: Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ("frozen/exec", {"Cmd": ["true"]}, 409, "Container frozen is paused, unpause the container before exec"),
    ],
)  # fmt: skip
def test_verbs(host, path, body, status, text):
    assert said(host.api("POST", f"/containers/{path}", body)) == (status, text)


def test_only_what_the_container_refuses_of_an_update_names_it(host):
    id = plain(host, "limited", Memory=64 << 20)
    text = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
    answer = said(host.api("POST", "/containers/limited/update", {"Memory": 256 << 20}))
    assert answer == (409, f"Cannot update container {id}: {text}")


@pytest.mark.parametrize(
    "options, text",
    [
        ({"LogConfig": {"Type": "nosuch"}}, 'error looking up logging plugin nosuch: plugin "nosuch" not found'),
        ({"PidMode": "container:nosuch"}, "No such container: nosuch"),
        ({"IpcMode": "container:nosuch"}, "No such container: nosuch"),
        ({"PidMode": "container:"}, "invalid PID mode: container:"),
        ({"NanoCpus": 10**9, "CpuQuota": 1000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ({"CpusetCpus": "abc"}, CPUSET.format("abc", "invalid format: abc")),
        ({"CpusetCpus": "1-0"}, CPUSET.format("1-0", "invalid format: 1-0")),
        ({"CpusetCpus": "0-99999"}, CPUSET.format("0-99999", "value of out range, maximum is 8192")),
        ({"Isolation": "hyperv"}, "invalid isolation (hyperv): linux only supports 'default'"),
    ],
)
def test_create_refuses(host, options, text):
    answer = host.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": options})
    assert said(answer) == (400, text)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"GroupAdd": ["nosuch"]}, "unable to find group nosuch: no matching entries in group file"),
        ({"Tmpfs": {"/x": "bad=1"}}, 'invalid tmpfs option "bad"'),
        ({"Tmpfs": {"/x": "noexec=1"}}, 'invalid tmpfs option "noexec"'),
    ],
)
def test_start_refuses(host, options, text):
    id = plain(host, "wrong", **options)
    assert said(host.api("POST", f"/containers/{id}/start")) == (500, text)
    host.api("DELETE", f"/containers/{id}")


@pytest.mark.parametrize(
    "network, address, texts",
    [
        ("bridge", {"IPv4Address": "172.17.0.99"}, [NO_NETWORK, NO_SUBNET]),
        ("bridge", {"IPv4Address": "10.99"}, [NO_NETWORK, "invalid IPv4 address: 10.99", NO_SUBNET]),
        ("plain", {"IPv4Address": "10.78.0.7"}, [NO_SUBNET]),
        ("own", {"IPv4Address": "10.78.0.7"}, ["no configured subnet or ip-range contain the IP address 10.78.0.7"]),
        ("own", {"IPv4Address": "foo", "IPv6Address": "bar"},
         ["invalid IPv4 address: foo", "invalid IPv6 address: bar",
          "no configured subnet or ip-range contain the IP address foo", NO_SUBNET]),
    ],
)  # fmt: skip
def test_addresses_that_cannot_be(host, network, address, texts):
    if network != "bridge":
        host.docker("network", "create", *(("--subnet", "10.77.0.0/24") if network == "own" else ()), network)
    lines = texts[0] if len(texts) == 1 else "\n".join(f"* {text}" for text in texts)
    why = f"invalid endpoint settings:\n{lines}"
    endpoint = {"IPAMConfig": address}
    body = {"Image": "busybox", "HostConfig": {"NetworkMode": network}}
    body["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint}}
    made = said(host.api("POST", "/containers/create", body))
    joined = said(host.api("POST", f"/networks/{network}/connect", {"Container": "down", "EndpointConfig": endpoint}))
    if network != "bridge":
        host.docker("network", "rm", network)
    assert made == (400, f"invalid config for network {network}: {why}")
    assert joined == (400, why)


@pytest.mark.parametrize(
    "query, status, text",
    [
        ("limit=bad", 500, 'strconv.Atoi: parsing "bad": invalid syntax'),
        ("limit=99999999999999999999", 500, 'strconv.Atoi: parsing "99999999999999999999": value out of range'),
        ({"status": ["foo"]}, 400, "invalid filter 'status=foo': invalid value for state (foo): must be one of created, "
         "running, paused, restarting, removing, exited, dead"),
        ({"health": ["foo"]}, 400, "invalid filter 'health=foo': invalid value for health (foo): must be one of none, "
         "starting, healthy, unhealthy"),
        ({"exited": ["x"]}, 400, "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ({"publish": ["abc"]}, 500, LOOK_UP + 'publish abc: strconv.ParseUint: parsing "abc": invalid syntax'),
        ({"expose": ["99999"]}, 500, LOOK_UP + 'expose 99999: strconv.ParseUint: parsing "99999": value out of range'),
        ({"publish": ["90-80"]}, 500, LOOK_UP + "publish 90-80: Invalid range specified for the Port: 90-80"),
    ],
)  # fmt: skip
def test_lists(host, query, status, text):
    if isinstance(query, dict):
        query = "filters=" + urllib.parse.quote(json.dumps(query))
    assert said(host.api("GET", f"/containers/json?{query}")) == (status, text)


def test_a_list_takes_limits_that_are_none(host):
    for query in ("limit=", "limit=-1", "limit=0"):
        status, found = host.api("GET", f"/containers/json?{query}")
        assert status == 200 and len(found) == 2
    status, found = host.api("GET", "/containers/json?filters=" + urllib.parse.quote('{"expose":["80/foo"]}'))
    assert (status, found) == (200, [])


def test_a_volumes_driver_comes_before_its_name(host):
    for name in ("x", "xx"):
        answer = host.api("POST", "/volumes/create", {"Name": name, "Driver": "nodriver"})
        assert said(answer) == (404, f'create {name}: error looking up volume plugin nodriver: plugin "nodriver" not found')
    short = "create x: volume name is too short, names should be at least two alphanumeric characters"
    assert said(host.api("POST", "/volumes/create", {"Name": "x"})) == (400, short)


def test_a_port_that_cannot_be_bound_is_told_with_where_it_leads(host):
    done = host.docker("run", "--rm", "-p", "1.2.3.4:7001:80", "busybox", "true", check=False)
    assert "failed to bind host port for 1.2.3.4:7001:172.17.0." in done.stderr, done.stderr
    assert ":80/tcp: cannot assign requested address" in done.stderr


def test_a_relative_working_directory_of_an_exec_is_runcs_to_refuse(host):
    done = host.docker("exec", "-w", "rel", "up", "pwd", check=False)
    assert "OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown" in done.stdout + done.stderr
    assert done.returncode == 126


def test_a_container_that_never_ran_has_no_files(host):
    shown = host.inspect("down")
    assert [shown[key] for key in ("LogPath", "HostsPath", "HostnamePath", "ResolvConfPath")] == [""] * 4
    host.docker("create", "--name", "fresh", "busybox", "true")
    assert host.inspect("fresh")["Config"]["Volumes"] is None
    assert all(host.inspect("up")[key] for key in ("LogPath", "HostsPath", "HostnamePath", "ResolvConfPath"))


def test_the_manifest_of_a_container_has_its_platform(host):
    platform = host.inspect("up")["ImageManifestDescriptor"]["platform"]
    assert platform == {"architecture": host.api("GET", "/version")[1]["Arch"], "os": "linux"}
    listed = host.api("GET", "/containers/json")[1]
    assert all(item["ImageManifestDescriptor"]["platform"] == platform for item in listed)


def test_info_names_its_parts(host):
    info = host.api("GET", "/info")[1]
    assert info["Containerd"]["Address"].endswith("/containerd.sock") and info["Containerd"]["Namespaces"]["Containers"]
    assert info["FirewallBackend"] == {"Driver": "nftables"}
    assert "none" not in info["Plugins"]["Log"] and info["RegistryConfig"]["Mirrors"] is None
    features = info["Runtimes"]["runc"]["status"]["org.opencontainers.runtime-spec.features"]
    assert "ociVersionMin" in json.loads(features)
    parts = {part["Name"]: part for part in host.api("GET", "/version")[1]["Components"]}
    assert info["InitCommit"]["ID"] == parts["docker-init"]["Version"] != ""
    for version, there in (("1.45", set()), ("1.48", {"Containerd"}), ("1.49", {"Containerd", "FirewallBackend"})):
        assert {"Containerd", "FirewallBackend"} & set(host.api("GET", f"/v{version}/info")[1]) == there, version


def test_events_are_dockerds(host):
    began = time.time()
    plain(host, "eventful")
    host.docker("start", "eventful")
    host.docker("exec", "eventful", "true")
    host.docker("pause", "eventful")
    host.docker("stop", "-t", "1", "eventful")
    host.docker("start", "eventful")
    host.docker("pause", "eventful")
    host.docker("kill", "eventful")
    host.load_busybox()
    lines = host.out("events", "--since", str(began), "--until", str(time.time()), "--format", "{{json .}}").splitlines()
    events = [json.loads(line) for line in lines]
    actions = [event["Action"] for event in events if event["Actor"]["Attributes"].get("name") == "eventful"]
    assert "exec_create: true " in actions and "exec_start: true " in actions
    pauses = [actions[at + 1 :] for at, action in enumerate(actions) if action == "pause"]
    assert len(pauses) == 2, actions
    stop, kill = pauses
    assert stop[:3] == ["kill", "unpause", "kill"]
    assert kill[0] == "kill" and "unpause" not in kill
    (loaded,) = [event["Actor"] for event in events if event["Action"] == "load"]
    assert loaded["Attributes"]["name"] == loaded["ID"] and loaded["ID"].startswith("sha256:")


def test_a_reload_tells_that_containers_live_on(host):
    host.process.send_signal(1)
    found = wait_until(
        lambda: host.out("events", "--since", "30s", "--until", "0s", "--filter", "event=reload", "--format", "{{json .Actor.Attributes}}"),
        what="the event of a reload",
    )  # fmt: skip
    assert json.loads(found.splitlines()[0])["live-restore"] == "true"
    assert host.api("GET", "/info")[1]["LiveRestoreEnabled"] is True


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_what_cannot_be_printed_is_no_panic(argument):
    gone = run("sh", "-c", f'exec 3>&1; ("{BIN}/gantryd" {argument}; echo $? >&3) 2>&3 | true', check=False)
    assert gone.stdout.strip() in ("0",), gone.stdout
    full = run("sh", "-c", f'"{BIN}/gantryd" {argument} > /dev/full', check=False)
    assert full.returncode == 1 and "No space left" in full.stderr and "panicked" not in full.stderr
