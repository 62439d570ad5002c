"""Flags and daemon.json: dockerd's names, dockerd's errors, and nothing that protects is accepted in silence."""

import json

import pytest
from daemon_process import refused, validate
from harness import BIN, run, wait_until


def test_validate_says_ok_and_starts_nothing(tmp_path):
    assert validate(tmp_path, {"debug": True, "labels": ["a=b"]}) == (0, "configuration OK", "")
    assert [file.name for file in tmp_path.iterdir()] == ["daemon.json"]


def test_validate_tells_unknown_keys_in_dockerds_words(tmp_path):
    code, _, said = validate(tmp_path, {"nosuchkey": 1})
    file = tmp_path / "daemon.json"
    assert (code, said) == (
        1,
        f"unable to configure the Docker daemon with file {file}: "
        "the following directives don't match any configuration option: nosuchkey",
    )


def test_a_key_that_is_also_a_flag_is_refused_with_both_values(tmp_path):
    code, _, said = validate(tmp_path, {"hosts": ["unix:///a.sock"]}, "-H", "fd://")
    assert code == 1
    assert said.endswith(
        "the following directives are specified both as a flag and in the configuration file: "
        "hosts: (from flag: [fd://], from file: [unix:///a.sock])"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no-such-flag"], "unknown flag: --no-such-flag"),
        (["--log-level", "loud"], "invalid logging level: loud"),
        (["--label", "bare"], "bad attribute format: bare"),
        (["--dns", "nope"], "IP address is not correctly formatted: nope"),
        (["-H", "foo://x"],
         'invalid argument "foo://x" for "-H, --host" flag: invalid bind address (foo://x): unsupported proto \'foo\''),
        (["-H", "nonsense"], "invalid bind address format: nonsense"),
        (["--default-runtime", "nope"], "specified default runtime 'nope' does not exist"),
        (["serve"], "accepts no arguments"),
    ],
)
def test_bad_flags_are_told_in_dockerds_words(tmp_path, flags, words):
    assert words in refused(tmp_path, *flags)


MERGED = "merged configuration validation from file and command line flags failed: "


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("bad", "invalid JSON: invalid character 'b' looking for beginning of value"),
        ("{", "invalid JSON: unexpected end of JSON input"),
        ('{"debug":true,}', "invalid JSON: invalid character '}' looking for beginning of object key string"),
        ('{"debug":true "x":1}', "invalid JSON: invalid character '\"' after object key:value pair"),
        ('{"debug":true} x', "invalid JSON: invalid character 'x' after top-level value"),
        ("[]", "invalid JSON: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ('{"mtu":"x"}', "invalid JSON: json: cannot unmarshal string into Go struct field Config.mtu of type int"),
        ('{"log-level":"foo"}', MERGED + "invalid logging level: foo"),
        ('{"hosts":["foo://x"]}', MERGED + "invalid bind address (foo://x): unsupported proto 'foo'"),
        ('{"labels":["x"]}', MERGED + "bad attribute format: x"),
    ],
)
def test_a_bad_file_is_told_in_dockerds_words(tmp_path, content, words):
    file = tmp_path / "bad.json"
    file.write_text(content)
    done = run(BIN / "gantryd", "--validate", "--config-file", file, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, f"unable to configure the Docker daemon with file {file}: {words}")


def test_a_file_of_null_is_an_empty_one(tmp_path):
    file = tmp_path / "null.json"
    file.write_text("null")
    assert run(BIN / "gantryd", "--validate", "--config-file", file).stdout == "configuration OK\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("authorization-plugins", ["opa"]),
        ("selinux-enabled", True),
        ("log-driver", "splunk"),
        ("storage-opts", ["size=10G"]),
        ("ip6tables", False),
    ],
)
def test_gantryd_does_not_start_without_a_protection_that_was_asked_for(tmp_path, key, value):
    assert refused(tmp_path, config={key: value}).startswith(f"gantryd does not start with {key} = ")


def test_a_file_that_is_no_json_or_not_there_is_an_error(tmp_path):
    assert "unable to configure the Docker daemon with file" in refused(tmp_path, config='{"debug": tru')
    missing = tmp_path / "none.json"
    done = run(BIN / "gantryd", "--validate", "--config-file", missing, check=False)
    assert done.returncode == 1
    assert f"open {missing}: no such file or directory" in done.stderr


