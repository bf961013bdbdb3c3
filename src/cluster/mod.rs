//! Clusters: what a node consists of, and how several of them are launched on one machine.
//!
//! ```text
//!   cli ─▶ launcher ─▶ processes of `chorus node` ─▶ Node ─▶ the actors of its roles
//!             │ health: asked over sockets             ▲  └ store: Member ◀─ server: `chorus etcd`
//!             └ local: DIR with data, certificates     └ config, pki
//! ```
//!
//! - [`config`]: the cluster configuration file; [`ports`]: whether its nodes could listen now
//! - [`pki`], [`kubeconfig`]: certificates, keys, and the administrator's way in
//! - [`member`]: one member of the store, started as its [`member_plan`] says; [`identity`]: which one it is;
//!   [`heal`]: one whose files are damaged
//! - [`node`]: one node, its actors started and ended in order; `member_ports`: what its member of the store speaks;
//!   [`components`]: how its components reach the API
//! - [`server`]: one member as a process of its own, with etcd's options
//! - [`local`]: a local cluster's directory and processes
//! - [`launcher`]: starts, watches and ends them; [`ports`]: whether they could listen
//! - [`health`]: how far each has come; `http`: one plain GET
//! - [`remote`]: clients of what runs elsewhere

mod components;
pub mod config;
pub mod heal;
pub mod health;
mod http;
pub mod identity;
pub mod kubeconfig;
pub mod launcher;
pub mod local;
pub mod member;
pub mod member_plan;
mod member_ports;
pub mod node;
pub mod pki;
pub mod ports;
pub mod remote;
pub mod server;
