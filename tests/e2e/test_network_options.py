"""What a network can be asked for: pools, families, drivers and their options, seen with the kernel's own tools."""

import json
import re

import pytest
from harness import Namespace, wait_until
from test_networks import address, interfaces, net, reaches, refused, sleeper  # noqa: F401

OUTSIDE, ENGINE = "198.51.100.2", "198.51.100.1"


@pytest.fixture(scope="module")
def outside(engine):
    namespace = Namespace(f"gt-lan-{engine.number}")
    engine.namespace.connect(namespace, f"{ENGINE}/24", f"{OUTSIDE}/24")
    namespace.exec("ip", "route", "add", "10.0.0.0/8", "via", ENGINE)
    try:
        yield namespace
    finally:
        namespace.delete()


def shown(engine, name):
    return json.loads(engine.out("network", "inspect", name))[0]


def on_host(engine, link):
    """Addresses of a link of the host."""
    found = json.loads(engine.namespace.exec("ip", "-j", "addr", "show", "dev", link).stdout)[0]
    return [f"{a['local']}/{a['prefixlen']}" for a in found["addr_info"] if a["scope"] == "global"]


def test_subnet_gateway_range_and_addresses_set_aside(net):
    net.docker(
        "network", "create", "--subnet", "10.60.0.0/24", "--gateway", "10.60.0.254", "--ip-range", "10.60.0.128/26",
        "--aux-address", "printer=10.60.0.128", "--label", "a=b", "--attachable", "-o", "com.docker.network.bridge.name=br-named",
        "-o", "com.docker.network.driver.mtu=1400", "one",
    )  # fmt: skip
    record = shown(net, "one")
    assert record["IPAM"]["Config"] == [
        {"Subnet": "10.60.0.0/24", "IPRange": "10.60.0.128/26", "Gateway": "10.60.0.254", "AuxiliaryAddresses": {"printer": "10.60.0.128"}}
    ]
    assert record["Labels"] == {"a": "b"} and record["Attachable"] and record["Options"]["com.docker.network.driver.mtu"] == "1400"
    assert on_host(net, "br-named") == ["10.60.0.254/24"]
    sleeper(net, "it", "--network", "one")
    assert interfaces(net, "it") == {"eth0": "10.60.0.129/24"}
    assert "mtu 1400" in net.out("exec", "it", "ip", "link", "show", "eth0")
    assert "Address already in use" in refused(net, "run", "--rm", "--network", "one", "--ip", "10.60.0.129", "busybox", "true")
    net.docker("run", "-d", "--name", "fixed", "--network", "one", "--ip", "10.60.0.7", "--mac-address", "02:11:22:33:44:55", "busybox", "sleep", "1000")
    state = net.inspect("fixed")["NetworkSettings"]["Networks"]["one"]
    assert (state["IPAddress"], state["MacAddress"]) == ("10.60.0.7", "02:11:22:33:44:55")
    assert "02:11:22:33:44:55" in net.out("exec", "fixed", "ip", "link", "show", "eth0")
    net.docker("restart", "-t", "0", "fixed")
    assert interfaces(net, "fixed") == {"eth0": "10.60.0.7/24"}


def test_ipv6_is_asked_for_or_off(net):
    net.docker("network", "create", "--ipv6", "six")
    pools = shown(net, "six")["IPAM"]["Config"]
    assert len(pools) == 2 and pools[1]["Subnet"].startswith("fd") and pools[1]["Subnet"].endswith("/64")
    sleeper(net, "one", "--network", "six")
    sleeper(net, "two", "--network", "six")
    state = net.inspect("one")["NetworkSettings"]["Networks"]["six"]
    assert state["GlobalIPv6PrefixLen"] == 64 and state["IPv6Gateway"] == pools[1]["Gateway"]
    assert net.docker("exec", "two", "ping", "-6", "-c", "1", "-W", "2", state["GlobalIPv6Address"], check=False).returncode == 0
    assert state["GlobalIPv6Address"] in net.out("exec", "one", "cat", "/etc/hosts")
    assert "default via" in net.out("exec", "one", "ip", "-6", "route")
    net.docker("network", "create", "--ipv6", "--subnet", "fd00:7::/64", "--subnet", "10.61.0.0/24", "own")
    net.docker("run", "-d", "--name", "fixed", "--network", "own", "--ip6", "fd00:7::77", "busybox", "sleep", "1000")
    assert "fd00:7::77/64" in net.out("exec", "fixed", "ip", "-6", "addr")
    # T44: without it there is no trace of it, whatever else the container joins.
    net.docker("network", "create", "four")
    sleeper(net, "plain", "--network", "four")
    assert net.out("exec", "plain", "ip", "-6", "addr", "show", "eth0") == ""
    net.docker("network", "connect", "six", "plain")
    assert net.out("exec", "plain", "ip", "-6", "addr", "show", "eth0") == ""
    assert "inet6 fd" in net.out("exec", "plain", "ip", "-6", "addr", "show", "eth1")


