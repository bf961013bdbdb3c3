//! The directory of a local cluster, as an argument of commands.

use std::path::PathBuf;

/// Where a local cluster lives unless a variable or a flag says otherwise.
pub const DATA_DIR: &str = "chorus-data";
pub const DATA_DIR_VARIABLE: &str = "CHORUS_DATA_DIR";

/// Where a local cluster lives.
#[derive(clap::Args, Clone, Debug)]
pub struct DataDir {
    /// Directory of the cluster: its data, certificates, logs and kubeconfig
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, env = DATA_DIR_VARIABLE)]
    pub data_dir: PathBuf,
}
