//! The life of real pods on a Docker engine, through the runtime's own interface.
//!
//! Where no engine answers they count as ignored; with `CHORUS_TESTS_COMPLETE=1` they run, and fail, instead.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests stand outside the world they test")]

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use chorus::agent::runtime::docker::Docker;
use chorus::agent::runtime::{
    Container, ContainerRuntime, ContainerSpec, ContainerState, LogOptions, Mount, PodId, PodView, Propagation,
    SandboxSpec, Signal,
};
use chorus::world::Clock;
use futures::{StreamExt, TryStreamExt};
use libtest_mimic::{Arguments, Trial};

const IMAGE: &str = "chorus-test/busybox:1";
const BUSYBOX: &str = "/bin/busybox";
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What a script waits with until the test lets it go on.
const UNTIL_GO: &str = "until [ -e /go ]; do /bin/busybox sleep 0.1; done";
const FOLLOW: LogOptions = LogOptions { follow: true, timestamps: false, tail_lines: None, since: None };

/// A runtime whose containers are removed at the end of the test, however it ends.
struct Engine {
    runtime: Docker,
    pod: PodId,
    clock: Clock,
}

/// Connects, and makes the image of the tests; `None` where that cannot be.
async fn engine(test: &str) -> Option<Engine> {
    let clock = Clock::real();
    let cluster = format!("test-{}", std::process::id());
    let runtime = match Docker::connect(test, &cluster, clock.clone()).await {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ignored: {error}");
            return None;
        }
    };
    if !Path::new(BUSYBOX).exists() {
        eprintln!("ignored: {BUSYBOX} (package busybox-static) is not installed");
        return None;
    }
    import_busybox().await;
    let pod = PodId { namespace: "default".into(), name: test.into(), uid: format!("{test}-{}", std::process::id()) };
    Some(Engine { runtime, pod, clock })
}

async fn import_busybox() {
    let program = std::fs::read(BUSYBOX).expect("it was there");
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "bin/busybox", program.as_slice()).unwrap();
    let body = bollard::body_full(Bytes::from(archive.into_inner().unwrap()));
    let (repository, tag) = IMAGE.split_once(':').unwrap();
    let options = bollard::query_parameters::CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(repository.into()),
        tag: Some(tag.into()),
        changes: vec![r#"ENTRYPOINT ["/bin/busybox"]"#.into(), r#"CMD ["sleep", "1000"]"#.into()],
        ..Default::default()
    };
    let engine = bollard::Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
    if engine.inspect_image(IMAGE).await.is_ok() {
        return;
    }
    engine.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await.unwrap();
}

impl Engine {
    async fn sandbox(&self, attempt: u32) -> String {
        let spec = SandboxSpec { attempt, hostname: self.pod.name.clone(), ..SandboxSpec::default() };
        self.runtime.start_sandbox(&self.pod, &spec).await.unwrap()
    }

    fn container(&self, sandbox: &str, attempt: u32, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: "main".into(),
            attempt,
            sandbox: sandbox.into(),
            image: IMAGE.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: vec![("GREETING".into(), "hello".into())],
            hash: "h".into(),
            ..ContainerSpec::default()
        }
    }

    /// A container that runs a script.
    fn shell(&self, sandbox: &str, script: &str) -> ContainerSpec {
        let command = ["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec();
        ContainerSpec { command, ..self.container(sandbox, 0, &[]) }
    }

    /// Lets a script pass [`UNTIL_GO`].
    async fn go(&self, id: &str) {
        let touch = ["/bin/busybox", "touch", "/go"].map(str::to_owned);
        self.runtime.exec(id, &touch, Duration::from_secs(20)).await.unwrap();
    }

    async fn start(&self, spec: &ContainerSpec) -> String {
        self.runtime.start_container(&self.pod, spec).await.unwrap().id
    }

    async fn view(&self) -> PodView {
        self.runtime.view(&self.pod.uid).await.unwrap()
    }

    /// Waits for the engine's changes until the pod looks as `wanted`.
    async fn until<T>(&self, wanted: impl Fn(&PodView) -> Option<T>) -> T {
        let mut changes = self.runtime.events().await.unwrap();
        let found = async {
            loop {
                if let Some(found) = wanted(&self.view().await) {
                    return found;
                }
                // A second look now and then, should an event have come before the stream was open.
                let _ = self.clock.timeout(Duration::from_millis(300), changes.next()).await;
            }
        };
        self.clock.timeout(WAIT_MAX, found).await.expect("the pod comes to look as wanted in time")
    }

    async fn exit_code(&self, id: &str) -> i32 {
        self.until(|view| match &find(view, id).state {
            ContainerState::Exited(exit) => Some(exit.code),
            _ => None,
        })
        .await
    }

    async fn log(&self, id: &str, options: LogOptions) -> String {
        let parts: Vec<Bytes> = self.runtime.logs(id, options).await.unwrap().try_collect().await.unwrap();
        String::from_utf8(parts.concat()).unwrap()
    }

    async fn remove_all(&self) {
        let view = self.view().await;
        for id in view.containers.iter().map(|c| &c.id).chain(view.sandboxes.iter().map(|s| &s.id)) {
            self.runtime.remove(id).await.unwrap();
        }
        assert!(self.view().await.is_empty());
        assert!(self.runtime.pods().await.unwrap().is_empty());
    }
}

