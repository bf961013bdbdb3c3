//! What `--help` and `--version` print.

use std::fmt::Write;
use std::process::ExitCode;

use crate::cli::terminal;
use crate::cluster::server::{FLAGS, Options};

/// Which sources this was built from, if the build knows.
const GIT_SHA: &str = match option_env!("CHORUS_GIT_SHA") {
    Some(sha) => sha,
    None => "GitNotFound",
};

/// Printed to stderr after arguments that cannot be read.
pub const USAGE: &str = "Usage:

  etcd [flags]
    Start an etcd server.

  etcd --version
    Show the version of etcd.

  etcd -h | --help
    Show the help information about etcd.

  etcd --config-file
    Path to the server configuration file. Note that if a configuration file is provided, other command line flags and \
     environment variables will be ignored.

  etcd gateway
    Run the stateless pass-through etcd TCP connection forwarding proxy.

  etcd grpc-proxy
    Run the stateless etcd v3 gRPC L7 reverse proxy.
";

/// Prints a text that the arguments ask for.
pub fn show(text: &str) -> ExitCode {
    match terminal::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => terminal::fail(&error.into(), 1),
    }
}

/// The usage, and every flag with its default.
pub fn text() -> String {
    let mut text = USAGE.to_owned();
    let defaults = Options::default();
    let mut section = "";
    for flag in FLAGS {
        if flag.section != section {
            section = flag.section;
            let _ = write!(text, "\n{section}:\n");
        }
        let _ = write!(text, "  --{} '{}'\n    {}\n", flag.name, defaults.show(flag.name), flag.help);
    }
    text
}

/// The lines of `--version`.
pub fn version(release: &str) -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let arch = match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // Scripts read all four lines. There is no Go version, as this is not a Go program.
    format!("etcd Version: {release}\nGit SHA: {GIT_SHA}\nGo Version: none\nGo OS/Arch: {os}/{arch}\n")
}
