//! `/metrics`: what the program counts, as Prometheus reads it.
//!
//! Counters and histograms are recorded where things happen, through the `metrics` facade. What is a
//! state, such as the size of a log, is read when it is asked for.

use crate::instance::{Instance, LogName};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Half a millisecond to ten seconds: one commit to what a client waits at most.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// One entry to the largest batch.
const ENTRIES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The process's one recorder, made the first time.
pub(crate) fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(install).clone()
}

fn install() -> PrometheusHandle {
    let buckets = |builder: PrometheusBuilder, suffix: &str, buckets: &[f64]| {
        let suffix = Matcher::Suffix(suffix.to_owned());
        builder.set_buckets_for_metric(suffix, buckets).expect("there are buckets")
    };
    let builder = buckets(PrometheusBuilder::new(), "_seconds", &SECONDS);
    let recorder = buckets(builder, "_entries", &ENTRIES).build_recorder();
    let handle = recorder.handle();
    // Taken already: then somebody else in this process counts, and we render nothing.
    let _ = metrics::set_global_recorder(recorder);
    describe();
    handle
}

fn describe() {
    describe_counter!("countersign_http_requests_total", "Requests answered");
    describe_histogram!("countersign_http_request_seconds", "Time to answer a request");
    describe_histogram!("countersign_log_batch_entries", "Entries of a batch");
    describe_histogram!(
        "countersign_log_batch_age_seconds",
        "How long a batch's oldest entry waited for it to begin"
    );
    describe_histogram!(
        "countersign_log_batch_seconds",
        "Time from a batch's beginning to its publication"
    );
    describe_histogram!(
        "countersign_log_commit_seconds",
        "Time of the compare-and-swap that commits a batch"
    );
    describe_counter!("countersign_log_batches_failed_total", "Batches that did not come through");
    describe_gauge!("countersign_log_entries", "Entries in the published tree");
    describe_gauge!("countersign_index_entries", "Entries that searches are complete up to");
    describe_gauge!(
        "countersign_index_lag_entries",
        "Entries in the published tree that searches do not find yet"
    );
    describe_gauge!("countersign_log_waiting", "Callers that wait for an entry to be published");
    describe_gauge!("countersign_log_pending_entries", "Entries that wait for the next batch");
    describe_gauge!("countersign_log_lag_seconds", "Age of the oldest entry that is not published");
    describe_gauge!(
        "countersign_log_halted",
        "1 when the log takes nothing until somebody has looked"
    );
    describe_gauge!("countersign_log_held", "1 while the latest tree waits for its witnesses");
    describe_counter!("countersign_certificates_issued_total", "Certificates issued");
    describe_counter!(
        "countersign_certificates_refused_total",
        "Requests for a certificate that were refused or failed, by code"
    );
    describe_counter!("countersign_timestamps_total", "Timestamps issued");
    // There from the start, so that the first increment is one.
    for name in ["countersign_certificates_issued_total", "countersign_timestamps_total"] {
        counter!(name).increment(0);
    }
    describe_gauge!("countersign_expiry_days", "Days until a certificate expires");
}

/// Has the recorder put away what histograms gathered, also when nobody asks for them.
pub(crate) async fn upkeep() {
    let recorder = recorder();
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        recorder.run_upkeep();
    }
}

/// The answer to `GET /metrics`.
pub(super) async fn answer(instance: Arc<Instance>) -> Response {
    let indexed = instance.index.indexed();
    let shards = LogName::ALL.map(|log| (1_usize..).zip(instance.logs.of(log)));
    for (number, log) in shards.into_iter().flatten() {
        let name = [("log", log.key().origin().to_owned()), ("shard", number.to_string())];
        let (load, size) = (log.load(), log.head().checkpoint().size);
        let origin = log.key().origin().to_owned();
        counter!("countersign_log_batches_failed_total", "log" => origin).increment(0);
        gauge!("countersign_log_entries", &name).set(size as f64);
        if let Some(indexed) = indexed.iter().find(|it| it.log_id == *log.key().log_id()) {
            let lag = size.saturating_sub(indexed.size);
            gauge!("countersign_index_entries", &name).set(indexed.size as f64);
            gauge!("countersign_index_lag_entries", &name).set(lag as f64);
        }
        gauge!("countersign_log_waiting", &name).set(load.waiting as f64);
        gauge!("countersign_log_pending_entries", &name).set(load.pending as f64);
        gauge!("countersign_log_lag_seconds", &name).set(load.oldest.as_secs_f64());
        gauge!("countersign_log_halted", &name).set(f64::from(u8::from(log.is_halted())));
        gauge!("countersign_log_held", &name).set(f64::from(u8::from(log.is_held())));
    }
    let now = jiff::Timestamp::now();
    for (certificate, expires) in instance.services().expiries() {
        let days = (expires - now).total(jiff::Unit::Second).unwrap_or_default() / 86_400.0;
        gauge!("countersign_expiry_days", "certificate" => certificate).set(days);
    }
    render()
}

/// What was counted, for Prometheus.
pub(crate) fn render() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, recorder().render()).into_response()
}
