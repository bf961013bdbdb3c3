//! Bytes from outside, bent in every way: each parser that meets them answers or refuses, and never panics.
//!
//! `CHORUS_FUZZ_INPUTS` says how many inputs each parser gets, `CHORUS_FUZZ_SEED` which: `CHORUS_FUZZ_INPUTS=1000000
//! cargo test --release --test fuzz`.
//!
//! - [`mutate`]: bends valid inputs
//! - [`files`]: files of other programs and of ours; [`messages`]: what comes from the network and the operator
//! - [`requests`]: what clients of etcd ask a running [`member`]; [`kubernetes`]: what Kubernetes clients send
#![allow(clippy::disallowed_methods, reason = "tests stand outside the world they test")]

mod files;
mod kubernetes;
mod member;
mod messages;
mod mutate;
mod requests;
