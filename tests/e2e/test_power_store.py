"""The records under damage: sled, the log, or both are cut and scribbled on, and gantryd starts, lists, says so, keeps the rest."""

import os
import random
import shutil

import pytest
from harness import Engine, wait_until
from storage import end_processes, leftovers, warnings


class Kept:
    """An engine at rest with three containers and two volumes, and a copy of its records to damage again and again."""

    CONTAINERS = {"one", "two", "three"}
    VOLUMES = {"data", "more"}

    def __init__(self):
        self.engine = engine = Engine()
        engine.start().load_busybox()
        for name in ("one", "two", "three"):
            assert engine.api("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["true"]})[0] == 201
        for name in ("data", "more"):
            assert engine.api("POST", "/volumes/create", {"Name": name, "Labels": {"of": name}})[0] == 201
        engine.docker("start", "-a", "one")
        engine.docker("rename", "two", "due")
        engine.docker("rename", "due", "two")
        engine.docker("rm", engine.out("create", "busybox"))
        assert engine.stop() == 0
        self.sled, self.log = engine.data / "sled", engine.data / "records.log"
        assert self.sled.is_dir() and self.log.is_file()
        self.saved = engine.root / "saved"
        shutil.copytree(self.sled, self.saved / "sled")
        shutil.copy(self.log, self.saved / "records.log")

    def put_back(self):
        """The undamaged records; containerd is left as it is."""
        self.sled.unlink() if self.sled.is_file() else shutil.rmtree(self.sled, ignore_errors=True)
        shutil.copytree(self.saved / "sled", self.sled)
        shutil.copy(self.saved / "records.log", self.log)
        for folder in self.engine.data.glob("quarantine-*"):
            shutil.rmtree(folder)

    def quarantined(self):
        return [f for q in self.engine.data.glob("quarantine-*") for f in q.rglob("*") if f.is_file()]

    def look(self, said=True):
        """Starts on what is there; everything must be listed, and work. `said`: whether /info tells of damage."""
        engine = self.engine
        engine.log.unlink(missing_ok=True)
        engine.start()
        try:
            listed = {c["Names"][0][1:] for c in engine.api("GET", "/containers/json?all=1")[1]}
            volumes = {v["Name"]: v["Labels"] for v in engine.api("GET", "/volumes")[1]["Volumes"]}
            assert listed == self.CONTAINERS, (listed, warnings(engine))
            assert volumes == {name: {"of": name} for name in self.VOLUMES}, volumes
            if said:
                assert any("quarantine-" in text or "lost" in text for text in warnings(engine)), warnings(engine)
                assert self.quarantined()
            if said is False:
                assert not any("damage" in text for text in warnings(engine)), warnings(engine)
            started = engine.api("POST", "/containers/two/start")
            assert started[0] == 204, started
            assert engine.api("POST", "/containers/two/wait")[1]["StatusCode"] == 0
        finally:
            assert engine.stop() == 0


@pytest.fixture(scope="module")
def kept():
    made = None
    try:
        made = Kept()
        yield made
    finally:
        if made:
            end_processes(made.engine)
            made.engine.close()


def scribble(path, seed):
    """Noise over a part of a file."""
    chance = random.Random(seed)
    data = bytearray(path.read_bytes())
    start = chance.randrange(max(1, len(data) - 64))
    for at in range(start, min(len(data), start + 64)):
        data[at] = chance.randrange(256)
    path.write_bytes(data)


def positions(size, count):
    """Spread over the whole, with both ends."""
    return sorted({0, 1, 3, 19, size - 1, size // 2, *(size * n // count for n in range(count))})


def sled_files(kept):
    return [f for f in kept.sled.rglob("*") if f.is_file() and f.stat().st_size]


@pytest.mark.parametrize("how", ["removed", "empty files", "noise", "a file in its place"])
def test_a_damaged_sled_is_put_aside_and_rebuilt_from_the_log(kept, how):
    kept.put_back()
    if how == "removed":
        shutil.rmtree(kept.sled)
    elif how == "empty files":
        for file in sled_files(kept):
            os.truncate(file, 0)
    elif how == "noise":
        for file in sled_files(kept):
            file.write_bytes(random.Random(5).randbytes(file.stat().st_size))
    else:
        shutil.rmtree(kept.sled)
        kept.sled.write_text("not a database")
    kept.look(said=how in ("noise", "a file in its place"))
    kept.look(said=False)


def test_a_log_cut_anywhere_gives_everything_back(kept):
    size = (kept.saved / "records.log").stat().st_size
    for cut in positions(size, 5):
        kept.put_back()
        os.truncate(kept.log, cut)
        kept.look(said=None)


def test_a_log_damaged_anywhere_gives_everything_back_and_keeps_the_damage(kept):
    size = (kept.saved / "records.log").stat().st_size
    for at in positions(size, 5):
        kept.put_back()
        with open(kept.log, "r+b") as log:
            log.seek(at)
            byte = log.read(1)
            log.seek(at)
            log.write(bytes([byte[0] ^ 0x5A]))
        kept.look(said=True)


@pytest.mark.parametrize("seed", range(4))
def test_both_damaged_together_are_rebuilt_from_the_third_copies(kept, seed):
    kept.put_back()
    chance = random.Random(seed)
    for file in sled_files(kept):
        file.write_bytes(chance.randbytes(file.stat().st_size))
    if seed == 0:
        kept.log.unlink()
    elif seed == 1:
        kept.log.write_bytes(chance.randbytes(5000))
    elif seed == 2:
        os.truncate(kept.log, chance.randrange(kept.log.stat().st_size))
        scribble(kept.log, seed)
    else:
        for part in range(8):
            scribble(kept.log, part)
    kept.look(said=True)
    kept.look(said=None)


def test_after_a_rebuild_nothing_is_swept_away_that_was_wanted(kept):
    kept.put_back()
    shutil.rmtree(kept.sled)
    kept.log.unlink()
    engine = kept.engine.start()
    try:
        listed = [(c["Names"], c["Id"][:12]) for c in engine.api("GET", "/containers/json?all=1")[1]]
        assert len(listed) == 3, (listed, warnings(engine))
        wait_until(lambda: not leftovers(engine), 20, "records and containerd in line")
    finally:
        engine.stop()
    kept.look(said=None)
