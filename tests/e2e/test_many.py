"""Many containers: a list of all and an inspect of one stay quick, for a read waits for nothing.

The bounds are for a debug build on a busy machine; `make bench FLEET=2000` has the figures.
"""

import concurrent.futures
import contextlib
import json
import statistics
import time

import pytest

WHOLE = 2000


def median(engine, path, times=9):
    """Seconds of a request on a connection that is kept, and its last answer."""
    took = []
    with contextlib.closing(engine.connection()) as connection:
        for _ in range(times):
            began = time.monotonic()
            connection.request("GET", path)
            body = connection.getresponse().read()
            took.append(time.monotonic() - began)
    return statistics.median(took), json.loads(body)


@pytest.mark.parametrize("count", [WHOLE // 10, pytest.param(WHOLE, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])], ids=["tenth", "full"])
def test_many_containers_are_listed_and_one_of_them_inspected_quickly_also_after_a_restart(fresh, count):
    engine = fresh()
    create = lambda n: engine.api("POST", f"/containers/create?name=c{n}", {"Image": "busybox", "Cmd": ["true"], "Labels": {"n": str(n % 10)}})  # noqa: E731
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(status == 201 for status, _ in pool.map(create, range(count)))
    engine.docker("run", "-d", "--name", "runs", "busybox", "sleep", "1000")
    for restarted in (False, True):
        if restarted:
            began = time.monotonic()
            engine.restart()
            assert time.monotonic() - began < 30
        seconds, listed = median(engine, "/containers/json?all=1")
        assert len(listed) == count + 1 and seconds < 4 * count / WHOLE + 0.25, seconds
        seconds, some = median(engine, "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22n%3D3%22%5D%7D")
        assert len(some) == count // 10 and seconds < 4 * count / WHOLE + 0.25, seconds
        seconds, one = median(engine, f"/containers/c{count // 2}/json")
        assert one["Name"] == f"/c{count // 2}" and seconds < 0.1, seconds
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = pool.map(lambda n: engine.api("DELETE", f"/containers/c{n}")[0], range(count))
        assert all(status == 204 for status in statuses)