fn find<'a>(view: &'a PodView, id: &str) -> &'a Container {
    view.containers.iter().find(|container| container.id == id).unwrap()
}

/// Runs `test` against an engine and removes its containers, also when it fails.
fn with_engine<F: Future<Output = ()>>(name: &str, test: impl FnOnce(std::rc::Rc<Engine>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(engine) = engine(name).await else { return };
        let engine = std::rc::Rc::new(engine);
        let outcome = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(test(engine.clone()))).await;
        engine.remove_all().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

fn a_container_joins_the_network_of_its_pod_and_answers_there() {
    with_engine("joins", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let script = "echo it works > /index.html; busybox hostname; exec busybox httpd -f -p 8080 -h /";
        let mut spec = engine.container(&sandbox, 0, &[]);
        spec.command = vec!["/bin/busybox".into(), "sh".into(), "-c".into(), script.replace("busybox", "/bin/busybox")];
        let id = engine.start(&spec).await;
        let view = engine.view().await;
        let ip = view.active_sandbox().unwrap().ip.expect("a pod has an address");
        assert_eq!(engine.runtime.pods().await.unwrap(), std::slice::from_ref(&engine.pod));
        assert!(find(&view, &id).is_running());
        let page = engine.until(|_| http_get(&format!("{ip}:8080"))).await;
        assert!(page.ends_with("it works\n"), "{page}");
        assert_eq!(engine.log(&id, LogOptions::default()).await, "joins\n", "the pod's name is the host name");
    });
}

fn http_get(address: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn exits_restarts_and_logs_are_told_apart() {
    with_engine("restarts", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let shell = |text: &str| -> Vec<String> { ["/bin/busybox", "sh", "-c", text].map(str::to_owned).to_vec() };
        let first = ContainerSpec {
            command: shell("echo $GREETING 1; echo $GREETING 2 >&2; exit 3"),
            ..engine.container(&sandbox, 0, &[])
        };
        let first = engine.start(&first).await;
        assert_eq!(engine.exit_code(&first).await, 3);
        let second = ContainerSpec {
            command: shell("trap 'exit 5' TERM; echo up; while true; do /bin/busybox sleep 0.1; done"),
            ..engine.container(&sandbox, 1, &[])
        };
        let second = engine.start(&second).await;
        let view = engine.view().await;
        assert_eq!(view.latest("main").unwrap().id, second);
        assert_eq!(view.previous("main").unwrap().id, first);
        let log = engine.log(&first, LogOptions::default()).await;
        assert!(log.contains("hello 1\n") && log.contains("hello 2\n"), "{log}");
        let tail = LogOptions { tail_lines: Some(1), timestamps: true, ..LogOptions::default() };
        let log = engine.log(&first, tail).await;
        assert!(log.lines().count() == 1 && log.starts_with("20"), "{log}");
        engine.until(|_| Some(())).await;
        // The trap stands once the shell has said so.
        let up = engine.runtime.logs(&second, LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
        assert_eq!(up.take(1).try_collect::<Vec<_>>().await.unwrap().concat(), b"up\n");
        engine.runtime.signal(&second, Signal::Stop).await.unwrap();
        assert_eq!(engine.exit_code(&second).await, 5, "the stop signal is SIGTERM");
        engine.runtime.signal(&second, Signal::Kill).await.unwrap();
    });
}

fn limits_mounts_and_commands_inside_take_effect() {
    with_engine("limits", |engine| async move {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "from the node").unwrap();
        let sandbox = engine.sandbox(0).await;
        let mut spec = engine.container(&sandbox, 0, &[]);
        spec.limits.memory_bytes_max = 64 << 20;
        spec.limits.cpu_shares = 512;
        let mount = Mount {
            host_path: dir.path().into(),
            container_path: "/data".into(),
            read_only: true,
            propagation: Propagation::None,
        };
        spec.mounts = vec![mount];
        let id = engine.start(&spec).await;
        let run = |command: &str| {
            let command = ["/bin/busybox", "sh", "-c", command].map(str::to_owned);
            let (engine, id) = (engine.clone(), id.clone());
            async move { engine.runtime.exec(&id, &command, Duration::from_secs(20)).await.unwrap() }
        };
        assert_eq!(run("/bin/busybox cat /data/file").await.output, "from the node");
        assert_ne!(run("echo x > /data/file").await.exit_code, 0);
        let inspected = bollard::Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap();
        let inspected = inspected.inspect_container(&id, None).await.unwrap();
        let host = inspected.host_config.unwrap();
        assert_eq!((host.memory, host.cpu_shares), (Some(64 << 20), Some(512)));
        assert_eq!(inspected.name.unwrap(), format!("/k8s_main_limits_default_{}_0", engine.pod.uid));
    });
}

