//! Whole clusters of real processes, tried as their users try them: with the built binary, etcdctl, kubectl and Docker.
//!
//! A test that needs a tool which this machine lacks says so in one line and counts as ignored; with
//! `CHORUS_TESTS_COMPLETE=1` it runs, and fails, instead.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests stand outside the world they test")]

mod bad_input;
mod cluster;
mod crashes;
mod etcd_clients;
mod failover;
mod formats;
mod kube_crate;
mod kubernetes;
mod migration;
mod pods;
mod server;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test needs of the machine.
#[derive(Clone, Copy)]
enum Need {
    Nothing,
    Program(&'static str),
    Docker,
}

impl Need {
    /// Why the machine cannot give it.
    fn missing(self) -> Option<String> {
        let runs = |program: &str, argument: &str| {
            std::process::Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
        };
        match self {
            Need::Nothing => None,
            Need::Program(name) => (!runs("which", name)).then(|| format!("{name} is not installed")),
            Need::Docker => {
                let there = runs("docker", "info") && std::path::Path::new("/bin/busybox").exists();
                (!there).then(|| "no Docker engine answers, or there is no static /bin/busybox".to_owned())
            }
        }
    }
}

fn trial(name: &'static str, needs: &[Need], test: fn() -> Result<(), Failed>) -> Trial {
    let complete = std::env::var_os("CHORUS_TESTS_COMPLETE").is_some();
    let missing = needs.iter().find_map(|need| need.missing()).filter(|_| !complete);
    if let Some(why) = &missing {
        eprintln!("{name} is ignored: {why}");
    }
    Trial::test(name, test).with_ignored_flag(missing.is_some())
}

fn main() {
    let mut arguments = Arguments::from_args();
    // Each test launches a cluster of its own: one at a time leaves it the machine.
    arguments.test_threads = Some(1);
    let etcdctl = Need::Program("etcdctl");
    let kubectl = Need::Program("kubectl");
    let etcd = Need::Program("etcd");
    let trials = vec![
        trial("etcdctl_works_against_every_member", &[etcdctl], etcd_clients::etcdctl_works_against_every_member),
        trial("writes_go_on_after_the_leader_is_killed", &[Need::Nothing], failover::writes_go_on),
        trial("a_damaged_node_heals", &[Need::Nothing], failover::a_damaged_node_heals),
        trial("every_acknowledged_write_survives_kill_9", &[Need::Nothing], crashes::writes_survive),
        trial("data_goes_from_etcd_to_chorus_and_back", &[etcd, etcdctl], migration::from_etcd_and_back),
        trial("every_format_so_far_is_read", &[etcdctl], formats::every_format_is_read),
        Trial::test("make_a_data_directory", formats::make).with_ignored_flag(true),
        trial("kubectl_works", &[kubectl], kubernetes::kubectl_works),
        trial("the_kube_crate_works", &[Need::Nothing], kube_crate::the_kube_crate_works),
        trial("a_deployment_rolls_out", &[kubectl], kubernetes::a_deployment_rolls_out),
        trial("what_does_not_fit_waits_until_it_does", &[kubectl], kubernetes::what_does_not_fit_waits),
        trial("a_lost_node_is_replaced_and_comes_back", &[kubectl], kubernetes::a_lost_node_is_replaced),
        trial("pods_run_in_docker", &[kubectl, Need::Docker], pods::pods_run_in_docker),
        trial("bad_manifests_get_one_clear_error", &[kubectl], bad_input::manifests),
        trial("bad_files_get_one_clear_error", &[Need::Nothing], bad_input::files),
        trial("variables_need_not_be_text", &[Need::Nothing], bad_input::variables),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
