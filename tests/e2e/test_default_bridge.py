"""The default bridge as the daemon's options make it, and options that networks get by default."""

from harness import run
from test_networks import interfaces, sleeper
from test_network_options import on_host, shown


def pools(engine, name="bridge"):
    return shown(engine, name)["IPAM"]["Config"]


def test_bip_is_the_bridges_own_address_and_its_network_is_the_containers(fresh):
    engine = fresh("--bip", "10.71.3.9/24")
    assert pools(engine) == [{"Subnet": "10.71.3.0/24", "Gateway": "10.71.3.9"}]
    assert on_host(engine, "docker0") == ["10.71.3.9/24"]
    sleeper(engine, "it")
    assert interfaces(engine, "it") == {"eth0": "10.71.3.1/24"}
    assert "via 10.71.3.9" in engine.out("exec", "it", "ip", "route")


def test_fixed_cidr_bounds_what_containers_get(fresh):
    engine = fresh("--bip", "10.72.0.1/16", "--fixed-cidr", "10.72.5.0/24")
    sleeper(engine, "it")
    assert interfaces(engine, "it")["eth0"].startswith("10.72.5.")
    assert pools(engine) == [{"Subnet": "10.72.0.0/16", "IPRange": "10.72.5.0/24", "Gateway": "10.72.0.1"}]


def test_fixed_cidr_alone_is_the_whole_network_also_later(fresh):
    engine = fresh("--fixed-cidr", "10.73.0.0/24")
    sleeper(engine, "it")
    assert interfaces(engine, "it") == {"eth0": "10.73.0.2/24"} and on_host(engine, "docker0") == ["10.73.0.1/24"]
    engine.docker("rm", "-f", "it")
    engine.stop()
    # Another range than the bridge's network holds moves the bridge.
    engine.flags = ("--fixed-cidr", "10.74.0.0/24")
    engine.start()
    sleeper(engine, "it")
    assert interfaces(engine, "it") == {"eth0": "10.74.0.2/24"} and on_host(engine, "docker0") == ["10.74.0.1/24"]


def test_a_bridge_with_living_containers_stays_as_it_is(fresh):
    engine = fresh("--bip", "10.70.0.1/24")
    sleeper(engine, "it")
    engine.stop()
    engine.flags = ("--bip", "10.69.0.1/24", "--ipv6")
    engine.start()
    assert pools(engine) == [{"Subnet": "10.70.0.0/24", "Gateway": "10.70.0.1"}]
    assert "updated network configuration will not take affect" in engine.docker("info").stderr
    engine.docker("exec", "it", "ping", "-c", "1", "-W", "2", "10.70.0.1")
    engine.docker("rm", "-f", "it")
    engine.stop()
    engine.start()
    assert pools(engine)[0] == {"Subnet": "10.69.0.0/24", "Gateway": "10.69.0.1"} and len(pools(engine)) == 2


def test_a_bridge_in_the_way_of_another_network_is_refused(fresh):
    engine = fresh(busybox=False)
    engine.docker("network", "create", "--subnet", "10.68.0.0/24", "one")
    engine.stop()
    engine.flags = ("--bip", "10.68.0.1/16")
    engine.start(wait=False)
    assert engine.process.wait(30) == 1
    assert "Pool overlaps with other one on this address space" in engine.tail()
    engine.flags = ()
    engine.start()


def test_the_default_bridge_has_ipv6_when_the_daemon_says_so(fresh):
    engine = fresh("--ipv6", "--fixed-cidr-v6", "fd00:75::/64")
    assert shown(engine, "bridge")["EnableIPv6"] is True
    assert pools(engine)[1]["Subnet"] == "fd00:75::/64"
    sleeper(engine, "it", "-p", "8075:80")
    address = engine.inspect("it")["NetworkSettings"]["Networks"]["bridge"]["GlobalIPv6Address"]
    assert address.startswith("fd00:75::")
    assert address in engine.out("exec", "it", "ip", "-6", "addr", "show", "eth0")
    engine.docker("exec", "it", "ping", "-6", "-c", "1", "-W", "5", "fd00:75::1")
    # Without the option again, the bridge gives it back.
    engine.docker("rm", "-f", "it")
    engine.stop()
    engine.flags = ()
    engine.start()
    assert shown(engine, "bridge")["EnableIPv6"] is False and len(pools(engine)) == 1
    sleeper(engine, "it")
    assert list(interfaces(engine, "it")) == ["eth0"]
    assert "inet6" not in engine.out("exec", "it", "ip", "addr", "show", "eth0")


def test_pools_of_both_families_are_cut_as_the_daemon_says(fresh):
    engine = fresh(
        "--default-address-pool", "base=10.76.0.0/16,size=24", "--default-address-pool", "base=fd00:76::/48,size=64"
    )  # fmt: skip
    assert pools(engine)[0]["Subnet"] == "10.76.0.0/24"
    engine.docker("network", "create", "--ipv6", "both")
    assert [pool["Subnet"] for pool in pools(engine, "both")] == ["10.76.1.0/24", "fd00:76::/64"]


def test_networks_get_the_options_of_their_driver_by_default(fresh):
    engine = fresh("--default-network-opt", "bridge=com.docker.network.driver.mtu=1234")
    engine.docker("network", "create", "plain")
    engine.docker("network", "create", "-o", "com.docker.network.driver.mtu=1300", "own")
    mtu = lambda name: shown(engine, name)["Options"]["com.docker.network.driver.mtu"]  # noqa: E731
    assert (mtu("plain"), mtu("own")) == ("1234", "1300")
    sleeper(engine, "it", "--network", "plain")
    assert "mtu 1234" in engine.out("exec", "it", "ip", "link", "show", "eth0")


def test_without_iptables_there_is_no_table_and_rules_of_before_go(fresh):
    engine = fresh()
    table = lambda: run("ip", "netns", "exec", engine.namespace.name, "nft", "list", "ruleset").stdout  # noqa: E731
    assert "table inet gantry-" in table()
    engine.stop()
    engine.flags = ("--iptables=false",)
    engine.start()
    assert table() == ""
    sleeper(engine, "it", "-p", "127.0.0.1:8077:80")
    assert table() == ""


def test_without_masquerade_packets_leave_with_their_own_address(fresh):
    engine = fresh("--ip-masq=false")
    rules = run("ip", "netns", "exec", engine.namespace.name, "nft", "list", "ruleset").stdout
    assert pools(engine)[0]["Subnet"] not in rules and "set outward4" in rules
    assert shown(engine, "bridge")["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
