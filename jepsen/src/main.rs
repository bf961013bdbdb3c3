//! The `jepsen` binary.

// Whoever reads a stream may leave, and then these panic: print through `chorus_terminal`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
