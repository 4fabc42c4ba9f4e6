//! Where an issuer's keys come from, and how seldom.

use crate::world::{EMAIL, IssuerKey, World};
use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect};
use axum::routing::get;
use countersign_ca::identity::jwks::KeySource;
use countersign_ca::identity::{FulcioConfig, Issuer, JwksError, Mapping, TokenError, Verifier};
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
    let answer =
        world.refused("unreachable", &elsewhere, &request, 503, "ISSUER_UNREACHABLE").await;
    assert!(!answer.to_string().contains("127.0.0.1"), "what is there is nobody's: {answer}");
    assert!(world.lines().last().unwrap()["message"].as_str().unwrap().contains("127.0.0.1:1"));
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
            .route("/t/{name}/.well-known/openid-configuration", serve(true))
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
    assert_eq!(ask("two", 604).await, Err(JwksError::UnknownKey), "the keys are three seconds old");
    let held_back = Err(JwksError::NotAskedAgain);
    assert_eq!(ask("two", 606).await, held_back, "it may be new, and ten seconds have not passed");
    assert_eq!((ask("two", 613).await, provider.fetches()), (Ok(()), 3));
    assert_eq!(ask("one", 614).await, Err(JwksError::UnknownKey), "withdrawn");
    provider.publish(|documents| documents.1 = json!({ "keys": [one.jwk] }));
    let late = ask("two", 1514).await;
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
async fn an_issuer_that_hangs_is_waited_for_by_one_token_and_its_last_keys_serve_meanwhile() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let source = Arc::new(KeySource::new(&provider.url, None).unwrap());
    let ask = async |key: &str, second| {
        let asked = source.candidates(Some(key), after(second));
        let answered = tokio::time::timeout(Duration::from_secs(2), asked).await;
        answered.expect("an answer at once").map(drop)
    };
    assert_eq!(ask("one", 0).await, Ok(()));
    provider.publish(|documents| documents.0 = json!(503));
    assert_eq!(ask("one", 1000).await, Ok(()), "too old, and it fails");
    provider.delay_ms.store(60_000, Ordering::Relaxed);
    // Begun in the background: who has a key does not wait.
    assert_eq!(ask("one", 1020).await, Ok(()));
    assert_eq!(ask("one", 1020).await, Ok(()));
    let unknown = ask("two", 1020).await;
    assert!(matches!(unknown, Err(JwksError::Fetch { .. })), "{unknown:?}");

    // The same before there are keys: one that begins a fetch waits, the rest is told of the failure.
    let provider = Provider::new(json!([one.jwk])).await;
    provider.publish(|documents| documents.0 = json!(503));
    provider.delay_ms.store(1_200, Ordering::Relaxed);
    let source = Arc::new(KeySource::new(&provider.url, None).unwrap());
    let ask = async |second| source.candidates(None, after(second)).await.map(drop);
    assert!(ask(0).await.is_err());
    provider.delay_ms.store(60_000, Ordering::Relaxed);
    // The fetch took until after the first second; the pause is counted from there.
    assert!(ask(2).await.is_err());
    assert_eq!(provider.fetches(), 1);
    let begins = {
        let source = Arc::clone(&source);
        tokio::spawn(async move { source.candidates(None, after(4)).await.map(drop) })
    };
    tokio::task::yield_now().await;
    assert!(ask(4).await.is_err());
    assert!(!begins.is_finished());
    begins.abort();
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

/// Serves an endless document at `/keys`; counts the bytes that went out.
async fn endless() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let discovery = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
    let count = Arc::clone(&sent);
    let keys = get(async move || {
        let chunk = axum::body::Bytes::from(vec![b' '; 64 << 10]);
        let gibibyte = (0..16_384).map(move |_| {
            count.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(chunk.clone())
        });
        axum::body::Body::from_stream(futures_util::stream::iter(gibibyte))
    });
    let discovery = get(async move || Json(discovery.clone()));
    let routes =
        Router::new().route("/.well-known/openid-configuration", discovery).route("/keys", keys);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, sent)
}

