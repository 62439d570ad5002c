"""`docker stats` and its API: true figures, a sample a second, empty ones for what does not run."""

import contextlib
import json
import pathlib
import os
import threading
import time

import pytest


def test_docker_stats_shows_a_running_container(engine):
    engine.docker("run", "-d", "--name", "busy", "--memory", "64m", "--pids-limit", "50", "busybox", "sh", "-c", "while :; do :; done")
    try:
        line = json.loads(engine.out("stats", "--no-stream", "--format", "{{json .}}", "busy"))
        assert line["Name"] == "busy"
        assert float(line["CPUPerc"].rstrip("%")) > 10
        assert line["MemUsage"].endswith("/ 64MiB")
        assert int(line["PIDs"]) == 1
    finally:
        engine.docker("rm", "-f", "busy")


def test_the_sample_before_is_filled_but_for_one_shot(engine):
    engine.docker("run", "-d", "--name", "two", "busybox", "sleep", "1000")
    try:
        _, both = engine.api("GET", "/containers/two/stats?stream=0")
        assert both["precpu_stats"]["cpu_usage"]["total_usage"] > 0 and both["name"] == "/two"
        assert "eth0" in both["networks"]
        _, one = engine.api("GET", "/containers/two/stats?stream=0&one-shot=1")
        assert one["precpu_stats"]["cpu_usage"]["total_usage"] == 0
        status, error = engine.api("GET", "/containers/two/stats?one-shot=1")
        assert (status, error["message"]) == (400, "cannot have stream=true and one-shot=true")
        engine.docker("kill", "two")
        status, stopped = engine.api("GET", "/containers/two/stats?stream=0")
        assert status == 200 and stopped["read"] == "0001-01-01T00:00:00Z"
    finally:
        engine.docker("rm", "-f", "two")


def test_a_stream_ends_with_the_containers_removal(engine):
    engine.docker("run", "-d", "--name", "gone", "busybox", "sleep", "1000")
    connection = engine.connection()
    connection.request("GET", "/containers/gone/stats")
    answer = connection.getresponse()
    first, second = json.loads(answer.readline()), json.loads(answer.readline())
    assert second["preread"] == first["read"]
    engine.docker("rm", "-f", "gone")
    while answer.readline():
        pass
    connection.close()


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.soak)], ids=["tenth", "full"])
def test_a_hundred_streams_cost_little(engine, seconds):
    """3 s of a release build's processor time in 60 s; a debug build takes some four times that."""
    engine.docker("run", "-d", "--name", "seen", "busybox", "sleep", "1000")
    connections, lines = [], []

    def read(answer):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            while line := answer.readline():
                lines.append(len(line))

    try:
        for _ in range(100):
            connection = engine.connection()
            connection.request("GET", "/containers/seen/stats")
            connections.append(connection)
        threads = [threading.Thread(target=read, args=[one.getresponse()], daemon=True) for one in connections]
        for thread in threads:
            thread.start()
        before = processor_seconds(engine.process.pid)
        time.sleep(seconds)
        spent = processor_seconds(engine.process.pid) - before
        print(f"{spent:.2f} s of processor for {len(lines)} samples")
        assert len(lines) >= 100 * (seconds - 1)
        release = "release" in str(os.environ.get("GANTRY_BIN", ""))
        assert spent < seconds * (3 / 60 if release else 15 / 60)
    finally:
        engine.docker("rm", "-f", "seen")
        for connection in connections:
            connection.close()
