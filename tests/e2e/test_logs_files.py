"""Log files that rotate: what is kept and read, what a follower sees meanwhile, how much of a huge one is read, attributes."""

import gzip
import json
import pathlib
import subprocess

import pytest
from harness import wait_until

# Lines of 100 bytes, so many at once, and a pause: a reader can keep up.
STEADY = 'BEGIN { for (n = 1; n <= %d; n++) { printf "%%099d\\n", n; if (n %% 200 == 0) system("usleep 20000") } }'
AT_ONCE = 'BEGIN { for (n = 1; n <= %d; n++) printf "%%099d\\n", n }'
LIMIT = 50_000


def write(engine, name, program, *options):
    engine.docker("run", "--name", name, *[word for option in options for word in ("--log-opt", option)], "busybox", "awk", program)


def log_files(engine, name):
    """Files by name, the newest first."""
    folder = engine.data / "containers" / engine.inspect(name)["Id"]
    return sorted((file for file in folder.rglob("*") if file.is_file() and ".log" in file.name), key=lambda file: file.name)


def read(engine, name, *options):
    return [int(line) for line in engine.docker("logs", *options, name).stdout.splitlines()]


@pytest.mark.parametrize("compress", ["false", "true"])
def test_a_log_has_so_many_files_of_such_a_size_and_reads_as_their_lines_in_order(engine, compress):
    count, name = 3000, f"rotated-{compress}"
    write(engine, name, AT_ONCE % count, f"max-size={LIMIT}", "max-file=3", f"compress={compress}")
    try:
        path = pathlib.Path(engine.inspect(name)["LogPath"])
        end = ".gz" if compress == "true" else ""
        wanted = [path.name, f"{path.name}.1{end}", f"{path.name}.2{end}"]
        wait_until(lambda: [file.name for file in log_files(engine, name)] == wanted, 20, lambda: f"{wanted}: {log_files(engine, name)}")
        texts = [path.read_text()]
        for file in wanted[1:]:
            data = path.with_name(file).read_bytes()
            texts.append((gzip.decompress(data) if end else data).decode())
        assert all(len(text) <= LIMIT + 300 for text in texts) and all(len(text) > LIMIT - 300 for text in texts[1:])
        kept = [int(json.loads(line)["log"]) for text in reversed(texts) for line in text.splitlines()]
        assert kept == list(range(kept[0], count + 1)) and len(kept) > 500
        assert read(engine, name) == kept
        # The end, within the newest file, across its border, and more than there is.
        for tail in (1, 10, texts[0].count("\n") + 5, len(kept), len(kept) + 10):
            assert read(engine, name, "--tail", str(tail)) == kept[-tail:], tail
    finally:
        engine.docker("rm", name)
    assert not path.parent.exists()


def test_the_local_driver_rotates_and_compresses_too(engine):
    count = 3000
    engine.docker("run", "--name", "local", "--log-driver", "local", "--log-opt", f"max-size={LIMIT}", "--log-opt", "max-file=3", "busybox", "awk", AT_ONCE % count)
    files = lambda: [file for file in log_files(engine, "local")]  # noqa: E731
    wait_until(lambda: len(files()) == 3 and sum(file.name.endswith(".gz") for file in files()) == 2, 20, lambda: f"three files: {files()}")
    kept = read(engine, "local")
    assert kept == list(range(kept[0], count + 1)) and len(kept) > 500
    assert read(engine, "local", "--tail", "700") == kept[-700:]
    engine.docker("rm", "local")


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_a_follower_sees_every_line_while_the_files_rotate(engine, driver):
    count, name = 20_000, f"followed-{driver}"
    engine.docker("run", "-d", "--name", name, "--log-driver", driver, "--log-opt", "max-size=200k", "--log-opt", "max-file=10", "--log-opt", "compress=true",
                  "busybox", "awk", STEADY % count)  # fmt: skip
    done = engine.docker("logs", "-f", name, timeout=120)
    lines = [int(line) for line in done.stdout.splitlines()]
    assert lines == list(range(lines[0], count + 1)) and lines[0] == 1
    assert len(log_files(engine, name)) == 10
    engine.docker("rm", name)


def bytes_read(engine):
    fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{engine.process.pid}/io").read_text().splitlines())
    return int(fields["rchar"])


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_the_end_of_a_huge_log_is_read_without_its_beginning(engine, driver):
    count, name = 500_000, f"huge-{driver}"
    engine.docker("run", "--name", name, "--log-driver", driver, *(("--log-opt", "max-size=1g") if driver == "local" else ()), "busybox", "awk", AT_ONCE % count,
                  stdout=subprocess.DEVNULL, timeout=200)  # fmt: skip
    assert log_files(engine, name)[0].stat().st_size > 50 << 20
    # What the run's own client was given is counted with the first.
    assert read(engine, name, "--tail", "1") == [count]
    before = bytes_read(engine)
    assert read(engine, name, "--tail", "10") == list(range(count - 9, count + 1))
    assert bytes_read(engine) - before < 1 << 20
    engine.docker("rm", name)


def test_a_log_that_blocks_nobody_keeps_all_the_same(engine):
    write(engine, "unblocked", AT_ONCE % 20_000, "mode=non-blocking", "max-buffer-size=1m")
    assert read(engine, "unblocked") == list(range(1, 20_001))
    engine.docker("rm", "unblocked")
    for options, text in (
        (("max-buffer-size=1m",), "max-buffer-size option is only supported with 'mode=non-blocking'"),
        (("mode=odd",), "logging mode not supported: odd"),
        (("mode=non-blocking", "max-buffer-size=x"), "max-buffer-size"),
        (("max-size=x",), "max-size"),
        (("max-file=0", "max-size=1m"), "max-file"),
        (("compress=maybe", "max-size=1m", "max-file=2"), "compress"),
        (("nosuch=1",), "unknown log opt 'nosuch' for json-file log driver"),
    ):
        done = engine.docker("create", *[word for option in options for word in ("--log-opt", option)], "busybox", check=False)
        assert done.returncode != 0 and text in done.stderr, (options, done)


def test_attributes_are_chosen_by_pattern_and_a_tag_by_template(engine):
    engine.docker(
        "run", "--name", "attributed", "-l", "com.app.name=shop", "-l", "com.other=x", "-l", "com.app.tier=back", "-e", "OS_KIND=linux",
        "-e", "OS_NAME=none", "-e", "SECRET=hidden", "--log-opt", "labels-regex=^com\\.app\\.", "--log-opt", "env-regex=^OS_",
        "--log-opt", "tag={{.Name}}/{{.ImageName}}", "busybox", "echo", "hello",
    )  # fmt: skip
    entry = json.loads(pathlib.Path(engine.inspect("attributed")["LogPath"]).read_text())
    wanted = {"com.app.name": "shop", "com.app.tier": "back", "OS_KIND": "linux", "OS_NAME": "none", "tag": "attributed/busybox"}
    assert entry["attrs"] == wanted
    details = engine.docker("logs", "--details", "attributed").stdout.split(" ")[0]
    assert dict(pair.split("=", 1) for pair in details.split(",")) == {key: value.replace("/", "%2F") for key, value in wanted.items()}
    engine.docker("rm", "attributed")
    done = engine.docker("create", "--log-opt", "env-regex=(", "busybox", check=False)
    assert done.returncode != 0 and "error parsing" in done.stderr or "regex" in done.stderr, done.stderr