fn a_process_that_cannot_start_is_an_exit_with_the_reason() {
    with_engine("cannot", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let spec = ContainerSpec { command: vec!["/none".into()], ..engine.container(&sandbox, 0, &[]) };
        let id = engine.start(&spec).await;
        let view = engine.view().await;
        let ContainerState::Exited(exit) = &find(&view, &id).state else { panic!("{view:?}") };
        assert!(exit.started.is_none() && exit.error.contains("/none"), "{exit:?}");
    });
}

fn the_pause_container_ends_when_told_and_takes_its_pod_down() {
    with_engine("pause", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        engine.start(&engine.container(&sandbox, 0, &[])).await;
        engine.runtime.signal(&sandbox, Signal::Stop).await.unwrap();
        engine.until(|view| view.active_sandbox().is_none().then_some(())).await;
        let again = engine.sandbox(1).await;
        assert_eq!(engine.view().await.active_sandbox().unwrap().id, again);
    });
}

/// Forty megabytes, as the engine writes them: it begins a new file every ten.
fn a_followed_log_is_whole_though_the_engine_rotates_it() {
    const LINES: usize = 200_000;
    with_engine("rotates", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let text = "x".repeat(90);
        let script = format!("BEGIN {{ for (i = 0; i < {LINES}; i++) print i, \"{text}\" }}");
        let spec = ContainerSpec {
            command: ["/bin/busybox", "awk", script.as_str()].map(str::to_owned).to_vec(),
            ..engine.container(&sandbox, 0, &[])
        };
        let id = engine.start(&spec).await;
        let log =
            engine.clock.timeout(WAIT_MAX * 4, engine.log(&id, LogOptions { follow: true, ..LogOptions::default() }));
        let log = log.await.expect("the log ends with its container");
        let numbers = log.lines().map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap());
        for (expected, number) in numbers.clone().enumerate() {
            assert_eq!(number, expected, "a line is missing or repeated");
        }
        assert_eq!(numbers.count(), LINES);
    });
}

fn a_followed_log_begins_where_it_is_asked_to() {
    with_engine("follows", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let script = format!("for i in 1 2 3; do echo $i; done; {UNTIL_GO}; echo 4 >&2; echo 5");
        let id = engine.start(&engine.shell(&sandbox, &script)).await;
        let follow = |tail_lines| LogOptions { follow: true, tail_lines, ..LogOptions::default() };
        let whole = engine.runtime.logs(&id, follow(None)).await.unwrap();
        // The first three lines are there.
        let first: Vec<Bytes> = whole.take(3).try_collect().await.unwrap();
        assert_eq!(first.concat(), b"1\n2\n3\n");
        let mut last = engine.runtime.logs(&id, follow(Some(1))).await.unwrap();
        assert_eq!(last.try_next().await.unwrap().unwrap(), b"3\n".as_slice());
        engine.go(&id).await;
        let mut rest: Vec<Bytes> = engine.clock.timeout(WAIT_MAX, last.try_collect()).await.unwrap().unwrap();
        // The engine keeps the order of each stream alone.
        rest.sort();
        assert_eq!(rest.concat(), b"4\n5\n");
    });
}

/// The engine keeps it in parts of sixteen kilobytes, each with a time.
const LONG_LINE: usize = 40_000;

fn a_long_line_of_a_followed_log_has_one_time() {
    with_engine("long", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let script = format!("printf '%{LONG_LINE}s\\n' x; echo end");
        let id = engine.start(&engine.shell(&sandbox, &script)).await;
        let options = LogOptions { follow: true, timestamps: true, ..LogOptions::default() };
        let log = engine.clock.timeout(WAIT_MAX, engine.log(&id, options)).await.unwrap();
        let texts: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(texts, [format!("{:>LONG_LINE$}", "x").as_str(), "end"]);
    });
}

fn the_followed_log_of_a_terminal_is_whole() {
    with_engine("terminal", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let script = format!("printf '%{LONG_LINE}s\\n' x; {UNTIL_GO}; echo end");
        let spec = ContainerSpec { tty: true, ..engine.shell(&sandbox, &script) };
        let id = engine.start(&spec).await;
        let mut log = engine.runtime.logs(&id, FOLLOW).await.unwrap();
        let mut text = log.try_next().await.unwrap().unwrap().to_vec();
        engine.go(&id).await;
        let rest: Vec<Bytes> = engine.clock.timeout(WAIT_MAX, log.try_collect()).await.unwrap().unwrap();
        text.extend(rest.concat());
        assert_eq!(String::from_utf8(text).unwrap(), format!("{:>LONG_LINE$}\r\nend\r\n", "x"));
    });
}

