//! What is wrong gets one clear error that names it, and nothing else breaks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use libtest_mimic::Failed;

use crate::cluster::{Said, TestCluster, chorus, free_ports};

pub fn manifests() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n");
    for (manifest, expected) in [
        (pod("{containers: [{name: c, image: i, ports: [{containerPort: eighty}]}]}"), "containerPort"),
        (pod("{containers: [{name: c, image: i}], colour: red}"), "unknown field \"spec.colour\""),
        (pod("{containers: []}"), "spec.containers: Required value"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n".to_owned(), "name"),
    ] {
        let said = cluster.apply(&manifest);
        assert!(!said.ok && said.err.contains(expected), "{expected:?} is not in {said:?}");
    }
    let big = "x".repeat(10 << 20);
    let said =
        cluster.apply(&format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{k: \"{big}\"}}\n"));
    assert!(!said.ok && said.err.contains("too large"), "{}", &said.err[..said.err.len().min(500)]);
    assert!(cluster.kubectl(&["get", "nodes"]).ok);
    Ok(())
}

pub fn files() -> Result<(), Failed> {
    let cluster = TestCluster::prepare();
    let broken = cluster.path().join("broken.toml");
    std::fs::write(&broken, "name = \"x\"\ncolour = \"red\"\n")?;
    let data_dir = cluster.data_dir();
    let up = |config: &std::path::Path| {
        let (config, data_dir) = (config.to_str().unwrap(), data_dir.to_str().unwrap());
        chorus(&["up", "--detach", "--runtime", "hollow", "--config", config, "--data-dir", data_dir])
    };
    let said = up(&broken);
    assert!(!said.ok && said.err.contains("broken.toml") && said.err.contains("colour"), "{said:?}");
    let said = up(&cluster.path().join("absent.toml"));
    assert!(!said.ok && said.err.matches("absent.toml").count() == 1, "{said:?}");
    assert_eq!(said.err.matches("No such file").count(), 1, "{said:?}");

    let port = free_ports(1)[0];
    let taken = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let config = cluster.path().join("taken.toml");
    let other = free_ports(3);
    std::fs::write(
        &config,
        format!(
            "name = \"x\"\n[[node]]\nname = \"n1\"\nclient = \"127.0.0.1:{port}\"\npeer = \"127.0.0.1:{}\"\napi = \"127.0.0.1:{}\"\nkubelet = \"127.0.0.1:{}\"\n",
            other[0], other[1], other[2]
        ),
    )?;
    let said = up(&config);
    let holder = format!("(process {}) listens there already", std::process::id());
    assert!(!said.ok && said.err.contains(&format!("n1 client 127.0.0.1:{port}: ")), "{said:?}");
    assert!(said.err.matches(&holder).count() == 1 && said.err.contains("--port-offset"), "{said:?}");
    drop(taken);
    Ok(())
}

pub fn variables() -> Result<(), Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chorus"));
    command.args(["etcd", "--listen-client-urls", "http://example.com:1"]);
    let said = Said::from(command.env("NO_TEXT", OsStr::from_bytes(b"\xff")).output()?);
    assert!(!said.ok && said.err.contains("failed to verify flags"), "{said:?}");
    Ok(())
}
