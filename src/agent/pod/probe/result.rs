//! The result of one probe of a container.

/// The User-Agent of probes and hooks.
pub(super) const USER_AGENT: &str = "kube-probe/1.35";

/// The result of one probe or hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    Success,
    Failure(String),
    /// The probe could not run: that says nothing about the container.
    Unknown(String),
}

impl ProbeResult {
    /// For hooks: one that could not run failed.
    pub fn into_result(self) -> Result<(), String> {
        match self {
            ProbeResult::Success => Ok(()),
            ProbeResult::Failure(why) | ProbeResult::Unknown(why) => Err(why),
        }
    }
}

pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
