//! What is learned by asking a container once.

/// What probes and hooks call themselves.
pub(super) const USER_AGENT: &str = "kube-probe/1.35";

/// What was learned by asking once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Success,
    Failure(String),
    /// It could not be asked: that says nothing of the container.
    Unknown(String),
}

impl Answer {
    /// For hooks, which have to be asked.
    pub fn into_result(self) -> Result<(), String> {
        match self {
            Answer::Success => Ok(()),
            Answer::Failure(why) | Answer::Unknown(why) => Err(why),
        }
    }
}

pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
