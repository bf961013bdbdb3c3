//! Pods in Docker: containers behind a pause container, restarted, replaced, and gone when their pod is.

use std::io::{Read, Write};

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, eventually, run};

const IMAGE: &str = "nginx:chorus-test";

const MANIFEST: &str = r#"
apiVersion: v1
kind: ReplicationController
metadata: {name: www}
spec:
  replicas: 3
  selector: {name: nginx}
  template:
    metadata: {labels: {name: nginx}}
    spec:
      containers:
      - name: nginx
        image: nginx:chorus-test
        imagePullPolicy: Never
        ports: [{containerPort: 80}]
        resources: {requests: {cpu: 50m, memory: 16Mi}}
        volumeMounts: [{name: www-data, mountPath: /etc/www}]
      volumes: [{name: www-data, emptyDir: {}}]
      restartPolicy: Always
      terminationGracePeriodSeconds: 1
---
apiVersion: v1
kind: Service
metadata: {name: www}
spec:
  selector: {name: nginx}
  ports: [{port: 80}]
"#;

pub fn pods_run_in_docker() -> Result<(), Failed> {
    build_image()?;
    let cluster = TestCluster::start("docker");
    let said = cluster.apply(MANIFEST);
    assert!(said.ok, "{said:?}");
    let addresses = eventually("three pods serve", || {
        let out = cluster.kubectl(&["get", "endpoints", "www", "-o", "jsonpath={.subsets[*].addresses[*].ip}"]).out;
        let all: Vec<String> = out.split_whitespace().map(str::to_owned).collect();
        (all.len() == 3).then_some(all)
    });
    for address in &addresses {
        assert!(eventually("the pod answers", || fetch(address)).contains("hello from chorus"));
    }
    let pod = cluster.kubectl_ok(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"]);
    let logs = cluster.kubectl_ok(&["logs", &pod]);
    assert!(logs.contains("serving"), "{logs}");

    // Killed: restarted in place.
    let container = container_of(&pod, "nginx").expect("the pod's container");
    assert!(container_of(&pod, "POD").is_some(), "a pause container stands behind the pod");
    assert!(run("docker", &["kill", &container]).ok);
    eventually("the container is restarted", || {
        let count =
            cluster.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]).out;
        (count == "1").then_some(())
    });
    // Deleted: replaced, and its containers are gone.
    cluster.kubectl_ok(&["delete", "pod", &pod]);
    eventually("its containers are gone", || {
        (container_of(&pod, "nginx").is_none() && container_of(&pod, "POD").is_none()).then_some(())
    });
    eventually("three pods run", || {
        let out = cluster.kubectl(&["get", "rc", "www", "-o", "jsonpath={.status.readyReplicas}"]).out;
        (out == "3").then_some(())
    });
    cluster.kubectl_ok(&["delete", "rc", "www"]);
    eventually("no container is left", || {
        let left = run("docker", &["ps", "-aq", "--filter", "label=io.kubernetes.pod.namespace=default"]).out;
        left.trim().is_empty().then_some(())
    });
    Ok(())
}

pub fn container_of(pod: &str, name: &str) -> Option<String> {
    let filter = format!("name=k8s_{name}_{pod}_");
    run("docker", &["ps", "-q", "--filter", &filter]).out.lines().next().map(str::to_owned)
}

/// A small image under the name of the example: busybox's web server and one page.
pub fn build_image() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    std::fs::create_dir_all(root.join("bin"))?;
    std::fs::create_dir_all(root.join("www"))?;
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", root.join("bin/sh"))?;
    std::fs::write(root.join("www/index.html"), "hello from chorus\n")?;
    let tar = dir.path().join("image.tar");
    let (tar, path) = (tar.to_str().unwrap(), root.to_str().unwrap());
    assert!(run("tar", &["-C", path, "-cf", tar, "bin", "www"]).ok);
    let command = r#"CMD ["/bin/sh","-c","echo serving; exec /bin/busybox httpd -f -p 80 -h /www"]"#;
    let said = run("docker", &["import", "--change", command, tar, IMAGE]);
    assert!(said.ok, "{said:?}");
    Ok(())
}

fn fetch(address: &str) -> Option<String> {
    let mut stream = std::net::TcpStream::connect((address, 80)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
