//! Requests of shapes that no client should send, what a token would get, and limits.

use crate::world::{EMAIL, World};
use countersign_ca::ceremony;
use countersign_ca::limits::Limits;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

/// Replaces, or with `null` removes, the member at this JSON pointer.
fn change(request: &Value, pointer: &str, value: Value) -> String {
    let mut request = request.clone();
    let (above, name) = pointer.rsplit_once('/').unwrap();
    let above = request.pointer_mut(above).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => drop(above.remove(name)),
        value => drop(above.insert(name.to_owned(), value)),
    }
    request.to_string()
}

#[tokio::test]
async fn requests_of_another_shape_are_refused_with_the_member_that_is_wrong() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    let good = world.request(EMAIL);
    let key = "/publicKeyRequest/publicKey";
    let content = "/publicKeyRequest/publicKey/content";
    let proof = "/publicKeyRequest/proofOfPossession";
    let mut cases: Vec<(String, String, &str)> = Vec::new();
    for text in ["true", "7", "[]", "\"x\"", "[{}]"] {
        let value: Value = serde_json::from_str(text).unwrap();
        cases.push((
            change(&good, "/publicKeyRequest", value.clone()),
            "REQUEST_MALFORMED".into(),
            "publicKeyRequest",
        ));
        cases.push((change(&good, key, value.clone()), "REQUEST_MALFORMED".into(), "publicKey"));
        cases.push((
            change(&good, "/credentials", value.clone()),
            "REQUEST_MALFORMED".into(),
            "credentials",
        ));
        if !value.is_string() {
            cases.push((
                change(&good, content, value.clone()),
                "REQUEST_MALFORMED".into(),
                "content",
            ));
            cases.push((
                change(&good, proof, value.clone()),
                "REQUEST_MALFORMED".into(),
                "proofOfPossession",
            ));
            cases.push((
                json!({ "certificateSigningRequest": value }).to_string(),
                "REQUEST_MALFORMED".into(),
                "certificateSigningRequest",
            ));
            cases.push((
                json!({ "credentials": { "oidcIdentityToken": value } }).to_string(),
                "REQUEST_MALFORMED".into(),
                "oidcIdentityToken",
            ));
        }
    }
    for (pointer, name) in [
        ("/publicKeyRequest", "publicKeyRequest"),
        (key, "publicKey"),
        (content, "content"),
        (proof, "proofOfPossession"),
    ] {
        cases.push((change(&good, pointer, Value::Null), "REQUEST_MALFORMED".into(), name));
    }
    for name in ["content", "proofOfPossession"] {
        let pointer = if name == "content" { content } else { proof };
        cases.push((change(&good, pointer, "".into()), "REQUEST_MALFORMED".into(), name));
    }
    for base64 in ["*", "A", "AA=A", "A===", "AA\u{e4}A", "-_+/", "QUJD QUJD"] {
        cases.push((
            change(&good, proof, base64.into()),
            "REQUEST_MALFORMED".into(),
            "proofOfPossession",
        ));
        cases.push((
            json!({ "certificateSigningRequest": base64 }).to_string(),
            "REQUEST_MALFORMED".into(),
            "certificateSigningRequest",
        ));
    }
    let text = good.to_string();
    for (body, name) in [
        (text.replacen('{', "{\"publicKeyRequest\":null,", 1), "twice"),
        (text.replacen("{\"algorithm\"", "{\"content\":\"a\",\"algorithm\"", 1), "twice"),
        (text.replacen('{', "{\"public_key_request\":{},", 1), "both spellings"),
        (text.replacen('{', "{\"certificateSigningRequest\":\"QQ==\",", 1), "expected one"),
        (text[..text.len() - 1].to_owned(), "JSON"),
        (text.replace('"', "'"), "JSON"),
        ("[]".to_owned(), "JSON"),
        ("null".to_owned(), "JSON"),
        ("hello".to_owned(), "JSON"),
        ("\u{feff}{}".to_owned(), "JSON"),
        ("[".repeat(100_000), "JSON"),
        (format!("{{\"a\":{}", "[".repeat(100_000)), "JSON"),
        (format!("{{\"a\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000)), "JSON"),
        (String::new(), "publicKeyRequest"),
        ("{}".to_owned(), "publicKeyRequest"),
        ("{\"PublicKeyRequest\":{}}".to_owned(), "publicKeyRequest"),
        ("publicKeyRequest=a&b=c".to_owned(), "JSON"),
        ("<publicKeyRequest/>".to_owned(), "JSON"),
    ] {
        cases.push((body, "REQUEST_MALFORMED".into(), name));
    }
    cases.push((
        format!("{{\"a\":\"{}\"}}", "x".repeat(256 << 10)),
        "REQUEST_BODY".into(),
        "at most 262144 bytes",
    ));
    for (body, reason, named) in &cases {
        let start: String = body.chars().take(120).collect();
        let (status, answer) = world.post("/api/v2/signingCert", &token, body.clone()).await;
        let json: Value =
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{start}: {answer}"));
        let found = (status, &json["code"], &json["details"][0]["reason"]);
        assert_eq!(found, (400, &3.into(), &reason[..].into()), "{start}: {answer}");
        assert!(json["message"].as_str().unwrap().contains(named), "{start}: {answer}");
        assert!(!answer.contains("BEGIN") && !answer.contains("eyJ"), "{start}: {answer}");
    }
    assert!(cases.len() > 65, "{}", cases.len());
    assert!(world.lines().is_empty(), "nothing was asked, nothing is on record");
}

#[tokio::test]
async fn without_a_token_where_one_belongs_there_is_nothing_to_judge() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    let body = world.request(EMAIL).to_string();
    for (path, header) in [
        ("/api/v2/signingCert", None),
        ("/api/v2/signingCert", Some(String::new())),
        ("/api/v2/signingCert", Some("Bearer".to_owned())),
        ("/api/v2/signingCert", Some("Bearer  ".to_owned())),
        ("/api/v2/signingCert", Some(token.clone())),
        ("/api/v2/signingCert", Some(format!("Basic {token}"))),
        ("/api/v2/signingCert", Some(format!("Token {token}"))),
        ("/api/v1/signingCert", None),
        ("/api/v1/signingCert", Some(format!("Basic {token}"))),
        ("/api/v2/explainToken", None),
    ] {
        let mut request = world.http.post(format!("{}{path}", world.url)).body(body.clone());
        if let Some(header) = &header {
            request = request.header("authorization", header);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(
            (status, &answer["details"][0]["reason"]),
            (400, &"TOKEN_MISSING".into()),
            "{path} {header:?}"
        );
        assert!(!answer.to_string().contains("eyJ"));
    }
    // Any case of the word, and more than one blank, are a bearer token.
    for header in [format!("bearer {token}"), format!("BEARER   {token} ")] {
        let request = world
            .http
            .post(format!("{}/api/v2/signingCert", world.url))
            .header("authorization", header);
        assert_eq!(request.body(body.clone()).send().await.unwrap().status().as_u16(), 200);
    }
    for (method, path, expected) in [
        ("GET", "/api/v2/signingCert", 501),
        ("PUT", "/api/v2/signingCert", 501),
        ("DELETE", "/api/v1/signingCert", 501),
        ("POST", "/api/v2/trustBundle", 501),
        ("PATCH", "/api/v1/rootCert", 501),
        ("GET", "/api/v2/explainToken", 501),
        ("POST", "/api/v2/signingcert", 404),
        ("POST", "/API/V2/signingCert", 404),
        ("POST", "/api/v2/signingCert/x", 404),
    ] {
        let request = world.http.request(method.parse().unwrap(), format!("{}{path}", world.url));
        assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn what_a_token_would_get_is_told_and_not_given() {
    let world = World::new().await;
    let explain = async |token: &str, body: String| {
        let (status, answer) = world.post("/api/v2/explainToken", token, body).await;
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let token = world.sign(&world.claims());
    for (header, body) in
        [(&token[..], json!({})), ("x", json!({ "credentials": { "oidcIdentityToken": token } }))]
    {
        let (status, answer) = explain(header, body.to_string()).await;
        assert_eq!(
            (status, &answer["identity"], &answer["kind"]),
            (200, &EMAIL.into(), &"email".into())
        );
        assert_eq!(
            (&answer["issuer"], &answer["claims"]["tokenSubject"]),
            (&world.issuer[..].into(), &"subject".into())
        );
        assert_eq!(
            (&answer["policy"], &answer["proofOver"]),
            (&json!({ "verdict": "accepted" }), &json!([EMAIL, "subject"]))
        );
    }
    let (status, answer) =
        explain(&world.with("email", "banned@example.com".into()), String::new()).await;
    let expected = json!({ "verdict": "refused", "rule": "nobody banned", "expected": "anyone else", "found": "banned@example.com" });
    assert_eq!((status, &answer["policy"]), (200, &expected));
    let (status, answer) = explain(&world.with("exp", 7.into()), String::new()).await;
    assert_eq!((status, &answer["details"][0]["reason"]), (400, &"TOKEN_EXPIRED".into()));
    assert!(world.lines().is_empty(), "nothing was issued, and nothing is on record");
}

#[tokio::test]
async fn one_time_tokens_are_good_for_one_certificate_and_for_a_retry_of_what_failed() {
    let now = Timestamp::now();
    let limits = Limits::none().one_time_tokens(now);
    let world = World::limited(ceremony::create("Test", now).unwrap(), limits).await;
    let request = world.request(EMAIL);
    let token = world.sign(&world.claims());
    world.log.fails.store(true, Ordering::Relaxed);
    let (status, answer) = world.post("/api/v2/signingCert", &token, request.to_string()).await;
    assert_eq!(status, 503, "the log is away: {answer}");
    world.log.fails.store(false, Ordering::Relaxed);
    world.accepted(&token, &request).await;
    world.refused("again", &token, &request, 400, "TOKEN_USED").await;
    let early = world.with("iat", (now.as_second() - 1).into());
    world.refused("from before", &early, &request, 400, "TOKEN_USED").await;
    world.accepted(&world.with("jti", "2".into()), &request).await;
}

#[tokio::test]
async fn an_identity_that_asks_too_often_is_told_when_to_come_back() {
    let limits = Limits::none().per_minute(NonZeroU32::new(2).unwrap());
    let world = World::limited(ceremony::create("Test", Timestamp::now()).unwrap(), limits).await;
    let (token, request) = (world.sign(&world.claims()), world.request(EMAIL));
    world.accepted(&token, &request).await;
    world.accepted(&token, &request).await;
    let answer = world.refused("too often", &token, &request, 429, "RATE_LIMITED").await;
    assert_eq!(answer["code"], 8);
    let again = world.http.post(format!("{}/api/v2/signingCert", world.url)).bearer_auth(&token);
    let again = again.body(request.to_string()).send().await.unwrap();
    let wait: u64 = again.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let other = world.with("email", "me@example.com".into());
    world.accepted(&other, &world.request("me@example.com")).await;
}
