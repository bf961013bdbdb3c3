//! A container's termination message, or the end of its log if its policy says so.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;

use super::lifecycle;
use super::volumes::PodDir;
use crate::agent::context::Context;
use crate::agent::error::Error;
use crate::agent::runtime::{Container, Exit, LogOptions};

const LOG_LINES_MAX: u64 = 80;
const LOG_BYTES_MAX: usize = 2048;
/// How long reading the log may take.
const LOG_TIME_MAX: Duration = Duration::from_secs(5);

pub async fn read(context: &Context, dir: &PodDir, pod: &Pod, container: &Container, exit: &Exit) -> Option<String> {
    let written = container.termination_message.as_ref().and_then(|path| dir.read_message(path));
    let mut specs = lifecycle::spec(pod).containers.iter().chain(lifecycle::init_containers(pod));
    let policy = specs.find(|spec| spec.name == container.name)?.termination_message_policy.as_deref();
    if written.is_some() || policy != Some("FallbackToLogsOnError") || exit.code == 0 {
        return written;
    }
    let read = context.world.clock.timeout(LOG_TIME_MAX, end_of_log(context, &container.id));
    read.await.ok()?.ok().filter(|text| !text.is_empty())
}

async fn end_of_log(context: &Context, id: &str) -> Result<String, Error> {
    let options = LogOptions { tail_lines: Some(LOG_LINES_MAX), ..LogOptions::default() };
    let mut log = context.runtime.logs(id, options).await?;
    let mut end = Vec::new();
    while let Some(part) = log.try_next().await? {
        end.extend_from_slice(&part);
        end.drain(..end.len().saturating_sub(LOG_BYTES_MAX));
    }
    Ok(String::from_utf8_lossy(&end).into_owned())
}
