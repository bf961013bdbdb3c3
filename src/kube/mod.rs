//! kube: the object model.

pub mod client;
pub mod object;
pub mod status;
