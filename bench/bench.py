#!/usr/bin/env python3
"""Times the same work on gantryd and, where another engine is named, on that one in turn.

    make bench                                   a gantryd of its own, in a network namespace of its own
    make bench DOCKERD=/usr/sbin/dockerd         and a dockerd beside it, likewise
    bench/bench.py --against docker=/run/x.sock  and an engine that runs already

Rounds alternate between the engines, so that a busy machine hurts them alike; the median is printed, and the ratio
OTHER / gantryd: above 1, gantryd is the faster. The first round only warms up. Needs root, a release build in
$GANTRY_BIN, and containerd and runc on the path. Standard library only.
"""

import argparse
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("GANTRY_BIN", str(HERE.parent / "target" / "release"))
os.environ.setdefault("GANTRY_TEST_CACHE", str(HERE.parent / "target" / "e2e-cache"))
sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))

import harness  # noqa: E402

import cases  # noqa: E402
import files  # noqa: E402
from client import Client  # noqa: E402


def main():
    arguments = parse()
    # An end from outside cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Gantryd() as gantryd:
        engines = [Client("gantryd", gantryd.socket, gantryd.engine.namespace)]
        with Dockerd(arguments.dockerd) as dockerd:
            if dockerd:
                engines.append(Client("dockerd", dockerd.socket, dockerd.namespace))
            engines += [Client(*pair.split("=", 1)) for pair in arguments.against]
            for engine in engines:
                engine.raw("POST", "/images/load?quiet=1", harness.busybox_archive().read_bytes())
            idle = memory(gantryd, dockerd)
            try:
                for engine in engines:
                    engine.settle_in(arguments.fleet)
                table(engines, arguments)
                print_memory(idle, memory(gantryd, dockerd))
            finally:
                for engine in engines:
                    engine.move_out()
                files.forget_files()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 7))
    parser.add_argument("--only", help="cases, by comma", default=os.environ.get("ONLY", ""))
    fleet = int(os.environ.get("FLEET") or 100)
    parser.add_argument("--fleet", type=int, default=fleet, help="created containers that are there to be listed; or $FLEET")
    parser.add_argument("--against", action="append", default=[], metavar="NAME=SOCKET")
    parser.add_argument("--dockerd", default=os.environ.get("DOCKERD", ""), metavar="PATH", help="a dockerd to start")
    return parser.parse_args()


# -- the table -----------------------------------------------------------------------------------------------------


def table(engines, arguments):
    wanted = set(filter(None, arguments.only.split(",")))
    wanted |= {cases.NEEDS[name] for name in wanted if name in cases.NEEDS}
    unknown = wanted - set(cases.CASES)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are: {', '.join(cases.CASES)}")
    others = engines[1:]
    head = "".join(f"{engine.name + ' ms':>14}" for engine in engines)
    print(f"{'case':26}{head}" + "".join(f"{engine.name + '/gantryd':>18}" for engine in others))
    for name, case in cases.CASES.items():
        if wanted and name not in wanted:
            continue
        medians, failures = measure(case, engines, arguments.rounds)
        row = "".join(f"{medians[engine.name] * 1000:14.1f}" for engine in engines)
        ratios = "".join(f"{medians[engine.name] / medians[engines[0].name]:18.2f}" for engine in others)
        print(f"{name:26}{row}{ratios}", flush=True)
        for failed, why in failures.items():
            print(f"    {failed} failed: {why}", flush=True)


def measure(case, engines, rounds):
    """Medians by name. An engine that failed once is out of this case."""
    times, failures = {engine.name: [] for engine in engines}, {}
    for number in range(rounds + 1):
        for engine in engines if number % 2 == 0 else reversed(engines):
            if engine.name in failures:
                continue
            try:
                seconds = case(engine)
            except Exception as error:  # whatever it is, the other engine's figure is still wanted
                failures[engine.name] = str(error)[:200]
                continue
            if number > 0:
                times[engine.name].append(seconds)
    return {name: statistics.median(some) if some else float("nan") for name, some in times.items()}, failures


# -- memory --------------------------------------------------------------------------------------------------------

PARTS = ("gantryd", "gantry-netd", "gantry-stdio", "dockerd", "containerd")


def memory(*engines):
    """(engine, program) -> resident KiB of each such process."""
    found = {}
    for engine in filter(None, engines):
        for pid in engine.pids():
            name, resident = status(pid)
            if name in PARTS:
                found.setdefault((engine.name, name), []).append(resident)
    return found


def status(pid):
    try:
        fields = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status") if ":\t" in line)
    except OSError:
        return None, 0
    return fields["Name"].strip(), int(fields.get("VmRSS", "0 kB").split()[0])


def print_memory(idle, after):
    print(f"\n{'resident MiB (each)':34}{'idle':>10}{'after':>10}")
    for key in sorted(set(idle) | set(after)):
        cells = []
        for seen in (idle.get(key, []), after.get(key, [])):
            cells.append(f"{max(seen) / 1024:10.1f}" if seen else f"{'-':>10}")
        count = len(after.get(key, idle.get(key, [])))
        print(f"{key[0] + ': ' + key[1] + (f' x{count}' if count > 1 else ''):34}{cells[0]}{cells[1]}")


def children(pid):
    """A process and all that come from it."""
    found = [pid]
    for one in found:
        for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(word) for word in task.read_text().split()]
            except OSError:
                continue
    return found


# -- the engines ---------------------------------------------------------------------------------------------------


class Gantryd:
    """A release gantryd with everything of its own."""

    name = "gantryd"

    def __enter__(self):
        self.engine = harness.Engine()
        try:
            self.engine.start()
        except BaseException:
            self.engine.close()
            raise
        self.socket = self.engine.socket
        return self

    def __exit__(self, *_):
        self.engine.close()

    def pids(self):
        return set(children(self.engine.process.pid)) | set(self.engine.processes())


class Dockerd:
    """A dockerd with roots and a network namespace of its own; `None` where none is given."""

    name = "dockerd"

    def __init__(self, binary):
        self.binary = binary

    def __enter__(self):
        if not self.binary:
            return None
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="bench-dockerd-"))
        self.socket = self.root / "docker.sock"
        (self.root / "daemon.json").write_text("{}")
        self.namespace = harness.Namespace(f"bench-{os.getpid()}")
        path = f"{pathlib.Path(self.binary).parent}:{os.environ['PATH']}"
        self.log = open(self.root / "log", "wb")
        self.process = self.namespace.popen(
            self.binary, "--data-root", self.root / "data", "--exec-root", self.root / "exec", "--pidfile",
            self.root / "pid", "--config-file", self.root / "daemon.json", "-H", f"unix://{self.socket}",
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, "PATH": path},
        )  # fmt: skip
        try:
            harness.wait_until(self.answers, 60, "an answer of dockerd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError("dockerd left:\n" + (self.root / "log").read_text()[-2000:])
        try:
            return Client("", self.socket).raw("GET", "/_ping")
        except OSError:
            return False

    def __exit__(self, *_):
        if not self.binary:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
        self.namespace.delete()
        for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
            if line.split()[4].startswith(str(self.root)):
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def pids(self):
        return children(self.process.pid)


if __name__ == "__main__":
    main()
