//! Limits how often one object is written. If a write fails, or somebody else keeps changing the object back, it waits
//! longer and longer. Other objects do not wait for it.

use crate::cluster::backoff::Backoff;
use crate::cluster::writer::{Failure, Reason};
use crate::model::plan::{Action, Object};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// If somebody changes an object back within this time after it could have been written again, that counts as a quarrel and
/// the waits grow. It equals the longest wait, so that somebody who changes it back that often is answered at that
/// interval.
const QUARREL: Duration = LONGEST;

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// The waits of all objects that have any.
#[derive(Default)]
pub(super) struct WriteBackoff {
    objects: HashMap<String, ObjectBackoff>,
    /// Until when nothing of a kind is written, because the API server is overloaded and asked for a pause.
    kinds: HashMap<&'static str, Instant>,
}

struct ObjectBackoff {
    namespace: String,
    /// The waits after somebody else was faster, and after a write that had to be repeated.
    quick: Backoff,
    /// The waits after a refusal.
    slow: Backoff,
    not_before: Instant,
    last_write: Option<Instant>,
    /// Whether there is something to do after the wait.
    waits: bool,
}

/// What an action writes, as `namespace/kind/name`.
pub(super) fn key(action: &Action) -> String {
    let (namespace, name) = match action.object() {
        Object::Secret(target) => (&target.namespace, &target.secret),
        Object::ServiceAccount(change) => (&change.namespace, &change.service_account),
    };
    format!("{namespace}/{}/{name}", kind(action))
}

fn kind(action: &Action) -> &'static str {
    match action.object() {
        Object::Secret(_) => "secret",
        Object::ServiceAccount(_) => "serviceaccount",
    }
}

impl WriteBackoff {
    /// Whether an action may be carried out now. If not, its namespace is planned again after the wait.
    pub(super) fn may_go(&mut self, action: &Action, namespace: &str, now: Instant) -> bool {
        if let Some(&until) = self.kinds.get(kind(action)).filter(|&&until| until > now) {
            let backoff = self.objects.entry(key(action)).or_insert_with(|| ObjectBackoff::new(now));
            backoff.not_before = backoff.not_before.max(until);
        }
        match self.objects.get_mut(&key(action)) {
            Some(backoff) if backoff.not_before > now => {
                backoff.waits = true;
                namespace.clone_into(&mut backoff.namespace);
                false
            }
            _ => true,
        }
    }

    /// Notes that a write succeeded.
    pub(super) fn succeeded(&mut self, action: &Action, now: Instant) {
        let backoff = self.objects.entry(key(action)).or_insert_with(|| ObjectBackoff::new(now));
        let quarrels = backoff.may_quarrel(now);
        backoff.last_write = Some(now);
        backoff.slow = slow();
        if quarrels {
            backoff.not_before = now + backoff.quick.next().unwrap_or(LONGEST);
        } else {
            backoff.quick = quick();
        }
    }

    /// Notes that a write failed.
    pub(super) fn failed(&mut self, action: &Action, failure: &Failure, now: Instant) {
        let backoff = self.objects.entry(key(action)).or_insert_with(|| ObjectBackoff::new(now));
        let wait = match failure.reason {
            Reason::Outdated => backoff.quick.next(),
            // A namespace is usually gone within seconds. If not, it stays in this state for long.
            Reason::NotFound | Reason::NamespaceGoes | Reason::Refused | Reason::Unavailable | Reason::PutBack => {
                backoff.slow.next()
            }
        };
        backoff.not_before = now + wait.unwrap_or(LONGEST).max(failure.retry_after.unwrap_or_default());
        if let (Some(429), Some(pause)) = (failure.code, failure.retry_after) {
            self.kinds.insert(kind(action), now + pause);
        }
    }

    /// How many objects wait for their next write.
    pub(super) fn waiting(&self, now: Instant) -> usize {
        self.objects.values().filter(|backoff| backoff.waits && backoff.not_before > now).count()
    }

