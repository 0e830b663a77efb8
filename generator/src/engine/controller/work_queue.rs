//! The namespaces that have to be planned, and those that are being written to.

use std::collections::{HashSet, VecDeque};

/// A queue in which each namespace occurs once. It does not give out a namespace that is being written to.
#[derive(Default)]
pub(super) struct WorkQueue {
    waiting: VecDeque<String>,
    /// The same namespaces, to find them quickly.
    is_waiting: HashSet<String>,
    in_flight: HashSet<String>,
}

impl WorkQueue {
    /// Puts a namespace at the end, unless it is already in the queue.
    pub(super) fn add(&mut self, namespace: String) {
        if self.is_waiting.insert(namespace.clone()) {
            self.waiting.push_back(namespace);
        }
    }

    /// Takes out the first namespace that is not in flight. One that is in flight stays in the queue until its writes are
    /// done.
    pub(super) fn take(&mut self) -> Option<String> {
        let position = self.waiting.iter().position(|namespace| !self.in_flight.contains(namespace))?;
        let namespace = self.waiting.remove(position)?;
        self.is_waiting.remove(&namespace);
        Some(namespace)
    }

    /// Notes that a namespace is being written to.
    pub(super) fn begin(&mut self, namespace: String) {
        self.in_flight.insert(namespace);
    }

    /// Notes that it is not any more.
    pub(super) fn end(&mut self, namespace: &str) {
        self.in_flight.remove(namespace);
    }

    /// How many namespaces are being written to.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether there is nothing in it, and nothing in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_given_out_once_and_not_while_it_is_in_flight() {
        let mut queue = WorkQueue::default();
        for name in ["a", "b", "a"] {
            queue.add(name.to_owned());
        }
        assert_eq!(queue.take().as_deref(), Some("a"));
        queue.begin("a".to_owned());
        queue.add("a".to_owned());
        assert_eq!((queue.take().as_deref(), queue.take()), (Some("b"), None));
        assert!(!queue.is_idle() && queue.in_flight() == 1);
        queue.end("a");
        assert_eq!((queue.take().as_deref(), queue.take()), (Some("a"), None));
        assert!(queue.is_idle());
    }
}