#[tokio::test]
async fn of_a_key_set_of_a_gibibyte_no_more_is_taken_than_a_key_set_may_have() {
    let (url, sent) = endless().await;
    let source = KeySource::new(&url, None).unwrap();
    let refused = source.candidates(None, after(0)).await.map(drop);
    let Err(JwksError::Fetch { reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(reason, "more than 262144 bytes");
    // The rest is what lay in the buffers between us.
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 32 << 20, "{sent}");
}

#[tokio::test]
async fn key_sets_that_are_none_are_refused_and_strange_keys_passed_over() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let outcome = async |keys: Value| {
        provider.publish(|documents| documents.1 = keys);
        let source = KeySource::new(&provider.url, None).unwrap();
        let candidates = source.candidates(Some("one"), after(0)).await?;
        Ok(candidates.fitting(Algorithm::RS256).count())
    };
    let with = |name: &str, value: Value| {
        let mut jwk = one.jwk.clone();
        jwk[name] = value;
        json!({ "keys": [jwk] })
    };
    let strange = json!({ "kty": "AKP", "alg": "ML-DSA-65", "kid": "one", "pub": "AA" });
    for (what, keys, expected) in [
        ("a good one", json!({ "keys": [one.jwk] }), 1),
        ("beside strange ones", json!({ "keys": [strange, 7, null, {}, one.jwk] }), 1),
        ("twice the same name", json!({ "keys": [one.jwk, one.jwk] }), 2),
    ] {
        assert_eq!(outcome(keys).await, Ok(expected), "{what}");
    }
    for (what, keys) in [
        ("another name", with("kid", "two".into())),
        (
            "a secret beside it",
            json!({ "keys": [with("kid", "two".into())["keys"][0], { "kty": "oct", "kid": "one", "k": "AA" }] }),
        ),
    ] {
        assert_eq!(outcome(keys).await, Err(JwksError::UnknownKey), "{what}");
    }
    for (what, keys) in [
        ("for encryption", with("use", "enc".into())),
        ("for signing, not verifying", with("key_ops", json!(["sign"]))),
        ("a name that is a number", with("kid", 1.into())),
        ("no modulus", with("n", Value::Null)),
        ("a modulus that is no base64", with("n", "*".into())),
        ("none", json!({ "keys": [] })),
        (
            "the 101st",
            json!({ "keys": std::iter::repeat_n(json!({}), 100).chain([one.jwk.clone()]).collect::<Vec<_>>() }),
        ),
    ] {
        assert_eq!(outcome(keys).await, Err(JwksError::NoKeys), "{what}");
    }
    assert_eq!(outcome(with("alg", "RS512".into())).await, Ok(0), "for another algorithm");
    for (what, keys) in [
        ("a list", json!([one.jwk])),
        ("keys that are no list", json!({ "keys": { "one": one.jwk } })),
        ("nothing of it", json!({})),
    ] {
        let refused = outcome(keys).await;
        assert!(matches!(refused, Err(JwksError::Fetch { .. })), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn a_set_without_a_key_does_not_replace_one_with_keys() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let source = KeySource::new(&provider.url, None).unwrap();
    let ask = async |second| source.candidates(Some("one"), after(second)).await.map(drop);
    assert_eq!(ask(0).await, Ok(()));
    provider.publish(|documents| documents.1 = json!({ "keys": [] }));
    assert_eq!((ask(1000).await, provider.fetches()), (Ok(()), 2));
}

#[tokio::test]
async fn without_a_usable_list_of_algorithms_it_is_rs256() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    for (list, expected) in [
        (Value::Null, (true, false)),
        (json!([]), (true, false)),
        (json!(["HS256", "ES256K"]), (true, false)),
        (json!(["ES256"]), (false, true)),
    ] {
        provider.publish(|documents| {
            documents.0["id_token_signing_alg_values_supported"] = list.clone();
        });
        let source = KeySource::new(&provider.url, None).unwrap();
        let found = source.candidates(None, after(0)).await.unwrap();
        let found = (found.allows(Algorithm::RS256), found.allows(Algorithm::ES256));
        assert_eq!(found, expected, "{list}");
    }
}

/// A verifier of everything below `/t/` on the provider's host.
fn pattern(url: &str) -> Verifier {
    let config = json!({ "meta-issuers": { format!("{url}/t/*"): { "client-id": "sigstore", "type": "email" } } });
    Verifier::new(FulcioConfig::parse(&config.to_string()).unwrap().issuers).unwrap()
}

#[tokio::test]
async fn issuers_of_a_pattern_are_met_as_tokens_name_them() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let verifier = pattern(&provider.url);
    let issuer = format!("{}/t/acme", provider.url);
    let token = |issuer: &str| {
        let claims = json!({ "iss": issuer, "aud": "sigstore", "sub": "s", "email": EMAIL, "email_verified": true,
            "iat": after(0).as_second(), "exp": after(600).as_second() });
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &one.encoding).unwrap()
    };
    let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{}/keys", provider.url) });
    provider.publish(|documents| documents.0 = discovery);
    let identity = verifier.verify(&token(&issuer), after(0)).await.unwrap();
    assert_eq!(identity.issuer(), issuer);
    // Its keys may lie nowhere else: nobody has said that this issuer may send us there.
    let other = Provider::new(json!([one.jwk])).await;
    let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{}/keys", other.url) });
    provider.publish(|documents| documents.0 = discovery);
    let refused = pattern(&provider.url).verify(&token(&issuer), after(0)).await;
    assert!(matches!(refused, Err(TokenError::Keys(JwksError::Elsewhere))), "{refused:?}");
    for stranger in [
        format!("{}/t/acme/x", provider.url),
        format!("{}/u/acme", provider.url),
        other.url.clone(),
    ] {
        let refused = verifier.verify(&token(&stranger), after(0)).await;
        assert!(
            matches!(refused, Err(TokenError::UnknownIssuer { .. })),
            "{stranger}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn issuers_that_somebody_makes_up_keep_out_no_real_one() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let verifier = Arc::new(pattern(&provider.url));
    let token = |issuer: &str| {
        let claims = json!({ "iss": issuer, "aud": "sigstore", "sub": "s", "email": EMAIL, "email_verified": true,
            "iat": after(0).as_second(), "exp": after(600).as_second() });
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &one.encoding).unwrap()
    };
    let ask = async |name: &str| {
        let token = token(&format!("{}/t/{name}", provider.url));
        verifier.verify(&token, after(1)).await.map(drop)
    };
    let publish = |name: &str| {
        let issuer = format!("{}/t/{name}", provider.url);
        let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{}/keys", provider.url) });
        provider.publish(|documents| documents.0 = discovery);
    };
    publish("acme");
    ask("acme").await.unwrap();
    for number in 0..150 {
        let refused = ask(&number.to_string()).await;
        assert!(
            matches!(refused, Err(TokenError::Keys(JwksError::OtherIssuer { .. }))),
            "{refused:?}"
        );
    }
    // One that nobody has met yet, in the same second.
    publish("new");
    ask("new").await.unwrap();
    // So many are asked at a time, and no more.
    let fetches = provider.fetches();
    provider.delay_ms.store(1_000, Ordering::Relaxed);
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..40 {
        let token = token(&format!("{}/t/slow-{number}", provider.url));
        let verifier = Arc::clone(&verifier);
        asked.spawn(async move { verifier.verify(&token, after(1)).await.map(drop) });
    }
    let all = asked.join_all().await;
    let too_many =
        |refused: &&Result<(), _>| matches!(refused, Err(TokenError::Keys(JwksError::TooMany)));
    assert_eq!((all.iter().filter(too_many).count(), provider.fetches() - fetches), (10, 30));
    // Those that are known are not driven out.
    provider.delay_ms.store(0, Ordering::Relaxed);
    ask("acme").await.unwrap();
    ask("new").await.unwrap();
    assert_eq!(provider.fetches() - fetches, 30);
}

