//! Chorus: a drop-in etcd v3 and a Kubernetes-compatible control plane on that store.
//!
//! Every component is an actor, or a task with a name. They share nothing: they learn of the world through watch streams
//! from the replicated store, and change it only by writing to the store. Above the store they are supervised, and started
//! anew when they panic; a panic in the store, or below it, ends the process.
//!
//! | room | floor | what it is for |
//! |---|---|---|
//! | [`cli`] | 9 | commands: argument parsing and calls into `cluster` |
//! | [`cluster`] | 8 | cluster configuration, which actors run where, the local launcher |
//! | [`agent`] | 7 | one node's pods: runtimes, volumes, probes, node status |
//! | [`controllers`] | 7 | one actor a controller: node, replication, endpoints, tokens, ... |
//! | [`scheduler`] | 7 | the scheduler actor: queue, filters, scores, binding |
//! | [`apiserver`] | 6 | Kubernetes API frontends: request path, watch cache, discovery, OpenAPI |
//! | [`kube`] | 5 | the object model those rooms share: resources, schema, selectors, patches, the client |
//! | [`etcd`] | 5 | etcd API frontends: gRPC services and HTTP endpoints; translation only |
//! | [`store`] | 4 | the etcd data model: MVCC, transactions, watches, leases; the store client |
//! | [`raft`] | 3 | replica actors: openraft glue, proposer, log, peers, snapshots, membership |
//! | [`disk`] | 2 | durable bytes: write-ahead log, segments, checkpoints, manifest; the notebook |
//! | [`actor`] | 1 | the actor kit: mailbox bounds, deadlines, supervision, shutdown |
//! | [`world`] | 0 | clock, randomness, network, files, spawning: each real and simulated |
//!
//! A file imports from its own room and from lower floors only, and rooms on one floor never import each other;
//! `tests/floors/` checks it.

// Whoever reads a stream may leave, and then these panic: print through `chorus_terminal`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod actor;
pub mod agent;
pub mod apiserver;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod disk;
pub mod etcd;
pub mod kube;
pub mod raft;
pub mod scheduler;
pub mod store;
pub mod world;
