//! The configuration of a scheduler.

use crate::kube::leader_election;

#[derive(Clone, Debug)]
pub struct Config {
    /// It schedules pods with this `schedulerName`.
    pub scheduler_name: String,
    /// The Lease by which one of several equal schedulers leads.
    pub election: leader_election::Config,
}

impl Config {
    /// The default scheduler; `identity` is unique among its equals.
    pub fn new(identity: &str) -> Config {
        Config {
            scheduler_name: "default-scheduler".to_owned(),
            election: leader_election::Config::new("kube-scheduler", identity),
        }
    }
}
