"""Networks of one's own: made, joined, left, removed; who reaches whom; what is refused, in dockerd's words."""

import json
import pathlib

import pytest
from harness import Namespace, wait_until

OUTSIDE, ENGINE = "198.51.100.2", "198.51.100.1"


@pytest.fixture
def net(engine):
    """Takes away what a test has made."""
    yield engine
    for container in engine.api("GET", "/containers/json?all=1")[1]:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    for network in engine.api("GET", "/networks")[1]:
        if network["Name"] not in ("bridge", "host", "none"):
            assert engine.api("DELETE", f"/networks/{network['Id']}")[0] == 204, network


@pytest.fixture(scope="module")
def outside(engine):
    namespace = Namespace(f"gt-lan-{engine.number}")
    engine.namespace.connect(namespace, f"{ENGINE}/24", f"{OUTSIDE}/24")
    try:
        yield namespace
    finally:
        namespace.delete()


def sleeper(engine, name, *argv):
    return engine.out("run", "-d", "--name", name, *argv, "busybox", "sleep", "100000")


def address(engine, container, network):
    return engine.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"]


def reaches(engine, container, ip):
    return engine.docker("exec", container, "ping", "-c", "1", "-W", "1", ip, check=False).returncode == 0


def interfaces(engine, container):
    lines = engine.out("exec", container, "ip", "-o", "-4", "addr").splitlines()
    return {line.split()[1]: line.split()[3] for line in lines if line.split()[1] != "lo"}


