"""Disks of a test's own for an engine's data root: an ext4 in a file, of which a power cut leaves a copy; a small one that fills."""

import json
import os
import signal

from harness import run


class Disk:
    """An ext4 in a sparse file, mounted at `place`.

    The loop device writes past the page cache, so the file holds what was written to the disk and nothing more. The file
    system's own timer (`commit=600`) and its help for programs that do not sync (`noauto_da_alloc`) are off: what is in a
    copy of the file is there because somebody asked for it.
    """

    OPTIONS = "commit=600,noauto_da_alloc,discard"

    def __init__(self, file, place, size="400M"):
        self.file, self.place = file, place
        place.mkdir(parents=True, exist_ok=True)
        run("truncate", "-s", size, file)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", file)
        self.mount()

    def mount(self):
        self.attach(self.file)

    def attach(self, file):
        """Mounts any such file at our place; after a power cut the journal is replayed here."""
        device = run("losetup", "-f", "--show", "--direct-io=on", file).stdout.strip()
        try:
            run("mount", "-o", self.OPTIONS, device, self.place)
        finally:
            run("losetup", "-d", device)  # goes with the mount

    def unmount(self):
        run("umount", "-l", self.place, check=False)

    def cut(self, copy, frozen=()):
        """What the disk would hold if the power went now. `frozen` processes stand still for the moment."""
        stopped = []
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
            run("cp", "--sparse=always", self.file, copy)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        return copy


def end_processes(engine):
    """Ends gantryd, its companions, shims and containerd, as a power cut does; their files stay."""
    if engine.process and engine.process.poll() is None:
        engine.process.kill()
        engine.process.wait()
    for _ in range(100):
        pids = engine.processes()
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.sched_yield()
        run("sleep", "0.02")
    raise AssertionError(f"processes that do not end: {pids}")


def ctr(engine, *argv):
    """Lines of containerd's own client, in our namespace."""
    socket = engine.exec_root / "containerd" / "containerd.sock"
    return run("ctr", "-a", socket, "-n", "gantry", *argv).stdout.split("\n")


def leftovers(engine):
    """What containerd and the data root hold that no record stands for; empty is right."""
    wrong = []
    containers = {c["Id"] for c in engine.api("GET", "/containers/json?all=1")[1]}
    objects = {line for line in ctr(engine, "containers", "ls", "-q") if line}
    if objects != containers:
        wrong.append(f"container objects {objects ^ containers}")
    active = {line.split()[0] for line in ctr(engine, "snapshots", "ls")[1:] if line.split()[-1:] == ["Active"]}
    if active != containers:
        wrong.append(f"snapshots {active ^ containers}")
    tasks = {line.split()[0] for line in ctr(engine, "tasks", "ls")[1:] if line.strip()}
    running = {c["Id"] for c in engine.api("GET", "/containers/json")[1]}
    if tasks != running:
        wrong.append(f"tasks {tasks ^ running}")
    leases = [line for line in ctr(engine, "leases", "ls", "-q") if line]
    if leases:
        wrong.append(f"leases {leases}")
    ingests = [line for line in ctr(engine, "content", "active")[1:] if line.strip()]
    if ingests:
        wrong.append(f"ingests {ingests}")
    folders = {entry.name for entry in (engine.data / "containers").glob("*")}
    if folders - containers:
        wrong.append(f"folders {folders - containers}")
    volumes = {v["Name"] for v in engine.api("GET", "/volumes")[1]["Volumes"] or []}
    kept = {entry.name for entry in (engine.data / "volumes").glob("*") if entry.is_dir()}
    if kept != volumes:
        wrong.append(f"volume folders {kept ^ volumes}")
    return wrong


def image_leftovers(engine):
    """Blobs and committed snapshots, when no image should be left."""
    blobs = [line for line in ctr(engine, "content", "ls", "-q") if line]
    snapshots = [line for line in ctr(engine, "snapshots", "ls")[1:] if line.strip()]
    return blobs + snapshots


def warnings(engine):
    return engine.api("GET", "/info")[1].get("Warnings") or []


def dump(value):
    return json.dumps(value, indent=1)[:2000]
