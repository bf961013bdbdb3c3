//! Whole clusters of real processes, tried as their users try them: with the built binary, etcdctl, kubectl and Docker.
//!
//! A test that needs a tool which this machine lacks says so in one line and counts as ignored; with
//! `CHORUS_TESTS_COMPLETE=1` it runs, and fails, instead.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests stand outside the world they test")]

mod bad_input;
mod cluster;
mod confinement;
mod crashes;
mod documents;
mod etcd_clients;
mod exhaustion;
mod failover;
mod formats;
mod identity;
mod kube_crate;
mod kubernetes;
mod migration;
mod pods;
mod server;
mod terminal;

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
    let curl = Need::Program("curl");
    let trials = vec![
        trial("etcdctl_works_against_every_member", &[etcdctl], etcd_clients::etcdctl_works_against_every_member),
        trial("writes_go_on_after_the_leader_is_killed", &[Need::Nothing], failover::writes_go_on),
        trial("a_damaged_node_heals", &[Need::Nothing], failover::a_damaged_node_heals),
        trial("few_file_descriptors_are_enough", &[Need::Nothing], exhaustion::few_descriptors),
        trial("every_acknowledged_write_survives_kill_9", &[Need::Nothing], crashes::writes_survive),
        trial("data_goes_from_etcd_to_chorus_and_back", &[etcd, etcdctl], migration::from_etcd_and_back),
        trial("every_format_so_far_is_read", &[etcdctl], formats::every_format_is_read),
        Trial::test("make_a_data_directory", formats::make).with_ignored_flag(true),
        trial("kubectl_works", &[kubectl], kubernetes::kubectl_works),
        trial("the_kube_crate_works", &[Need::Nothing], kube_crate::the_kube_crate_works),
        trial("a_deployment_rolls_out", &[kubectl], kubernetes::a_deployment_rolls_out),
        trial("what_does_not_fit_waits_until_it_does", &[kubectl], kubernetes::what_does_not_fit_waits),
        trial("what_others_wrote_is_out_of_reach", &[kubectl], kubernetes::what_others_wrote_is_out_of_reach),
        trial("a_lost_node_is_replaced_and_comes_back", &[kubectl], kubernetes::a_lost_node_is_replaced),
        trial("every_port_asks_who_is_there", &[kubectl, curl], identity::every_port_asks_who_is_there),
        trial("components_apart_have_names_of_their_own", &[kubectl, curl], identity::components_apart),
        trial("a_cluster_that_spoke_plain_goes_on", &[curl], identity::a_plain_cluster_goes_on),
        trial("pods_run_in_docker", &[kubectl, Need::Docker], pods::pods_run_in_docker),
        trial("pods_keep_to_what_is_theirs", &[kubectl, Need::Docker], confinement::pods_keep_to_what_is_theirs),
        trial("bad_manifests_get_one_clear_error", &[kubectl], bad_input::manifests),
        trial("bad_files_get_one_clear_error", &[Need::Nothing], bad_input::files),
        trial("what_the_documents_say_to_type_works", &[etcdctl, kubectl], documents::command_lines_work),
        trial("readers_of_the_output_may_leave", &[Need::Nothing], terminal::readers_may_leave),
        trial("down_ends_an_up_elsewhere", &[Need::Nothing], terminal::down_ends_up_elsewhere),
        trial("two_clusters_run_side_by_side", &[Need::Nothing], terminal::two_clusters_run_side_by_side),
        trial("ports_of_the_kernel_are_warned_of", &[Need::Nothing], terminal::ports_of_the_kernel_are_warned_of),
        trial("variables_need_not_be_text", &[Need::Nothing], bad_input::variables),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
