//! Why the options of a member's tokens are refused.

/// The options are wrong. Surface it, and do not start: a member that takes other tokens than its peers locks people
/// out.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    #[error("auth: invalid auth options")]
    Options,
    /// Not a signing method, or one that this release does not sign with.
    #[error("auth: invalid auth signature method: {0:?}")]
    Method(String),
    #[error("auth: missing key data")]
    MissingKey,
    #[error("auth: public and private keys don't match")]
    KeyMismatch,
    #[error("auth: cannot read a key: {0}")]
    Key(String),
    #[error("auth: cannot read {file}: {error}")]
    File { file: String, error: std::io::Error },
}

impl BadToken {
    pub(super) fn key(error: jsonwebtoken::errors::Error) -> BadToken {
        BadToken::Key(error.to_string())
    }
}
