"""`apt-get install` in a Debian, from a repository that a namespace playing the outside serves."""

import hashlib
import subprocess
import sys

import pytest
from harness import Namespace, run, wait_until


@pytest.fixture
def outside(fresh):
    """An engine, and beside it the outside: the engine's namespace has its default route there."""
    engine = fresh()
    engine.import_debian()
    namespace = Namespace(f"go-{engine.number}")
    try:
        namespace.connect(engine.namespace, "203.0.113.2/24", "203.0.113.1/24")
        yield engine, namespace
    finally:
        namespace.delete()


def repository(folder):
    """A flat repository with one package, `gantry-hello`."""
    tree = folder / "hello"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: gantry-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: says hello\n Says it once.\n"
    )
    script = tree / "usr/bin/gantry-hello"
    script.write_text("#!/bin/sh\necho hello from a package\n")
    script.chmod(0o755)
    repo = folder / "repo"
    repo.mkdir()
    package = repo / "gantry-hello_1.0_all.deb"
    run("dpkg-deb", "--root-owner-group", "--build", tree, package)
    data = package.read_bytes()
    (repo / "Packages").write_text(
        (tree / "DEBIAN/control").read_text()
        + f"Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    )
    return repo


def test_a_package_is_installed_from_the_outside(outside, tmp_path):
    engine, namespace = outside
    repo = repository(tmp_path)
    server = namespace.popen(
        sys.executable, "-m", "http.server", "8000", "--bind", "203.0.113.2", "--directory", repo,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: "203.0.113.2:8000" in namespace.exec("ss", "-ltn").stdout, what="the server")
        script = (
            "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* &&"
            "echo 'deb [trusted=yes] http://203.0.113.2:8000 ./' > /etc/apt/sources.list &&"
            "apt-get update && apt-get install -y gantry-hello && gantry-hello"
        )
        done = engine.docker("run", "--rm", "debian:test", "sh", "-ec", script, check=False, timeout=240)
        assert done.returncode == 0 and done.stdout.endswith("hello from a package\n"), done.stdout + done.stderr
    finally:
        server.kill()
        server.wait()
