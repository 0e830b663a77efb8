//! When a credential provider is asked again.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The times of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Times {
    /// When it was given.
    pub answered: Timestamp,
    /// When the provider is to be asked again.
    pub due: Timestamp,
    /// Until when the answer holds, as the provider or the settings say. Its credentials may live longer.
    pub holds_until: Timestamp,
}

/// What came of asking a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was not asked: its last answer is remembered, and still holds.
    Recalled(Times),
    /// It answered.
    Answered(Times),
    /// It gave no answer, or not the whole of one: why, in a sentence about it. The last answer stays.
    Failed(String),
}

impl Times {
    /// Of an answer that is given `now`, and holds for so long. `jitter` is between 0 and 1.
    pub(crate) fn of(now: Timestamp, holds_for: Duration, jitter: f64) -> Self {
        Self { answered: now, due: due(now, holds_for, jitter), holds_until: after(now, holds_for) }
    }
}

/// The shortest time between two questions, whatever the provider says.
const SHORTEST: Duration = Duration::from_secs(10);

/// The longest: what nobody asks for years may well have changed.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long an answer holds: as long as the provider says, or else the settings, within bounds. Of several answers it is the
/// shortest.
pub(crate) fn holds_for(said: impl IntoIterator<Item = Option<Duration>>, default: Duration) -> Duration {
    let shortest = said.into_iter().map(|duration| duration.unwrap_or(default)).min();
    shortest.unwrap_or(default).clamp(SHORTEST, LONGEST)
}

/// When the provider is to be asked again that answered at this time: after three quarters of the time for which its answer
/// holds, or up to nine tenths of it, by a `jitter` between 0 and 1. What is left is for failures.
fn due(answered: Timestamp, holds_for: Duration, jitter: f64) -> Timestamp {
    after(answered, holds_for.mul_f64(0.75 + 0.15 * jitter.clamp(0.0, 1.0)))
}

/// This time later.
fn after(time: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| time.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long it is until then: never longer than an answer can hold, whatever became of the clock meanwhile.
pub(crate) fn wait(due: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or_default().min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    #[rstest]
    #[case::one_that_says_nothing(&[None], 30 * MINUTE)]
    #[case::one_that_says_it(&[Some(6 * HOUR)], 6 * HOUR)]
    #[case::the_shortest_of_several(&[Some(6 * HOUR), None, Some(HOUR)], 30 * MINUTE)]
    #[case::a_second(&[Some(1)], 10)]
    #[case::years(&[Some(100_000 * HOUR)], 24 * HOUR)]
    fn an_answer_holds(#[case] said: &[Option<u64>], #[case] seconds: u64) {
        let said = said.iter().map(|seconds| seconds.map(Duration::from_secs));
        assert_eq!(holds_for(said, Duration::from_secs(30 * MINUTE)), Duration::from_secs(seconds));
    }

    #[rstest]
    #[case::at_the_earliest(0.0, 45 * MINUTE)]
    #[case::at_the_latest(1.0, 54 * MINUTE)]
    fn it_is_asked_again_before_its_answer_is_old(#[case] jitter: f64, #[case] seconds: u64) {
        let now = Timestamp::from_second(1_764_000_000).unwrap();
        let due = due(now, Duration::from_secs(HOUR), jitter);
        assert_eq!(wait(due, now), Duration::from_secs(seconds));
    }

    #[rstest]
    #[case::it_is_time(0, 0)]
    #[case::it_was_due_while_nobody_ran(-5_000, 0)]
    #[case::the_clock_was_set_back_by_a_year(365 * 24 * 3600, 24 * HOUR)]
    fn the_wait_when(#[case] seconds_until: i64, #[case] seconds: u64) {
        let now = Timestamp::from_second(1_764_000_000).unwrap();
        let due = Timestamp::from_second(1_764_000_000 + seconds_until).unwrap();
        assert_eq!(wait(due, now), Duration::from_secs(seconds));
    }

    #[test]
    fn no_time_is_beyond_the_calendar() {
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
    }
}
