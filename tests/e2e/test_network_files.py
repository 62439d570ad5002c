"""/etc/hosts, /etc/hostname and /etc/resolv.conf, as dockerd makes them."""

import subprocess

from harness import wait_until


def test_hosts_and_hostname_name_the_container(engine):
    container = engine.out("run", "-d", "--add-host", "db:10.1.2.3", "--add-host", "me:host-gateway", "busybox", "sleep", "100")
    address = engine.inspect(container)["NetworkSettings"]["IPAddress"]
    gateway = engine.inspect(container)["NetworkSettings"]["Gateway"]
    hosts = engine.out("exec", container, "cat", "/etc/hosts").splitlines()
    assert hosts[0] == "127.0.0.1\tlocalhost" and "::1\tlocalhost ip6-localhost ip6-loopback" in hosts
    assert "10.1.2.3\tdb" in hosts and f"{gateway}\tme" in hosts and f"{address}\t{container[:12]}" in hosts
    assert engine.out("exec", container, "cat", "/etc/hostname") == container[:12]
    assert engine.out("exec", container, "ls", "-l", "/etc/hosts").startswith("-rw-r--r--")
    inspect = engine.inspect(container)
    assert open(inspect["HostsPath"]).read().splitlines() == hosts
    engine.docker("rm", "-f", container)
    named = engine.docker("run", "--rm", "-h", "box.example.org", "busybox", "sh", "-c", "hostname; cat /etc/hostname /etc/hosts").stdout
    assert named.splitlines()[:2] == ["box.example.org", "box.example.org"]
    assert named.rstrip().endswith("\tbox.example.org box")


def test_a_container_may_write_its_own_files(engine):
    engine.docker("run", "--name", "own", "busybox", "sh", "-c", "echo 1.2.3.4 x >> /etc/hosts; echo '# mine' >> /etc/resolv.conf")
    assert "1.2.3.4 x" in open(engine.inspect("own")["HostsPath"]).read()
    engine.docker("rm", "own")


def with_resolv(fresh, text, tmp_path, *flags, upstream=None):
    """An engine whose /etc/resolv.conf has this text, in a mount namespace of its own."""
    engine = fresh(*flags, start=False)
    file = tmp_path / "resolv.conf"
    file.write_text(text)
    argv = engine.argv()
    script = f"mount --bind {file} $(readlink -f /etc/resolv.conf)"
    if upstream is not None:
        other = tmp_path / "upstream.conf"
        other.write_text(upstream)
        script += f" && mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mkdir /run/systemd/resolve && cp {other} /run/systemd/resolve/resolv.conf"
    engine.config.write_text("{}")
    log = open(engine.log, "ab")
    engine.process = engine.namespace.popen(
        "unshare", "--mount", "--propagation", "slave", "sh", "-c", f'{script} && exec "$0" "$@"', *argv,
        stdout=log, stderr=log, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    engine.wait_ready()
    return engine.load_busybox()


def resolv(engine, *argv):
    text = engine.docker("run", "--rm", *argv, "busybox", "cat", "/etc/resolv.conf").stdout
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")], text


def test_the_hosts_resolvers_search_options_and_comments_are_kept(fresh, tmp_path):
    host = "# a comment of the host\nnameserver 192.0.2.53\nnameserver 127.0.0.1\nsearch a.example b.example\noptions ndots:3 rotate\n"
    engine = with_resolv(fresh, host, tmp_path)
    lines, text = resolv(engine)
    assert sorted(lines) == ["nameserver 192.0.2.53", "options ndots:3 rotate", "search a.example b.example"]
    assert "# a comment of the host" in text
    lines, _ = resolv(engine, "--dns", "192.0.2.1", "--dns", "192.0.2.2")
    assert lines[:2] == ["nameserver 192.0.2.1", "nameserver 192.0.2.2"] or lines[-2:] == ["nameserver 192.0.2.1", "nameserver 192.0.2.2"]
    assert "search a.example b.example" in lines and "options ndots:3 rotate" in lines
    lines, _ = resolv(engine, "--dns-search", "c.example", "--dns-opt", "timeout:1")
    assert "search c.example" in lines and "options timeout:1" in lines and "nameserver 192.0.2.53" in lines
    lines, _ = resolv(engine, "--dns-search", ".")
    assert not [line for line in lines if line.startswith("search")]
    # The host's own file where the container shares its network.
    text = engine.docker("run", "--rm", "--network", "host", "busybox", "cat", "/etc/resolv.conf").stdout
    assert "nameserver 127.0.0.1" in text and "nameserver 192.0.2.53" in text


def test_where_the_host_names_only_a_loopback_resolver_its_upstreams_are_used(fresh, tmp_path):
    stub = "nameserver 127.0.0.53\noptions edns0\nsearch x.example\n"
    engine = with_resolv(fresh, stub, tmp_path, upstream="nameserver 192.0.2.99\nsearch x.example\n")
    lines, _ = resolv(engine)
    assert "nameserver 192.0.2.99" in lines and not [line for line in lines if "127.0.0" in line]


def test_no_loopback_resolver_reaches_a_container_when_nothing_else_is_there(fresh, tmp_path):
    engine = with_resolv(fresh, "nameserver 127.0.0.1\nnameserver ::1\n", tmp_path)
    lines, _ = resolv(engine)
    assert not [line for line in lines if line in ("nameserver 127.0.0.1", "nameserver ::1", "nameserver 127.0.0.53")]
    assert [line for line in lines if line.startswith("nameserver")], lines


def test_the_daemons_dns_flags_hold_for_every_container(fresh):
    engine = fresh("--dns", "192.0.2.7", "--dns-search", "d.example", "--dns-opt", "attempts:2")
    lines, _ = resolv(engine)
    assert sorted(lines) == ["nameserver 192.0.2.7", "options attempts:2", "search d.example"]
    lines, _ = resolv(engine, "--dns", "192.0.2.8")
    assert "nameserver 192.0.2.8" in lines and "nameserver 192.0.2.7" not in lines


def test_two_hosts_files_of_a_restarted_container_do_not_grow(engine):
    container = engine.out("run", "-d", "busybox", "sleep", "100")
    before = engine.out("exec", container, "cat", "/etc/hosts")
    engine.docker("restart", "-t", "0", container)
    wait_until(lambda: engine.inspect(container)["State"]["Running"])
    after = engine.out("exec", container, "cat", "/etc/hosts")
    assert len(after.splitlines()) == len(before.splitlines())
    engine.docker("rm", "-f", container)
