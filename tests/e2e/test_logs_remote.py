"""Log drivers that deliver elsewhere: what the servers get, and that nothing is lost whoever dies."""

import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zlib

import pytest
from harness import wait_until
from killing import kill_9, processes
from test_tls import Certificates

SERVER = pathlib.Path(__file__).with_name("log_servers.py")
SAY = 'echo out; echo err >&2; printf "%s" "$1"'


class Server:
    def __init__(self, engine, kind, where, file, *more):
        self.file = pathlib.Path(file)
        self.process = engine.namespace.popen(
            sys.executable, SERVER, kind, where, file, *more, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def end(self):
        self.process.kill()
        self.process.wait()

    def messages(self):
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [json.loads(line) for line in lines]

    def wait(self, count, timeout=20):
        wait_until(lambda: len(self.messages()) >= count, timeout, lambda: f"{count} messages: {self.messages()[-5:]}")
        return self.messages()


@pytest.fixture
def serve(engine, tmp_path):
    servers = []

    def start(kind, where, *more):
        servers.append(Server(engine, kind, where, tmp_path / f"{len(servers)}.log", *more))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


def options(*pairs):
    return [word for pair in pairs for word in ("--log-opt", pair)]


def test_syslog_over_udp_in_each_format(engine, serve):
    server = serve("udp", "5514")
    for form, expected in {
        "rfc3164": r"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ tag/xx\[\d+\]: out\n$",
        "rfc5424": r"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \S+ tag/xx \d+ tag/xx - out\n$",
        "rfc5424micro": r"<30>1 \S+T\d\d:\d\d:\d\d\.\d{6}\S+ \S+ tag/xx \d+ tag/xx - out\n$",
    }.items():
        before = len(server.messages())
        engine.docker("run", "--rm", "--name", "xx", "--log-driver", "syslog",
                      *options("syslog-address=udp://127.0.0.1:5514", f"syslog-format={form}", "tag=tag/{{.Name}}"),
                      "busybox", "sh", "-c", SAY, "sh", "")  # fmt: skip
        # The container is gone, and all of it was delivered before.
        out, err = sorted(server.messages()[before:], key=lambda text: "err" in text)
        assert re.match(expected, out), out
        assert err.startswith("<27>") and err.endswith("err\n"), err


def test_syslog_to_a_local_socket_and_logs_from_the_cache(engine, serve, tmp_path):
    path = str(tmp_path / "log.sock")
    server = serve("unixgram", path)
    engine.docker("run", "-d", "--name", "cached", "--log-driver", "syslog",
                  *options(f"syslog-address=unixgram://{path}", "syslog-facility=local3", "labels=a"), "-l", "a=b",
                  "busybox", "sh", "-c", SAY + "; sleep 1000", "sh", "")  # fmt: skip
    short = engine.out("ps", "-q", "--filter", "name=cached")
    # Two pipes: which of them comes first is nobody's promise.
    messages = sorted(server.wait(2), reverse=True)
    assert re.match(rf"<158>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d {short}\[\d+\]: out\n$", messages[0]), messages
    done = engine.docker("logs", "--details", "cached")
    assert (done.stdout, done.stderr) == ("a=b out\n", "a=b err\n")
    about = engine.inspect("cached")
    assert (about["LogPath"], about["HostConfig"]["LogConfig"]["Type"]) == ("", "syslog")
    engine.docker("rm", "-f", "cached")


def test_syslog_over_tls_with_an_authority_of_its_own(engine, serve, tmp_path):
    made = Certificates(tmp_path / "made")
    certificate, key = made.server
    server = serve("tls", "6514", certificate, key)
    engine.docker("run", "--rm", "--log-driver", "syslog",
                  *options("syslog-address=tcp+tls://localhost:6514", f"syslog-tls-ca-cert={made.ca}",
                           "syslog-format=rfc5424"),
                  "busybox", "echo", "secret")  # fmt: skip
    (message,) = server.wait(1)
    assert message.endswith("- secret\n")


@pytest.mark.parametrize("packing, unpack", [("gzip", gzip.decompress), ("zlib", zlib.decompress), ("none", bytes)])
def test_gelf_over_udp(engine, serve, packing, unpack):
    server = serve("udp", "12201")
    engine.docker("run", "--rm", "--name", "gg", "-l", "com.x=y", "-e", "A=1", "--log-driver", "gelf",
                  *options("gelf-address=udp://127.0.0.1:12201", f"gelf-compression-type={packing}", "labels=com.x", "env=A"),
                  "busybox", "sh", "-c", SAY, "sh", "")  # fmt: skip
    messages = [json.loads(unpack(text.encode("latin-1"))) for text in server.messages()]
    out, err = sorted(messages, key=lambda message: -message["level"])
    assert (out["short_message"], out["level"], err["short_message"], err["level"]) == ("out", 6, "err", 3)
    assert (out["version"], out["_container_name"], out["_image_name"]) == ("1.1", "gg", "busybox")
    assert (out["_com.x"], out["_A"], out["_tag"]) == ("y", "1", out["_container_id"][:12])
    assert out["_command"].startswith("sh -c echo out") and out["timestamp"] > 1.7e9


def test_gelf_over_tcp(engine, serve):
    server = serve("gelf-tcp", "12202")
    engine.docker("run", "--rm", "--log-driver", "gelf", *options("gelf-address=tcp://127.0.0.1:12202"),
                  "busybox", "sh", "-c", "seq 500")  # fmt: skip
    texts = [json.loads(message)["short_message"] for message in server.messages()]
    assert texts == [str(n) for n in range(1, 501)]


@pytest.mark.parametrize("kind", ["fluentd", "fluentd-ack"])
def test_fluentd(engine, serve, kind):
    server = serve(kind, "24224")
    ack = "true" if kind == "fluentd-ack" else "false"
    engine.docker("run", "--rm", "--name", "ff", "--log-driver", "fluentd",
                  *options("tag=docker.{{.Name}}", f"fluentd-request-ack={ack}", f"fluentd-sub-second-precision={ack}"),
                  "busybox", "sh", "-c", 'echo out; head -c 20000 /dev/zero | tr "\\0" x; echo; echo last')  # fmt: skip
    messages = server.wait(4)
    assert {message[0] for message in messages} == {"docker.ff"}
    first, begin, end, last = [message[2] for message in messages]
    assert (first["log"], first["source"], first["container_name"]) == ("out", "stdout", "/ff")
    assert len(begin["log"]) + len(end["log"]) == 20000
    assert (begin["partial_message"], begin["partial_last"], end["partial_last"]) == ("true", "false", "true")
    assert begin["partial_id"] == end["partial_id"] and end["partial_ordinal"] == "2"
    assert last["log"] == "last" and "partial_message" not in last


def test_journald(engine, serve):
    path = "/run/systemd/journal/socket"
    if os.path.exists(path):
        pytest.skip("the host has a journal of its own")
    options_ = ["--log-driver", "journald", *options("tag=j", "labels=com.x"), "-l", "com.x=y"]
    refused = engine.docker("run", "--rm", *options_, "busybox", "true", check=False)
    assert "failed to initialize logging driver: journald is not enabled on this host" in refused.stderr
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        server = serve("unixgram", path)
        engine.docker("run", "--rm", "--name", "jj", *options_, "busybox", "sh", "-c", SAY, "sh", "")
        entries = [dict(line.split("=", 1) for line in text.splitlines()) for text in server.messages()]
        out, err = sorted(entries, key=lambda entry: entry["PRIORITY"], reverse=True)
        assert (out["MESSAGE"], out["PRIORITY"], err["MESSAGE"], err["PRIORITY"]) == ("out", "6", "err", "3")
        assert (out["CONTAINER_NAME"], out["SYSLOG_IDENTIFIER"], out["IMAGE_NAME"]) == ("jj", "j", "busybox")
        assert (out["COM_X"], out["CONTAINER_ID"]) == ("y", out["CONTAINER_ID_FULL"][:12])
    finally:
        os.unlink(path)


def test_a_server_that_comes_late_gets_everything_in_order(engine, serve):
    engine.docker("run", "-d", "--name", "late", "--log-driver", "fluentd", *options("fluentd-address=127.0.0.1:24225"),
                  "busybox", "sh", "-c", "seq 1 300; sleep 1000")  # fmt: skip
    server = serve("fluentd", "24225")
    assert [message[2]["log"] for message in server.wait(300)] == [str(n) for n in range(1, 301)]
    engine.docker("rm", "-f", "late")


def test_no_line_is_lost_whoever_is_killed(fresh, tmp_path):
    engine = fresh()
    server = Server(engine, "fluentd-ack", "24224", tmp_path / "got")
    try:
        engine.docker("run", "-d", "--name", "ww", "--log-driver", "fluentd", *options("fluentd-request-ack=true"),
                      "busybox", "sh", "-c", "for n in $(seq 1 3000); do echo $n; [ $((n % 50)) = 0 ] && sleep 0.05; done; sleep 1000")  # fmt: skip
        server.wait(100)
        (old,) = processes(engine, "gantry-logship")
        kill_9(old)
        wait_until(lambda: processes(engine, "gantry-logship") not in ([], [old]), 10, "the next logship")
        engine.kill()
        seen = len(server.messages())
        # It goes on without gantryd, and the next gantryd finds it.
        server.wait(seen + 200)
        (lone,) = processes(engine, "gantry-logship")
        engine.start()
        numbers = [int(message[2]["log"]) for message in wait_for_number(server, 3000)]
        assert processes(engine, "gantry-logship") == [lone]
        assert sorted(set(numbers)) == list(range(1, 3001))
        # What was on its way when it was killed comes twice at most.
        assert len(numbers) - 3000 <= 256, len(numbers)
        # The container stops: so does the delivery, and the next run goes on behind it.
        engine.docker("restart", "-t", "0", "ww")
        wait_until(lambda: len(server.messages()) >= len(numbers) + 3000, 30, "the second run")
        assert [int(message[2]["log"]) for message in server.messages()[len(numbers):]] == list(range(1, 3001))
        engine.docker("rm", "-f", "ww")
        wait_until(lambda: not processes(engine, "gantry-logship"), 20, "the end of logship, which has no work left")
        assert list((engine.data / "logship" / "jobs").iterdir()) == []
    finally:
        server.end()


def wait_for_number(server, number):
    wait_until(lambda: any(message[2]["log"] == str(number) for message in server.messages()[-300:]), 30, f"{number}")
    return server.messages()


def test_a_dead_server_holds_a_removal_up_for_seconds_only(engine):
    engine.docker("run", "-d", "--name", "dead", "--log-driver", "syslog", *options("syslog-address=tcp://127.0.0.1:9"),
                  "busybox", "sh", "-c", "echo x; sleep 1000")  # fmt: skip
    assert engine.docker("logs", "dead").stdout == "x\n"
    engine.docker("rm", "-f", "dead", timeout=15)


@pytest.mark.parametrize("driver, option, text", [
    ("syslog", "max-size=1m", "unknown log opt 'max-size' for syslog log driver"),
    ("syslog", "syslog-facility=x", "invalid syslog facility"),
    ("gelf", "tag=x", "gelf-address is a required parameter"),
    ("fluentd", "fluentd-address=udp://x", "unsupported scheme: 'udp'"),
    ("journald", "x=y", "unknown log opt 'x' for journald log driver"),
])  # fmt: skip
def test_bad_options_are_refused_at_create(engine, driver, option, text):
    done = engine.docker("create", "--log-driver", driver, "--log-opt", option, "busybox", check=False)
    assert done.returncode != 0 and text in done.stderr


def test_a_cache_that_is_not_wanted_is_not_read(engine):
    engine.docker("create", "--name", "blind", "--log-driver", "syslog",
                  *options("syslog-address=udp://127.0.0.1:9", "cache-disabled=true"), "busybox", "true")  # fmt: skip
    done = engine.docker("logs", "blind", check=False)
    assert "configured logging driver does not support reading" in done.stderr
    engine.docker("rm", "blind")
    assert {"syslog", "journald", "gelf", "fluentd"} <= set(engine.api("GET", "/info")[1]["Plugins"]["Log"])


def test_a_shipment_whose_log_is_gone_is_forgotten(fresh):
    engine = fresh()
    engine.docker("run", "-d", "--name", "lost", "--log-driver", "syslog", *options("syslog-address=tcp://127.0.0.1:9"),
                  "busybox", "sh", "-c", "echo x; sleep 1000")  # fmt: skip
    identity = engine.inspect("lost")["Id"]
    for pid in processes(engine, "gantry-logship"):
        kill_9(pid)
    shutil.rmtree(engine.data / "containers" / identity / "local-logs")
    engine.docker("kill", "lost")
    wait_until(lambda: not list((engine.data / "logship" / "jobs").iterdir()), 10, "no shipment")
    engine.docker("rm", "lost", timeout=5)
