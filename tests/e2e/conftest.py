"""Engines for the tests: `engine` is shared by a module and has a busybox; `fresh` is a test's own. And a host to be left alone."""

import os

import pytest
from harness import Engine


@pytest.fixture(scope="module")
def engine():
    engine = Engine().start()
    try:
        engine.load_busybox()
        yield engine
    finally:
        engine.close()


@pytest.fixture
def fresh():
    """Makes engines that are closed with the test: `fresh(*flags)` returns one that runs and has a busybox."""
    made = []

    def make(*flags, start=True, busybox=True, **more):
        engine = Engine(*flags, **more)
        made.append(engine)
        if start:
            engine.start()
            if busybox:
                engine.load_busybox()
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def outside(tmp_path):
    """A folder of the host with a sentinel in it; at the end it is as it was."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("of the host")
    os.chmod(folder, 0o751)
    before = stat_of(folder)
    yield folder
    assert stat_of(folder) == before
    assert os.listdir(folder) == ["secret"] and (folder / "secret").read_text() == "of the host"


def stat_of(folder):
    return [(s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_mtime_ns, s.st_ctime_ns) for s in (folder.stat(), (folder / "secret").stat())]
