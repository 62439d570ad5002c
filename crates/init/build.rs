//! Links the binary statically: it runs in images that have no C library at all.
//!
//! rustc asks for the shared `gcc_s` and `c` unless the whole build is told `+crt-static`, which a plain
//! `cargo build` of the workspace is not. So the linker is shown scripts of those names, in a folder that it searches
//! first, which name the archives instead.

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    // Seen from both crates that name this script as theirs.
    println!("cargo:rerun-if-changed=../init/build.rs");
    println!("cargo:rerun-if-env-changed=CC");
    let target_env = env::var("CARGO_CFG_TARGET_ENV").unwrap_or_default();
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if target_env != "gnu" || features.split(',').any(|feature| feature == "crt-static") {
        return; // musl, or told so: static already
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let archives = ["libc.a", "libgcc_eh.a", "libgcc.a"].map(archive);
    let [libc, libgcc_eh, libgcc] = &archives;
    let script = format!("GROUP ( {libc} {libgcc_eh} {libgcc} )\n");
    for name in ["libc.so", "libgcc_s.so", "libm.so", "libutil.so", "librt.so", "libpthread.so", "libdl.so"] {
        fs::write(out.join(name), &script).expect("OUT_DIR can be written");
    }
    println!("cargo:rustc-link-arg-bins=-L{}", out.display());
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=-static");
}

/// Where the C compiler keeps an archive.
fn archive(name: &str) -> String {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let found = Command::new(&compiler).arg(format!("-print-file-name={name}")).output();
    let path = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    assert!(path.starts_with('/'), "{compiler} has no {name}: install the C library's development files");
    path
}
