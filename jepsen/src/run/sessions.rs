//! The clients of a run.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use super::Options;
use crate::client::{Client, Gateway, Grpc, Kubernetes};
use crate::cluster::{Cluster, member, namespaces, node};
use crate::history::Recorder;
use crate::workload::{Session, Workload};

/// How long an operation under way may take to end.
const DRAIN: Duration = Duration::from_secs(20);

pub struct Sessions {
    options: Options,
    cluster: Rc<Cluster>,
    workload: Arc<dyn Workload>,
    recorder: Recorder,
    stopping: Rc<Cell<bool>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sessions {
    pub fn new(options: &Options, cluster: Rc<Cluster>, workload: Arc<dyn Workload>, recorder: Recorder) -> Sessions {
        let (options, stopping) = (options.clone(), Rc::default());
        Sessions { options, cluster, workload, recorder, stopping, tasks: Vec::new() }
    }

    /// Sessions are spread over all members; every other one uses the JSON gateway.
    fn session(&self, number: u64) -> anyhow::Result<Session> {
        let members = self.cluster.members.len() as u64;
        let at = usize::try_from(number % members).expect("a cluster is small") + 1;
        let url = self.cluster.url(at);
        let client = match number / members % 2 {
            0 => Client::Grpc(Grpc::new(&url)),
            _ => Client::Gateway(Gateway::new(&url)),
        };
        let everyone =
            self.cluster.numbers().into_iter().map(|at| (member::name(at), Grpc::new(&self.cluster.url(at)))).collect();
        let random = SmallRng::seed_from_u64(self.options.seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // One number more than there are sessions: that of the first and the last look.
        let step = self.options.sessions + 1;
        let mut session =
            Session::new(number, step, member::name(at), client, Arc::new(everyone), random, self.recorder.clone());
        if self.cluster.plan.nodes {
            let (host, pki) = (namespaces::address(at), node::pki(&self.cluster.plan));
            session.kubernetes = Some(Kubernetes::new(&host, node::API_PORT, &pki)?);
        }
        Ok(session)
    }

    pub async fn set_up(&self) -> anyhow::Result<()> {
        let mut session = self.session(self.options.sessions)?;
        self.workload
            .set_up(&mut session)
            .await
            .map_err(|failed| anyhow!(failed))
            .context("the workload was not set up")
    }

    pub fn start(&mut self) -> anyhow::Result<()> {
        let pause_s = self.options.sessions as f64 / self.options.rate;
        for number in 0..self.options.sessions {
            let mut session = self.session(number)?;
            let (workload, stopping) = (self.workload.clone(), self.stopping.clone());
            self.tasks.push(tokio::task::spawn_local(async move {
                while !stopping.get() {
                    let pause = session.random.random_range(0.0..2.0) * pause_s;
                    tokio::time::sleep(Duration::from_secs_f64(pause)).await;
                    workload.step(&mut session).await;
                }
            }));
        }
        Ok(())
    }

    /// Lets operations under way end.
    pub async fn stop(&mut self) {
        self.stopping.set(true);
        let tasks = std::mem::take(&mut self.tasks);
        let _ = tokio::time::timeout(DRAIN, futures::future::join_all(tasks)).await;
    }

    pub async fn finish(&self) -> anyhow::Result<()> {
        let mut session = self.session(self.options.sessions)?;
        self.workload.finish(&mut session).await;
        Ok(())
    }
}
