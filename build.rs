//! Compiles the pause program, which the binary carries and gives to the container engine as an image.
//!
//! It is a program without libraries for the machine at hand, so nothing but the Rust toolchain is needed. Elsewhere
//! than on Linux, and on other processors, an empty file stands in: the Docker runtime then says that it has no pause
//! image.

#![allow(clippy::disallowed_methods, reason = "runs before there is a world")]

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

const SOURCE: &str = "pause/pause.rs";
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).expect("cargo sets it for build scripts");
    let out = PathBuf::from(variable("OUT_DIR")).join("pause");
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    if variable("CARGO_CFG_TARGET_OS") != "linux" || !ARCHITECTURES.contains(&architecture.as_str()) {
        fs::write(&out, []).expect("OUT_DIR is writable");
        return;
    }
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args([SOURCE, "--edition", "2024", "--crate-name", "pause", "--crate-type", "bin"]);
    rustc.args(["--target", &variable("TARGET")]);
    for option in ["opt-level=s", "panic=abort", "relocation-model=static", "strip=symbols", "debuginfo=0"] {
        rustc.args(["-C", option]);
    }
    for argument in ["-nostdlib", "-nostartfiles", "-static", "-no-pie", "-Wl,--build-id=none"] {
        rustc.args(["-C", &format!("link-arg={argument}")]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    let status = rustc.arg("-o").arg(&out).status().expect("cargo names a compiler that runs");
    assert!(status.success(), "{SOURCE} does not compile");
}