    /// When the next wait of something that is to be done is over.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.objects.values().filter(|backoff| backoff.waits).map(|backoff| backoff.not_before).min()
    }

    /// The namespaces whose waits are over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<String> {
        let over = self.objects.values_mut().filter(|backoff| backoff.waits && backoff.not_before <= now);
        over.map(|backoff| {
            backoff.waits = false;
            backoff.namespace.clone()
        })
        .collect()
    }

    /// Ends all waits of objects.
    pub(super) fn clear(&mut self) {
        self.objects.clear();
        // A pause that the API server asked for does not end.
    }

    /// Forgets objects whose history no longer matters.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.kinds.retain(|_, until| *until > now);
        // An object that waits is kept even if its wait is just over, because its namespace has to be planned again.
        self.objects.retain(|_, backoff| backoff.waits || backoff.not_before > now || backoff.may_quarrel(now));
        self.objects.shrink_to_fit();
    }
}

impl ObjectBackoff {
    fn new(now: Instant) -> Self {
        Self { namespace: String::new(), quick: quick(), slow: slow(), not_before: now, last_write: None, waits: false }
    }

    /// Whether a write `now` would answer somebody who changed the last write back. That may have happened at any time
    /// since then, but the answer had to wait until now.
    fn may_quarrel(&self, now: Instant) -> bool {
        self.last_write.is_some_and(|last| now.duration_since(last.max(self.not_before)) < QUARREL)
    }
}

fn quick() -> Backoff {
    Backoff::new(Duration::from_millis(10), LONGEST)
}

