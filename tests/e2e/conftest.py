"""Engines for the tests: `engine` is shared by a module and has a busybox; `fresh` is a test's own."""

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
