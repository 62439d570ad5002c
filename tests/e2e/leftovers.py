"""Everything an engine has made on the host and in containerd, for tests that say that nothing is left unclaimed."""

import pathlib
import subprocess

from harness import run


def ctr(engine, *argv):
    # By its path in gantryd's own layout: the engine's containerd, never the host's.
    socket = engine.exec_root / "containerd" / "containerd.sock"
    done = subprocess.run(["ctr", "-a", socket, "-n", "gantry", *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def names(folder):
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def snapshots(engine):
    found = []
    for line in ctr(engine, "snapshots", "ls")[1:]:
        words = line.split()
        # The parent is empty for a bottom layer.
        found.append((words[0], words[-1]))
    return found


def inventory(engine):
    """By kind, what is there; the ids are those of containers wherever one is claimed."""
    links = engine.namespace.exec("ip", "-o", "link").stdout.splitlines()
    return {
        "containers": ctr(engine, "containers", "ls", "-q"),
        "tasks": ctr(engine, "tasks", "ls", "-q"),
        "active snapshots": sorted(key for key, kind in snapshots(engine) if kind != "Committed"),
        "leases": sorted(ctr(engine, "leases", "ls", "-q")),
        "namespaces": names(engine.exec_root / "netns"),
        "streams": names(engine.exec_root / "stdio"),
        "execs": names(engine.exec_root / "execs"),
        "exec streams": names(engine.exec_root / "exec"),
        "folders": names(engine.data / "containers"),
        "mounts": sorted(engine.mounts()),
        "links": sorted(line.split(":")[1].split("@")[0].strip() for line in links),
        "rules": rules(engine),
        "bundles": names(engine.exec_root / "containerd" / "state" / "io.containerd.runtime.v2.task" / "gantry"),
        "volumes": names(engine.data / "volumes"),
        "listeners": listeners(engine),
        "shims": shims(engine),
    }


def rules(engine):
    """The firewall's elements and rules without their counters."""
    return engine.namespace.exec("nft", "-s", "list", "ruleset").stdout.splitlines()


def listeners(engine):
    return sorted({line.split()[3] for line in engine.namespace.exec("ss", "-Hlntu").stdout.splitlines() if line})


def shims(engine):
    found = []
    for pid in engine.processes():
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "containerd-shim" in words[0] and "-id" in words:
            found.append(words[words.index("-id") + 1])
    return sorted(found)


def difference(before, after):
    """What is there and was not, and the other way round, by kind."""
    changed = {}
    for kind in before:
        more = [item for item in after[kind] if item not in before[kind]]
        less = [item for item in before[kind] if item not in after[kind]]
        if more or less:
            changed[kind] = {"more": more, "less": less}
    return changed
