//! Where an issuer's keys come from, and how seldom.

use crate::world::{EMAIL, IssuerKey, World};
use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect};
use axum::routing::get;
use countersign_ca::identity::JwksError;
use countersign_ca::identity::jwks::KeySource;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test]
async fn an_issuer_that_is_away_affects_itself_alone_and_unknown_keys_cost_one_fetch() {
    let world = World::new().await;
    let (token, request) = (world.sign(&world.claims()), world.request(EMAIL));
    world.accepted(&token, &request).await;
    assert_eq!(world.fetches.load(Ordering::Relaxed), 1);
    let unknown = Header { kid: Some("two".to_owned()), ..Header::new(Algorithm::RS256) };
    let unknown = jsonwebtoken::encode(&unknown, &world.claims(), &world.key.encoding).unwrap();
    for _ in 0..5 {
        world.refused("unknown key", &unknown, &request, 400, "BAD_SIGNATURE").await;
    }
    assert!(world.fetches.load(Ordering::Relaxed) <= 2, "one more at most");
    let elsewhere = world.with("iss", "http://127.0.0.1:1".into());
    world.refused("unreachable", &elsewhere, &request, 503, "ISSUER_UNREACHABLE").await;
    world.issuer_away.store(true, Ordering::Relaxed);
    world.accepted(&token, &request).await;
}

/// An issuer that publishes what it is told, and counts.
struct Provider {
    url: String,
    /// Discovery, and the key set; what is not an object is a status.
    documents: Arc<std::sync::Mutex<(Value, Value)>>,
    fetches: Arc<AtomicUsize>,
    delay_ms: Arc<AtomicU64>,
}

impl Provider {
    async fn new(keys: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        let documents = Arc::new(std::sync::Mutex::new((discovery, json!({ "keys": keys }))));
        let fetches = Arc::new(AtomicUsize::new(0));
        let delay_ms = Arc::new(AtomicU64::new(0));
        let serve = |first: bool| {
            let (documents, fetches) = (Arc::clone(&documents), Arc::clone(&fetches));
            let delay_ms = Arc::clone(&delay_ms);
            get(async move || {
                let delay = Duration::from_millis(delay_ms.load(Ordering::Relaxed));
                tokio::time::sleep(delay).await;
                let documents = documents.lock().unwrap().clone();
                let document = if first { documents.0 } else { documents.1 };
                fetches.fetch_add(usize::from(first), Ordering::Relaxed);
                match document {
                    Value::Number(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    Value::String(to) => Redirect::temporary(&to).into_response(),
                    document => Json(document).into_response(),
                }
            })
        };
        let routes = Router::new()
            .route("/.well-known/openid-configuration", serve(true))
            .route("/moved", serve(false))
            .route("/keys", serve(false));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, documents, fetches, delay_ms }
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Waits until so many fetches are done.
    async fn fetched(&self, times: usize) {
        while self.fetches() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // the keys follow their discovery
    }

    fn publish(&self, change: impl FnOnce(&mut (Value, Value))) {
        change(&mut self.documents.lock().unwrap());
    }
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn keys_are_fetched_when_old_or_unknown_and_at_most_once_in_ten_seconds() {
    let (one, two) = (IssuerKey::new("one"), IssuerKey::new("two"));
    let provider = Provider::new(json!([one.jwk])).await;
    let source = KeySource::new(&provider.url, None).unwrap();
    let ask = async |key: &str, second| source.candidates(Some(key), after(second)).await.map(drop);
    assert_eq!(ask("one", 0).await, Ok(()));
    assert_eq!(ask("two", 1).await, Err(JwksError::UnknownKey));
    assert_eq!((ask("one", 600).await, provider.fetches()), (Ok(()), 1), "fresh for ten minutes");
    assert_eq!(ask("one", 601).await, Ok(()));
    provider.fetched(2).await; // in the background
    provider.publish(|documents| documents.1 = json!({ "keys": [two.jwk] }));
    assert_eq!(ask("two", 605).await, Err(JwksError::UnknownKey), "ten seconds have not passed");
    assert_eq!((ask("two", 612).await, provider.fetches()), (Ok(()), 3));
    assert_eq!(ask("one", 613).await, Err(JwksError::UnknownKey), "withdrawn");
    provider.publish(|documents| documents.1 = json!({ "keys": [one.jwk] }));
    let late = ask("two", 1513).await;
    assert_eq!(
        (late, provider.fetches()),
        (Err(JwksError::UnknownKey), 4),
        "no longer than a quarter of an hour"
    );
    provider.publish(|documents| documents.1 = json!({ "keys": [two.jwk] }));
    // A clock that is set back by a day does not stop keys from being fetched.
    assert_eq!((ask("two", -86_400).await, provider.fetches()), (Ok(()), 5));
}

#[tokio::test]
async fn while_an_issuer_is_away_its_last_keys_serve_for_a_day() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let source = KeySource::new(&provider.url, None).unwrap();
    let ask = async |key: &str, second| source.candidates(Some(key), after(second)).await.map(drop);
    assert_eq!(ask("one", 0).await, Ok(()));
    provider.publish(|documents| documents.1 = json!(503));
    assert_eq!(ask("one", 86_400).await, Ok(()));
    let late = ask("one", 86_401).await;
    assert!(matches!(late, Err(JwksError::Fetch { .. })), "{late:?}");
    let fetches = provider.fetches();
    assert_eq!((ask("one", 86_402).await, provider.fetches()), (late, fetches), "not asked again");
}

#[tokio::test]
async fn one_fetch_runs_at_a_time_and_known_keys_do_not_wait_for_it() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    provider.delay_ms.store(50, Ordering::Relaxed);
    let source = Arc::new(KeySource::new(&provider.url, None).unwrap());
    let all: Vec<_> = (0..20)
        .map(|place| {
            let source = Arc::clone(&source);
            // Their clocks were read in another order than their turns come.
            tokio::spawn(async move { source.candidates(Some("one"), after(-place)).await.is_ok() })
        })
        .collect();
    for task in all {
        assert!(task.await.unwrap());
    }
    assert_eq!(provider.fetches(), 1);

