//! The modules that this repository builds, for its tests and benchmarks. They panic where a module is not built yet.

use std::{env, fs, path::PathBuf, sync::LazyLock};

use crate::{host::Host, metadata::Metadata};

/// The policy with the grants of `metadata.yml`, compiled once a process.
pub fn policy() -> &'static Host {
    static POLICY: LazyLock<Host> = LazyLock::new(|| load(&policy_module(), metadata()));
    &POLICY
}

/// `policy.wasm`: the file in `POLICY_WASM`, or the one that `make policy.wasm` leaves.
pub fn policy_module() -> Vec<u8> {
    read("POLICY_WASM", "policy.wasm")
}

/// `yardstick.wasm`: the file in `YARDSTICK_WASM`, or the one that `make yardstick.wasm` leaves.
pub fn yardstick_module() -> Vec<u8> {
    read("YARDSTICK_WASM", "yardstick.wasm")
}

/// `probe.wasm`: the file in `PROBE_WASM`, or the one that `make probe.wasm` leaves.
pub fn probe_module() -> Vec<u8> {
    read("PROBE_WASM", "probe.wasm")
}

/// The repository's own `metadata.yml`.
pub fn metadata() -> Metadata {
    Metadata::read(&root().join("metadata.yml")).unwrap_or_else(|error| panic!("{:#}", anyhow::Error::new(error)))
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(variable: &str, name: &str) -> Vec<u8> {
    let path = env::var_os(variable).map_or_else(|| root().join(name), PathBuf::from);
    fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}. Run `make {name}` first.", path.display()))
}

fn load(module: &[u8], metadata: Metadata) -> Host {
    Host::load(module, metadata).unwrap_or_else(|error| panic!("{:#}", anyhow::Error::new(error)))
}
