"""The host's own end and its next boot: everything of the kernel is gone, the data root is there."""

import json
import shutil
import time

import pytest
from harness import run, wait_until
from storage import end_processes


def end_host(engine):
    """What a reset leaves: no process, mount, link, rule, namespace; an empty exec root; files as they were."""
    end_processes(engine)
    engine.unmount()
    for link in json.loads(engine.namespace.exec("ip", "-j", "link").stdout):
        if link["ifname"] not in ("lo", "tunl0", "sit0", "ip6tnl0"):
            engine.namespace.exec("ip", "link", "del", link["ifname"], check=False)
    engine.namespace.exec("nft", "flush", "ruleset")
    shutil.rmtree(engine.exec_root, ignore_errors=True)
    # No run of this boot is known to the next one.
    wait_until(lambda: not engine.processes(), 5, "the end of all processes")


def state(engine, name):
    return engine.inspect(name)["State"]


@pytest.fixture
def ended(fresh):
    """An engine with a container of each policy, the host ended and booted again."""
    engine = fresh()
    docker = engine.docker
    docker("network", "create", "--subnet", "10.99.0.0/24", "net")
    docker("volume", "create", "data")
    run_ = ("run", "-d", "-v", "data:/data", "--network", "net", "busybox", "sh", "-c")
    for policy in ("always", "unless-stopped", "on-failure", "no"):
        docker(*run_[:2], "--name", policy, "--restart", policy, *run_[2:], f"echo {policy} >> /data/runs; exec sleep 1000")
    for policy in ("always", "unless-stopped"):
        name = f"{policy}-stopped"
        docker("run", "-d", "--name", name, "--restart", policy, "busybox", "sleep", "1000")
        docker("stop", "-t", "0", name)
    docker("run", "-d", "--name", "web", "--restart", "always", "-p", "8080:80", "--network", "net", "--ip", "10.99.0.77",
           "busybox", "sh", "-c", "echo page > /index.html; httpd -f -h /")  # fmt: skip
    docker("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000")
    docker("run", "-d", "--name", "logged", "--restart", "unless-stopped", "--log-driver", "syslog", "--log-opt",
           "syslog-address=udp://127.0.0.1:9", "busybox", "sh", "-c", "echo a line; sleep 1000")  # fmt: skip
    # They need another container to be up for their own start.
    needs = ("--restart", "unless-stopped", "busybox", "sleep", "1000")
    docker("run", "-d", "--name", "donor", "--restart", "unless-stopped", "busybox", "sleep", "1000")
    docker("run", "-d", "--name", "guest", "--network", "container:donor", *needs)
    docker("run", "-d", "--name", "second-guest", "--pid", "container:donor", *needs)
    docker("run", "-d", "--name", "linking", "--link", "donor:db", *needs)
    engine.before = {name: engine.inspect(name) for name in ("always", "web", "no")}
    end_host(engine)
    time.sleep(1)
    engine.start()
    return engine


def test_policies_are_kept_across_the_end_of_the_host(ended):
    engine = ended
    for name in ("always", "unless-stopped", "web", "logged", "always-stopped", "donor", "guest", "second-guest", "linking"):
        wait_until(lambda name=name: state(engine, name)["Running"], 20, f"{name} runs again")
    # Stopped by hand, it stays so; dockerd starts one of `always` again.
    assert state(engine, "unless-stopped-stopped")["Status"] == "exited"
    assert state(engine, "no")["Status"] == "exited" and state(engine, "no")["ExitCode"] == 255
    # Nobody saw it end: that is a failure, and on-failure tries again.
    wait_until(lambda: state(engine, "on-failure")["Running"], 20, "on-failure runs again")
    assert engine.docker("container", "inspect", "brief", check=False).returncode != 0
    done = engine.docker("exec", "always", "cat", "/data/runs").stdout.split()
    assert sorted(done) == sorted(["always", "unless-stopped", "on-failure", "no", "always", "unless-stopped", "on-failure"])
    # Who was given an address and a port has them again; the default bridge and the rules are there.
    about = engine.inspect("web")
    assert about["NetworkSettings"]["Networks"]["net"]["IPAddress"] == "10.99.0.77"
    page = engine.namespace.exec("curl", "-s", "--retry", "20", "--retry-connrefused", "http://127.0.0.1:8080/")
    assert page.stdout == "page\n"
    assert engine.docker("exec", "always", "ping", "-c", "1", "-W", "2", "web").returncode == 0
    assert engine.docker("logs", "logged").stdout == "a line\na line\n"
    assert about["Id"] == engine.before["web"]["Id"]
    for name in ("always", "unless-stopped", "on-failure", "web", "logged"):
        engine.docker("restart", "-t", "0", name)
    names = engine.out("ps", "-aq").split()
    engine.docker("rm", "-f", *names)
    engine.docker("network", "rm", "net")
    engine.docker("volume", "rm", "data")
    wait_until(lambda: run("ip", "-n", engine.namespace.name, "-j", "link", "show", "type", "veth").stdout.strip() in ("", "[]"),
               10, "no link is left")  # fmt: skip
