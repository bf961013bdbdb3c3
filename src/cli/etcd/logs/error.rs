//! Why the process cannot log.

/// Why the process cannot log as its options say. Surface it: the operator has to change an option.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    #[error("unknown logger option {0:?}")]
    Logger(String),
    #[error("unrecognized level: {0:?}")]
    Level(String),
    #[error("unknown log format: {0}, supported values json, console")]
    Format(String),
    #[error("multi logoutput for \"default\" is not supported yet")]
    ManyWithDefault,
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    Rotation,
    #[error("improperly formatted log rotation config: {0}")]
    RotationConfig(String),
    #[error("cannot log to {output}: {cause}")]
    Open { output: String, cause: String },
}
