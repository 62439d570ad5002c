"""Applications of Docker Compose, unmodified: several networks and volumes, what waits for what, up, logs, exec, scale, restart, down."""

import os
import shutil
import signal
import subprocess
import threading

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


CHAIN = """
name: chain
services:
  db:
    image: busybox
    command: sh -c "while [ ! -e /t/go ]; do sleep 0.05; done; touch /ready; exec sleep 1000"
    stop_grace_period: 0s
    volumes: [./shared:/t]
    healthcheck: {test: ["CMD", "test", "-e", "/ready"], interval: 200ms, retries: 1000}
  seed:
    image: busybox
    command: sh -c "while [ ! -e /t/go ]; do sleep 0.05; done; exit $CODE"
    volumes: [./shared:/t]
  web:
    image: busybox
    command: sh -c "n=0; while :; do n=$$((n+1)); echo tick $$n of $$(hostname); sleep 0.1; done"
    stop_grace_period: 0s
    depends_on:
      db: {condition: service_healthy, restart: true}
      seed: {condition: service_completed_successfully}
  edge:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    depends_on: [web]
"""


@pytest.fixture
def chain(engine):
    folder = engine.root / "chain"
    (folder / "shared").mkdir(parents=True)
    (folder / "compose.yaml").write_text(CHAIN)

    def compose(*argv, start=subprocess.run, code=0, **more):
        env = {**engine.docker_env(), "CODE": str(code)}
        return start([*COMPOSE, "-f", str(folder / "compose.yaml"), *argv], env=env, text=True, **more)

    compose.go = folder / "shared" / "go"
    yield compose
    compose("down", "-v", "-t", "0", check=True, capture_output=True)
    shutil.rmtree(folder)


def status(engine, service):
    done = engine.docker("inspect", "-f", "{{.State.Status}}", f"chain-{service}-1", check=False)
    return done.stdout.strip() or "none"


class Lines:
    """What a client prints, read as it comes."""

    def __init__(self, process):
        self.process, self.seen = process, []
        self.thread = threading.Thread(target=lambda: self.seen.extend(process.stdout))
        self.thread.start()

    def end(self):
        self.process.terminate()
        self.process.wait(20)
        self.thread.join(20)


def test_services_wait_for_health_and_completion_and_are_followed_executed_in_restarted_and_taken_down(engine, chain):
    up = chain("up", "-d", start=subprocess.Popen, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: status(engine, "db") == status(engine, "seed") == "running", 60, "what waits for nothing")
    assert engine.inspect("chain-db-1")["State"]["Health"]["Status"] == "starting"
    assert (status(engine, "web"), status(engine, "edge")) == ("created", "created") and up.poll() is None
    chain.go.touch()
    _, said = up.communicate(timeout=60)
    assert up.returncode == 0, said
    state = {name: engine.inspect(f"chain-{name}-1")["State"] for name in ("db", "seed", "web", "edge")}
    assert state["db"]["Health"]["Status"] == "healthy" and state["seed"]["ExitCode"] == 0
    assert state["db"]["Health"]["Log"][0]["End"] < state["web"]["StartedAt"] < state["edge"]["StartedAt"]
    assert state["seed"]["FinishedAt"] < state["web"]["StartedAt"]

    # Followed: what was, what comes, and what comes after a restart.
    logs = Lines(chain("logs", "-f", "--no-color", "--tail", "all", start=subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    try:
        hostname = engine.inspect("chain-web-1")["Config"]["Hostname"]
        line = f"tick {{}} of {hostname}\n"
        wait_until(lambda: sum(line.format(9) in text for text in logs.seen) == 1, 20, "the ninth line")
        before = len(logs.seen)
        wait_until(lambda: len(logs.seen) > before + 3, 20, "more lines")
        assert all("web-1 " in text for text in logs.seen if "tick" in text), logs.seen

        done = chain("exec", "-T", "-e", "WORD=given", "web", "sh", "-c", "cat; echo $WORD; exit 7", input="piped\n", capture_output=True)
        assert (done.returncode, done.stdout) == (7, "piped\ngiven\n")
        done = chain("exec", "-T", "web", "nslookup", "-type=a", "db", capture_output=True)
        assert engine.inspect("chain-db-1")["NetworkSettings"]["Networks"]["chain_default"]["IPAddress"] in done.stdout

        chain("restart", "-t", "0", "db", check=True, capture_output=True)
        again = {name: engine.inspect(f"chain-{name}-1") for name in ("db", "web", "edge")}
        # Who asked to be restarted with it is, with the same container; nobody else.
        for name, restarted in (("db", True), ("web", True), ("edge", False)):
            assert (again[name]["State"]["StartedAt"] > state[name]["StartedAt"]) is restarted, name
            assert again[name]["State"]["Running"]
        # From the moment of the start's event on, which the first lines may precede.
        wait_until(lambda: sum(line.format(9) in text for text in logs.seen) == 2, 20, "a line of the next run")
    finally:
        logs.end()
    listed = chain("ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}}", check=True, capture_output=True).stdout.split("\n")
    assert sorted(filter(None, listed))[0].startswith("db running") and "seed exited " in listed
    chain("down", "-t", "0", check=True, capture_output=True)
    assert names(engine, "ps", "-aq") == [] and "chain_default" not in names(engine, "network", "ls", "--format", "{{.Name}}")


def test_a_dependency_that_fails_keeps_its_dependents_down(engine, chain):
    chain.go.touch()
    done = chain("up", "-d", code=3, capture_output=True)
    assert done.returncode != 0 and 'service "seed" didn\'t complete successfully: exit 3' in done.stderr, done.stderr
    assert status(engine, "web") == "created"


def test_up_in_the_foreground_prints_all_and_its_interrupt_stops_all(engine, shop):
    shop("create")
    argv = [*COMPOSE, "-f", str(engine.root / "compose.yaml"), "up", "--no-color"]
    up = Lines(subprocess.Popen(argv, env=engine.docker_env(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0))
    try:
        wait_until(lambda: len(names(engine, "ps", "-q")) == 3, 60, "three containers that run")
        engine.docker("exec", "shop-web-1", "sh", "-c", "echo a line > /proc/1/fd/1")
        wait_until(lambda: any("web-1 " in text and "a line" in text for text in up.seen), 20, lambda: f"the line: {up.seen[-5:]}")
        os.killpg(up.process.pid, signal.SIGINT)
        # 2 is Compose 2.26's own panic after everything is stopped (docker/compose#11710).
        assert up.process.wait(60) in (0, 2, 130)
    finally:
        up.end()
    assert names(engine, "ps", "-q") == [] and len(names(engine, "ps", "-aq")) == 3