def refused(engine, *argv):
    done = engine.docker(*argv, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_containers_of_one_network_reach_each_other_and_those_of_another_do_not(net, outside):
    for name in ("one", "two"):
        net.docker("network", "create", name)
    sleeper(net, "a1", "--network", "one")
    sleeper(net, "a2", "--network", "one")
    sleeper(net, "b1", "--network", "two")
    a1, b1 = address(net, "a1", "one"), address(net, "b1", "two")
    assert reaches(net, "a2", a1)
    assert not reaches(net, "a2", b1) and not reaches(net, "b1", a1)
    sleeper(net, "c1")
    assert not reaches(net, "c1", a1) and not reaches(net, "a1", address(net, "c1", "bridge"))
    # The host is nobody's guest, and what is outside is reached under the host's address.
    net.namespace.exec("busybox", "ping", "-c", "1", "-W", "2", a1)
    assert reaches(net, "a1", OUTSIDE)
    outside.exec("ip", "route", "add", "172.16.0.0/12", "via", ENGINE)
    assert outside.exec("busybox", "ping", "-c", "1", "-W", "1", a1, check=False).returncode != 0


def test_a_running_container_joins_and_leaves_networks(net):
    net.docker("network", "create", "one")
    net.docker("network", "create", "two")
    sleeper(net, "it", "--network", "one")
    sleeper(net, "peer", "--network", "two")
    peer = address(net, "peer", "two")
    net.docker("network", "connect", "--alias", "db", "two", "it")
    assert reaches(net, "it", peer)
    shown = net.inspect("it")["NetworkSettings"]["Networks"]["two"]
    short = net.inspect("it")["Id"][:12]
    assert shown["Aliases"] == ["db"] and shown["DNSNames"] == ["it", "db", short]
    assert interfaces(net, "it") == {"eth0": f"{address(net, 'it', 'one')}/16", "eth1": f"{shown['IPAddress']}/16"}
    assert f"{shown['IPAddress']}\t{short}" in net.out("exec", "it", "cat", "/etc/hosts")
    inspected = json.loads(net.out("network", "inspect", "two"))[0]["Containers"]
    assert {c["Name"] for c in inspected.values()} == {"it", "peer"}
    assert inspected[net.inspect("it")["Id"]]["IPv4Address"] == f"{shown['IPAddress']}/16"
    assert "endpoint with name it already exists in network two" in refused(net, "network", "connect", "two", "it")
    net.docker("network", "disconnect", "two", "it")
    assert list(interfaces(net, "it")) == ["eth0"] and not reaches(net, "it", peer)
    assert shown["IPAddress"] not in net.out("exec", "it", "cat", "/etc/hosts")
    assert f"container {net.inspect('it')['Id']} is not connected to network two" in refused(
        net, "network", "disconnect", "two", "it"
    )
    net.docker("network", "disconnect", "one", "it")
    assert interfaces(net, "it") == {} and net.out("exec", "it", "ip", "route") == ""
    net.docker("network", "connect", "two", "it")
    assert reaches(net, "it", peer) and "default via" in net.out("exec", "it", "ip", "route")


def test_a_stopped_container_joins_and_leaves_at_its_next_start(net):
    net.docker("network", "create", "one")
    net.docker("network", "create", "two")
    net.docker("create", "--name", "it", "--network", "one", "busybox", "sleep", "100000")
    net.docker("network", "connect", "two", "it")
    assert set(net.inspect("it")["NetworkSettings"]["Networks"]) == {"one", "two"}
    net.docker("start", "it")
    assert len(interfaces(net, "it")) == 2
    net.docker("stop", "-t", "0", "it")
    net.docker("network", "disconnect", "one", "it")
    # A container that does not run is in nobody's way.
    net.docker("network", "rm", "one")
    net.docker("start", "it")
    assert list(net.inspect("it")["NetworkSettings"]["Networks"]) == ["two"] and len(interfaces(net, "it")) == 1
    assert "is not connected to" in refused(net, "network", "disconnect", "bridge", "it")
    # The network it was in is gone; one of the same name is another one.
    net.docker("stop", "-t", "0", "it")
    net.docker("network", "rm", "two")
    net.docker("network", "create", "two")
    assert "not found" in refused(net, "start", "it")
    net.docker("network", "rm", "two")
    net.docker("network", "disconnect", "two", "it")
    assert net.inspect("it")["NetworkSettings"]["Networks"] == {}
    net.docker("network", "connect", "bridge", "it")
    net.docker("start", "it")


def test_several_networks_and_the_priority_of_their_gateways(net):
    for name in ("one", "two", "three"):
        net.docker("network", "create", name)
    net.docker(
        "run", "-d", "--name", "it", "--network", "one", "--network", "name=two,gw-priority=5", "busybox", "sleep", "100000"
    )  # fmt: skip

    def gateway(name):
        return json.loads(net.out("network", "inspect", name))[0]["IPAM"]["Config"][0]["Gateway"]

    def route():
        return net.out("exec", "it", "ip", "route", "show", "default").split()[2]

    assert route() == gateway("two")
    net.docker("network", "connect", "--gw-priority", "9", "three", "it")
    assert route() == gateway("three")
    net.docker("network", "disconnect", "three", "it")
    assert route() == gateway("two")
    net.docker("network", "disconnect", "two", "it")
    assert route() == gateway("one")
    # A route that the container's own programs have put in is not ours to change.
    net.docker("rm", "-f", "it")
    sleeper(net, "it", "--network", "one", "--cap-add", "NET_ADMIN")
    net.docker("exec", "it", "ip", "route", "replace", "default", "via", gateway("one").replace(".0.1", ".0.77"))
    net.docker("network", "connect", "--gw-priority", "-1", "two", "it")
    assert route().endswith(".0.77")


def test_what_cannot_be_is_refused_in_dockerds_words(net):
    net.docker("network", "create", "one")
    sleeper(net, "it", "--network", "one")
    text = refused(net, "network", "rm", "one")
    assert 'error while removing network: network one has active endpoints (name:"it" id:"' in text
    assert "network with name one already exists" in refused(net, "network", "create", "one")
    for name in ("bridge", "host", "none"):
        assert f"{name} is a pre-defined network and cannot be removed" in refused(net, "network", "rm", name)
        assert net.api("POST", "/networks/create", {"Name": name}) == (
            403, {"message": f"operation is not permitted on predefined {name} network "},
        )  # fmt: skip
    swarm = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
    assert net.api("POST", "/networks/create", {"Name": "o", "Driver": "overlay"}) == (403, {"message": swarm})
    assert net.api("DELETE", "/networks/nowhere") == (404, {"message": "network nowhere not found"})
    pool = {"Config": [{"Subnet": net.api("GET", "/networks/one")[1]["IPAM"]["Config"][0]["Subnet"]}]}
    status, answer = net.api("POST", "/networks/create", {"Name": "o", "IPAM": pool})
    assert (status, answer["message"]) == (403, "invalid pool request: Pool overlaps with other one on this address space")
    bad = {"Config": [{"Subnet": "10.7.0.1/24", "Gateway": "10.8.0.1"}]}
    assert net.api("POST", "/networks/create", {"Name": "o", "IPAM": bad}) == (
        400,
        {
            "message": "invalid network config:\ninvalid subnet 10.7.0.1/24: it should be 10.7.0.0/24\n"
            "invalid gateway 10.8.0.1: parent subnet 10.7.0.1/24 doesn't contain this address"
        },
    )
    text = refused(net, "run", "--rm", "--ip", "172.17.0.99", "busybox", "true")
    assert "user specified IP address is supported on user defined networks only" in text
    text = refused(net, "run", "--rm", "--network", "one", "--ip", "172.31.0.9", "busybox", "true")
    assert "user specified IP address is supported only when connecting to networks with user configured subnets" in text
    text = refused(net, "run", "--rm", "--network", "nowhere", "busybox", "true")
    assert "network nowhere not found" in text
    sleeper(net, "hosted", "--network", "host")
    text = refused(net, "network", "connect", "one", "hosted")
    assert "container sharing network namespace with another container or host cannot be connected to any other network" in text
    assert "cannot connect container to host network" in refused(net, "network", "connect", "host", "it")
    assert "one of the networks in private (none) mode" in refused(net, "network", "connect", "none", "it")
    status, answer = net.api("POST", "/networks/one/disconnect", {"Container": "gone", "Force": True})
    assert status == 404, answer


def test_a_container_in_anothers_network_sees_its_interfaces(net):
    net.docker("network", "create", "one")
    sleeper(net, "it", "--network", "one")
    seen = net.out("run", "--rm", "--network", "container:it", "busybox", "ip", "-o", "-4", "addr", "show", "eth0")
    assert address(net, "it", "one") in seen
    sleeper(net, "guest", "--network", "container:it")
    text = refused(net, "network", "connect", "bridge", "guest")
    assert "container sharing network namespace with another container or host" in text
    assert net.inspect("guest")["NetworkSettings"]["Networks"] == {}


def test_an_internal_network_is_closed(net, outside):
    net.docker("network", "create", "--internal", "closed")
    net.docker("network", "create", "open")
    sleeper(net, "in1", "--network", "closed", "--cap-add", "NET_ADMIN", "-p", "8070:80")
    sleeper(net, "in2", "--network", "closed")
    sleeper(net, "out1", "--network", "open")
    assert reaches(net, "in1", address(net, "in2", "closed"))
    assert "default" not in net.out("exec", "in1", "ip", "route")
    assert net.inspect("in1")["NetworkSettings"]["Networks"]["closed"]["Gateway"] == ""
    assert net.inspect("in1")["NetworkSettings"]["Ports"] in ({}, {"80/tcp": None})
    # Also for one that helps itself to a route.
    bridge = json.loads(net.out("network", "inspect", "closed"))[0]["IPAM"]["Config"][0]["Gateway"]
    net.docker("exec", "in1", "ip", "route", "add", "default", "via", bridge)
    assert not reaches(net, "in1", OUTSIDE) and not reaches(net, "in1", address(net, "out1", "open"))
    assert not reaches(net, "out1", address(net, "in1", "closed"))
    # With a second network it has a way out, and its ports are published.
    net.docker("network", "connect", "open", "in2")
    assert reaches(net, "in2", OUTSIDE)
    net.docker("exec", "in1", "ip", "route", "del", "default")
    net.docker("network", "connect", "open", "in1")
    assert net.inspect("in1")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "8070"
    net.docker("exec", "-d", "in1", "httpd", "-f", "-p", "80", "-h", "/var/www")
    fetch = lambda: outside.exec("curl", "-sS", "--max-time", "5", f"http://{ENGINE}:8070/", check=False).stdout  # noqa: E731
    wait_until(lambda: fetch() == "hello from gantry\n", what="the page through the second network")
    net.docker("network", "disconnect", "open", "in1")
    assert fetch() == ""


def test_networks_are_listed_filtered_and_pruned(net):
    net.docker("network", "create", "--label", "tier=back", "one")
    net.docker("network", "create", "two")
    sleeper(net, "it", "--network", "two")

    def names(*filters):
        argv = [word for text in filters for word in ("--filter", text)]
        return sorted(net.out("network", "ls", "--format", "{{.Name}}", *argv).split())

    assert names() == ["bridge", "host", "none", "one", "two"]
    assert names("type=custom") == ["one", "two"] and names("type=builtin") == ["bridge", "host", "none"]
    assert names("label=tier=back") == ["one"] and names("driver=bridge") == ["bridge", "one", "two"]
    assert names("dangling=true") == ["one"] and names("name=tw") == ["two"] and names("scope=swarm") == []
    identity = net.out("network", "inspect", "-f", "{{.Id}}", "one")
    assert names(f"id={identity[:10]}") == ["one"]
    assert json.loads(net.out("network", "inspect", identity[:8]))[0]["Name"] == "one"
    for keep in ("label=other", "label!=tier", "until=1h"):
        net.docker("network", "prune", "-f", "--filter", keep)
        assert names("type=custom") == ["one", "two"], keep
    # One that a running container is in stays.
    assert "one" in net.out("network", "prune", "-f", "--filter", "label=tier") and names("type=custom") == ["two"]
    assert net.api("GET", "/networks/")[1] == net.api("GET", "/networks")[1]
    assert net.api("GET", "/networks/two?scope=swarm")[0] == 404 and net.api("GET", "/networks/two?verbose=1&scope=local")[0] == 200


def test_old_clients_see_in_the_list_who_is_in_a_network(net):
    net.docker("network", "create", "one")
    sleeper(net, "web", "--network", "one")

    def listed(version):
        return {network["Name"]: network["Containers"] for network in net.api("GET", f"/{version}/networks")[1]}

    inspected = net.api("GET", "/v1.27/networks/one")[1]["Containers"]
    assert listed("v1.27")["one"] == inspected and [about["Name"] for about in inspected.values()] == ["web"]
    assert listed("v1.28")["one"] == {}


def test_events_tell_of_a_networks_life(net):
    since = net.out("info", "--format", "{{.SystemTime}}")
    net.docker("network", "create", "one")
    sleeper(net, "it")
    net.docker("network", "connect", "one", "it")
    net.docker("network", "disconnect", "one", "it")
    net.docker("network", "rm", "one")
    until = net.out("info", "--format", "{{.SystemTime}}")
    lines = net.out(
        "events", "--since", since, "--until", until, "--filter", "type=network", "--filter", "network=one", "--format", "{{json .}}"
    ).splitlines()  # fmt: skip
    events = [json.loads(line) for line in lines]
    assert [event["Action"] for event in events] == ["create", "connect", "disconnect", "destroy"]
    identity = net.inspect("it")["Id"]
    assert [event["Actor"]["Attributes"].get("container") for event in events] == [None, identity, identity, None]
    assert {(event["Actor"]["Attributes"]["name"], event["Actor"]["Attributes"]["type"]) for event in events} == {("one", "bridge")}


def test_a_new_name_is_a_new_name_in_its_networks(net):
    net.docker("network", "create", "one")
    sleeper(net, "before", "--network", "one", "--network-alias", "db")
    net.docker("rename", "before", "after")
    names = net.inspect("after")["NetworkSettings"]["Networks"]["one"]["DNSNames"]
    assert names[:2] == ["after", "db"] and "before" not in names


def links(engine):
    return sorted(line.split()[0] for line in engine.namespace.exec("ip", "-br", "link").stdout.splitlines())


def ruleset(engine):
    return engine.namespace.exec("nft", "-s", "list", "ruleset").stdout


@pytest.mark.parametrize("cycles", [25, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_connecting_and_disconnecting_leaves_nothing_behind(net, cycles):
    net.docker("network", "create", "--subnet", "10.90.0.0/29", "one")
    sleeper(net, "it", "-p", "8090:80")

    def cycle():
        assert net.api("POST", "/networks/one/connect", {"Container": "it"})[0] == 200
        assert net.api("POST", "/networks/one/disconnect", {"Container": "it"})[0] == 200

    def sockets():
        return len(net.namespace.exec("ss", "-Hanptuxw").stdout.splitlines())

    cycle()
    wait_until(lambda: sum(name.startswith("veth") for name in links(net)) == 1, what="one pair's end")
    before = links(net), ruleset(net), sockets(), own_memory(net)
    for _ in range(cycles):
        cycle()
    wait_until(lambda: links(net) == before[0], what="the links as they were")
    assert ruleset(net) == before[1]
    wait_until(lambda: sockets() <= before[2], what="the sockets as they were")
    # Of a network of five addresses none is lost.
    names = [sleeper(net, f"all{n}", "--network", "one") and f"all{n}" for n in range(5)]
    assert len({address(net, name, "one") for name in names}) == 5
    assert list(interfaces(net, "it")) == ["eth0"]
    assert own_memory(net) < before[3] + (4 << 10), "KiB"


def own_memory(engine):
    """KiB of memory that gantryd and gantry-netd have of their own."""
    total = 0
    for pid in engine.processes():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        if status.split("\n", 1)[0].split("\t")[1] in ("gantryd", "gantry-netd"):
            total += int(status.split("RssAnon:")[1].split()[0])
    return total


def test_isolation_comes_back_after_a_flush_also_without_gantryd(fresh):
    engine = fresh()
    engine.docker("network", "create", "one")
    engine.docker("network", "create", "two")
    sleeper(engine, "a1", "--network", "one")
    sleeper(engine, "b1", "--network", "two")
    b1, pid = address(engine, "b1", "two"), engine.inspect("a1")["State"]["Pid"]
    whole = ruleset(engine)
    engine.kill()
    engine.namespace.exec("nft", "flush", "ruleset")
    wait_until(lambda: ruleset(engine) == whole, 5, "the rules")
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "busybox", "ping", "-c", "1", "-W", "1", b1]
    assert engine.namespace.exec(*inside, check=False).returncode != 0
    engine.start()
    assert ruleset(engine) == whole and not reaches(engine, "a1", b1)
    # The networks of containers that ran on are known, and can be changed.
    engine.docker("network", "connect", "two", "a1")
    assert reaches(engine, "a1", b1)
    engine.docker("rm", "-f", "a1", "b1")
    engine.docker("network", "rm", "one", "two")
    assert [name for name in links(engine) if name.startswith(("br-", "veth"))] == []


def test_a_docker0_of_somebody_else_is_left_alone_and_our_own_is_found_again(fresh):
    engine = fresh(start=False)
    links = lambda: engine.namespace.exec("ip", "-br", "-o", "link", "show", "type", "bridge").stdout  # noqa: E731
    engine.namespace.exec("ip", "link", "add", "docker0", "type", "bridge")
    engine.namespace.exec("ip", "address", "add", "192.0.2.1/24", "dev", "docker0")
    engine.start()
    engine.load_busybox()
    engine.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    name = engine.out("network", "inspect", "bridge", "-f", '{{index .Options "com.docker.network.bridge.name"}}')
    assert name == "gantry0" and "gantry0" in links()
    own = engine.namespace.exec("ip", "-br", "address", "show", "dev", "docker0").stdout
    assert "192.0.2.1/24" in own and "172." not in own
    before = links(), engine.namespace.exec("ip", "-br", "address", "show", "dev", "gantry0").stdout
    engine.restart()
    assert (links(), engine.namespace.exec("ip", "-br", "address", "show", "dev", "gantry0").stdout) == before
    assert engine.out("exec", "web", "ping", "-c1", "-W5", before[1].split()[2].split("/")[0]).startswith("PING")