def test_pools_come_in_dockers_order_past_what_the_host_reaches(fresh):
    engine = fresh(busybox=False)
    engine.namespace.exec("ip", "link", "add", "lan0", "type", "bridge")
    engine.namespace.exec("ip", "link", "set", "lan0", "up")
    engine.namespace.exec("ip", "addr", "add", "172.19.3.4/24", "dev", "lan0")
    got = []
    for number in range(34):
        status, answer = engine.api("POST", "/networks/create", {"Name": f"n{number}"})
        assert status == 201, answer
        got.append(engine.api("GET", f"/networks/n{number}")[1]["IPAM"]["Config"][0]["Subnet"])
    expected = [f"172.{n}.0.0/16" for n in range(18, 32) if n != 19] + [f"192.168.{n}.0/20" for n in range(0, 256, 16)]
    assert got[: len(expected)] == expected
    # Docker's own are used up: small ones follow.
    assert got[len(expected) :] == [f"10.192.{n}.0/24" for n in range(34 - len(expected))]
    assert engine.api("DELETE", "/networks/n0")[0] == 204
    assert engine.api("POST", "/networks/create", {"Name": "again"})[0] == 201
    assert engine.api("GET", "/networks/again")[1]["IPAM"]["Config"][0]["Subnet"] == "172.18.0.0/16"


def test_the_daemons_own_pools_are_used_and_end(fresh):
    engine = fresh("--default-address-pool", "base=10.77.0.0/23,size=24", "--bip", "10.76.0.1/24", busybox=False)
    for number in range(2):
        assert engine.api("POST", "/networks/create", {"Name": f"n{number}"})[0] == 201
        assert engine.api("GET", f"/networks/n{number}")[1]["IPAM"]["Config"][0]["Subnet"] == f"10.77.{number}.0/24"
    full = {"message": "all predefined address pools have been fully subnetted"}
    assert engine.api("POST", "/networks/create", {"Name": "more"}) == (400, full)


def test_without_icc_containers_reach_the_outside_and_not_each_other(net, outside):
    net.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart")
    sleeper(net, "one", "--network", "apart")
    sleeper(net, "two", "--network", "apart")
    assert not reaches(net, "one", address(net, "two", "apart")) and reaches(net, "one", OUTSIDE)


def serve(engine, name):
    engine.docker("exec", "-d", name, "httpd", "-f", "-p", "80", "-h", "/var/www")
    engine.docker("exec", "-d", name, "httpd", "-f", "-p", "81", "-h", "/var/www")
    ip = next(iter(engine.inspect(name)["NetworkSettings"]["Networks"].values()))["IPAddress"]
    for port in (80, 81):
        wait_until(lambda port=port: get(engine.namespace, f"http://{ip}:{port}/"), what="the servers")
    return ip


def get(namespace, url):
    return namespace.exec("curl", "-gsS", "--max-time", "2", url, check=False).stdout == "hello from gantry\n"


def test_gateway_modes_say_what_is_reached_from_outside(net, outside):
    mode = "com.docker.network.bridge.gateway_mode_ipv4"
    seen = {}
    for number, name in enumerate(("nat", "nat-unprotected", "routed")):
        net.docker("network", "create", "--subnet", f"10.62.{number}.0/24", "-o", f"{mode}={name}", name)
        sleeper(net, f"it-{name}", "--network", name, "-p", f"807{number}:80")
        ip = serve(net, f"it-{name}")
        seen[name] = [
            get(outside, f"http://{ENGINE}:807{number}/"), get(outside, f"http://{ip}:80/"), get(outside, f"http://{ip}:81/"),
        ]  # fmt: skip
    assert seen == {"nat": [True, False, False], "nat-unprotected": [True, True, True], "routed": [False, True, False]}
    assert net.inspect("it-routed")["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": ""}]
    # A routed container goes out under its own address.
    listener = outside.popen("python3", "-c", "import socket; s=socket.create_server(('',7001)); c,a=s.accept(); print(a[0])",
                             stdout=-1, text=True)  # fmt: skip
    wait_until(lambda: ":7001" in outside.exec("ss", "-ltn").stdout)
    net.docker("exec", "it-routed", "nc", "-w", "2", OUTSIDE, "7001", check=False, input="")
    assert listener.communicate(timeout=10)[0].strip() == address(net, "it-routed", "routed")
    assert "gateway mode 'isolated' can only be used for an internal network" in refused(
        net, "network", "create", "-o", f"{mode}=isolated", "wrong"
    )
    net.docker("network", "create", "--internal", "-o", f"{mode}=isolated", "isolated")
    bridge = f"br-{shown(net, 'isolated')['Id'][:12]}"
    assert on_host(net, bridge) == []


