//! The one table of resources: it drives routing, discovery, OpenAPI, printing, short names, subresources and storage
//! prefixes. Adding a kind is one entry; custom resources are entries made at run time.
//!
//! ```text
//!   path /apis/apps/v1/.../deployments ──Table::get──▶ Resource ──┬─ default, prepare_*, validate_*  (request path)
//!   object apiVersion + kind ───────Table::by_kind──▶             ├─ storage_key                     (store)
//!                                                                 ├─ printer, field_value            (tables, selectors)
//!                                                                 └─ verbs, subresources, names      (discovery, OpenAPI)
//! ```
//!
//! - [`resource`]: the entry; [`strategy`]: what the request path does with its objects
//! - [`build`]: how an entry is written down
//! - [`table`]: lookups
//! - [`update`]: what an update may not change
//! - [`core`], [`apps`], [`rbac`], [`authorization`], [`coordination`], [`discovery`]: the entries, a file a group

mod apps;
mod authorization;
mod build;
mod coordination;
mod core;
mod discovery;
mod rbac;
pub mod resource;
mod strategy;
pub mod table;
mod update;

pub use resource::{ApiSubresource, Resource, SchemaSource, Scope, Subresource, definition_of_kind, group_version};
pub use table::Table;
