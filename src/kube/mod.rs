//! kube: the object model.

pub mod client;
pub mod controller;
pub mod defaults;
pub mod discovery;
pub mod events;
pub mod field_selector;
pub mod informer;
pub mod leader_election;
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
