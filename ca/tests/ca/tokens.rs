//! Tokens that attackers and mistaken clients send.

use crate::world::{EMAIL, IssuerKey, World};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

#[tokio::test]
async fn tokens_that_are_not_what_they_must_be_get_no_certificate() {
    let world = World::new().await;
    let now = Timestamp::now().as_second();
    let request = world.request(EMAIL);
    let issuer = &world.issuer;
    let port = issuer.rsplit(':').next().unwrap();
    let encode = |header: Value, claims: &Value| {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}", part(&header), part(claims))
    };
    let rsa = |header: Value, claims: &Value| {
        let signed = encode(header, claims);
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &world.key.encoding, Algorithm::RS256);
        format!("{signed}.{}", signature.unwrap())
    };
    let hmac = |secret: &[u8]| {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &world.claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let good = world.sign(&world.claims());
    let parts: Vec<&str> = good.split('.').collect();
    let other = IssuerKey::new("one");
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
    let forged = jsonwebtoken::encode(&header, &world.claims(), &other.encoding).unwrap();
    let mut header = json!({ "alg": "RS256", "kid": "one", "jwk": other.jwk });
    let with_key = |header: &Value| {
        let signed = encode(header.clone(), &world.claims());
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &other.encoding, Algorithm::RS256);
        format!("{signed}.{}", signature.unwrap())
    };
    let own_key = with_key(&header);
    header["jwk"] = Value::Null;
    header["jku"] = format!("{issuer}/keys").into();
    let far_key = with_key(&header);
    let twice_header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"RS256","kid":"one"}"#);
    let payload =
        |text: &str| format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(text), parts[2]);
    let twice = world.claims().to_string().replacen('{', r#"{"email":"x@example.com","#, 1);
    let large = world.with("padding", "x".repeat(17_000).into());
    let usual = json!({ "alg": "RS256", "kid": "one" });
    for (what, token, reason) in [
        ("expired", world.with("exp", (now - 1).into()), "TOKEN_EXPIRED"),
        ("without end", world.with("exp", Value::Null), "CLAIM_REFUSED"),
        ("an end that is text", world.with("exp", "9999999999".into()), "CLAIM_REFUSED"),
        ("an end beyond time", world.with("exp", json!(1e300)), "CLAIM_REFUSED"),
        ("not valid yet", world.with("nbf", (now + 3600).into()), "TOKEN_NOT_YET_VALID"),
        ("issued in the future", world.with("iat", (now + 3600).into()), "TOKEN_NOT_YET_VALID"),
        ("never issued", world.with("iat", Value::Null), "CLAIM_REFUSED"),
        ("another audience", world.with("aud", "other".into()), "WRONG_AUDIENCE"),
        (
            "other audiences",
            world.with("aud", json!(["a", "sigstore2", "SIGSTORE"])),
            "WRONG_AUDIENCE",
        ),
        (
            "an audience that is an object",
            world.with("aud", json!({ "sigstore": 1 })),
            "CLAIM_REFUSED",
        ),
        ("no audience", world.with("aud", Value::Null), "CLAIM_REFUSED"),
        ("no subject", world.with("sub", Value::Null), "CLAIM_REFUSED"),
        ("a subject that is a number", world.with("sub", 7.into()), "CLAIM_REFUSED"),
        ("no address", world.with("email", Value::Null), "CLAIM_REFUSED"),
        (
            "an address that nobody vouches for",
            world.with("email_verified", false.into()),
            "CLAIM_REFUSED",
        ),
        ("no issuer", world.with("iss", Value::Null), "CLAIM_REFUSED"),
        (
            "an unknown issuer",
            world.with("iss", "https://accounts.example.com".into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer with a slash",
            world.with("iss", format!("{issuer}/").into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer in capitals",
            world.with("iss", issuer.to_uppercase().into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer as a user",
            world.with("iss", format!("http://127.0.0.1:{port}@evil.example").into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "the issuer and a query",
            world.with("iss", format!("{issuer}?x").into()),
            "UNKNOWN_ISSUER",
        ),
        (
            "alg none",
            format!("{}.", encode(json!({ "alg": "none" }), &world.claims())),
            "ALGORITHM_REFUSED",
        ),
        (
            "alg None",
            format!("{}.", encode(json!({ "alg": "None" }), &world.claims())),
            "ALGORITHM_REFUSED",
        ),
        ("HMAC with the public key", hmac(world.key.public_pem.as_bytes()), "ALGORITHM_REFUSED"),
        ("HMAC with nothing", hmac(b""), "ALGORITHM_REFUSED"),
        (
            "an algorithm the issuer does not use",
            rsa(json!({ "alg": "PS256", "kid": "one" }), &world.claims()),
            "ALGORITHM_REFUSED",
        ),
        (
            "crit",
            rsa(json!({ "alg": "RS256", "kid": "one", "crit": ["b64"] }), &world.claims()),
            "TOKEN_MALFORMED",
        ),
        (
            "a key ID that is a list",
            rsa(json!({ "alg": "RS256", "kid": ["one"] }), &world.claims()),
            "TOKEN_MALFORMED",
        ),
        (
            "an unknown key",
            rsa(json!({ "alg": "RS256", "kid": "two" }), &world.claims()),
            "BAD_SIGNATURE",
        ),
        ("another's key of the same ID", forged, "BAD_SIGNATURE"),
        ("a key in the token's own header", own_key, "BAD_SIGNATURE"),
        ("a key from where the token says", far_key, "BAD_SIGNATURE"),
        (
            "a key ID that is a path",
            rsa(json!({ "alg": "RS256", "kid": "../one" }), &world.claims()),
            "BAD_SIGNATURE",
        ),
        (
            "a key ID that is empty",
            rsa(json!({ "alg": "RS256", "kid": "" }), &world.claims()),
            "BAD_SIGNATURE",
        ),
        (
            "an algorithm twice",
            format!("{}.{}.{}", twice_header, parts[1], parts[2]),
            "TOKEN_MALFORMED",
        ),
        (
            "another payload",
            payload(&world.claims().to_string().replace(EMAIL, "ceo@example.com")),
            "BAD_SIGNATURE",
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "BAD_SIGNATURE"),
        ("a claim twice", payload(&twice), "TOKEN_MALFORMED"),
        ("a payload that is a list", payload("[]"), "TOKEN_MALFORMED"),
        ("two parts", format!("{}.{}", parts[0], parts[1]), "TOKEN_MALFORMED"),
        ("five parts", format!("{good}.a.b"), "TOKEN_MALFORMED"),
        ("dots", ".".repeat(10_000), "TOKEN_MALFORMED"),
        ("17 KiB", large, "TOKEN_MALFORMED"),
        ("padded base64", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), "TOKEN_MALFORMED"),
    ] {
        let answer = world.refused(what, &token, &request, 400, reason).await;
        assert_eq!(answer["code"], 3, "{what}");
    }
    let unusual = rsa(usual, &world.claims());
    world.accepted(&unusual, &request).await; // the table's own signer signs rightly
    let answer = world
        .refused("expired", &world.with("exp", (now - 1).into()), &request, 400, "TOKEN_EXPIRED")
        .await;
    assert!(!answer.to_string().contains(EMAIL), "what the token says is not repeated: {answer}");
    let audience = world.with("aud", "other".into());
    let answer = world.refused("audience", &audience, &request, 400, "WRONG_AUDIENCE").await;
    let detail = &answer["details"][0];
    assert_eq!(
        (&detail["expected"], &detail["found"]),
        (&"sigstore".into(), &"other".into()),
        "{answer}"
    );
    assert!(detail["request_id"].as_str().is_some_and(|id| id.len() == 32), "{answer}");
}
