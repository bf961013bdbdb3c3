//! Compiles the .proto files with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=etcd");
    let files =
        ["kv.proto", "auth.proto", "membership.proto", "rpc.proto", "lock.proto", "election.proto", "health.proto"];
    let descriptors = protox::compile(files, ["etcd"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
