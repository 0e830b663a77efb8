//! The metrics for Prometheus. They are registered once, and passed to everything that updates them.

use crate::model::plan::CopyState;
use crate::model::refresh::Asked;
use crate::model::verification::{Verdict, Verification};
use crate::telemetry::process_metrics::ProcessMetrics;
use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use std::collections::BTreeMap;

/// The metrics, and the registry that prints them.
pub(crate) struct Metrics {
    registry: Registry,
    copies: Family<CopyLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
    errors: Family<RequestLabels, Counter>,
    /// The seconds from the start of a namespace's plan to its last write. Namespaces without a write are not counted.
    pub reconcile_seconds: Histogram,
    /// When everything was last in sync, in seconds since 1970.
    pub last_full_sync: Gauge,
    /// 1 while this replica is the one that writes.
    pub leader: Gauge,
    source_versions: Family<SecretLabel, Gauge<i64>>,
    refreshes: Family<RefreshLabels, Counter>,
    refresh_failing: Family<SecretLabel, Gauge>,
    refresh_deadlines: Family<SecretLabel, Gauge>,
    expiries: Family<SecretLabel, Gauge>,
    credentials: Family<CredentialLabels, Gauge>,
    /// Pods that were evicted because they could not pull.
    pub evictions: Counter,
    /// 1 while the settings that were read last are valid.
    pub settings_valid: Gauge,
    /// Objects whose last write failed.
    pub failing_objects: Gauge,
    /// Objects that wait for their next write.
    pub waiting_objects: Gauge,
    /// Watches that do not work at present.
    pub failing_watches: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CopyLabels {
    secret: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    secret: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    secret: String,
    server: String,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SecretLabel {
    secret: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(ProcessMetrics));
        let registry = root.sub_registry_with_prefix("image_pull_secrets");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The generator's version", version);
        let copies =
            registered(registry, "copies", "Namespaces by what became of the copy of a secret", Family::default());
        let requests = registered(
            registry,
            "requests",
            "Requests that the API server granted, reads after a conflict included",
            Family::default(),
        );
        let errors = registered(
            registry,
            "request_errors",
            "Requests that failed, by status code; 0 without an answer",
            Family::default(),
        );
        let reconcile_seconds = registered(
            registry,
            "reconcile_duration_seconds",
            "From the plan of a namespace to its last write, where there was one",
            Histogram::new(exponential_buckets(0.002, 2.0, 14)),
        );
        let last_full_sync = registered(
            registry,
            "last_full_sync_timestamp_seconds",
            "When every namespace was last as the settings want it, as far as the generator can bring that about",
            Gauge::default(),
        );
        let leader = registered(registry, "leader", "1 while this replica is the one that writes", Gauge::default());
        let source_versions = registered(
            registry,
            "source_resource_version",
            "The resourceVersion of the source Secret that copies are made equal to",
            Family::default(),
        );
        let refreshes = registered(
            registry,
            "source_refreshes",
            "How often the credential provider of a source was asked, by whether it answered",
            Family::default(),
        );
        let refresh_failing = registered(
            registry,
            "source_refresh_failing",
            "1 while the credential provider of a source fails, and its last answer stays",
            Family::default(),
        );
        let refresh_deadlines = registered(
            registry,
            "source_refresh_deadline_timestamp_seconds",
            "Until when the last answer of a credential provider holds, as it said itself, or the settings",
            Family::default(),
        );
        let expiries = registered(
            registry,
            "source_expiry_timestamp_seconds",
            "When the first credential of a source expires, where that is known",
            Family::default(),
        );
        let credentials = registered(
            registry,
            "source_credential",
            "1 for what a registry says of a credential of a source: accepted, refused, or unknown where it cannot be asked",
            Family::default(),
        );
        let evictions =
            registered(registry, "evictions", "Pods that were evicted because they could not pull", Counter::default());
        let settings_valid = registered(
            registry,
            "settings_valid",
            "1 while the settings are there and valid; with 0, the generator works by the last valid ones, if there were any",
            Gauge::default(),
        );
        let failing_objects = registered(
            registry,
            "failing_objects",
            "Secrets and ServiceAccounts whose last write failed",
            Gauge::default(),
        );
        let waiting_objects = registered(
            registry,
            "waiting_objects",
            "Secrets and ServiceAccounts that wait for their next write, because one failed or somebody keeps changing them back",
            Gauge::default(),
        );
        let failing_watches = registered(registry, "watches_in_trouble", "Watches that do not work", Gauge::default());
        Self {
            registry: root,
            copies,
            requests,
            errors,
            reconcile_seconds,
            last_full_sync,
            leader,
            source_versions,
            refreshes,
            refresh_failing,
            refresh_deadlines,
            expiries,
            credentials,
            evictions,
            settings_valid,
            failing_objects,
            waiting_objects,
            failing_watches,
        }
    }
}

