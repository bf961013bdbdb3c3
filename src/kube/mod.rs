//! kube: the object model that the API frontends, the controllers, the scheduler and the agents share. The model
//! is pure; only the client and what is built on it do I/O.
//!
//! ```text
//!                       ┌───────────── resources: the one table ─────────────────────┐
//!   body ─▶ schema ─▶ patch, managed_fields ─▶ defaults ─▶ validation ─▶ object    discovery, openapi, printing
//!                                                                           │
//!   components ◀── controller, informer, work_queue, events ◀── client (in process, or HTTPS)
//! ```
//!
//! What an object is:
//! - [`object`]: JSON with its identity parsed; [`tree`]: reading and filling JSON by field; [`time`]: its times
//! - [`resources`]: the table of kinds; [`names`], [`quantity`], [`selector`], [`field_selector`]: its small languages
//! - [`status`]: every refusal of the API
//!
//! What is done with it:
//! - [`schema`]: strict decoding; [`patch`], [`managed_fields`]: patches and server-side apply
//! - [`defaults`], [`validation`]: what is filled in, and the rules; [`coverage`]: which component acts on a field
//! - [`printing`], [`discovery`], [`openapi`]: what clients are shown
//!
//! How components reach it:
//! - [`client`]: requests; [`informer`], [`work_queue`], [`controller`]: watching and reconciling
//! - [`events`]: messages to users; [`leader_election`]: one leader among several

pub mod client;
pub mod controller;
pub mod coverage;
pub mod defaults;
pub mod discovery;
pub mod events;
pub mod field_selector;
pub mod informer;
pub mod leader_election;
pub mod managed_fields;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod printing;
pub mod quantity;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod tree;
pub mod validation;
pub mod work_queue;
