#!/usr/bin/env python3
"""Fails when api-spec/coverage.toml names a test that did not run and pass, or a done operation without a test.

Usage: check_coverage.py COVERAGE.toml JUNIT.xml
A test is named as `tests/e2e/test_x.py::test_y`, `test_x.py::test_y` or `test_y`; a parametrised one without its [...].
"""

import sys
import tomllib
import xml.etree.ElementTree as xml

STATES = {"done", "partial", "todo"}


def outcomes(path):
    """Test's short names (`file::test`, `test`) → whether every run of it passed."""
    found = {}
    for case in xml.parse(path).getroot().iter("testcase"):
        passed = not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        test = case.get("name", "").split("[")[0]
        module = case.get("classname", "").split(".")
        names = {test} | {f"{part}.py::{test}" for part in module if part.startswith("test_")}
        for name in names:
            found[name] = found.get(name, True) and passed
    return found


def problems(operations, found):
    for operation, entry in operations.items():
        state, tests = entry.get("state"), entry.get("test", "")
        if state not in STATES:
            yield f"{operation}: state {state!r} is none of {', '.join(sorted(STATES))}"
        if state == "done" and not tests:
            yield f"{operation}: done, but no test is named"
        if state != "done" and not entry.get("missing"):
            yield f"{operation}: {state}, but what is missing is not said"
        for test in tests if isinstance(tests, list) else tests.split():
            passed = found.get(test.removeprefix("tests/e2e/"))
            if passed is None:
                yield f"{operation}: its test {test} did not run"
            elif not passed:
                yield f"{operation}: its test {test} did not pass"


def main(coverage, junit):
    with open(coverage, "rb") as file:
        operations = tomllib.load(file)
    wrong = list(problems(operations, outcomes(junit)))
    for line in wrong:
        print(line)
    states = [entry.get("state") for entry in operations.values()]
    print(", ".join(f"{states.count(state)} {state}" for state in ("done", "partial", "todo")), "operations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
