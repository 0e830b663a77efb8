//! Leader election with a Lease, as client-go does it. A replica takes the Lease from another holder only if it has not
//! seen it change for the Lease's whole duration, measured by its own clock. The clocks of two replicas are never compared,
//! so a clock that is wrong can neither steal the Lease nor block it.
//!
//! No published crate does that. `kubert` and `kube-leader-election` compare `renewTime` with the local clock, so that a
//! replica whose clock is ahead always wins. The second one also patches without a `resourceVersion`, so that two replicas
//! that find the Lease free at the same moment can both get it.

use crate::cluster::backoff::Backoff;
use crate::cluster::error::chain;
use crate::cluster::rbac::Request;
use crate::cluster::record::metadata_of_lease;
use crate::model::ownership::MANAGER;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a Lease is valid after its last renewal. If the leader is killed, another one leads after this time and one
/// [`RETRY`].
const DURATION: Duration = Duration::from_secs(12);

/// How often the leader renews it.
const RENEW: Duration = Duration::from_secs(3);

/// How often a standby looks at it, and how often a leader that failed to renew it tries again. Measured from one start to
/// the next.
const RETRY: Duration = Duration::from_secs(2);

/// How long after its last successful renewal the leader still begins writes. The time counts from when it asked for that
/// renewal. Nobody else may begin to write before [`DURATION`].
const RENEW_DEADLINE: Duration = Duration::from_secs(9);

/// How long nobody else leads after [`Election::take_over`].
const TAKEN_OVER: Duration = Duration::from_secs(300);

/// How long one request about the Lease may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How often in a row a write of the Lease may fail because somebody else wrote it first. After that it counts as an error.
const CONFLICTS: usize = 5;

/// Which Lease, and who wants it.
#[derive(Clone)]
pub(crate) struct Election {
    /// The API server.
    pub client: Client,
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub lease: String,
    /// The identity of this replica. Each replica has another one.
    pub identity: String,
}

/// What a replica knows about its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is unknown who holds the Lease, because the API server has not answered yet or not for too long.
    Unknown,
    /// Another replica holds the Lease.
    Standby,
    /// This replica holds the Lease, so it is the one that writes.
    Leader,
}

/// What was seen of a Lease, and when it was last seen to change.
#[derive(Debug, Clone, PartialEq)]
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Renew it, because this replica holds it.
    Renew,
    /// Take it, because nobody holds it.
    Take,
    /// Wait, because another replica holds it.
    Wait,
}

fn decide(observed: &Observed, identity: &str, now: Instant) -> Decision {
    let spec = &observed.spec;
    match spec.holder_identity.as_deref() {
        None | Some("") => Decision::Take,
        Some(holder) if holder == identity => Decision::Renew,
        Some(_) => {
            let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let duration = seconds.map_or(DURATION, Duration::from_secs);
            if now.duration_since(observed.since) > duration { Decision::Take } else { Decision::Wait }
        }
    }
}

impl Observed {
    /// The next observation. If nothing has changed, the time goes on counting.
    fn next(before: Option<Self>, spec: LeaseSpec, now: Instant) -> Self {
        match before {
            Some(before) if before.spec == spec => before,
            _ => Self { spec, since: now },
        }
    }
}