def test_ports_of_a_network_are_bound_where_it_says(net, outside):
    net.docker("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "local")
    sleeper(net, "it", "--network", "local", "-p", "8079:80")
    serve(net, "it")
    assert net.inspect("it")["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8079"}]
    assert get(net.namespace, "http://127.0.0.1:8079/") and not get(outside, f"http://{ENGINE}:8079/")


def test_a_network_is_made_from_a_template(net):
    net.docker("network", "create", "--config-only", "--subnet", "10.63.0.0/24", "--label", "from=template", "template")
    assert shown(net, "template")["ConfigOnly"]
    net.docker("network", "create", "--config-from", "template", "made")
    made = shown(net, "made")
    assert made["ConfigFrom"] == {"Network": "template"} and made["IPAM"]["Config"][0]["Subnet"] == "10.63.0.0/24"
    assert made["Labels"] == {"from": "template"} and on_host(net, f"br-{made['Id'][:12]}") == ["10.63.0.1/24"]
    assert 'configuration network "template" is in use' in refused(net, "network", "rm", "template")
    assert "cannot create endpoint on configuration-only network" in refused(
        net, "run", "--rm", "--network", "template", "busybox", "true"
    )
    net.docker("network", "rm", "made")
    net.docker("network", "rm", "template")
    answer = net.api("POST", "/networks/create", {"Name": "made", "ConfigFrom": {"Network": "template"}})
    assert answer == (404, {"message": 'configuration network "template" does not exist'})


def test_an_endpoint_has_its_own_name_and_settings(net):
    net.docker("network", "create", "one")
    sleeper(
        net, "it", "--network",
        "name=one,\"driver-opt=com.docker.network.endpoint.ifname=lan0\",\"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1\"",
    )  # fmt: skip
    assert list(interfaces(net, "it")) == ["lan0"]
    assert net.out("exec", "it", "cat", "/proc/sys/net/ipv4/conf/lan0/log_martians") == "1"


def test_a_macvlan_container_is_a_host_of_the_lan(net, outside):
    parent = net.namespace.exec("ip", "-o", "route", "get", OUTSIDE).stdout.split("dev ")[1].split()[0]
    net.docker("network", "create", "-d", "macvlan", "--subnet", "198.51.100.0/24", "--gateway", OUTSIDE,
               "--ip-range", "198.51.100.64/26", "-o", f"parent={parent}", "lan")  # fmt: skip
    sleeper(net, "it", "--network", "lan")
    sleeper(net, "other", "--network", "lan")
    assert address(net, "it", "lan").startswith("198.51.100.6")
    outside.exec("busybox", "ping", "-c", "1", "-W", "3", address(net, "it", "lan"))
    assert reaches(net, "it", OUTSIDE) and reaches(net, "it", address(net, "other", "lan"))
    assert f"default via {OUTSIDE}" in net.out("exec", "it", "ip", "route")
    # T44
    assert net.out("exec", "it", "ip", "-6", "addr", "show", "eth0") == ""
    net.docker("network", "connect", "bridge", "it")
    net.docker("network", "disconnect", "lan", "it")
    assert len(interfaces(net, "it")) == 1
    net.docker("network", "connect", "lan", "it")
    assert reaches(net, "it", address(net, "other", "lan"))
    assert "-o parent interface was not found on the host: nowhere0" in refused(
        net, "network", "create", "-d", "macvlan", "-o", "parent=nowhere0", "bad"
    )
    assert "requested macvlan mode 'x' is not valid" in refused(
        net, "network", "create", "-d", "macvlan", "-o", f"parent={parent}", "-o", "macvlan_mode=x", "bad"
    )
    net.docker("network", "create", "-d", "macvlan", "--internal", "inner")
    sleeper(net, "in1", "--network", "inner")
    sleeper(net, "in2", "--network", "inner")
    assert reaches(net, "in1", address(net, "in2", "inner"))