fn a_followed_log_goes_on_where_all_is_older_than_asked_for() {
    with_engine("since", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let id = engine.start(&engine.shell(&sandbox, &format!("echo old; {UNTIL_GO}; echo new"))).await;
        let mut log = engine.runtime.logs(&id, FOLLOW).await.unwrap();
        assert_eq!(log.try_next().await.unwrap().unwrap(), b"old\n".as_slice());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let since = Some(i64::try_from(now).unwrap() + 1);
        let log = engine.log(&id, LogOptions { since, ..FOLLOW });
        let go = async {
            let script = format!("until [ $(/bin/busybox date +%s) -gt {} ]; do /bin/busybox sleep 0.1; done", now + 1);
            let wait = ["/bin/busybox", "sh", "-c", script.as_str()].map(str::to_owned);
            engine.runtime.exec(&id, &wait, Duration::from_secs(20)).await.unwrap();
            engine.go(&id).await;
        };
        let (log, ()) = engine.clock.timeout(WAIT_MAX, futures::future::join(log, go)).await.unwrap();
        assert_eq!(log, "new\n");
    });
}

fn a_followed_log_ends_when_its_container_is_removed() {
    with_engine("removed", |engine| async move {
        let sandbox = engine.sandbox(0).await;
        let id = engine.start(&engine.shell(&sandbox, &format!("echo up; {UNTIL_GO}"))).await;
        let mut log = engine.runtime.logs(&id, FOLLOW).await.unwrap();
        assert_eq!(log.try_next().await.unwrap().unwrap(), b"up\n".as_slice());
        let ended = futures::future::join(log.try_collect::<Vec<Bytes>>(), engine.runtime.remove(&id));
        let (rest, removed) = engine.clock.timeout(WAIT_MAX, ended).await.expect("the log ends");
        assert!(rest.unwrap().is_empty());
        removed.unwrap();
    });
}

fn an_image_that_is_not_there_is_missed_without_a_registry() {
    with_engine("image", |engine| async move {
        let found = engine.runtime.find_image(IMAGE).await.unwrap().unwrap();
        assert!(found.id.starts_with("sha256:"), "{found:?}");
        assert_eq!(engine.runtime.find_image("chorus-test/none:1").await.unwrap(), None);
    });
}

fn main() {
    let complete = std::env::var_os("CHORUS_TESTS_COMPLETE").is_some();
    let engine = std::process::Command::new("docker").arg("info").output().is_ok_and(|output| output.status.success());
    let there = engine && Path::new(BUSYBOX).exists();
    if !there {
        eprintln!("tests of Docker are ignored: no engine answers, or there is no static {BUSYBOX}");
    }
    let tests: [(&str, fn()); 12] = [
        (
            "a_container_joins_the_network_of_its_pod_and_answers_there",
            a_container_joins_the_network_of_its_pod_and_answers_there,
        ),
        ("exits_restarts_and_logs_are_told_apart", exits_restarts_and_logs_are_told_apart),
        ("limits_mounts_and_commands_inside_take_effect", limits_mounts_and_commands_inside_take_effect),
        (
            "a_process_that_cannot_start_is_an_exit_with_the_reason",
            a_process_that_cannot_start_is_an_exit_with_the_reason,
        ),
        (
            "the_pause_container_ends_when_told_and_takes_its_pod_down",
            the_pause_container_ends_when_told_and_takes_its_pod_down,
        ),
        ("a_followed_log_is_whole_though_the_engine_rotates_it", a_followed_log_is_whole_though_the_engine_rotates_it),
        ("a_followed_log_begins_where_it_is_asked_to", a_followed_log_begins_where_it_is_asked_to),
        ("a_long_line_of_a_followed_log_has_one_time", a_long_line_of_a_followed_log_has_one_time),
        ("the_followed_log_of_a_terminal_is_whole", the_followed_log_of_a_terminal_is_whole),
        (
            "a_followed_log_goes_on_where_all_is_older_than_asked_for",
            a_followed_log_goes_on_where_all_is_older_than_asked_for,
        ),
        ("a_followed_log_ends_when_its_container_is_removed", a_followed_log_ends_when_its_container_is_removed),
        (
            "an_image_that_is_not_there_is_missed_without_a_registry",
            an_image_that_is_not_there_is_missed_without_a_registry,
        ),
    ];
    let trials = tests.map(|(name, test)| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(!there && !complete)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}
