//! `containerd-shim-gantry-v1`: one for each running container, started by containerd.

use std::process::ExitCode;

fn main() -> ExitCode {
    gantry_shim::main()
}
