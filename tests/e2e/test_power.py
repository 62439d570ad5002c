"""Power cuts: what a 2xx has promised is on the disk at that moment.

At every 2xx the disk below the data roots (ours and containerd's) is copied as it stands, without a sync of ours; each
copy is mounted in the same place, its journal replayed, and opened by a gantryd that knows nothing else.
"""

import io
import tarfile
import threading

import pytest
from harness import Engine, busybox_archive, wait_until
from storage import Disk, ctr, end_processes, image_leftovers, leftovers, warnings


class Cuts:
    """An engine on a disk, and the copies of that disk, each with what must be true of it."""

    def __init__(self):
        self.engine = Engine()
        self.disk = Disk(self.engine.root / "disk.img", self.engine.data)
        self.copies = []

    def at(self, name, check):
        """The power goes now, and comes back later: then `check(engine)` must hold."""
        copy = self.disk.cut(self.engine.root / f"{len(self.copies)}-{name}.img", self.engine.processes())
        self.copies.append((name, copy, check))

    def come_back(self):
        """Every copy in turn; all that is wrong, by name."""
        end_processes(self.engine)
        self.disk.unmount()
        wrong = {}
        for name, copy, check in self.copies:
            self.disk.attach(copy)
            try:
                self.engine.log.unlink(missing_ok=True)
                self.engine.start()
                check(self.engine)
                said = [text for text in warnings(self.engine) if "damaged" in text or "cannot" in text]
                assert not said, said
            except Exception as error:  # noqa: BLE001 - every copy is looked at
                wrong[name] = f"{error}\n{self.engine.tail(15)}"
            finally:
                end_processes(self.engine)
                self.engine.unmount()
            copy.unlink()
        return wrong

    def close(self):
        self.engine.close()


@pytest.fixture
def cuts():
    cuts = Cuts()
    try:
        cuts.engine.start()
        yield cuts
    finally:
        cuts.close()


def status(engine, name):
    code, body = engine.api("GET", f"/containers/{name}/json")
    return body["State"]["Status"] if code == 200 else code


def runs(engine, name):
    """It is whole: it starts, and its program runs to its end."""
    assert engine.api("POST", f"/containers/{name}/start")[0] in (204, 304)
    assert engine.api("POST", f"/containers/{name}/stop?t=0")[0] in (204, 304)


def post(engine, path, body=None, expect=(200, 201, 204)):
    code, answer = engine.api("POST", path, body)
    assert code in expect, (path, code, answer)
    return answer


def create(engine, name, *, cmd=("sleep", "600"), **host):
    return post(engine, f"/containers/create?name={name}", {"Image": "busybox", "Cmd": list(cmd), "HostConfig": host})["Id"]