/// The metric, which the registry prints from now on.
fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Counts one request. A failed one is counted by its status code, if there was an answer.
    pub(crate) fn count_request(&self, verb: &'static str, resource: &'static str, answer: Result<(), Option<u16>>) {
        let labels = |code| RequestLabels { verb, resource, code };
        match answer {
            Ok(()) => self.requests.get_or_create(&labels("2xx".to_owned())).inc(),
            Err(code) => self.errors.get_or_create(&labels(code.unwrap_or_default().to_string())).inc(),
        };
    }

    /// Shows how many namespaces each secret has in each state.
    pub(crate) fn show_copies(&self, counts: &BTreeMap<(String, CopyState), i64>) {
        self.copies.clear();
        for ((secret, state), count) in counts {
            self.copies.get_or_create(&CopyLabels { secret: secret.clone(), state: state.name() }).set(*count);
        }
    }

    /// Removes the figures about the cluster, because they are no longer kept up to date.
    pub(crate) fn forget(&self) {
        self.copies.clear();
        self.source_versions.clear();
        self.credentials.clear();
        for family in [&self.refresh_failing, &self.refresh_deadlines, &self.expiries] {
            family.clear();
        }
        for gauge in [&self.failing_objects, &self.waiting_objects, &self.failing_watches] {
            gauge.set(0);
        }
    }

    /// Shows the version of a source.
    pub(crate) fn show_source(&self, secret: &str, version: Option<u64>) {
        let label = SecretLabel { secret: secret.to_owned() };
        match version.and_then(|version| i64::try_from(version).ok()) {
            Some(version) => {
                self.source_versions.get_or_create(&label).set(version);
            }
            None => {
                self.source_versions.remove(&label);
            }
        }
    }

    /// Shows the result of asking the credential provider of a secret.
    pub(crate) fn show_asked(&self, secret: &str, asked: &Asked) {
        let label = SecretLabel { secret: secret.to_owned() };
        let count = |result| self.refreshes.get_or_create(&RefreshLabels { secret: secret.to_owned(), result }).inc();
        match asked {
            Asked::Recalled(_) => {}
            Asked::Answered(_) => {
                count("answered");
            }
            Asked::Failed(_) => {
                count("failed");
            }
        }
        self.refresh_failing.get_or_create(&label).set(matches!(asked, Asked::Failed(_)).into());
        if let Asked::Recalled(times) | Asked::Answered(times) = asked {
            self.refresh_deadlines.get_or_create(&label).set(times.holds_until.as_second());
        }
    }

    /// Shows when the first credential of a source expires, where that is known.
    pub(crate) fn show_expiry(&self, secret: &str, expires: Option<Timestamp>) {
        let label = SecretLabel { secret: secret.to_owned() };
        match expires {
            Some(expires) => {
                self.expiries.get_or_create(&label).set(expires.as_second());
            }
            None => {
                self.expiries.remove(&label);
            }
        }
    }

    /// Shows what registries say about the source of a secret.
    pub(crate) fn show_verified(&self, secret: &str, verification: &Verification) {
        for (server, verdict) in &verification.servers {
            for other in Verdict::ALL {
                self.credentials.get_or_create(&credential(secret, server, other)).set((other == *verdict).into());
            }
        }
    }

    /// Shows that no more.
    pub(crate) fn hide_verified(&self, secret: &str, verification: &Verification) {
        for server in verification.servers.keys() {
            for verdict in Verdict::ALL {
                self.credentials.remove(&credential(secret, server, verdict));
            }
        }
    }

    /// The metrics in the OpenMetrics text format.
    pub(crate) fn print(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn credential(secret: &str, server: &str, verdict: Verdict) -> CredentialLabels {
    CredentialLabels { secret: secret.to_owned(), server: server.to_owned(), verdict: verdict.name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_process_tells_is_there_by_the_usual_names() {
        let printed = Metrics::default().print();
        let value = |name: &str| -> f64 {
            let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("there is no {name} in {printed}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
        let version = format!("image_pull_secrets_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert!((value(&version) - 1.0).abs() < f64::EPSILON);
    }
}