    provider.delay_ms.store(2_000, Ordering::Relaxed);
    let unknown = {
        let source = Arc::clone(&source);
        tokio::spawn(async move { source.candidates(Some("two"), after(100)).await.map(drop) })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let known = source.candidates(Some("one"), after(100));
    assert!(tokio::time::timeout(Duration::from_millis(500), known).await.unwrap().is_ok());
    unknown.abort();
}

#[tokio::test]
async fn redirects_are_followed_within_the_issuer_and_nowhere_else() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let other = Provider::new(json!([one.jwk])).await;
    let outcome = async |discovery: Value| {
        provider.publish(|documents| documents.0 = discovery);
        let source = KeySource::new(&provider.url, None).unwrap();
        source.candidates(Some("one"), after(0)).await.map(drop)
    };
    let document = |issuer: &str, keys: String| json!({ "issuer": issuer, "jwks_uri": keys });
    let ours = &provider.url[..];
    assert_eq!(outcome(document(ours, format!("{ours}/keys"))).await, Ok(()));
    // Keys may lie elsewhere, and discovery may move within the issuer.
    provider.publish(|documents| documents.1 = document(ours, format!("{}/keys", other.url)));
    assert_eq!(outcome("/moved".into()).await, Ok(()));
    // What lies elsewhere would do: it must not be looked at.
    other.publish(|documents| documents.1 = document(ours, format!("{ours}/keys")));
    provider.publish(|documents| documents.1 = json!({ "keys": [one.jwk] }));
    let elsewhere = outcome(format!("{}/moved", other.url).into()).await;
    assert!(matches!(elsewhere, Err(JwksError::Fetch { .. })), "{elsewhere:?}");
    let loops = outcome(format!("{ours}/.well-known/openid-configuration").into()).await;
    assert!(matches!(loops, Err(JwksError::Fetch { .. })), "{loops:?}");
    for near_miss in [format!("{ours}/"), other.url.clone(), String::new()] {
        let refused = outcome(document(&near_miss, format!("{ours}/keys"))).await;
        assert!(matches!(refused, Err(JwksError::OtherIssuer { .. })), "{near_miss}: {refused:?}");
    }
    for keys in ["http://192.0.2.1/keys", "file:///etc/passwd", "ftp://127.0.0.1/keys"] {
        assert_eq!(outcome(document(ours, keys.to_owned())).await, Err(JwksError::Url), "{keys}");
    }
}

#[test]
fn issuers_are_https_urls_or_on_loopback() {
    for good in
        ["https://a.example", "https://a.example/b/", "http://127.0.0.1:1", "http://[::1]:1"]
    {
        assert!(KeySource::new(good, None).is_ok(), "{good}");
    }
    for near_miss in [
        "http://a.example",
        "http://127.0.0.1.a.example",
        "http://192.168.0.1",
        "https://a@b.example",
        "https://a.example?b",
        "https://a.example#b",
        "a.example",
        "",
    ] {
        assert!(matches!(KeySource::new(near_miss, None), Err(JwksError::Url)), "{near_miss}");
    }
}
