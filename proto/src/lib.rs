//! The messages and services of etcd's v3 interface. Byte fields are [`bytes::Bytes`]: shared, never copied.
#![allow(clippy::all, reason = "generated code")]

/// The descriptors of all messages and services below, as a `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

pub mod authpb {
    tonic::include_proto!("authpb");
}

pub mod membershippb {
    tonic::include_proto!("membershippb");
}

pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
