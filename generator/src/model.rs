//! Pure data and decisions: what there is, what is wanted, and what to do. Nothing here does I/O or reads the clock.

pub(crate) mod content;
pub(crate) mod expiry;
pub(crate) mod explain;
pub(crate) mod footprint;
pub(crate) mod index;
pub(crate) mod label_selector;
pub(crate) mod observed;
pub(crate) mod ownership;
pub(crate) mod plan;
pub(crate) mod pod;
pub(crate) mod pod_seen;
pub(crate) mod provider;
pub(crate) mod refresh;
pub(crate) mod selection;
pub(crate) mod verification;
