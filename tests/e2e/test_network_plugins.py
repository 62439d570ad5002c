"""Networks and addresses of plugins, with a real plugin process: every call, its refusal, and its death in the middle (T51).

The plugin keeps a ledger of what it has given; whatever dies, it is empty in the end.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from harness import wait_until

PROGRAM = pathlib.Path(__file__).with_name("network_plugin.py")
NOTHING = {"networks": {}, "endpoints": {}, "joined": {}, "published": {}, "pools": {}, "addresses": {}}


class NetworkPlugin:
    def __init__(self, engine, folder, *kinds, name=None):
        self.engine, self.folder, self.kinds = engine, folder, kinds
        self.name = name or f"np{os.getpid()}-{folder.name[-14:]}".lower().replace("_", "-")
        self.socket = pathlib.Path(f"/run/docker/plugins/{self.name}.sock")
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self):
        self.process = self.engine.namespace.popen(
            sys.executable, PROGRAM, self.socket, self.folder, *self.kinds, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def end(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.end()
        self.socket.unlink(missing_ok=True)

    def again(self):
        """It comes back, without faults."""
        self.end()
        self.faults()
        self.start()

    def calls(self, method=None):
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        calls = [json.loads(line) for line in lines]
        return [asked for name, asked in calls if name == method] if method else [name for name, _ in calls]

    def forget_calls(self):
        (self.folder / "calls").unlink(missing_ok=True)

    def ledger(self):
        return json.loads((self.folder / "ledger").read_text()) if (self.folder / "ledger").exists() else NOTHING

    def given(self, kind):
        return self.ledger()[kind]

    def faults(self, **faults):
        part = self.folder / "faults.part"
        part.write_text(json.dumps(faults))
        part.rename(self.folder / "faults")

    def has_everything_back(self, timeout=40):
        wait_until(lambda: self.ledger() == NOTHING, timeout, lambda: f"an empty ledger: {self.ledger()}")

    def create(self, name, *more, driver=None, ipam=None, **keywords):
        argv = ["network", "create", "-d", driver or self.name, "--ipam-driver", ipam or self.name, *more, name]
        return self.engine.docker(*argv, **keywords)


@pytest.fixture
def plugin(engine, tmp_path):
    made = NetworkPlugin(engine, tmp_path)
    yield made
    made.close()


def addresses(engine, name):
    return engine.inspect(name)["NetworkSettings"]["Networks"]


def no_links_of_plugins(engine):
    links = engine.namespace.exec("ip", "-o", "link").stdout.splitlines()
    names = [line.split(":")[1].split("@")[0].strip() for line in links]
    return [name for name in names if name.startswith(("np", "nh", "ng"))]


def test_a_plugins_network_is_like_any_other(engine, plugin):
    docker = engine.docker
    made = plugin.create("far", "-o", "k=v", "--ipam-opt", "site=7", "--label", "a=b").stdout.strip()
    assert plugin.calls("RequestPool") == [{"AddressSpace": "near", "Pool": "", "SubPool": "", "Options": {"site": "7"}, "V6": False}]
    asked = plugin.calls("RequestAddress")[0]
    assert asked == {"PoolID": "pool-10.77.1.0/24", "Address": "", "Options": {"RequestAddressType": "com.docker.network.gateway"}}
    created = plugin.calls("CreateNetwork")[0]
    assert created["NetworkID"] == made and created["Options"]["com.docker.network.generic"] == {"k": "v"}
    assert created["IPv4Data"] == [{"AddressSpace": "near", "Pool": "10.77.1.0/24", "Gateway": "10.77.1.1/24"}]
    about = engine.api("GET", "/networks/far")[1]
    assert (about["Driver"], about["Scope"], about["Options"]) == (plugin.name, "local", {"k": "v"})
    assert about["IPAM"] == {"Driver": plugin.name, "Options": {"site": "7"}, "Config": [{"Subnet": "10.77.1.0/24", "Gateway": "10.77.1.1"}]}
    assert docker("network", "ls", "-q", "--no-trunc", "--filter", f"driver={plugin.name}").stdout.strip() == made
    assert plugin.name in engine.api("GET", "/info")[1]["Plugins"]["Network"]
    # Two containers, found by name, each with what the plugin gave.
    one = docker("run", "-d", "--name", "one", "--network", f"name=far,driver-opt=color=red", "-p", "8080:80", "--expose", "53/udp",
                 "busybox", "sleep", "1000").stdout.strip()  # fmt: skip
    docker("run", "-d", "--name", "two", "--network", "far", "--network-alias", "zwei", "busybox", "sleep", "1000")
    endpoint = addresses(engine, "one")["far"]
    assert (endpoint["IPAddress"], endpoint["IPPrefixLen"], endpoint["Gateway"]) == ("10.77.1.2", 24, "10.77.1.1")
    assert endpoint["MacAddress"].startswith("02:ee:")
    for name in ("two", "zwei"):
        assert "1 packets received" in docker("exec", "one", "ping", "-c", "1", "-W", "2", name).stdout
    inside = docker("exec", "one", "sh", "-c", "ip -o addr show eth0; ip route; cat /sys/class/net/eth0/address; cat /etc/hosts").stdout
    assert "10.77.1.2/24" in inside and "default via 10.77.1.1 dev eth0" in inside and "198.51.100.0/24 dev eth0" in inside
    assert endpoint["MacAddress"] in inside and f"10.77.1.2\t{one[:12]}" in inside
    # What libnetwork hands on.
    told = plugin.calls("CreateEndpoint")[0]
    assert told["Interface"] == {"Address": "10.77.1.2/24", "AddressIPv6": "", "MacAddress": ""} and told["EndpointID"] == endpoint["EndpointID"]
    assert told["Options"]["color"] == "red"
    assert {"Proto": 6, "Port": 80} in told["Options"]["com.docker.network.endpoint.exposedports"]
    assert {"Proto": 17, "Port": 53} in told["Options"]["com.docker.network.endpoint.exposedports"]
    port = {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}
    assert told["Options"]["com.docker.network.portmap"] == [port]
    joined = plugin.calls("Join")[0]
    assert joined["SandboxKey"] == engine.inspect("one")["NetworkSettings"]["SandboxKey"]
    assert plugin.calls("ProgramExternalConnectivity")[0]["Options"]["com.docker.network.portmap"] == [port]
    assert plugin.calls("EndpointOperInfo")[0]["EndpointID"] == endpoint["EndpointID"]
    shown = engine.api("GET", "/networks/far")[1]["Containers"][one]
    assert (shown["IPv4Address"], shown["MacAddress"]) == ("10.77.1.2/24", endpoint["MacAddress"])
    # gantryd dies: nothing of it is noticed, and the plugin is asked for nothing.
    plugin.forget_calls()
    engine.restart()
    assert "1 packets received" in docker("exec", "one", "ping", "-c", "1", "-W", "2", "two").stdout
    assert addresses(engine, "one")["far"] == endpoint
    assert set(plugin.calls()) <= {"Activate", "GetCapabilities", "GetDefaultAddressSpaces"}
    refused = docker("network", "rm", "far", check=False)
    assert "has active endpoints" in refused.stderr
    # The interface is given back before the plugin is told.
    docker("rm", "-f", "one")
    assert plugin.calls()[-4:] == ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "ReleaseAddress"]
    left = [json.loads(line) for line in (plugin.folder / "left").read_text().splitlines()]
    assert left == [["ng" + endpoint["EndpointID"][:10], True]]
    assert len(plugin.given("endpoints")) == 1
    # A stop gives back as well, a start takes anew.
    docker("stop", "-t", "0", "two")
    wait_until(lambda: plugin.given("endpoints") == {} and len(plugin.given("addresses")) == 1, 10, "the end of the run")
    docker("start", "two")
    assert addresses(engine, "two")["far"]["IPAddress"] == "10.77.1.2"
    docker("rm", "-f", "two")
    docker("network", "rm", "far")
    assert plugin.ledger() == NOTHING and no_links_of_plugins(engine) == []


def test_a_running_container_joins_and_leaves(engine, plugin):
    docker = engine.docker
    plugin.create("far", "--subnet", "10.78.0.0/24", "--gateway", "10.78.0.9", "--aux-address", "dns=10.78.0.5")
    assert [asked["Address"] for asked in plugin.calls("RequestAddress")] == ["10.78.0.9", "10.78.0.5"]
    assert plugin.calls("CreateNetwork")[0]["IPv4Data"][0]["AuxAddresses"] == {"dns": "10.78.0.5/24"}
    docker("run", "-d", "--name", "it", "-p", "80", "busybox", "sleep", "1000")
    bridge = addresses(engine, "it")["bridge"]["IPAddress"]
    docker("network", "connect", "--ip", "10.78.0.77", "--alias", "here", "far", "it")
    seen = docker("exec", "it", "sh", "-c", "ip -o -4 addr; ip route; cat /etc/hosts; cat /etc/resolv.conf").stdout
    assert "10.78.0.77/24" in seen and f"{bridge}/16" in seen and "10.78.0.77\t" in seen and "127.0.0.11" in seen
    assert docker("exec", "it", "nslookup", "here", "127.0.0.11").stdout.count("10.78.0.77") >= 1
    done = docker("network", "connect", "--ip", "10.78.0.77", "far", docker("run", "-d", "--name", "other", "busybox", "sleep", "1000").stdout.strip(), check=False)
    assert done.returncode != 0 and "Address already in use" in done.stderr
    docker("network", "disconnect", "far", "it")
    assert "10.78" not in docker("exec", "it", "sh", "-c", "ip -o -4 addr; ip route").stdout
    assert "default via" in docker("exec", "it", "ip", "route").stdout
    assert plugin.given("endpoints") == {} and list(plugin.given("addresses")) == ["pool-10.78.0.0/24 10.78.0.9", "pool-10.78.0.0/24 10.78.0.5"]
    # The other way round: the plugin's network first.
    docker("rm", "-f", "other")
    docker("run", "-d", "--name", "other", "--network", "far", "busybox", "sleep", "1000")
    docker("network", "connect", "bridge", "other")
    assert sorted(docker("exec", "other", "ls", "/sys/class/net").stdout.split()) == ["eth0", "eth1", "lo"]
    docker("network", "disconnect", "far", "other")
    assert plugin.given("endpoints") == {}
    docker("rm", "-f", "it", "other")
    docker("network", "rm", "far")
    assert plugin.ledger() == NOTHING


def test_a_plugins_addresses_on_our_bridge_and_our_addresses_in_a_plugins_network(engine, plugin):
    docker = engine.docker
    plugin.create("ours", "--ipv6", driver="bridge")
    about = engine.api("GET", "/networks/ours")[1]
    assert [pool["Subnet"] for pool in about["IPAM"]["Config"]] == ["10.77.1.0/24", "fd77:1::/64"]
    assert plugin.calls("CreateNetwork") == [] and plugin.calls("RequestPool")[1]["V6"] is True
    docker("run", "-d", "--name", "web", "--network", "ours", "-p", "8081:80", "busybox", "httpd", "-f", "-h", "/var/www")
    found = addresses(engine, "web")["ours"]
    assert (found["IPAddress"], found["GlobalIPv6Address"], found["Gateway"]) == ("10.77.1.2", "fd77:1::2", "10.77.1.1")
    page = engine.namespace.exec("curl", "-sS", "-m", "5", "http://127.0.0.1:8081/index.html").stdout
    assert "hello from gantry" in page
    engine.restart()
    docker("rm", "-f", "web")
    docker("network", "rm", "ours")
    assert plugin.ledger() == NOTHING
    # Our addresses, the plugin's links.
    plugin.create("theirs", "--subnet", "10.79.0.0/24", ipam="default")
    assert plugin.calls("CreateNetwork")[0]["IPv4Data"] == [{"AddressSpace": "LocalDefault", "Pool": "10.79.0.0/24", "Gateway": "10.79.0.1/24"}]
    docker("run", "-d", "--name", "it", "--network", "theirs", "--mac-address", "02:42:00:00:00:99", "busybox", "sleep", "1000")
    assert plugin.calls("CreateEndpoint")[0]["Interface"] == {"Address": "10.79.0.2/24", "AddressIPv6": "", "MacAddress": "02:42:00:00:00:99"}
    assert "02:42:00:00:00:99" in docker("exec", "it", "cat", "/sys/class/net/eth0/address").stdout
    docker("rm", "-f", "it")
    docker("network", "rm", "theirs")
    # Nobody's addresses: the plugin says which one a container has.
    plugin.create("none-of-ours", ipam="null")
    assert plugin.calls("CreateNetwork")[1]["IPv4Data"] == [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]
    docker("run", "-d", "--name", "it", "--network", "none-of-ours", "busybox", "sleep", "1000")
    assert addresses(engine, "it")["none-of-ours"]["IPAddress"] == "10.250.0.11"
    assert "10.250.0.11/24" in docker("exec", "it", "ip", "-o", "addr", "show", "eth0").stdout
    docker("rm", "-f", "it")
    docker("network", "rm", "none-of-ours")
    assert plugin.ledger() == NOTHING


def test_what_a_plugin_says_of_itself_is_obeyed(engine, plugin):
    docker = engine.docker
    (plugin.folder / "traits").write_text(json.dumps({"Scope": "global", "RequiresMACAddress": True, "RequiresRequestReplay": True}))
    plugin.create("wide")
    about = engine.api("GET", "/networks/wide")[1]
    assert about["Scope"] == "global" and plugin.calls("RequestPool")[0]["AddressSpace"] == "everywhere"
    assert docker("network", "ls", "-q", "--filter", "scope=global").stdout.count("\n") == 1
    docker("run", "-d", "--name", "it", "--network", "wide", "busybox", "sleep", "1000")
    mac = addresses(engine, "it")["wide"]["MacAddress"]
    assert plugin.calls("RequestAddress")[1]["Options"] == {"com.docker.network.endpoint.macaddress": mac}
    # One that remembers nothing is told what is in use.
    before = plugin.ledger()
    engine.kill()
    plugin.end()
    (plugin.folder / "ledger").write_text(json.dumps({**before, "pools": {}, "addresses": {}}))
    plugin.start()
    engine.start()
    wait_until(lambda: plugin.given("addresses").keys() == before["addresses"].keys(), 20, lambda: f"the addresses: {plugin.ledger()}")
    assert plugin.given("pools").keys() == before["pools"].keys()
    docker("rm", "-f", "it")
    docker("network", "rm", "wide")
    plugin.has_everything_back()


def test_a_plugin_is_found_by_its_spec_and_only_for_what_it_implements(engine, tmp_path):
    folder = pathlib.Path("/etc/docker/plugins")
    folder.mkdir(parents=True, exist_ok=True)
    name = f"spec{os.getpid()}"
    plugin = NetworkPlugin(engine, tmp_path, "IpamDriver", name=f"hidden-{name}")
    spec = folder / f"{name}.spec"
    try:
        spec.write_text(f"unix://{plugin.socket}\n")
        plugin.name = name
        done = plugin.create("x", ipam="default", check=False)
        assert f"could not find plugin {name} in v1 plugin registry: plugin not found" in done.stderr
        plugin.create("x", driver="bridge")
        engine.docker("network", "rm", "x")
        assert plugin.ledger() == NOTHING
    finally:
        spec.unlink()
        plugin.close()


REFUSALS = {
    "RequestPool": "IpamDriver.RequestPool: not today",
    "RequestAddress": "failed to allocate gateway (): IpamDriver.RequestAddress: not today",
    "CreateNetwork": "NetworkDriver.CreateNetwork: not today",
}
LATER = {
    "RequestAddress": "failed to set up container networking: IpamDriver.RequestAddress: not today",
    "CreateEndpoint": "failed to create endpoint it on network far: NetworkDriver.CreateEndpoint: not today",
    "Join": "failed to set up container networking: NetworkDriver.Join: not today",
    "ProgramExternalConnectivity": "driver failed programming external connectivity on endpoint it",
}


def test_a_plugins_words_reach_the_client_and_nothing_is_left(engine, plugin):
    docker = engine.docker
    for method, words in REFUSALS.items():
        plugin.faults(**{method: "not today"})
        done = plugin.create("far", check=False)
        assert done.returncode != 0 and words in done.stderr, done.stderr
        assert engine.api("GET", "/networks/far")[0] == 404
        assert plugin.ledger() == NOTHING, method
    plugin.faults(CreateNetwork="refuse: not like this")
    assert "remote: not like this" in plugin.create("far", check=False).stderr
    plugin.faults()
    plugin.create("far")
    before = plugin.ledger()
    for method, words in LATER.items():
        plugin.faults(**{method: "not today"})
        done = docker("run", "-d", "--name", "it", "--network", "far", "busybox", "sleep", "1000", check=False)
        assert done.returncode != 0 and words in done.stderr and "not today" in done.stderr, done.stderr
        assert plugin.ledger() == before, method
        docker("rm", "it")
    # A refusal to take something back is said in the log, and changes nothing for the client.
    plugin.faults(Leave="no", DeleteEndpoint="no", ReleaseAddress="no", RevokeExternalConnectivity="no")
    docker("run", "-d", "--name", "it", "--network", "far", "busybox", "sleep", "1000")
    docker("rm", "-f", "it")
    plugin.faults()
    wait_until(lambda: plugin.ledger() == before, 40, lambda: f"another try: {plugin.ledger()}")
    docker("network", "rm", "far")
    plugin.has_everything_back()


def test_a_driver_that_is_not_there_is_named(engine):
    done = engine.docker("network", "create", "-d", "nosuch", "lost", check=False)
    assert "could not find plugin nosuch in v1 plugin registry: plugin not found" in done.stderr
    assert engine.api("POST", "/networks/create", {"Name": "lost", "Driver": "nosuch"})[0] == 404
    done = engine.docker("network", "create", "--ipam-driver", "nosuch", "lost", check=False)
    assert "could not find plugin nosuch in v1 plugin registry: plugin not found" in done.stderr


CALLS = [
    "RequestPool", "RequestAddress", "CreateNetwork", "CreateEndpoint", "Join", "ProgramExternalConnectivity", "EndpointOperInfo",
    "RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "ReleaseAddress", "DeleteNetwork", "ReleasePool",
]  # fmt: skip


def through_a_life(plugin, timeout):
    """A network, a container in it, and the end of both; whatever of it fails."""
    docker = plugin.engine.docker
    more = {"check": False, "timeout": timeout}
    plugin.create("far", **more)
    docker("run", "-d", "--name", "it", "--network", "far", "busybox", "sleep", "1000", **more)
    begun = time.monotonic()
    docker("rm", "-f", "it", **more)
    assert time.monotonic() - begun < 15
    docker("network", "rm", "far", **more)


# What it chose, gave and never told is known to the plugin alone.
DEATHS = [(method, when) for method in CALLS for when in ("die", "die after") if when == "die" or method not in CALLS[:2]]


@pytest.mark.parametrize(("method", "when"), DEATHS)
def test_a_plugin_that_dies_takes_nothing_with_it(engine, plugin, method, when):
    docker = engine.docker
    plugin.faults(**{method: when})
    through_a_life(plugin, 60)
    # Others are served at once.
    alone = time.monotonic()
    assert docker("run", "--rm", "busybox", "echo", "served").stdout == "served\n"
    assert time.monotonic() - alone < 5
    assert engine.api("GET", "/containers/it/json")[0] == 404
    # It comes back, and gets back what it has given.
    plugin.again()
    if engine.api("GET", "/networks/far")[0] == 200:
        docker("network", "rm", "far")
    plugin.has_everything_back()
    through_a_life(plugin, 20)
    assert plugin.ledger() == NOTHING and no_links_of_plugins(engine) == []


@pytest.mark.parametrize("method", ["RequestAddress", "CreateEndpoint", "Join", "Leave", "DeleteEndpoint", "ReleaseAddress"])
def test_a_plugin_that_hangs_holds_up_no_removal_by_force(engine, plugin, method):
    docker = engine.docker
    plugin.create("far")
    docker("create", "--name", "it", "--network", "far", "busybox", "sleep", "1000")
    plugin.faults(**{method: "hang"})
    before = len(plugin.calls())
    start = threading.Thread(target=docker, args=("start", "it"), kwargs={"check": False})
    start.start()
    # It is at the plugin, or through where that hangs only at the end.
    wait_until(lambda: method in plugin.calls()[before:] or not start.is_alive(), 60, f"a call of {method}")
    begun = time.monotonic()
    docker("rm", "-f", "it")
    assert time.monotonic() - begun < 15
    assert docker("run", "--rm", "busybox", "echo", "served").stdout == "served\n"
    start.join()
    plugin.again()
    docker("network", "rm", "far")
    plugin.has_everything_back()


def test_a_container_goes_on_without_its_plugin_and_so_does_gantryd(engine, plugin):
    docker = engine.docker
    plugin.create("far")
    docker("run", "-d", "--name", "one", "--network", "far", "busybox", "sleep", "1000")
    docker("run", "-d", "--name", "two", "--network", "far", "--restart", "always", "busybox", "sleep", "1000")
    plugin.close()
    assert "1 packets received" in docker("exec", "one", "ping", "-c", "1", "-W", "2", "two").stdout
    begun = time.monotonic()
    engine.restart()
    assert time.monotonic() - begun < 10
    assert "1 packets received" in docker("exec", "one", "ping", "-c", "1", "-W", "2", "two").stdout
    assert engine.api("GET", "/networks/far")[1]["Driver"] == plugin.name
    done = docker("run", "-d", "--name", "three", "--network", "far", "busybox", "true", check=False)
    assert f"could not find plugin {plugin.name} in v1 plugin registry: plugin not found" in done.stderr
    docker("rm", "three")
    begun = time.monotonic()
    docker("rm", "-f", "one", "two")
    assert time.monotonic() - begun < 15
    done = docker("network", "rm", "far", check=False)
    assert "error while removing network" in done.stderr and "plugin not found" in done.stderr
    assert plugin.given("endpoints") != {}
    plugin.start()
    docker("network", "rm", "far")
    plugin.has_everything_back()
