"""Versions of the API: every one that clients still send, bare paths, and refusals in Docker's words."""

import json

import pytest

VERSIONS = [f"1.{minor}" for minor in range(24, 52)]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_that_clients_send_is_served(engine, version):
    for path in ("/_ping", "/version", "/info", "/containers/json?all=1", "/images/json", "/volumes", "/networks"):
        status, body = engine.api("GET", f"/v{version}{path}", raw=True)
        assert status == 200, (path, body)


def test_paths_without_a_version_are_the_newest(engine):
    for path in ("/_ping", "/version", "/info", "/containers/json", "/images/json"):
        assert engine.api("GET", path, raw=True)[0] == 200, path
    version = engine.api("GET", "/version")[1]
    assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.51", "1.24")


def test_too_old_and_too_new_are_told_in_dockers_words(engine):
    status, body = engine.api("GET", "/v1.23/info", raw=True)
    assert status == 400
    assert body.decode().strip() == (
        "client version 1.23 is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version"
    )
    assert engine.api("GET", "/v1.52/info") == (
        400,
        {"message": "client version 1.52 is too new. Maximum supported API version is 1.51"},
    )


@pytest.mark.parametrize("path", ["/nosuch", "/v1.47/nosuch", "/v1.47/containers/x/nosuch", "/v1.47", "/"])
def test_unknown_paths_are_a_json_404(engine, path):
    assert engine.api("GET", path) == (404, {"message": "page not found"})


def test_every_answer_has_the_headers_that_clients_negotiate_by(engine):
    for path in ("/_ping", "/v1.30/info", "/nosuch", "/v1.99/info", "/containers/nosuch/json"):
        connection = engine.connection()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        headers = {name: answer.getheader(name) for name in ("Api-Version", "Ostype", "Docker-Experimental")}
        assert headers == {"Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "false"}, path
        assert answer.getheader("Server").startswith("Docker/")
        connection.close()


def test_ping_by_head_has_no_body(engine):
    connection = engine.connection()
    connection.request("HEAD", "/_ping")
    answer = connection.getresponse()
    assert (answer.status, answer.read(), answer.getheader("Api-Version")) == (200, b"", "1.51")
    assert "no-cache" in answer.getheader("Cache-Control")


@pytest.mark.parametrize("version", ["1.24", "1.35", "1.44", "1.51"])
def test_the_cli_works_with_the_version_it_is_told(engine, version):
    def docker(*argv):
        return engine.namespace.exec("docker", *argv, env={**engine.docker_env(), "DOCKER_API_VERSION": version}).stdout

    if version == "1.51" and "1.51" > docker_cli_version(engine):
        pytest.skip("the docker CLI here is older than 1.51, and the engine's own version is tried above")
    assert docker("version", "--format", "{{.Client.APIVersion}}").strip() == version
    assert docker("run", "--rm", "busybox", "echo", "hi").strip() == "hi"
    assert "busybox" in docker("image", "ls")


def docker_cli_version(engine):
    return json.loads(engine.out("version", "--format", "{{json .Client}}"))["DefaultAPIVersion"]


def test_the_cli_negotiates_the_newest_that_both_know(engine):
    version = json.loads(engine.out("version", "--format", "{{json .}}"))
    client, server = version["Client"], version["Server"]
    assert client["ApiVersion"] == min(client["DefaultAPIVersion"], server["ApiVersion"])


def test_the_minimum_version_may_be_raised(fresh):
    engine = fresh(busybox=False, env={"DOCKER_MIN_API_VERSION": "1.44"})
    assert engine.api("GET", "/v1.44/_ping", raw=True)[0] == 200
    status, body = engine.api("GET", "/v1.43/_ping")
    assert status == 400 and "Minimum supported API version is 1.44" in body["message"]


@pytest.mark.parametrize("path", ["/", "/v1.51/containers/json", "/no/such/page"])
def test_options_on_anything_is_answered_empty(engine, path):
    status, body = engine.api("OPTIONS", path, raw=True)[:2]
    assert (status, body) == (200, b"")
