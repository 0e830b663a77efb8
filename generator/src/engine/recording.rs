//! Writes the record on the Lease: what may be in the cluster (before it is made), what is left of it (once that is known),
//! and when everything was last in sync.

use crate::cluster::record::Record;
use crate::model::footprint::Footprint;
use image_pull_secrets::settings::Settings;
use k8s_openapi::jiff::Timestamp;

/// How often the time of the last full sync is recorded for `status`, at most, in seconds.
const LAST_FULL_SYNC_EVERY: i64 = 60;

/// Records what may be in the cluster from now on, and gives all that may be there, including what is `remembered` and no
/// longer recorded.
pub(crate) async fn extend(record: &Record, settings: &Settings, remembered: &Footprint) -> Footprint {
    let present = Footprint::of(settings).and(remembered.clone());
    // If the record cannot be read, it is not overwritten.
    let Some(before) = recorded(record).await else { return present };
    let all = before.clone().and(present);
    if all != before
        && let Err(error) = record.write(&all).await
    {
        tracing::warn!("what leaves the settings will not be removed after a restart: {error:#}");
    }
    all
}

/// Records that only this remains of `footprint`, and gives all that is recorded then. Other records stay, because nobody
/// looked for these objects.
pub(crate) async fn reduce(record: &Record, footprint: &Footprint, remaining: Footprint) -> Option<Footprint> {
    let before = recorded(record).await?;
    let after = before.clone().without(footprint).and(remaining);
    if after != before
        && let Err(error) = record.write(&after).await
    {
        tracing::warn!("{error:#}");
        return None;
    }
    Some(after)
}

/// Records again what is `remembered` and no longer recorded. If that fails, it is tried again later.
pub(crate) async fn restore(record: &Record, remembered: &Footprint) {
    let again = async {
        let recorded = record.read().await?;
        let all = recorded.clone().and(remembered.clone());
        if all != recorded {
            record.write(&all).await?;
            tracing::warn!(
                "somebody removed what Lease {}/{} recorded: it is recorded again",
                record.namespace,
                record.lease
            );
        }
        anyhow::Ok(())
    };
    if let Err(error) = again.await {
        tracing::debug!("{error:#}");
    }
}

/// Records when everything was last in sync, in seconds since 1970, unless that was recorded a short time ago.
pub(crate) async fn record_last_full_sync(record: &Record, seconds: i64, told: &mut i64) {
    if seconds < *told + LAST_FULL_SYNC_EVERY {
        return;
    }
    let Ok(time) = Timestamp::from_second(seconds) else { return };
    match record.write_last_full_sync(time).await {
        Ok(()) => *told = seconds,
        Err(error) => tracing::debug!("{error:#}"),
    }
}

/// The record, if it can be read.
pub(crate) async fn recorded(record: &Record) -> Option<Footprint> {
    let recorded = record.read().await;
    recorded.inspect_err(|error| tracing::warn!("it is not known what left the settings before: {error:#}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api;
    use crate::model::ownership::FOOTPRINT_ANNOTATION;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    fn footprint(secrets: &[&str]) -> Footprint {
        let secrets = secrets.iter().map(|&name| name.to_owned()).collect();
        Footprint { secrets, service_accounts: BTreeSet::from(["default".to_owned()]), ..Footprint::default() }
    }

    fn lease(recorded: Option<&Footprint>) -> Value {
        let annotations = recorded.map(|footprint| json!({FOOTPRINT_ANNOTATION: json!(footprint).to_string()}));
        json!({"metadata": {"name": "lease", "annotations": annotations}})
    }

    /// A record with this content, and the other requests that came.
    fn record(recorded: Option<&Footprint>) -> (Arc<Mutex<Vec<Value>>>, Record) {
        let (asked, client) = fake_api::answering(&[lease(recorded)]);
        (asked, Record { client, namespace: "default".to_owned(), lease: "lease".to_owned() })
    }

    fn written(asked: &Mutex<Vec<Value>>) -> Vec<Footprint> {
        let texts = asked.lock().unwrap().clone().into_iter();
        let texts =
            texts.filter_map(|patch| Some(patch["metadata"]["annotations"][FOOTPRINT_ANNOTATION].as_str()?.to_owned()));
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_was_recorded_before_somebody_deleted_the_lease_is_part_of_the_footprint_and_recorded_again() {
        let settings = Settings::from_value(&json!({"secrets": [{"name": "new"}]})).unwrap();
        let (asked, record) = record(None);
        let all = extend(&record, &settings, &footprint(&["former"])).await;
        assert_eq!(all, footprint(&["former", "new"]));
        assert_eq!(written(&asked), [footprint(&["former", "new"])]);
    }

    #[tokio::test]
    async fn a_record_that_is_gone_is_written_again_and_one_that_is_there_is_not() {
        let (asked, gone) = record(None);
        restore(&gone, &footprint(&["a"])).await;
        assert_eq!(written(&asked), [footprint(&["a"])]);
        let (asked, there) = record(Some(&footprint(&["a", "of-another"])));
        restore(&there, &footprint(&["a"])).await;
        assert_eq!(written(&asked), []);
    }
}
