"""Rust's SDK: crates/daemon/examples/bollard_tour.rs against an engine."""

from harness import BIN, run


def test_the_tour_of_bollard(engine):
    done = run(BIN / "examples" / "bollard_tour", engine.socket, timeout=60)
    assert done.stdout == "the tour is over\n"
