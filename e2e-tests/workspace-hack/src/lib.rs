//! Nothing but its `Cargo.toml`, by the name that `cargo hakari` gives to such a crate: cargo compiles a crate anew for every set
//! of features that is asked of it. `scripts/check-shared-builds` says where one is compiled twice.