def test_a_containers_life_survives_a_power_cut_at_each_2xx(cuts):
    engine = cuts.engine.load_busybox()

    id = create(engine, "one", Memory=64 << 20)

    def created(engine):
        assert status(engine, "one") == "created" and engine.inspect("one")["Id"] == id
        assert engine.inspect("one")["HostConfig"]["Memory"] == 64 << 20
        runs(engine, "one")

    cuts.at("create", created)

    post(engine, "/containers/one/start")

    def started(engine):
        state = engine.inspect("one")["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 255), state
        assert engine.inspect("one")["Id"] == id
        runs(engine, "one")

    cuts.at("start", started)

    post(engine, "/containers/one/stop?t=0")

    def stopped(engine):
        state = engine.inspect("one")["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 137), state
        assert state["StartedAt"] > "2026" and state["FinishedAt"] >= state["StartedAt"]
        runs(engine, "one")

    cuts.at("stop", stopped)

    post(engine, "/containers/one/rename?name=two")

    def renamed(engine):
        assert status(engine, "one") == 404 and engine.inspect("two")["Id"] == id
        create(engine, "one")

    cuts.at("rename", renamed)

    assert engine.api("DELETE", "/containers/two")[0] == 204

    def removed(engine):
        assert status(engine, "two") == 404 and engine.api("GET", "/containers/json?all=1")[1] == []
        wait_until(lambda: not leftovers(engine), 30, "nothing left of it")
        create(engine, "two")

    cuts.at("rm", removed)
    assert cuts.come_back() == {}


def test_restart_policies_are_caught_up_after_a_power_cut(cuts):
    engine = cuts.engine.load_busybox()
    create(engine, "always", RestartPolicy={"Name": "always"})
    create(engine, "stopped", RestartPolicy={"Name": "unless-stopped"})
    post(engine, "/containers/always/start")
    post(engine, "/containers/stopped/start")
    post(engine, "/containers/stopped/stop?t=0")

    def back(engine):
        wait_until(lambda: status(engine, "always") == "running", 20, "the container that always runs")
        assert status(engine, "stopped") == "exited"

    cuts.at("policies", back)
    assert cuts.come_back() == {}


def test_volumes_survive_a_power_cut_at_each_2xx(cuts):
    engine = cuts.engine

    def names(engine):
        return sorted(volume["Name"] for volume in engine.api("GET", "/volumes")[1]["Volumes"] or [])

    post(engine, "/volumes/create", {"Name": "data", "Labels": {"a": "b"}})

    def there(engine):
        code, volume = engine.api("GET", "/volumes/data")
        assert code == 200 and volume["Labels"] == {"a": "b"}, volume
        assert (engine.data / "volumes" / "data" / "_data").is_dir()

    cuts.at("create", there)
    post(engine, "/volumes/create", {"Name": "more"})
    cuts.at("second", lambda engine: there(engine) or names(engine) == ["data", "more"] or pytest.fail(str(names(engine))))
    assert engine.api("DELETE", "/volumes/data")[0] == 204

    def gone(engine):
        assert names(engine) == ["more"]
        assert not (engine.data / "volumes" / "data").exists()

    cuts.at("rm", gone)
    assert cuts.come_back() == {}


def tags(engine):
    return sorted(tag for image in engine.api("GET", "/images/json")[1] for tag in image["RepoTags"])


def test_images_survive_a_power_cut_at_each_2xx(cuts):
    engine = cuts.engine
    with open(busybox_archive(), "rb") as archive:
        code, body = engine.api("POST", "/images/load", archive, {"Content-Type": "application/x-tar"}, raw=True)
    assert code == 200 and b"busybox:latest" in body, body

    def loaded(engine):
        assert tags(engine) == ["busybox:latest"]
        assert "hello" in engine.out("run", "--rm", "busybox", "cat", "/var/www/index.html")
        code, tar = engine.api("GET", "/images/busybox/get", raw=True)
        assert code == 200 and len(tar) > 500_000

    cuts.at("load", loaded)
    post(engine, "/images/busybox/tag?repo=other&tag=1")
    cuts.at("tag", lambda engine: tags(engine) == ["busybox:latest", "other:1"] or pytest.fail(str(tags(engine))))
    assert engine.api("DELETE", "/images/busybox:latest")[0] == 200

    def untagged(engine):
        assert tags(engine) == ["other:1"]
        assert "hello" in engine.out("run", "--rm", "other:1", "cat", "/var/www/index.html")

    cuts.at("untag", untagged)
    assert engine.api("DELETE", "/images/other:1")[0] == 200

    def gone(engine):
        assert tags(engine) == []
        engine.load_busybox()
        loaded(engine)

    cuts.at("rmi", gone)
    assert cuts.come_back() == {}


def test_what_was_in_the_making_at_a_power_cut_is_whole_or_gone(cuts):
    """Cuts in the middle of creates and removals, at no particular moment."""
    engine = cuts.engine.load_busybox()
    promised, ending = {}, threading.Event()

    def busy():
        for number in range(1000):
            if ending.is_set():
                return
            name = f"n{number}"
            id = create(engine, name)
            if number % 3 == 0:
                engine.api("DELETE", f"/containers/{id}")
            else:
                promised[name] = id

    worker = threading.Thread(target=busy)
    worker.start()
    try:
        for number in range(3):
            wait_until(lambda: len(promised) >= 4 * (number + 1), 60, "some containers")
            before = dict(promised)

            def whole(engine, before=before):
                listed = {c["Names"][0][1:]: c["Id"] for c in engine.api("GET", "/containers/json?all=1")[1]}
                assert before.items() <= listed.items(), set(before) - set(listed)
                for name in listed.keys() - before.keys():
                    assert engine.api("POST", f"/containers/{name}/start")[0] == 204
                    assert engine.api("DELETE", f"/containers/{name}?force=1")[0] == 204
                wait_until(lambda: not leftovers(engine), 30, f"no orphans: {leftovers(engine)}")
                runs(engine, next(iter(before)))

            cuts.at(f"busy{number}", whole)
    finally:
        ending.set()
        worker.join()
    assert ctr(engine, "leases", "ls", "-q") == [""]
    assert cuts.come_back() == {}


def test_kills_restarts_and_pauses_survive_a_power_cut_at_each_2xx(cuts):
    engine = cuts.engine.load_busybox()
    id = create(engine, "one")
    post(engine, "/containers/one/start")

    def at_rest(*codes, after="2026"):
        """It is there, ended, and whole; what the power ended is 255."""

        def check(engine):
            about = engine.inspect("one")
            state = about["State"]
            assert about["Id"] == id and (state["Status"], state["Paused"]) == ("exited", False), state
            assert state["ExitCode"] in codes and state["StartedAt"] >= after, (state, after)
            runs(engine, "one")

        return check

    post(engine, "/containers/one/pause")
    cuts.at("pause", at_rest(255))
    post(engine, "/containers/one/unpause")
    cuts.at("unpause", at_rest(255))
    first = engine.inspect("one")["State"]["StartedAt"]
    post(engine, "/containers/one/restart?t=0")
    second = engine.inspect("one")["State"]["StartedAt"]
    assert second > first
    cuts.at("restart", at_rest(255, after=second))
    post(engine, "/containers/one/kill")
    # A kill is answered when the process is dead; its exit may be read back from nowhere after a power cut.
    cuts.at("kill", at_rest(137, 255, after=second))
    post(engine, "/containers/one/restart?t=0")
    third = engine.inspect("one")["State"]["StartedAt"]
    cuts.at("restart of one at rest", at_rest(255, after=third))
    assert cuts.come_back() == {}


def test_imports_and_prunes_survive_a_power_cut_at_each_2xx(cuts):
    engine = cuts.engine.load_busybox()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("marker")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"here\n"))
    code, body = engine.api("POST", "/images/create?fromSrc=-&repo=imported&tag=1", archive.getvalue(), raw=True)
    assert code == 200 and b"error" not in body, body

    def imported(engine):
        assert "imported:1" in tags(engine)
        id = post(engine, "/containers/create", {"Image": "imported:1", "Cmd": ["x"]})["Id"]
        code, tar = engine.api("GET", f"/containers/{id}/archive?path=/marker", raw=True)
        assert code == 200 and b"here\n" in tar
        assert engine.api("DELETE", f"/containers/{id}")[0] == 204

    cuts.at("import", imported)

    create(engine, "rests")
    post(engine, "/volumes/create", {"Name": "kept", "Labels": {"keep": "1"}})
    anonymous = post(engine, "/volumes/create", {})["Name"]
    post(engine, "/networks/create", {"Name": "net"})

    def listed(engine):
        return {
            "containers": {c["Names"][0] for c in engine.api("GET", "/containers/json?all=1")[1]},
            "volumes": {v["Name"] for v in engine.api("GET", "/volumes")[1]["Volumes"] or []},
            "networks": {n["Name"] for n in engine.api("GET", "/networks")[1]} - {"bridge", "host", "none"},
            "tags": set(tags(engine)),
        }

    there = {"containers": {"/rests"}, "volumes": {"kept", anonymous}, "networks": {"net"}, "tags": {"busybox:latest", "imported:1"}}
    assert listed(engine) == there
    for kind, left in (("containers", set()), ("volumes", {"kept"}), ("networks", set())):
        answer = post(engine, f"/{kind}/prune")
        assert any(answer.values()), answer
        there = {**there, kind: left}

        def gone(engine, there=dict(there)):
            assert listed(engine) == there
            wait_until(lambda: not leftovers(engine), 30, lambda: f"nothing left of it: {leftovers(engine)}")

        cuts.at(f"{kind} prune", gone)
    answer = post(engine, "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D")
    assert answer["ImagesDeleted"], answer

    def no_images(engine):
        assert tags(engine) == []
        wait_until(lambda: not image_leftovers(engine), 30, lambda: f"no blob left: {image_leftovers(engine)}")
        engine.load_busybox()
        assert engine.out("run", "--rm", "busybox", "echo", "works") == "works"

    cuts.at("image prune", no_images)
    assert cuts.come_back() == {}
