"""What each option of a network does to packets: both families, seen from containers, from the host and from a LAN."""

import json

import pytest
from harness import Namespace, wait_until
from test_networks import address, interfaces, net, reaches, refused, ruleset, sleeper  # noqa: F401
from test_network_options import get, on_host, serve, shown

OUTSIDE, ENGINE = "198.51.100.2", "198.51.100.1"
OUTSIDE6, ENGINE6 = "2001:db8:51::2", "2001:db8:51::1"
BRIDGE = "com.docker.network.bridge."


@pytest.fixture(scope="module")
def outside(engine):
    namespace = Namespace(f"gt-lan-{engine.number}")
    engine.namespace.connect(namespace, f"{ENGINE}/24", f"{OUTSIDE}/24")
    for where, own in ((engine.namespace, ENGINE6), (namespace, OUTSIDE6)):
        link = json.loads(where.exec("ip", "-j", "route", "get", OUTSIDE if own == ENGINE6 else ENGINE).stdout)[0]["dev"]
        where.exec("ip", "address", "add", f"{own}/64", "dev", link, "nodad")
    namespace.exec("ip", "route", "add", "10.0.0.0/8", "via", ENGINE)
    namespace.exec("ip", "-6", "route", "add", "fd00::/8", "via", ENGINE6)
    try:
        yield namespace
    finally:
        namespace.delete()


def lan_link(engine):
    return json.loads(engine.namespace.exec("ip", "-j", "route", "get", OUTSIDE).stdout)[0]["dev"]


def seen_by(outside, engine, container, to=OUTSIDE):
    """The address under which a container comes to the LAN's host."""
    family = "AF_INET6" if ":" in to else "AF_INET"
    program = f"import socket; s=socket.create_server(('{to}',7002), family=socket.{family}); s.settimeout(10); print(s.accept()[1][0])"
    listener = outside.popen("python3", "-c", program, stdout=-1, text=True)
    wait_until(lambda: ":7002" in outside.exec("ss", "-ltn").stdout, what="the listener")
    engine.docker("exec", container, "nc", "-w", "2", to, "7002", check=False, input="")
    return listener.communicate(timeout=15)[0].strip()


def reaches6(engine, container, ip):
    return engine.docker("exec", container, "ping", "-6", "-c", "1", "-W", "1", ip, check=False).returncode == 0


def address6(engine, container, network):
    return engine.inspect(container)["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"]


def test_without_masquerade_containers_go_out_under_their_own_addresses(net, outside):
    net.docker("network", "create", "--subnet", "10.81.0.0/24", "-o", f"{BRIDGE}enable_ip_masquerade=false", "plain")
    sleeper(net, "it", "--network", "plain")
    assert seen_by(outside, net, "it") == address(net, "it", "plain")
    net.docker("network", "create", "--subnet", "10.81.1.0/24", "usual")
    sleeper(net, "other", "--network", "usual")
    assert seen_by(outside, net, "other") == ENGINE


def test_a_bridge_may_be_without_an_address(net):
    net.docker("network", "create", "--subnet", "10.82.0.0/24", "-o", f"{BRIDGE}inhibit_ipv4=true", "-o", f"{BRIDGE}name=br-inh", "one")
    sleeper(net, "aa", "--network", "one")
    sleeper(net, "bb", "--network", "one")
    assert on_host(net, "br-inh") == [] and reaches(net, "aa", address(net, "bb", "one"))


def test_a_trusted_interface_reaches_every_port(net, outside):
    net.docker("network", "create", "--subnet", "10.83.0.0/24", "-o", f"{BRIDGE}trusted_host_interfaces={lan_link(net)}", "open")
    net.docker("network", "create", "--subnet", "10.83.1.0/24", "shut")
    seen = {}
    for name in ("open", "shut"):
        sleeper(net, f"it-{name}", "--network", name)
        seen[name] = get(outside, f"http://{serve(net, f'it-{name}')}:81/")
    assert seen == {"open": True, "shut": False}


def test_an_isolated_network_has_nothing_of_the_host(net, outside):
    net.docker("network", "create", "--internal", "--subnet", "10.84.0.0/24", "-o", f"{BRIDGE}gateway_mode_ipv4=isolated", "alone")
    sleeper(net, "aa", "--network", "alone")
    sleeper(net, "bb", "--network", "alone")
    a = address(net, "aa", "alone")
    assert reaches(net, "bb", a) and net.out("exec", "aa", "ip", "route") == f"10.84.0.0/24 dev eth0 scope link  src {a}"
    assert net.namespace.exec("busybox", "ping", "-c", "1", "-W", "1", a, check=False).returncode != 0
    assert not reaches(net, "aa", "10.84.0.1") and not reaches(net, "aa", OUTSIDE)


def test_without_address_management_a_container_has_a_bare_link(net):
    net.docker("network", "create", "--ipam-driver", "null", "bare")
    sleeper(net, "it", "--network", "bare")
    assert interfaces(net, "it") == {} and "eth0" in net.out("exec", "it", "ip", "link")
    net.docker("exec", "--privileged", "it", "ip", "address", "add", "192.0.2.77/24", "dev", "eth0")


def test_link_local_addresses_are_put_on(net):
    net.docker("network", "create", "one")
    sleeper(net, "it", "--network", "one", "--link-local-ip", "169.254.7.7")
    assert "169.254.7.7/16" in net.out("exec", "it", "ip", "addr", "show", "eth0")


