//! The `jepsen` binary.

// Whoever reads a stream may leave, and then these panic: print through `chorus_terminal`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

fn main() -> std::process::ExitCode {
    // A check that panicked in a task must not pass for one that found nothing.
    let report = std::panic::take_hook();
    #[allow(clippy::disallowed_methods, reason = "a program of its own")]
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    cli::main()
}
