# One door for maintainers. Each recipe is one plain command that also works without `just`.

# All that CI runs; never writes.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy --features failpoints,planted --lib --bins -- -D warnings
    cargo test --workspace

# Failpoints do what their tests say, and planted bugs are caught: one build with both.
prove:
    cargo test --workspace --lib --features failpoints,planted -- world::failpoints
    cargo build --workspace --bin jepsen
    target/debug/jepsen prove --tests-only --times 1 --out target/jepsen-runs

# Licences, advisories and sources of what is built in; needs cargo-deny and the network.
deny:
    cargo deny check

# Rewrites what can be mended by machine.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty

test *ARGS:
    cargo test {{ARGS}}

# Simulated clusters, as many seeds as asked for: `just sim 2000`.
sim SEEDS="50":
    CHORUS_SIM_SEEDS={{SEEDS}} cargo test --release --test sim -- --nocapture

# Makes a data directory in the format of a binary, for tests to come: `just data-directory v3 target/debug/chorus`.
data-directory NAME BINARY:
    CHORUS_FIXTURE={{NAME}} CHORUS_FIXTURE_BINARY={{BINARY}} cargo test --test cluster -- --ignored --exact make_a_data_directory

# Puts a second beside another etcd: `just bench http://127.0.0.1:12379`.
bench AGAINST:
    cargo run --release -- bench put --against {{AGAINST}}

# A rolling upgrade of three members from an older binary, under writes; needs root: `just upgrade-from older/chorus`.
upgrade-from BINARY:
    cargo build --release
    cargo run --release -p jepsen -- upgrade --from {{BINARY}}

# Disturbs a cluster of real processes and judges it; needs root: `just jepsen append 60`.
jepsen WORKLOAD="append" TIME="60":
    cargo build --release
    cargo run --release -p jepsen -- run --workload {{WORKLOAD}} --time {{TIME}}
