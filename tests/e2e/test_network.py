"""The default bridge: published ports, what is seen from outside, containers among themselves, network inspect."""

import json
import pathlib
import re
import socket
import subprocess

import pytest
from harness import Namespace, wait_until

OUTSIDE, ENGINE = "198.51.100.2", "198.51.100.1"


@pytest.fixture(scope="module")
def outside(engine):
    """A namespace that plays the outside, and what it sees at its door."""
    namespace = Namespace(f"gt-out-{engine.number}")
    engine.namespace.connect(namespace, f"{ENGINE}/24", f"{OUTSIDE}/24")
    try:
        yield namespace
    finally:
        namespace.delete()


def get(namespace, url, check=True):
    """The page at an address, asked from inside a namespace."""
    return namespace.exec("curl", "-gsS", "--max-time", "10", url, check=check).stdout


def httpd(engine, *argv, name):
    container = engine.out("run", "-d", "--name", name, *argv, "busybox", "httpd", "-f", "-p", "80", "-h", "/var/www")
    address = engine.inspect(name)["NetworkSettings"]["IPAddress"]
    wait_until(lambda: get(engine.namespace, f"http://{address}/", check=False), what="the server's page")
    return container


def test_a_web_server_is_run_reached_entered_stopped_and_removed(engine, outside):
    container = httpd(engine, "-p", "8080:80", name="web")
    for address in ("127.0.0.1", "[::1]", ENGINE):
        assert get(engine.namespace, f"http://{address}:8080/") == "hello from gantry\n", address
    assert get(outside, f"http://{ENGINE}:8080/") == "hello from gantry\n"
    assert engine.out("port", "web") == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"
    assert engine.out("port", "web", "80").splitlines()[0] == "0.0.0.0:8080"
    assert engine.inspect("web")["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    }
    line = engine.out("ps", "--format", "{{.ID}} {{.Image}} {{.Command}} {{.Ports}} {{.Names}}")
    assert line == f'{container[:12]} busybox "httpd -f -p 80 -h /…" 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp web'
    assert engine.out("exec", "-i", "web", "sh", input="hostname; exit\n") == container[:12]
    engine.docker("stop", "-t", "1", "web")
    assert engine.out("ps", "-q") == ""
    assert engine.out("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137) ")
    assert engine.inspect("web")["NetworkSettings"]["Ports"] == {}
    assert get(engine.namespace, "http://127.0.0.1:8080/", check=False) == ""
    engine.docker("start", "web")
    assert wait_until(lambda: get(engine.namespace, "http://127.0.0.1:8080/", check=False)) == "hello from gantry\n"
    engine.docker("rm", "-f", "web")
    assert engine.out("ps", "-aq") == ""


def test_a_port_left_to_the_engine_and_one_at_an_address_are_reached_there(engine, outside):
    httpd(engine, "-p", "80", "-p", "127.0.0.1:8085:80", "-p", "[::1]:8086:80", name="ports")
    ports = engine.inspect("ports")["NetworkSettings"]["Ports"]["80/tcp"]
    free = next(port["HostPort"] for port in ports if port["HostIp"] == "0.0.0.0")
    assert int(free) >= 1024
    for url in (f"http://127.0.0.1:{free}/", f"http://[::1]:{free}/", "http://127.0.0.1:8085/", "http://[::1]:8086/"):
        assert get(engine.namespace, url) == "hello from gantry\n", url
    assert get(outside, f"http://{ENGINE}:{free}/") == "hello from gantry\n"
    for url in (f"http://{ENGINE}:8085/", "http://[::1]:8085/", "http://127.0.0.1:8086/"):
        assert get(engine.namespace, url, check=False) == "", url
    engine.docker("rm", "-f", "ports")
    engine.docker("run", "-d", "--name", "range", "-p", "9000-9002:80", "--expose", "90", "-P", "busybox", "sleep", "100")
    ports = engine.inspect("range")["NetworkSettings"]["Ports"]
    assert ports["80/tcp"][0]["HostPort"] in ("9000", "9001", "9002")
    assert int(ports["90/tcp"][0]["HostPort"]) >= 1024
    engine.docker("rm", "-f", "range")


def test_a_port_that_is_taken_fails_with_dockers_text_and_leaves_the_container_created(engine):
    engine.docker("run", "-d", "--name", "first", "-p", "8090:80", "busybox", "sleep", "100")
    done = engine.docker("run", "-d", "--name", "second", "-p", "8090:80", "busybox", "sleep", "100", check=False)
    assert done.returncode == 125
    assert "failed to set up container networking: driver failed programming external connectivity on endpoint second (" in done.stderr
    assert "Bind for 0.0.0.0:8090 failed: port is already allocated" in done.stderr
    assert engine.inspect("second")["State"]["Status"] == "created"
    engine.docker("rm", "-f", "first")
    engine.docker("start", "second")
    engine.docker("rm", "-f", "second")
    # A port that a program of the host has.
    holder = engine.namespace.popen("python3", "-c", "import socket,time; s=socket.create_server(('127.0.0.1',8091)); time.sleep(100)")
    try:
        wait_until(lambda: "8091" in engine.namespace.exec("ss", "-ltn").stdout)
        done = engine.docker("run", "-d", "--name", "third", "-p", "8091:80", "busybox", "sleep", "100", check=False)
        assert done.returncode == 125, done
        assert re.search(r"failed to bind host port for 0\.0\.0\.0:8091:172\.17\.0\.\d+:80/tcp: address already in use", done.stderr), done
    finally:
        holder.kill()
        holder.wait()
    engine.docker("rm", "-f", "third")


def test_sctp_on_loopback_is_refused_in_plain_words(engine):
    done = engine.docker("run", "-d", "--name", "sctp", "-p", "127.0.0.1:8092:80/sctp", "busybox", "true", check=False)
    assert done.returncode == 125
    if "SCTP" in pathlib.Path("/proc/net/protocols").read_text():
        assert "failed to bind host port for 127.0.0.1:8092/sctp: SCTP on a loopback address is not implemented" in done.stderr
    else:
        assert "error starting userland proxy: failed to listen on 127.0.0.1:8092: protocol not supported" in done.stderr
    engine.docker("rm", "-f", "sctp")


def test_udp_is_published_too(engine, outside):
    engine.docker("run", "-d", "--name", "udp", "-p", "5353:5000/udp", "busybox", "sleep", "1000")
    serve = "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',5000))\nwhile 1:\n d,a=s.recvfrom(99); s.sendto(b'got '+d,a)"
    inside = f"--net=/proc/{engine.inspect('udp')['State']['Pid']}/ns/net"  # busybox has no server of UDP
    server = subprocess.Popen(["nsenter", inside, "python3", "-c", serve])
    program = (
        "import socket,sys; f=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET; s=socket.socket(f,socket.SOCK_DGRAM);"
        "s.settimeout(1); s.sendto(b'ping\\n',(sys.argv[1],5353)); print(s.recv(99).decode(),end='')"
    )
    for namespace, address in ((engine.namespace, ENGINE), (engine.namespace, "127.0.0.1"), (engine.namespace, "::1"), (outside, ENGINE)):
        wait_until(lambda: namespace.exec("python3", "-c", program, address, check=False).stdout == "got ping\n", 30,
                   what=f"an answer from {address}")  # fmt: skip
    assert engine.inspect("udp")["NetworkSettings"]["Ports"]["5000/udp"][0] == {"HostIp": "0.0.0.0", "HostPort": "5353"}
    server.kill()
    server.wait()
    engine.docker("rm", "-f", "udp")


def test_what_goes_out_bears_the_engines_address(engine, outside):
    listener = outside.popen("python3", "-c", "import socket; s=socket.create_server(('',7000)); c,a=s.accept(); print(a[0])",
                             stdout=-1, text=True)  # fmt: skip
    wait_until(lambda: "7000" in outside.exec("ss", "-ltn").stdout)
    engine.docker("run", "--rm", "busybox", "nc", "-w", "5", OUTSIDE, "7000", input="")
    assert listener.communicate(timeout=20)[0].strip() == ENGINE
    assert engine.namespace.exec("cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip() == "1"


def test_containers_see_each_other_on_the_bridge_and_not_with_icc_off(engine, fresh):
    for subject, reached in ((engine, True), (fresh("--icc=false"), False)):
        httpd(subject, name="server")
        address = subject.inspect("server")["NetworkSettings"]["IPAddress"]
        ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 80"
        done = subject.docker("run", "--rm", "busybox", "sh", "-c", ask, check=False)
        assert done.stdout.endswith("\nhello from gantry\n") is reached, done
        subject.docker("rm", "-f", "server")


def test_forwarding_is_left_alone_when_told_so(fresh):
    engine = fresh("--ip-forward=false", start=False)
    engine.namespace.exec("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
    engine.start()
    engine.load_busybox()
    engine.docker("run", "--rm", "busybox", "true")
    assert engine.namespace.exec("cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip() == "0"


def test_modes_host_none_and_container(engine):
    links = engine.namespace.exec("ls", "/sys/class/net").stdout
    addresses = engine.namespace.exec("ip", "-4", "-o", "addr", "show", "docker0", check=False).stdout
    if addresses:
        assert addresses.split()[3] in engine.out("run", "--rm", "--network", "host", "busybox", "ip", "-4", "-o", "addr")
    assert engine.out("run", "--rm", "--network", "host", "busybox", "hostname") == socket.gethostname()
    assert engine.out("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo"
    assert links
    one = engine.out("run", "-d", "--name", "one", "busybox", "sleep", "100")
    other = engine.out("run", "-d", "--network", "container:one", "busybox", "sleep", "100")
    show = ("ip", "-4", "-o", "addr", "show", "eth0")
    assert engine.out("exec", one, *show) == engine.out("exec", other, *show)
    assert engine.out("exec", other, "hostname") == one[:12]
    seen = engine.inspect(other)
    assert seen["HostConfig"]["NetworkMode"] == f"container:{one}" and seen["NetworkSettings"]["Networks"] == {}
    engine.docker("rm", "-f", one, other)
    refused = engine.docker("run", "--rm", "--network", "container:nosuch", "busybox", check=False)
    assert refused.returncode == 125 and "No such container: nosuch" in refused.stderr


def test_networks_are_listed_and_inspected(engine):
    names = engine.out("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
    assert sorted(names) == ["bridge bridge local", "host host local", "none null local"]
    container = engine.out("run", "-d", "--name", "member", "busybox", "sleep", "100")
    bridge = json.loads(engine.out("network", "inspect", "bridge"))[0]
    settings = engine.inspect("member")["NetworkSettings"]
    assert bridge["IPAM"]["Driver"] == "default" and len(bridge["IPAM"]["Config"]) == 1
    assert settings["Gateway"] == bridge["IPAM"]["Config"][0]["Gateway"]
    assert settings["Networks"]["bridge"]["IPAddress"] == settings["IPAddress"]
    assert settings["Networks"]["bridge"]["NetworkID"] == bridge["Id"] and len(bridge["Id"]) == 64
    assert bridge["Containers"] == {
        container: {
            "Name": "member", "EndpointID": settings["EndpointID"], "MacAddress": settings["MacAddress"],
            "IPv4Address": f"{settings['IPAddress']}/{settings['IPPrefixLen']}", "IPv6Address": "",
        }
    }  # fmt: skip
    for key in ("Created", "Scope", "Driver", "EnableIPv6", "Internal", "Attachable", "Ingress", "ConfigOnly", "Options", "Labels"):
        assert key in bridge
    assert bridge["ConfigFrom"] == {"Network": ""} and bridge["Options"]["com.docker.network.bridge.default_bridge"] == "true"
    assert all(network["Containers"] == {} for network in engine.api("GET", "/networks")[1])
    engine.docker("rm", "-f", "member")
    assert engine.api("GET", "/networks/bridge")[1]["Containers"] == {}
    assert engine.api("GET", "/networks/nosuch") == (404, {"message": "network nosuch not found"})
    assert engine.api("GET", f"/networks/{bridge['Id'][:8]}")[1]["Name"] == "bridge"
    assert engine.out("network", "ls", "-q", "--filter", "driver=null", "--format", "{{.Name}}") == "none"
    assert engine.out("network", "ls", "--filter", "type=custom", "-q") == ""


def test_addresses_are_used_again(engine):
    first = engine.out("run", "--rm", "busybox", "hostname", "-i")
    for _ in range(3):
        assert engine.out("run", "--rm", "busybox", "hostname", "-i").rsplit(".", 1)[0] == first.rsplit(".", 1)[0]
    holders = [engine.out("run", "-d", "busybox", "sleep", "100") for _ in range(3)]
    addresses = {engine.inspect(holder)["NetworkSettings"]["IPAddress"] for holder in holders}
    assert len(addresses) == 3
    engine.docker("rm", "-f", *holders)
    # The kernel takes a namespace's links away in its own time.
    links = lambda: engine.namespace.exec("ip", "-o", "link", "show", "type", "veth").stdout  # noqa: E731
    wait_until(lambda: "master" not in links(), what="the end of the links")