impl Election {
    /// Takes part in the election until `stop`, and reports this replica's role in `role`.
    pub(crate) async fn run(self, role: watch::Sender<Role>, stop: CancellationToken) {
        let mut observed = None;
        let mut leads_until = None;
        let mut last_reason = String::new();
        while !stop.is_cancelled() {
            let started = Instant::now();
            let give_up = no_later_than(leads_until, started + DURATION);
            let answer = tokio::time::timeout_at(give_up, self.try_once(&mut observed)).await;
            let asked = match answer {
                Ok(Ok(asked)) => {
                    last_reason.clear();
                    Some(asked)
                }
                Ok(Err(error)) => {
                    let reason = self.explained(&error);
                    if reason != last_reason {
                        tracing::warn!("{reason}");
                        last_reason = reason;
                    }
                    None
                }
                Err(_) => {
                    tracing::debug!("no answer about the Lease");
                    None
                }
            };
            leads_until = match asked {
                Some(asked) => asked.map(|asked| asked + RENEW_DEADLINE),
                None => leads_until.filter(|until| Instant::now() < *until),
            };
            let now = match asked {
                _ if leads_until.is_some() => Role::Leader,
                Some(_) => Role::Standby,
                None => Role::Unknown,
            };
            let before = *role.borrow();
            if role.send_if_modified(|role| std::mem::replace(role, now) != now)
                && (before == Role::Leader || now == Role::Leader)
            {
                let lease = format!("{}/{}", self.namespace, self.lease);
                tracing::info!(lease, "{}", if now == Role::Leader { "leading" } else { "not leading any more" });
            }
            let next = asked.flatten().map_or(started + RETRY, |asked| asked + RENEW);
            tokio::select! {
                () = tokio::time::sleep_until(no_later_than(leads_until, next)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Releases the Lease if this replica holds it, so that another one can take it at once.
    pub(crate) async fn release(&self) {
        let release = async {
            for wait in after_conflicts() {
                let lease = self.api().get(&self.lease).await?;
                if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(&self.identity) {
                    break;
                }
                let spec = LeaseSpec { holder_identity: None, ..lease.spec.clone().unwrap_or_default() };
                if went_through(self.replace(&Lease { spec: Some(spec), ..lease }).await)? {
                    break;
                }
                tokio::time::sleep(wait).await;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(TIMEOUT, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("cannot release the Lease: {}", chain(&error)),
            Err(_) => tracing::warn!("cannot release the Lease: no answer"),
        }
    }

    /// Takes the Lease from its holder for some minutes, so that nobody writes in the meantime. Gives `false` if nobody
    /// holds it.
    ///
    /// # Errors
    /// The Lease cannot be read or written.
    pub(crate) async fn take_over(&self) -> anyhow::Result<bool> {
        for wait in after_conflicts() {
            let lease = self.read().await.map_err(|error| anyhow::anyhow!(self.explained(&error)))?;
            let Some(lease) = lease else { return Ok(false) };
            let spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref().is_none_or(str::is_empty) {
                return Ok(false);
            }
            let seconds = i32::try_from(TAKEN_OVER.as_secs()).ok();
            let spec = LeaseSpec { lease_duration_seconds: seconds, ..self.taken(&spec) };
            let answer = went_through(self.replace(&Lease { spec: Some(spec), ..lease }).await);
            if answer.map_err(|error| anyhow::anyhow!(self.explained(&error)))? {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        // The former holder may not have noticed before this time is over.
        tokio::time::sleep(RENEW_DEADLINE).await;
        Ok(true)
    }

    /// Takes or renews the Lease if this replica may do that. If it then holds the Lease, this gives the time of the request.
    async fn try_once(&self, observed: &mut Option<Observed>) -> kube::Result<Option<Instant>> {
        for wait in after_conflicts().take(CONFLICTS) {
            let Some(lease) = self.read().await? else {
                let metadata = metadata_of_lease(&self.lease);
                let lease = Lease { metadata, spec: Some(self.taken(&LeaseSpec::default())) };
                let asked = Instant::now();
                if went_through(in_time(self.api().create(&by_us(), &lease)).await)? {
                    return Ok(Some(asked));
                }
                tokio::time::sleep(wait).await;
                continue;
            };
            let spec = lease.spec.clone().unwrap_or_default();
            let now = Instant::now();
            let seen = Observed::next(observed.take(), spec, now);
            let decision = decide(&seen, &self.identity, now);
            let next = match decision {
                Decision::Wait => None,
                Decision::Renew => Some(LeaseSpec {
                    // Another replica may have created it.
                    lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                    renew_time: Some(this_moment()),
                    ..seen.spec.clone()
                }),
                Decision::Take => Some(self.taken(&seen.spec)),
            };
            *observed = Some(seen);
            let Some(spec) = next else { return Ok(None) };
            let asked = Instant::now();
            // The write has the resourceVersion that was read, so that only one of several replicas succeeds.
            if went_through(self.replace(&Lease { spec: Some(spec), ..lease }).await)? {
                return Ok(Some(asked));
            }
            tokio::time::sleep(wait).await;
        }
        Err(kube::Error::Service(format!("it changed {CONFLICTS} times between a look at it and the write").into()))
    }

    fn taken(&self, before: &LeaseSpec) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(this_moment()),
            renew_time: Some(this_moment()),
            lease_transitions: Some(before.lease_transitions.unwrap_or_default().saturating_add(1)),
            ..LeaseSpec::default()
        }
    }

    async fn replace(&self, lease: &Lease) -> kube::Result<Lease> {
        in_time(self.api().replace(&self.lease, &by_us(), lease)).await
    }

    async fn read(&self) -> kube::Result<Option<Lease>> {
        in_time(self.api().get_opt(&self.lease)).await
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn explained(&self, error: &kube::Error) -> String {
        let (namespace, name) = (Some(self.namespace.as_str()), Some(self.lease.as_str()));
        let request = |verb| Request { verb, group: "coordination.k8s.io", resource: "leases", namespace, name };
        let rule = match error {
            kube::Error::Api(status) => {
                ["get", "create", "update"].into_iter().find_map(|verb| request(verb).missing_rule(status))
            }
            _ => None,
        };
        let because = rule.unwrap_or_else(|| chain(error));
        format!("cannot take the Lease {}/{}: {because}", self.namespace, self.lease)
    }
}

fn by_us() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn this_moment() -> MicroTime {
    MicroTime(Timestamp::now())
}

/// The answer to a request, or an error if it takes too long.
async fn in_time<T>(answer: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let answer = tokio::time::timeout(TIMEOUT, answer).await;
    answer.unwrap_or_else(|_| Err(kube::Error::Service(format!("no answer within {} s", TIMEOUT.as_secs()).into())))
}

/// How long to wait before reading the Lease again, after somebody else wrote it first. It never ends.
fn after_conflicts() -> Backoff {
    Backoff::new(Duration::from_millis(50), RETRY)
}

/// The earlier of the two.
fn no_later_than(until: Option<Instant>, at: Instant) -> Instant {
    until.map_or(at, |until| until.min(at))
}

/// Whether a write of the Lease succeeded. A conflict means that the Lease changed after it was read, because another
/// replica wrote it or a footprint was recorded on it. Then it has to be read again.
fn went_through(answer: kube::Result<Lease>) -> kube::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api::{client, refusal};
    use hyper::Method;
    use rstest::rstest;
    use serde_json::{Value, json};
    use std::future::pending;
    use std::sync::{Arc, Mutex};

    /// A Lease on a slow API server, and the conflicts that it reports.
    #[derive(Default)]
    struct Fake {
        lease: Value,
        takes: Duration,
        /// How many writes it refuses with a conflict.
        conflicts: u32,
        hangs: bool,
        /// The number of requests.
        requests: u32,
        /// When the last successful write was sent.
        written: Option<Instant>,
    }

    type Shared = Arc<Mutex<Fake>>;

    async fn answer(fake: Shared, method: Method, document: Value) -> (u16, Value) {
        let (asked, takes) = (Instant::now(), fake.lock().unwrap().takes);
        fake.lock().unwrap().requests += 1;
        tokio::time::sleep(takes).await;
        if fake.lock().unwrap().hangs {
            return pending().await;
        }
        let mut fake = fake.lock().unwrap();
        if method == Method::GET {
            return if fake.lease.is_null() { refusal(404) } else { (200, fake.lease.clone()) };
        }
        if fake.conflicts > 0 {
            fake.conflicts -= 1;
            return refusal(409);
        }
        fake.lease = document;
        fake.written = Some(asked);
        (200, fake.lease.clone())
    }

    fn election(fake: &Shared) -> Election {
        let shared = fake.clone();
        Election {
            client: client(move |method, document| answer(shared.clone(), method, document)),
            namespace: "default".to_owned(),
            lease: "lease".to_owned(),
            identity: "me".to_owned(),
        }
    }

    /// A replica that takes part, and the roles that it reports.
    fn start(fake: &Shared) -> watch::Receiver<Role> {
        let (sender, role) = watch::channel(Role::Unknown);
        tokio::spawn(election(fake).run(sender, CancellationToken::new()));
        role
    }

    async fn leads(fake: &Shared) -> watch::Receiver<Role> {
        let mut role = start(fake);
        tokio::time::timeout(DURATION, role.wait_for(|role| *role == Role::Leader)).await.unwrap().unwrap();
        role
    }

    #[rstest]
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_hears_nothing_stops_before_its_lease_runs_out(
        #[values(0, 300, 600, 950, 1_450, 2_900)] takes: u64,
        #[values(20, 23, 25)] hangs_after: u64,
    ) {
        let takes = Duration::from_millis(takes);
        let fake = Shared::new(Mutex::new(Fake { takes, ..Fake::default() }));
        let mut role = leads(&fake).await;
        tokio::time::sleep(Duration::from_secs(hangs_after)).await;
        assert_eq!(*role.borrow(), Role::Leader);
        fake.lock().unwrap().hangs = true;
        role.wait_for(|role| *role != Role::Leader).await.unwrap();
        assert_eq!(*role.borrow(), Role::Unknown);
        let since_renewal = fake.lock().unwrap().written.unwrap().elapsed();
        assert!(since_renewal <= RENEW_DEADLINE + Duration::from_millis(2), "{since_renewal:?}");
    }

    #[rstest]
    #[tokio::test(start_paused = true)]
    async fn a_leader_stays_one_where_the_lease_changed_between_its_look_and_its_write(
        #[values(0, 700, 1_400)] takes: u64,
    ) {
        let fake = Shared::new(Mutex::new(Fake { takes: Duration::from_millis(takes), ..Fake::default() }));
        let mut role = leads(&fake).await;
        fake.lock().unwrap().conflicts = 1;
        let changes = tokio::time::timeout(Duration::from_secs(30), role.changed()).await;
        assert!(changes.is_err(), "{:?}", *role.borrow());
        assert_eq!(fake.lock().unwrap().conflicts, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_says_what_it_is_only_once_it_knows() {
        let fake = Shared::new(Mutex::new(Fake { hangs: true, ..Fake::default() }));
        let mut role = start(&fake);
        assert!(tokio::time::timeout(Duration::from_secs(60), role.changed()).await.is_err());
        assert_eq!(*role.borrow(), Role::Unknown);
        {
            let mut fake = fake.lock().unwrap();
            fake.lease = json!({"metadata": {"name": "lease"}, "spec": {"holderIdentity": "other"}});
            fake.hangs = false;
        }
        role.changed().await.unwrap();
        assert_eq!(*role.borrow_and_update(), Role::Standby);
        role.changed().await.unwrap();
        assert_eq!(*role.borrow(), Role::Leader, "the other did not renew it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_that_lasts_is_met_with_waits_and_told() {
        let takes = Duration::from_millis(5);
        let fake = Shared::new(Mutex::new(Fake { takes, conflicts: u32::MAX, ..Fake::default() }));
        let log = crate::cluster::fake_api::log();
        let role = start(&fake);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(*role.borrow(), Role::Unknown);
        // An attempt makes at most ten requests, and there is one attempt every two seconds.
        let requests = fake.lock().unwrap().requests;
        assert!(requests <= 310, "{requests} requests in a minute");
        assert!(log.text().contains("cannot take the Lease default/lease: "), "{}", log.text());
        assert!(log.text().contains("it changed 5 times between a look at it and the write"), "{}", log.text());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_outage_like_the_first_is_told_as_well() {
        let fake = Shared::default();
        let log = crate::cluster::fake_api::log();
        leads(&fake).await;
        for outage in 1..=2 {
            fake.lock().unwrap().hangs = true;
            tokio::time::sleep(Duration::from_secs(60)).await;
            fake.lock().unwrap().hangs = false;
            tokio::time::sleep(Duration::from_secs(60)).await;
            let told = log.text().matches("cannot take the Lease default/lease: ").count();
            assert_eq!(told, outage, "{}", log.text());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_given_back_also_where_somebody_records_on_it_at_that_moment() {
        let fake = Shared::default();
        leads(&fake).await;
        fake.lock().unwrap().conflicts = 2;
        election(&fake).release().await;
        assert_eq!(fake.lock().unwrap().lease["spec"]["holderIdentity"], Value::Null);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_for_the_leaders_own_duration() {
        let mine =
            json!({"metadata": {"name": "lease"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 300}});
        let fake = Shared::new(Mutex::new(Fake { lease: mine, ..Fake::default() }));
        leads(&fake).await;
        assert_eq!(fake.lock().unwrap().lease["spec"]["leaseDurationSeconds"], 12);
    }

    fn held_by(holder: Option<&str>, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(12),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        }
    }

    #[rstest]
    #[case::nobody(None, 0, Decision::Take)]
    #[case::released(Some(""), 0, Decision::Take)]
    #[case::ours(Some("me"), 100, Decision::Renew)]
    #[case::somebody_else(Some("other"), 11, Decision::Wait)]
    #[case::somebody_who_went_away(Some("other"), 13, Decision::Take)]
    fn a_lease_held_by(#[case] holder: Option<&str>, #[case] unchanged_for: u64, #[case] expected: Decision) {
        let since = Instant::now();
        // Its renewTime does not matter, because that is the other replica's clock.
        for renewed in [0, 4_000_000_000] {
            let observed = Observed { spec: held_by(holder, renewed), since };
            assert_eq!(decide(&observed, "me", since + Duration::from_secs(unchanged_for)), expected);
        }
    }

    #[test]
    fn a_renewal_starts_the_time_anew_and_another_look_does_not() {
        let start = Instant::now();
        let first = Observed::next(None, held_by(Some("other"), 1), start);
        let later = start + Duration::from_secs(5);
        assert_eq!(Observed::next(Some(first.clone()), held_by(Some("other"), 1), later).since, start);
        assert_eq!(Observed::next(Some(first), held_by(Some("other"), 2), later).since, later);
    }

    #[test]
    fn the_times_leave_room_for_each_other_and_a_kill_is_noticed_within_20_seconds() {
        // A renewal takes two requests.
        assert!(RENEW + 2 * TIMEOUT <= RENEW_DEADLINE && RENEW_DEADLINE + TIMEOUT <= DURATION);
        assert!(DURATION + RETRY + TIMEOUT < Duration::from_secs(20));
    }
}