def test_ipvlan_works_or_says_that_the_kernel_has_none(net, outside):
    parent = net.namespace.exec("ip", "-o", "route", "get", OUTSIDE).stdout.split("dev ")[1].split()[0]
    done = net.docker("network", "create", "-d", "ipvlan", "--subnet", "198.51.100.0/24", "--gateway", OUTSIDE,
                      "--ip-range", "198.51.100.128/26", "-o", f"parent={parent}", "ip", check=False)  # fmt: skip
    if done.returncode:
        assert "the kernel of this host has no ipvlan" in done.stderr
        assert "ip" not in net.out("network", "ls", "--format", "{{.Name}}").split()
    else:
        sleeper(net, "it", "--network", "ip")
        assert reaches(net, "it", OUTSIDE)


ADMINISTRATORS = """
table inet site {
  chain arriving { type filter hook prerouting priority mangle; policy accept;
    iifname != "lo" tcp dport 8085 drop
  }
  chain passing { type filter hook forward priority filter - 10; policy accept;
    ip saddr %s ip protocol icmp drop
  }
}
"""


def test_the_administrators_own_table_is_looked_at_first_and_stays(net, outside):
    net.docker("network", "create", "shut")
    sleeper(net, "it", "--network", "shut", "-p", "8085:80", "-p", "8086:80")
    serve(net, "it")
    sleeper(net, "mute", "--network", "shut")
    mute = address(net, "mute", "shut")
    assert get(outside, f"http://{ENGINE}:8085/") and get(outside, f"http://{ENGINE}:8086/") and reaches(net, "mute", OUTSIDE)
    net.namespace.exec("nft", "-f", "-", input=ADMINISTRATORS % mute)
    table = net.namespace.exec("nft", "list", "table", "inet", "site").stdout
    try:
        for _ in range(2):
            assert not get(outside, f"http://{ENGINE}:8085/") and get(outside, f"http://{ENGINE}:8086/")
            assert reaches(net, "it", OUTSIDE) and not reaches(net, "mute", OUTSIDE)
            assert get(net.namespace, "http://127.0.0.1:8085/")
            # A start puts our own table in force again, and no other.
            net.restart()
        assert net.namespace.exec("nft", "list", "table", "inet", "site").stdout == table
    finally:
        net.namespace.exec("nft", "delete", "table", "inet", "site")
    assert get(outside, f"http://{ENGINE}:8085/") and reaches(net, "mute", OUTSIDE)


CHAIN = """table %s {
  chain %s {
    type filter hook forward priority %s; policy %s;
  }
}
"""
CUTTING = [
    ("ip filter", "FORWARD", "filter", "drop"),
    ("inet open", "passing", "filter", "accept"),
    ("inet firewalld", "filter_FORWARD", "filter + 10", "accept"),
]


def test_a_firewall_that_cuts_containers_off_is_named_in_info(net):
    """One of iptables-nft or dockerd, firewalld's, and one of iptables-legacy, which nft does not show."""

    def warnings():
        about = net.api("GET", "/info")[1]["Warnings"] or []
        return [line for line in about if "forwarded packets" in line]

    def chains():
        return sorted(re.search(r"\((.*?)\)", line).group(1) for line in warnings())

    assert warnings() == []
    before = net.namespace.exec("nft", "list", "tables").stdout
    net.namespace.exec("nft", "-f", "-", input="".join(CHAIN % chain for chain in CUTTING))
    try:
        assert chains() == ["inet firewalld filter_FORWARD", "ip filter FORWARD"]
        assert "firewall-cmd --permanent --zone=trusted --add-source=" in "".join(warnings())
        assert "WARNING: another firewall drops forwarded packets (ip filter FORWARD)" in net.docker("info").stderr
    finally:
        for table, *_ in CUTTING:
            net.namespace.exec("nft", "delete", "table", *table.split())
    assert warnings() == [] and net.namespace.exec("nft", "list", "tables").stdout == before
    for program in ("iptables-legacy", "ip6tables-legacy"):
        if net.namespace.exec(program, "-P", "FORWARD", "DROP", check=False).returncode != 0:
            pytest.skip(f"the host has no {program}")
        # A rule before the policy, and other hooks, are none of it.
        net.namespace.exec(program, "-A", "FORWARD", "-i", "lo", "-j", "ACCEPT")
        try:
            assert chains() == [f"{program} filter FORWARD"]
        finally:
            net.namespace.exec(program, "-P", "FORWARD", "ACCEPT")
        net.namespace.exec(program, "-P", "INPUT", "DROP")
        assert warnings() == []
        net.namespace.exec(program, "-P", "INPUT", "ACCEPT")
        net.namespace.exec(program, "-F")
