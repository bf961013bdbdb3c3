//! The `chorus` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chorus::world::panics::install_hook(std::panic::take_hook());
    chorus::cli::main()
}
