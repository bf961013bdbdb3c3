//! Compiles the .proto files with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=etcd");
    let files =
        ["kv.proto", "auth.proto", "membership.proto", "rpc.proto", "lock.proto", "election.proto", "health.proto"];
    let descriptors = protox::compile(files, ["etcd"])?;
    write_descriptors(descriptors.clone())?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// The descriptors are part of the crate, without what only a reader of the .proto files needs.
#[allow(clippy::disallowed_methods, reason = "a build script has no simulated twin")]
fn write_descriptors(mut descriptors: prost_types::FileDescriptorSet) -> Result<(), Box<dyn std::error::Error>> {
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let directory = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(directory.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    Ok(())
}
