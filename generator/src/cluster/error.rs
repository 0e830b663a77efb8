//! Formats errors in one line.

use std::error::Error;
use std::fmt::Write as _;

/// An error and its causes, each once: `cannot do this: because of that`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // The texts of kube's errors contain their cause, which must not appear twice.
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = error.source();
    }
    text
}