def test_gateway_modes_of_ipv6_say_what_is_reached_from_outside(net, outside):
    opened = {"nat": [True, False, False], "nat-unprotected": [True, True, True], "routed": [False, True, False]}
    for number, name in enumerate(opened):
        net.docker("network", "create", "--ipv6", "--subnet", f"fd00:85:{number}::/64", "-o", f"{BRIDGE}gateway_mode_ipv6={name}", name)
        sleeper(net, f"it-{name}", "--network", name, "-p", f"808{number}:80")
        serve(net, f"it-{name}")
        ip = address6(net, f"it-{name}", name)
        for url, expected in zip([f"[{ENGINE6}]:808{number}", f"[{ip}]:80", f"[{ip}]:81"], opened[name], strict=True):
            if expected:
                wait_until(lambda url=url: get(outside, f"http://{url}/"), what=f"{name}: {url}")
            else:
                assert not get(outside, f"http://{url}/"), f"{name}: {url}"
        assert seen_by(outside, net, f"it-{name}", OUTSIDE6) == (ip if name == "routed" else ENGINE6)


def test_a_network_may_be_of_ipv6_alone(net, outside):
    net.docker("network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd00:86::/64", "six")
    assert [pool["Subnet"] for pool in shown(net, "six")["IPAM"]["Config"]] == ["fd00:86::/64"]
    sleeper(net, "aa", "--network", "six", "-p", "8086:80")
    sleeper(net, "bb", "--network", "six")
    assert interfaces(net, "aa") == {} and address(net, "aa", "six") == ""
    assert reaches6(net, "bb", address6(net, "aa", "six")) and reaches6(net, "bb", "aa") and reaches6(net, "aa", OUTSIDE6)
    net.docker("exec", "-d", "aa", "httpd", "-f", "-p", "80", "-h", "/var/www")
    wait_until(lambda: get(net.namespace, "http://127.0.0.1:8086/"), what="the server, over IPv4 by the relay")
    assert get(outside, f"http://[{ENGINE6}]:8086/")


def test_networks_are_apart_and_internal_ones_closed_also_by_ipv6(net, outside):
    for number, (name, internal) in enumerate((("one", []), ("two", []), ("inner", ["--internal"]))):
        net.docker("network", "create", "--ipv6", "--subnet", f"fd00:87:{number}::/64", *internal, name)
        sleeper(net, f"a-{name}", "--network", name)
    one, two, inner = (address6(net, f"a-{name}", name) for name in ("one", "two", "inner"))
    sleeper(net, "b-inner", "--network", "inner")

    def holds():
        assert not reaches6(net, "a-one", two) and not reaches6(net, "a-one", inner) and reaches6(net, "b-inner", inner)
        assert not reaches6(net, "a-inner", OUTSIDE6) and reaches6(net, "a-one", OUTSIDE6)
        assert outside.exec("busybox", "ping", "-6", "-c", "1", "-W", "1", one, check=False).returncode != 0

    holds()
    rules = ruleset(net)
    net.namespace.exec("nft", "flush", "ruleset")
    wait_until(lambda: ruleset(net) == rules, 5, "the rules")
    holds()


def test_modes_of_macvlan_decide_whether_neighbours_talk(net, outside):
    common = ["-d", "macvlan", "-o", f"parent={lan_link(net)}"]
    talk = {}
    for number, mode in enumerate(("bridge", "private", "vepa")):
        net.docker("network", "create", *common, "--subnet", f"10.88.{number}.0/24", "-o", f"macvlan_mode={mode}", f"mv-{mode}")
        sleeper(net, f"a-{mode}", "--network", f"mv-{mode}")
        sleeper(net, f"b-{mode}", "--network", f"mv-{mode}")
        talk[mode] = reaches(net, f"a-{mode}", address(net, f"b-{mode}", f"mv-{mode}"))
    # vepa wants a switch that sends back.
    assert talk == {"bridge": True, "private": False, "vepa": False}
    assert "cannot use mode passthru" in refused(
        net, "network", "create", *common, "-o", "macvlan_mode=passthru", "--subnet", "10.88.9.0/24", "whole"
    )


def test_what_an_option_cannot_be_is_refused_when_the_network_is_made(net):
    def made(*options):
        return refused(net, "network", "create", *(word for option in options for word in ("-o", option)), "bad")

    assert "failed to parse com.docker.network.host_ipv4 value: x" in made("com.docker.network.host_ipv4=x")
    assert "invalid interface name" in made(f"{BRIDGE}trusted_host_interfaces=a/b")
    assert f"failed to parse {BRIDGE}enable_icc value: maybe" in made(f"{BRIDGE}enable_icc=maybe")
    net.namespace.exec("ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1")
    try:
        assert "existing interface taken0 is not a bridge" in made(f"{BRIDGE}name=taken0")
    finally:
        net.namespace.exec("ip", "link", "delete", "taken0")


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_networks_by_the_thousand_fit_and_go(net, count):
    before = ruleset(net)
    subnets = set()
    for number in range(count):
        status, made = net.api("POST", "/networks/create", {"Name": f"many{number}"})
        assert status == 201, made
        subnets.add(net.api("GET", f"/networks/{made['Id']}")[1]["IPAM"]["Config"][0]["Subnet"])
    assert len(subnets) == count
    sleeper(net, "first", "--network", "many0")
    sleeper(net, "last", "--network", f"many{count - 1}")
    assert not reaches(net, "first", address(net, "last", f"many{count - 1}"))
    net.docker("rm", "-f", "first", "last")
    for number in range(count):
        assert net.api("DELETE", f"/networks/many{number}")[0] == 204
    assert ruleset(net) == before
