//! What a user types, and the start and end of the process.

pub mod cleanup;
pub mod cli;
pub mod process;
pub mod run;
pub mod status;
pub mod validate;
