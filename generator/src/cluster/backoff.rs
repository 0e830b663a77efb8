//! How long to wait before the next try.

use crate::cluster::client::retry_after;
use crate::cluster::watch::status_of;
use futures::{Stream, StreamExt as _, stream};
use kube::runtime::watcher::{self, Event};
use std::time::Duration;

/// Waits that double from one attempt to the next. Each is shortened by a random part of up to a half, so that things that
/// failed at the same time are not retried at the same time. It never ends.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    /// The number of waits since the last reset.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// Begins with the first wait again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.first.saturating_mul(2u32.saturating_pow(self.tries)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        Some(wait.mul_f64(rand::random_range(0.5..=1.0)))
    }
}

/// The events of a watch, with a wait after each error. The wait comes from `waits`, or is the one that the API server asks
/// for if that is longer.
///
/// The waits start from the beginning only after the API server has sent a complete list or a change. kube's own
/// `WatchStreamExt::backoff` counts every event as a success, even [`Event::Init`], which the watcher itself emits before
/// each list. With it, a list that is forbidden would be tried several times a second, for ever.
pub(crate) fn waiting_after_errors<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    waits: Backoff,
) -> impl Stream<Item = watcher::Result<Event<K>>> {
    stream::unfold((Box::pin(events), waits, Duration::ZERO), async |(mut events, mut waits, wait)| {
        tokio::time::sleep(wait).await;
        let event = events.next().await?;
        let mut wait = Duration::ZERO;
        match &event {
            Err(error) => {
                let asked = status_of(error).and_then(retry_after).unwrap_or_default();
                wait = waits.next().unwrap_or_default().max(asked);
            }
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => waits.reset(),
        }
        Some((event, (events, waits, wait)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for (wait, seconds) in backoff.zip([1.0, 2.0, 4.0, 5.0, 5.0]) {
            assert!((seconds / 2.0..=seconds).contains(&wait.as_secs_f64()), "{wait:?} for {seconds} s");
        }
    }

    #[test]
    fn a_hundred_tries_do_not_overflow() {
        assert!(
            Backoff::new(Duration::from_secs(1), Duration::from_secs(5)).nth(100).unwrap() <= Duration::from_secs(5)
        );
    }
}