def test_version_and_help_name_dockerds_flags():
    assert run(BIN / "gantryd", "--version").stdout.startswith("gantryd version ")
    words = run(BIN / "gantryd", "--help").stdout
    for flag in ("--tlsverify", "--add-runtime", "--default-ulimit", "--live-restore", "--strict-runtime", "-H, --host"):
        assert flag in words, flag


def test_a_flag_that_only_tunes_says_so_once(fresh):
    engine = fresh("--swarm-default-advertise-addr", "eth0", "--userland-proxy-path=/x", busybox=False)
    for option in ("swarm-default-advertise-addr", "userland-proxy-path"):
        lines = [line for line in engine.tail(1000).splitlines() if f"{option} has no effect" in line]
        assert len(lines) == 1, engine.tail()


def test_protecting_options_of_the_file_hold_in_containers(fresh):
    engine = fresh(start=False)
    engine.config.write_text(
        json.dumps({
            "no-new-privileges": True,
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 321, "Hard": 654}},
            "log-driver": "local",
            "default-shm-size": "8m",
            "labels": ["where=here"],
        })
    )
    engine.start().load_busybox()
    script = "grep NoNewPrivs /proc/self/status; ulimit -n; ulimit -Hn; df -m /dev/shm | tail -1 | awk '{print $2}'"
    said = engine.out("run", "--name", "one", "busybox", "sh", "-c", script).split()
    assert said == ["NoNewPrivs:", "1", "321", "654", "8"]
    assert engine.inspect("one")["HostConfig"]["LogConfig"]["Type"] == "local"
    assert engine.api("GET", "/info")[1]["Labels"] == ["where=here"]


def reload(engine, **config):
    """SIGHUP with a new file; the lines that it added to the log."""
    before = len(engine.log.read_text())
    engine.config.write_text(json.dumps(config))
    engine.process.send_signal(1)
    end = ("configuration was read again", "configuration was not read again")
    wait_until(lambda: any(words in engine.log.read_text()[before:] for words in end), what="the reload")
    return engine.log.read_text()[before:]


def test_sighup_swaps_what_can_change_and_says_what_cannot(fresh):
    engine = fresh(start=False)
    engine.config.write_text("{}")
    engine.start().load_busybox()
    started = engine.api("GET", "/info")[1]
    since = run("date", "+%s.%N").stdout.strip()

    said = reload(engine, debug=True, labels=["a=b"], icc=False, **{"default-shm-size": "8m"})
    info = engine.api("GET", "/info")[1]
    assert (info["Debug"], info["Labels"]) == (True, ["a=b"])
    assert (started["Debug"], started["Labels"]) == (False, [])
    wait_until(lambda: "change only when gantryd starts again" in engine.log.read_text(), what="what cannot change")
    waiting = [line for line in engine.log.read_text().splitlines() if "change only when gantryd starts again" in line]
    assert "icc" in waiting[-1] and "labels" not in waiting[-1], said
    assert engine.out("run", "--rm", "busybox", "sh", "-c", "df -m /dev/shm | tail -1 | awk '{print $2}'") == "8"

    now = run("date", "+%s.%N").stdout.strip()
    events = engine.out("events", "--since", since, "--until", now, "--filter", "event=reload", "--format", "{{json .}}")
    [event] = [json.loads(line) for line in events.splitlines()]
    assert (event["Type"], event["Action"]) == ("daemon", "reload")
    assert event["Actor"]["Attributes"]["debug"] == "true"
    assert json.loads(event["Actor"]["Attributes"]["labels"]) == ["a=b"]
    assert event["Actor"]["ID"] == info["ID"]


@pytest.mark.parametrize("config", [{"labels": ["a=b"], "nope": 1}, {"labels": ["a=b"], "authorization-plugins": ["opa"]}])
def test_a_reload_with_an_error_changes_nothing(fresh, config):
    engine = fresh(busybox=False)
    said = reload(engine, **config)
    assert "nothing has changed" in said
    assert engine.api("GET", "/info")[1]["Labels"] == []
    assert reload(engine, labels=["c=d"]).count("not read again") == 0
    assert engine.api("GET", "/info")[1]["Labels"] == ["c=d"]
