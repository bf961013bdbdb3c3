//! Pods in Docker that try to leave what is theirs, and that ask not to be root.

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, eventually};
use crate::pods::build_image;

/// One init container prepares links in a volume, which the app containers mount parts of.
const ESCAPE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: escape}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: vol, emptyDir: {}}]
  initContainers:
  - name: links
    image: nginx:chorus-test
    imagePullPolicy: Never
    command:
    - /bin/sh
    - -c
    - |
      b=/bin/busybox
      $b ln -s / /vol/root && $b ln -s ../../../../../.. /vol/up && $b mkdir /vol/own && echo mine > /vol/own/file
    volumeMounts: [{name: vol, mountPath: /vol}]
  containers:
  - name: root
    image: nginx:chorus-test
    imagePullPolicy: Never
    volumeMounts: [{name: vol, mountPath: /host, subPath: root}]
  - name: below
    image: nginx:chorus-test
    imagePullPolicy: Never
    volumeMounts: [{name: vol, mountPath: /host, subPath: root/etc}]
  - name: up
    image: nginx:chorus-test
    imagePullPolicy: Never
    volumeMounts: [{name: vol, mountPath: /host, subPath: up/tmp/chorus-escaped}]
  - name: own
    image: nginx:chorus-test
    imagePullPolicy: Never
    command: [/bin/sh, -c, "/bin/busybox cat /own/file; exec /bin/busybox sleep 1000"]
    volumeMounts: [{name: vol, mountPath: /own, subPath: own}]
"#;

const PUBLISHED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {key: value}
---
apiVersion: v1
kind: Pod
metadata: {name: published, labels: {app: www}}
spec:
  restartPolicy: Never
  securityContext: {fsGroup: 4321}
  volumes:
  - {name: map, configMap: {name: settings, defaultMode: 0400}}
  - {name: fields, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  containers:
  - name: c
    image: nginx:chorus-test
    imagePullPolicy: Never
    command:
    - /bin/sh
    - -c
    - |
      exec 2>&1
      b=/bin/busybox
      $b cat /map/key; echo
      $b cat /part; echo
      for dir in /map /fields; do
        if $b touch $dir/new; then echo written; fi
        if $b ln -s / $dir/..data_tmp; then echo linked; fi
      done
      echo disk > /disk/file && $b stat -c "%u:%g" /disk/file
      $b stat -c "%a" /disk
      if $b dd if=/dev/zero of=/memory/file bs=64k count=32; then echo too large; fi
    volumeMounts:
    - {name: map, mountPath: /map}
    - {name: map, mountPath: /part, subPath: key}
    - {name: fields, mountPath: /fields}
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
  - name: user
    image: nginx:chorus-test
    imagePullPolicy: Never
    securityContext: {runAsUser: 1000, runAsGroup: 1000}
    command: [/bin/sh, -c, "/bin/busybox cat /map/key; echo; /bin/busybox id -u; /bin/busybox id -g"]
    volumeMounts: [{name: map, mountPath: /map}]
"#;

const ROOT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: root}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true}
  containers:
  - {name: c, image: nginx:chorus-test, imagePullPolicy: Never}
"#;

const HOOKED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  hostPID: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: first
    image: nginx:chorus-test
    imagePullPolicy: Never
    command: [/bin/busybox, sleep, "1000"]
    lifecycle: {postStart: {exec: {command: [/bin/sh, -c, "until [ -e /go ]; do /bin/busybox sleep 0.1; done"]}}}
  - name: second
    image: nginx:chorus-test
    imagePullPolicy: Never
    command: [/bin/busybox, sleep, "1000"]
  - name: broken
    image: nginx:chorus-test
    imagePullPolicy: Never
    command: [/none]
"#;

pub fn pods_keep_to_what_is_theirs() -> Result<(), Failed> {
    build_image()?;
    let cluster = TestCluster::of_one("docker");
    for manifest in [ESCAPE, PUBLISHED, ROOT, HOOKED] {
        let said = cluster.apply(manifest);
        assert!(said.ok, "{said:?}");
    }
    a_sub_path_stays_in_its_volume(&cluster);
    what_the_agent_publishes_is_read_only(&cluster);
    nobody_is_root_who_must_not_be(&cluster);
    a_container_is_started_when_its_hook_is_over(&cluster);
    cluster.kubectl_ok(&["delete", "pods", "--all"]);
    Ok(())
}

/// The waiting state of a container, once it has one with a message.
fn waiting(cluster: &TestCluster, pod: &str, container: &str) -> String {
    let state = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].state.waiting}}");
    eventually(&format!("{container} says why it waits"), || {
        let out = cluster.kubectl(&["get", "pod", pod, "-o", &state]).out;
        out.contains("message").then_some(out)
    })
}

fn log(cluster: &TestCluster, pod: &str, container: &str, end: &str) -> String {
    eventually("the log is written", || {
        let out = cluster.kubectl(&["logs", pod, "-c", container]).out;
        out.contains(end).then_some(out)
    })
}

fn a_sub_path_stays_in_its_volume(cluster: &TestCluster) {
    for container in ["root", "below", "up"] {
        let state = waiting(cluster, "escape", container);
        assert!(state.contains("CreateContainerConfigError") && state.contains("leads out of the volume"), "{state}");
    }
    assert!(!std::path::Path::new("/tmp/chorus-escaped").exists(), "nothing is made outside");
    assert_eq!(log(cluster, "escape", "own", "mine"), "mine\n");
}

fn what_the_agent_publishes_is_read_only(cluster: &TestCluster) {
    let log = log(cluster, "published", "c", "No space left");
    for word in ["value\nvalue\n", "0:4321\n2777\n"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert_eq!(self::log(cluster, "published", "user", "1000\n1000\n"), "value\n1000\n1000\n", "its group may read");
    for word in ["written", "linked", "too large"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
}

fn nobody_is_root_who_must_not_be(cluster: &TestCluster) {
    let state = waiting(cluster, "root", "c");
    assert!(state.contains("CreateContainerConfigError"), "{state}");
    assert!(state.contains("container has runAsNonRoot and image will run as root (pod: "), "{state}");
}

fn a_container_is_started_when_its_hook_is_over(cluster: &TestCluster) {
    let status = |container: &str, what: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")]{what}}}");
        cluster.kubectl(&["get", "pod", "hooked", "-o", &path]).out
    };
    let running = || crate::pods::container_of("hooked", "first");
    let first = eventually("the first container runs", running);
    assert!(status("first", ".state").contains("ContainerCreating"));
    assert_eq!(crate::pods::container_of("hooked", "second"), None, "it waits for the hook");
    let mode = crate::cluster::run("docker", &["inspect", "-f", "{{.HostConfig.PidMode}}", &first]).out;
    assert_eq!(mode.trim(), "host");
    assert!(crate::cluster::run("docker", &["exec", &first, "/bin/busybox", "touch", "/go"]).ok);
    eventually("both containers run", || {
        let up = |name: &str| status(name, ".state").contains("running");
        (up("first") && up("second")).then_some(())
    });
    let state = eventually("the broken one says why", || {
        Some(status("broken", "")).filter(|state| state.contains("StartError"))
    });
    assert!(state.contains("/none"), "{state}");
    let events = cluster.kubectl_ok(&["get", "events", "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"]);
    assert!(events.contains("Error: failed to start container \"broken\""), "{events}");
    assert!(!events.contains("Started container broken"), "{events}");
}
