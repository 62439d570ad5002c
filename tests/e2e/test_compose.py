"""Applications of Docker Compose, unmodified: several networks and volumes, up, scale, stop, down."""

import shutil
import subprocess

import pytest
from harness import run, wait_until

APPLICATION = """
name: shop
services:
  db:
    image: busybox
    command: httpd -f -p 80 -h /data
    stop_grace_period: 0s
    volumes: [data:/data]
    networks: [back]
  web:
    image: busybox
    command: httpd -f -p 80 -h /var/www
    stop_grace_period: 0s
    depends_on: [db]
    networks:
      front: {}
      back:
        aliases: [frontend]
  edge:
    image: busybox
    command: httpd -f -p 80 -h /var/www
    stop_grace_period: 0s
    ports: ["8123:80"]
    networks: [front]
networks:
  front: {}
  back:
    internal: true
    ipam:
      config: [{subnet: 10.71.0.0/24}]
volumes:
  data: {}
"""


def compose_program():
    """`docker-compose`, or the plugin of the CLI; None where there is no Compose of version 2."""
    for argv in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(argv[0]):
            done = subprocess.run([*argv, "version", "--short"], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.lstrip("v").startswith(("2", "5")):
                return argv
    return None


COMPOSE = compose_program()
pytestmark = pytest.mark.skipif(COMPOSE is None, reason="there is no Docker Compose: scripts/docker_compose.sh fetches it")


@pytest.fixture
def shop(engine):
    (engine.root / "compose.yaml").write_text(APPLICATION)

    def compose(*argv):
        return run(*COMPOSE, "-f", engine.root / "compose.yaml", *argv, env=engine.docker_env()).stdout

    yield compose
    compose("down", "-v", "-t", "0")


def names(engine, *argv):
    return sorted(engine.out(*argv).split())


def page(engine, url):
    return engine.namespace.exec("curl", "-sS", "--max-time", "5", url, check=False).stdout


def test_an_application_goes_up_is_scaled_stopped_and_taken_down(engine, shop):
    before = engine.namespace.exec("ip", "-br", "link").stdout, engine.namespace.exec("nft", "-s", "list", "ruleset").stdout
    shop("up", "-d")
    assert names(engine, "network", "ls", "--filter", "type=custom", "--format", "{{.Name}}") == ["shop_back", "shop_front"]
    assert names(engine, "volume", "ls", "-q") == ["shop_data"]
    wait_until(lambda: page(engine, "http://127.0.0.1:8123/") == "hello from gantry\n", what="the published page")
    web = engine.inspect("shop-web-1")["NetworkSettings"]["Networks"]
    assert set(web) == {"shop_back", "shop_front"}
    assert {"web", "frontend", "shop-web-1"} <= set(web["shop_back"]["DNSNames"]) and "frontend" not in web["shop_front"]["DNSNames"]
    assert web["shop_back"]["IPAddress"].startswith("10.71.0.") and web["shop_back"]["Gateway"] == ""
    address = web["shop_back"]["IPAddress"]
    assert shop("exec", "-T", "db", "wget", "-qO-", f"http://{address}/") == "hello from gantry\n"
    # What is on the other network only is out of reach.
    edge = engine.inspect("shop-edge-1")["NetworkSettings"]["Networks"]["shop_front"]["IPAddress"]
    assert engine.docker("exec", "shop-db-1", "ping", "-c", "1", "-W", "1", edge, check=False).returncode != 0
    assert engine.docker("exec", "shop-web-1", "ping", "-c", "1", "-W", "2", edge).returncode == 0
    # Nothing has changed: nothing is made anew.
    ids = names(engine, "ps", "-q")
    shop("up", "-d")
    assert names(engine, "ps", "-q") == ids
    shop("up", "-d", "--scale", "web=3")
    assert names(engine, "ps", "--format", "{{.Names}}") == ["shop-db-1", "shop-edge-1", "shop-web-1", "shop-web-2", "shop-web-3"]
    shop("exec", "-T", "db", "sh", "-c", "echo kept > /data/index.html")
    shop("stop")
    assert names(engine, "ps", "-q") == []
    shop("start")
    assert shop("exec", "-T", "db", "cat", "/data/index.html") == "kept\n"
    assert len(names(engine, "ps", "-q")) == 5
    shop("down")
    assert names(engine, "ps", "-aq") == [] and names(engine, "volume", "ls", "-q") == ["shop_data"]
    shop("up", "-d")
    assert shop("exec", "-T", "db", "cat", "/data/index.html") == "kept\n"
    shop("down", "-v")
    assert names(engine, "volume", "ls", "-q") == []
    assert names(engine, "network", "ls", "--filter", "type=custom", "-q") == []
    after = engine.namespace.exec("nft", "-s", "list", "ruleset").stdout
    assert after == before[1]
    strip = lambda text: sorted(line.split()[0] for line in text.splitlines())  # noqa: E731
    wait_until(lambda: strip(engine.namespace.exec("ip", "-br", "link").stdout) == strip(before[0]), what="the links as before")


def answers(engine, container, name):
    """Addresses of a name as a client in the container is told them."""
    said = engine.docker("exec", container, "nslookup", "-type=a", name, check=False).stdout
    answer = said.split("\n\n", 1)[1] if "\n\n" in said else ""
    return sorted(line.split(": ", 1)[1].strip() for line in answer.splitlines() if line.startswith("Address"))


def addresses(engine, network, *containers):
    return sorted(engine.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"] for name in containers)


def test_services_find_each_other_by_name_and_alias_and_in_turn(engine, shop):
    shop("up", "-d")
    # Each by the name of its service, of its container, and by its alias, on the network where that is one.
    web = addresses(engine, "shop_back", "shop-web-1")
    assert [answers(engine, "shop-db-1", name) for name in ("web", "shop-web-1", "frontend")] == [web] * 3
    assert answers(engine, "shop-web-1", "db") == addresses(engine, "shop_back", "shop-db-1")
    assert answers(engine, "shop-edge-1", "web") == addresses(engine, "shop_front", "shop-web-1")
    assert answers(engine, "shop-edge-1", "frontend") == [] and answers(engine, "shop-edge-1", "db") == []
    assert shop("exec", "-T", "db", "wget", "-qO-", "http://frontend/") == "hello from gantry\n"
    # All that there are, each first in its turn.
    shop("up", "-d", "--scale", "web=3")
    all_webs = addresses(engine, "shop_back", "shop-web-1", "shop-web-2", "shop-web-3")
    assert answers(engine, "shop-db-1", "web") == answers(engine, "shop-db-1", "frontend") == all_webs
    pid = engine.inspect("shop-db-1")["State"]["Pid"]
    dig = ("nsenter", "-t", pid, "-n", "dig", "@127.0.0.11", "+time=3", "+tries=1", "+short", "web")
    firsts = [run(*dig).stdout.split()[0] for _ in range(6)]
    assert sorted(firsts) == sorted(all_webs * 2)
    # Out of the network and in again: known from the next question on, with the names asked for then.
    engine.docker("network", "disconnect", "shop_back", "shop-web-2")
    assert answers(engine, "shop-db-1", "web") == addresses(engine, "shop_back", "shop-web-1", "shop-web-3")
    assert answers(engine, "shop-web-2", "db") == []
    engine.docker("network", "connect", "--alias", "web", "--alias", "second", "shop_back", "shop-web-2")
    assert answers(engine, "shop-db-1", "web") == addresses(engine, "shop_back", "shop-web-1", "shop-web-2", "shop-web-3")
    assert answers(engine, "shop-db-1", "second") == addresses(engine, "shop_back", "shop-web-2")
    assert answers(engine, "shop-web-2", "db") == addresses(engine, "shop_back", "shop-db-1")
    shop("up", "-d", "--scale", "web=1")
    assert answers(engine, "shop-db-1", "web") == web
