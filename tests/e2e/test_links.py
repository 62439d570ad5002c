"""`--link`: lines of /etc/hosts and variables on the default bridge, aliases on a network of one's own."""

import pytest


@pytest.fixture
def db(engine):
    """A target on the default bridge; whatever else a test makes is taken away too."""
    before = set(engine.out("ps", "-aq", "--no-trunc").split())
    engine.docker(
        "run", "-d", "--name", "db", "-h", "dbhost", "-e", "FOO=bar", "--expose", "5432", "--expose", "5433/udp", "busybox", "sleep", "1000"
    )
    yield "db"
    for container in set(engine.out("ps", "-aq", "--no-trunc").split()) - before:
        engine.docker("rm", "-f", container, check=False)


def address(engine, container, net="bridge"):
    return engine.inspect(container)["NetworkSettings"]["Networks"][net]["IPAddress"]


def test_a_link_is_a_line_of_hosts_and_variables(engine, db):
    at = address(engine, db)
    web = engine.out("run", "-d", "--name", "web", "--link", "db:data-base", "--link", "db", "busybox", "sleep", "1000")
    hosts = engine.out("exec", web, "cat", "/etc/hosts").splitlines()
    assert f"{at}\tdata-base dbhost db" in hosts and f"{at}\tdb dbhost" in hosts
    for argv in (("exec", web, "env"), ("exec", web, "cat", "/proc/1/environ")):
        env = engine.out(*argv).replace("\0", "\n").splitlines()
        for line in (
            f"DATA_BASE_PORT=tcp://{at}:5432", f"DATA_BASE_PORT_5432_TCP=tcp://{at}:5432", f"DATA_BASE_PORT_5432_TCP_ADDR={at}",
            "DATA_BASE_PORT_5432_TCP_PORT=5432", "DATA_BASE_PORT_5433_UDP_PROTO=udp", "DATA_BASE_NAME=/web/data-base",
            "DATA_BASE_ENV_FOO=bar", "DB_NAME=/web/db",
        ):  # fmt: skip
            assert line in env, (line, env)
    assert engine.inspect(web)["HostConfig"]["Links"] == ["/db:/web/data-base", "/db:/web/db"]
    assert engine.inspect("/web/data-base")["Name"] == "/db"
    assert engine.out("exec", web, "ping", "-c1", "-W5", "data-base").startswith(f"PING data-base ({at})")


def test_a_linked_container_that_starts_anew_is_found_at_its_new_address(engine, db):
    engine.docker("run", "-d", "--name", "web", "--link", "db:database", "busybox", "sleep", "1000")
    before = address(engine, db)
    engine.docker("stop", "-t", "0", db)
    # Somebody else takes the address.
    engine.docker("network", "inspect", "bridge")
    others = []
    while before not in others:
        container = engine.out("run", "-d", "busybox", "sleep", "1000")
        others.append(address(engine, container))
        assert len(others) < 5
        if len(others) == 4:
            break
    engine.docker("start", db)
    after = address(engine, db)
    assert f"{after}\tdatabase dbhost db" in engine.out("exec", "web", "cat", "/etc/hosts").splitlines()
    engine.docker("rename", db, "db2")
    assert engine.inspect("web")["HostConfig"]["Links"] == ["/db2:/web/database"]
    engine.docker("restart", "-t", "0", "web")
    assert f"{after}\tdatabase dbhost db2" in engine.out("exec", "web", "cat", "/etc/hosts").splitlines()


def test_a_link_can_be_taken_away(engine, db):
    engine.docker("run", "-d", "--name", "web", "--link", "db:database", "busybox", "sleep", "1000")
    assert engine.out("rm", "--link", "/web/database") == "/web/database"
    assert engine.inspect("web")["HostConfig"]["Links"] is None
    assert "database" not in engine.out("exec", "web", "cat", "/etc/hosts")
    assert engine.inspect(db)["State"]["Running"]
    said = engine.docker("rm", "--link", "web", check=False).stderr
    assert "Conflict, cannot remove the default link name of the container" in said
    assert "No such container: nope/x" in engine.docker("rm", "--link", "/nope/x", check=False).stderr


def test_links_are_refused_in_dockerds_words(engine, db):
    def refused(*argv):
        done = engine.docker("run", "--rm", *argv, "busybox", "true", check=False)
        assert done.returncode == 125, done
        return done.stderr

    engine.docker("create", "--name", "stopped", "busybox", "true")
    assert "could not get container for nope: No such container: nope" in refused("--link", "nope:x")
    assert "Cannot link to a non running container: /stopped AS /linking/x" in refused("--name", "linking", "--link", "stopped:x")
    assert "host type networking can't be used with links" in refused("--network", "host", "--link", "db:x")
    assert "container type network can't be used with links" in refused("--network", "container:db", "--link", "db:x")
    engine.docker("network", "create", "apart")
    other = engine.out("run", "-d", "--name", "apart", "--network", "apart", "busybox", "sleep", "1000")
    assert f"container {other} not attached to default bridge network" in refused("--link", "apart:x")
    engine.docker("rm", "-f", other)
    engine.docker("network", "rm", "apart")


def test_on_a_network_of_ones_own_a_link_is_an_alias_that_one_container_sees(engine, db):
    engine.docker("network", "create", "linked")
    c1 = engine.out("run", "-d", "--name", "c1", "--network", "linked", "busybox", "sleep", "1000")
    c2 = engine.out("run", "-d", "--name", "c2", "--network", "linked", "--link", "c1:lnk", "busybox", "sleep", "1000")
    at = address(engine, c1, "linked")
    for name in ("lnk", "lnk.linked"):
        assert engine.out("exec", c2, "ping", "-c1", "-W5", name).startswith(f"PING {name} ({at})")
    assert engine.docker("exec", c1, "nslookup", "lnk.linked", check=False).returncode != 0
    assert engine.inspect(c2)["NetworkSettings"]["Networks"]["linked"]["Links"] == ["c1:lnk"]
    assert engine.inspect(c2)["HostConfig"]["Links"] is None
    assert "LNK_" not in engine.out("exec", c2, "env")
    engine.docker("rm", "-f", c1, c2)
    engine.docker("network", "rm", "linked")
