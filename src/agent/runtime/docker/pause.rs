//! The image of the pause container: one static program, built with this binary and imported without a registry.
//!
//! The image's tag is a digest of the program, so agents of different versions share one engine.

use bollard::Docker as Engine;
use bollard::query_parameters::CreateImageOptions;
use bytes::Bytes;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::failure::failed;
use crate::agent::error::Error;

/// `pause/pause.rs`, compiled by `build.rs`; empty where it cannot be.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));
const REPOSITORY: &str = "chorus/pause";

/// Imports the image if the engine lacks it; returns its name.
pub(super) async fn ensure(engine: &Engine) -> Result<String, Error> {
    if PROGRAM.is_empty() {
        return Err(Error::NoEngine("this build carries no pause program for the processor".to_owned()));
    }
    let tag: String = Sha256::digest(PROGRAM).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let image = format!("{REPOSITORY}:{tag}");
    match engine.inspect_image(&image).await.map_err(failed) {
        Ok(_) => return Ok(image),
        Err(Error::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(REPOSITORY.to_owned()),
        tag: Some(tag),
        changes: vec![r#"ENTRYPOINT ["/pause"]"#.to_owned()],
        ..Default::default()
    };
    let body = bollard::body_full(archive()?);
    engine.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await.map_err(failed)?;
    Ok(image)
}

/// The file system of the image.
fn archive() -> Result<Bytes, Error> {
    let mut header = tar::Header::new_gnu();
    header.set_size(PROGRAM.len() as u64);
    header.set_mode(0o755);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "pause", PROGRAM)?;
    Ok(archive.into_inner()?.into())
}
