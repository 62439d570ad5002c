"""What the engine keeps resident while it does nothing, and while a container runs."""

import pytest

from harness import BIN, wait_until
from test_leaks import family, status_of

MIB = 1024
# Pages of the binaries count too; those of a debug build are many times as large.
RELEASE = BIN.resolve().name == "release"


def resident_kib(engine, name, field="VmRSS"):
    found = []
    for pid in family(engine):
        fields = status_of(pid)
        if fields["Name"] == name:
            found.append(int(fields[field].split()[0]))
    return found


def test_idle_gantryd_and_netd_keep_at_most_24_mib_of_their_own(fresh):
    """A debug build, which every change is tested with, keeps some eight more: its relocations are pages of its own."""
    engine = fresh()
    own = resident_kib(engine, "gantryd", "RssAnon") + resident_kib(engine, "gantry-netd", "RssAnon")
    assert len(own) == 2
    assert sum(own) <= (24 if RELEASE else 32) * MIB, own


@pytest.mark.skipif(not RELEASE, reason="needs a release build in GANTRY_BIN: pages of the binary count")
def test_idle_gantryd_and_netd_are_resident_with_at_most_24_mib(fresh):
    engine = fresh()
    whole = []

    def small():
        whole[:] = resident_kib(engine, "gantryd") + resident_kib(engine, "gantry-netd")
        return len(whole) == 2 and sum(whole) <= 24 * MIB

    try:
        # The load of the image has just ended: its threads and buffers go within seconds.
        wait_until(small, 20, "an idle engine", every=0.25)
    finally:
        print(f"gantryd and gantry-netd: {whole} KiB")


def test_a_companion_keeps_at_most_one_and_a_half_mib_of_its_own(fresh):
    engine = fresh()
    engine.out("run", "-d", "busybox", "sh", "-c", "yes | head -n 1000000; sleep 100000")
    wait_until(lambda: len(engine.out("ps", "-q").split()) == 1, what="the container")
    field = "VmRSS" if RELEASE else "RssAnon"
    wait_until(lambda: len(resident_kib(engine, "gantry-stdio")) == 2, what="the companion and the next spare")
    assert max(resident_kib(engine, "gantry-stdio", field)) <= 1.5 * MIB, resident_kib(engine, "gantry-stdio", field)