fn slow() -> Backoff {
    Backoff::new(Duration::from_millis(500), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::Target;
    use rstest::rstest;

    fn action(namespace: &str) -> Action {
        Action::Create(Target { namespace: namespace.to_owned(), secret: "creds".to_owned() })
    }

    fn failure(reason: Reason, retry_after: Option<u64>) -> Failure {
        Failure { reason, message: String::new(), code: None, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn what_failed_waits_alone_and_longer_each_time() {
        let (mut write_backoff, mut now) = (WriteBackoff::default(), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..3 {
            write_backoff.failed(&action("bad"), &failure(Reason::Refused, None), now);
            assert!(!write_backoff.may_go(&action("bad"), "bad", now));
            assert!(write_backoff.may_go(&action("good"), "good", now));
            let wake = write_backoff.next_wake().unwrap();
            assert!(wake - now >= last, "{:?} after {last:?}", wake - now);
            (last, now) = (wake - now, wake);
            assert_eq!(write_backoff.due(now), ["bad"]);
            assert!(write_backoff.may_go(&action("bad"), "bad", now));
        }
    }

    #[test]
    fn the_api_servers_wait_is_kept() {
        let (mut write_backoff, now) = (WriteBackoff::default(), Instant::now());
        write_backoff.failed(&action("a"), &failure(Reason::Unavailable, Some(30)), now);
        assert!(!write_backoff.may_go(&action("a"), "a", now + Duration::from_secs(29)));
        assert!(write_backoff.may_go(&action("a"), "a", now + Duration::from_secs(30)));
    }

    #[test]
    fn an_overloaded_api_server_is_asked_nothing_of_that_kind_meanwhile() {
        let (mut write_backoff, now) = (WriteBackoff::default(), Instant::now());
        let failure = Failure { code: Some(429), ..failure(Reason::Unavailable, Some(3)) };
        write_backoff.failed(&action("a"), &failure, now);
        assert!(!write_backoff.may_go(&action("b"), "b", now + Duration::from_secs(2)), "another object");
        assert_eq!(write_backoff.next_wake(), Some(now + Duration::from_secs(3)), "which is not forgotten");
        assert_eq!(write_backoff.due(now + Duration::from_secs(3)), ["b"]);
        assert!(write_backoff.may_go(&action("b"), "b", now + Duration::from_secs(3)));
        let refer = Action::Refer(crate::model::plan::ReferenceChange::default());
        assert!(write_backoff.may_go(&refer, "a", now), "another kind");
    }

    #[test]
    fn a_new_source_does_not_end_the_time_that_an_overloaded_api_server_asked_for() {
        let (mut write_backoff, now) = (WriteBackoff::default(), Instant::now());
        write_backoff.failed(&action("a"), &Failure { code: Some(429), ..failure(Reason::Unavailable, Some(3)) }, now);
        write_backoff.clear();
        assert!(!write_backoff.may_go(&action("a"), "a", now + Duration::from_secs(2)));
        assert_eq!(write_backoff.next_wake(), Some(now + Duration::from_secs(3)), "it is tried then");
        assert!(write_backoff.may_go(&action("a"), "a", now + Duration::from_secs(3)));
    }

    #[test]
    fn what_waits_is_not_forgotten_when_its_time_has_come() {
        let (mut write_backoff, now) = (WriteBackoff::default(), Instant::now());
        write_backoff.failed(&action("a"), &failure(Reason::Outdated, None), now);
        assert!(!write_backoff.may_go(&action("a"), "a", now));
        let later = now + Duration::from_secs(1);
        write_backoff.forget_old(later);
        assert_eq!(write_backoff.due(later), ["a"]);
        write_backoff.forget_old(later);
        assert!(write_backoff.objects.is_empty());
    }

    #[test]
    fn a_first_repair_is_immediate_and_a_quarrel_slows_down() {
        let (mut write_backoff, mut now) = (WriteBackoff::default(), Instant::now());
        write_backoff.succeeded(&action("a"), now);
        assert!(write_backoff.may_go(&action("a"), "a", now));
        for _ in 0..8 {
            write_backoff.succeeded(&action("a"), now);
            now = if write_backoff.may_go(&action("a"), "a", now) { now } else { write_backoff.next_wake().unwrap() };
        }
        write_backoff.succeeded(&action("a"), now);
        assert!(!write_backoff.may_go(&action("a"), "a", now + Duration::from_millis(500)));
    }

    /// How often an object is written within an hour, if somebody changes it back this long after each write.
    fn writes_in_an_hour(changes_back_after: Duration) -> usize {
        let (mut write_backoff, start) = (WriteBackoff::default(), Instant::now());
        let (mut now, mut writes) = (start, 0);
        while now - start < Duration::from_secs(3600) {
            write_backoff.forget_old(now);
            if write_backoff.may_go(&action("a"), "a", now) {
                write_backoff.succeeded(&action("a"), now);
                writes += 1;
                now += changes_back_after;
            } else {
                now = write_backoff.next_wake().unwrap();
                write_backoff.due(now);
            }
        }
        writes
    }

    /// The longest waits are 30 s to 60 s.
    #[rstest]
    #[case::at_once(0)]
    #[case::after_a_second(1)]
    #[case::after_twelve_seconds(12)]
    #[case::after_half_a_minute(30)]
    #[case::after_a_minute(60)]
    fn what_somebody_changes_back_is_written_seldom(#[case] seconds: u64) {
        let writes = writes_in_an_hour(Duration::from_secs(seconds));
        assert!((50..140).contains(&writes), "{writes} writes in an hour");
    }

    #[test]
    fn a_quarrel_is_over_after_a_minute_without_a_change() {
        let (mut write_backoff, mut now) = (WriteBackoff::default(), Instant::now());
        for _ in 0..20 {
            write_backoff.succeeded(&action("a"), now);
            now = if write_backoff.may_go(&action("a"), "a", now) { now } else { write_backoff.next_wake().unwrap() };
        }
        now += Duration::from_secs(61);
        write_backoff.succeeded(&action("a"), now);
        assert!(write_backoff.may_go(&action("a"), "a", now), "repaired at once");
    }

    #[test]
    fn what_has_no_wait_is_forgotten() {
        let (mut write_backoff, now) = (WriteBackoff::default(), Instant::now());
        write_backoff.succeeded(&action("a"), now);
        write_backoff.forget_old(now + Duration::from_secs(61));
        assert!(write_backoff.objects.is_empty());
    }
}
