//! kube: the object model.

pub mod client;
pub mod object;
pub mod quantity;
pub mod selector;
pub mod status;