#[tokio::test]
async fn a_configuration_that_is_read_again_goes_on_with_the_keys_that_it_has() {
    let one = IssuerKey::new("one");
    let provider = Provider::new(json!([one.jwk])).await;
    let ask = async |verifier: &Verifier, issuer: &str| {
        let claims = json!({ "iss": issuer, "aud": "sigstore", "sub": "s", "email": EMAIL, "email_verified": true,
            "iat": after(0).as_second(), "exp": after(600).as_second() });
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
        let token = jsonwebtoken::encode(&header, &claims, &one.encoding).unwrap();
        verifier.verify(&token, after(1)).await.map(drop)
    };
    let exact = |ca_cert: Option<&str>| {
        let mut issuer = Issuer::new(&provider.url, Mapping::EMAIL);
        issuer.ca_cert = ca_cert.map(str::to_owned);
        Verifier::new([issuer]).unwrap()
    };
    let (first, many) = (exact(None), pattern(&provider.url));
    ask(&first, &provider.url).await.unwrap();
    let acme = format!("{}/t/acme", provider.url);
    let keys = format!("{}/keys", provider.url);
    provider.publish(|documents| documents.0 = json!({ "issuer": acme, "jwks_uri": keys }));
    ask(&many, &acme).await.unwrap();
    provider.publish(|documents| documents.0 = json!(503));
    let (next, next_many) = (exact(None), pattern(&provider.url));
    ask(&next.following(&first), &provider.url).await.unwrap();
    ask(&next_many.following(&many), &acme).await.unwrap();
    // Another authority may vouch for another issuer.
    let other = exact(Some(""));
    assert!(ask(&other.following(&first), &provider.url).await.is_err());
}
