//! One pod: from its specification and what the engine shows to actions and a status.
//!
//! - [`lifecycle`]: what a pod's containers are to each other; shared by plan and status
//! - [`plan`]: what to do next; pure
//! - [`status`]: the status that the API gets; [`waiting`]: the events of a container that begins to wait; both pure
//! - [`memory`]: what is known beyond specification and engine; [`backoff`]: how long to wait before trying again
//! - [`actor`]: the actor of one pod; [`sync`]: how it brings the engine to the specification; [`probe`]: probes
//! - [`spec`]: from the pod's specification to the engine's; [`limits`]: resources; [`sysctls`]: kernel parameters;
//!   [`env`]: variables; [`downward_api`]: field references
//! - [`page`]: a pod as the notebook keeps it
//! - [`sources`]: the ConfigMaps and Secrets a pod names; [`content`]: what is in volumes; [`volumes`]: their files
//! - [`atomic_writer`]: files that change all at once; [`termination_message`]: what ended containers wrote

pub mod actor;
pub mod atomic_writer;
pub mod backoff;
pub mod content;
pub mod downward_api;
pub mod env;
pub mod lifecycle;
pub mod limits;
pub mod memory;
pub mod page;
pub mod plan;
pub mod probe;
pub mod sources;
pub mod spec;
pub mod status;
pub mod sync;
pub mod sysctls;
pub mod termination_message;
pub mod volumes;
pub mod waiting;
