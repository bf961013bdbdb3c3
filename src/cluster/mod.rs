//! cluster
pub mod config;
pub mod identity;
pub mod kubeconfig;
pub mod local;
pub mod pki;
