//! Pure data: what is, what is wanted, and what to do. Nothing here asks anybody, or knows what time it is.

pub mod content;
pub mod index;
pub mod ownership;
pub mod plan;
pub mod selection;
