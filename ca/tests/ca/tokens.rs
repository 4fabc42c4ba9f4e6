//! Tokens that attackers and mistaken clients send, each with its refusal.

use crate::world::{EMAIL, IssuerKey, World};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// header.payload of these, unsigned.
fn encode(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn sign(signed: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

impl World {
    /// A token with this header, signed by the issuer as RS256.
    fn with_header(&self, header: &Value) -> String {
        sign(&encode(header, &self.claims()), &self.key.encoding, Algorithm::RS256)
    }

    /// Each token must be refused, and for its reason; what was sent is not repeated. Returns their number.
    async fn all_refused(&self, cases: Vec<(String, String, &str)>) -> usize {
        let request = self.request(EMAIL);
        for (what, token, reason) in &cases {
            let answer = self.refused(what, token, &request, 400, reason).await;
            assert_eq!(answer["code"], 3, "{what}");
            let detail = &answer["details"][0];
            assert!(
                detail["next"].as_str().is_some_and(|next| next.len() > 10),
                "{what}: {answer}"
            );
            let text = answer.to_string();
            assert!(!text.contains(EMAIL) && !text.contains("eyJ"), "{what}: {text}");
        }
        cases.len()
    }
}

const MISTYPED: [&str; 8] = ["true", "7", "1.5", "[]", "{}", "\"\"", "[\"x\"]", "{\"a\":\"b\"}"];

#[tokio::test]
async fn claims_that_are_missing_mistyped_or_anothers_are_refused() {
    let world = World::new().await;
    let now = Timestamp::now().as_second();
    let mut cases = Vec::new();
    let mut case = |name: &str, value: Value, reason| {
        cases.push((format!("{name} = {value}"), world.with(name, value), reason));
    };
    for name in ["iss", "sub", "email", "aud", "exp", "iat"] {
        case(name, Value::Null, "CLAIM_REFUSED");
    }
    for text in MISTYPED {
        let value: Value = serde_json::from_str(text).unwrap();
        let is_number = value.is_number();
        let is_text = value.is_string();
        case("iss", value.clone(), if is_text { "UNKNOWN_ISSUER" } else { "CLAIM_REFUSED" });
        case("sub", value.clone(), "CLAIM_REFUSED");
        case("email", value.clone(), "CLAIM_REFUSED");
        let audiences = is_text || value.is_array();
        case("aud", value.clone(), if audiences { "WRONG_AUDIENCE" } else { "CLAIM_REFUSED" });
        case("exp", value.clone(), if is_number { "TOKEN_EXPIRED" } else { "CLAIM_REFUSED" });
        if !is_number {
            case("iat", value.clone(), "CLAIM_REFUSED");
            case("nbf", value.clone(), "CLAIM_REFUSED");
        }
        if value != true {
            case("email_verified", value, "CLAIM_REFUSED");
        }
    }
    for unverified in
        [json!(false), json!("false"), json!("TRUE"), json!(" true"), json!("1"), json!([true])]
    {
        case("email_verified", unverified, "CLAIM_REFUSED");
    }
    for (end, reason) in [
        (json!(now), "TOKEN_EXPIRED"),
        (json!(now - 1), "TOKEN_EXPIRED"),
        (json!(now as f64 - 0.5), "TOKEN_EXPIRED"),
        (json!(0), "TOKEN_EXPIRED"),
        (json!(-1), "TOKEN_EXPIRED"),
        (json!(i64::MIN), "CLAIM_REFUSED"),
        (json!(u64::MAX), "CLAIM_REFUSED"),
        (json!(1e300), "CLAIM_REFUSED"),
        (json!(-1e300), "CLAIM_REFUSED"),
        (json!((now + 600) * 1000), "CLAIM_REFUSED"),
        (json!((now + 600).to_string()), "CLAIM_REFUSED"),
        (json!("2099-01-01T00:00:00Z"), "CLAIM_REFUSED"),
    ] {
        case("exp", end, reason);
    }
    for (start, reason) in [
        (json!(now + 310), "TOKEN_NOT_YET_VALID"),
        (json!(now + 86_400), "TOKEN_NOT_YET_VALID"),
        (json!(now as f64 + 400.5), "TOKEN_NOT_YET_VALID"),
        (json!(now.to_string()), "CLAIM_REFUSED"),
        (json!(1e300), "CLAIM_REFUSED"),
    ] {
        case("nbf", start.clone(), reason);
        case("iat", start, reason);
    }
    for audience in [
        json!("other"),
        json!("sigstore "),
        json!("SIGSTORE"),
        json!("sigstore,other"),
        json!("sigstore other"),
        json!("*"),
        json!("sigstore\u{0}"),
        json!("https://sigstore"),
        json!(["a", "sigstore2", "SIGSTORE"]),
        json!([["sigstore"]]),
        json!([{ "aud": "sigstore" }]),
        json!([null]),
        json!([7]),
        json!("s\u{456}gstore"),
    ] {
        case("aud", audience, "WRONG_AUDIENCE");
    }
    case("aud", json!({ "sigstore": 1 }), "CLAIM_REFUSED");
    for address in [
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        "a@b c",
        "\u{e4}@example.com",
        "a@ex\u{e4}mple.com",
        "a@b\u{0}",
        "a@b\r\n",
        "a\t@b",
        "<a@b> <c",
        "\u{202e}moc.elpmaxe@uoy",
    ] {
        case("email", address.into(), "CLAIM_REFUSED");
    }
    case("email", format!("{}@example.com", "a".repeat(250)).into(), "CLAIM_REFUSED");
    let issuer = &world.issuer;
    let port = issuer.rsplit(':').next().unwrap();
    for other in [
        "https://accounts.example.com".to_owned(),
        format!("{issuer}/"),
        format!("{issuer}//"),
        format!("{issuer}?x"),
        format!("{issuer}#x"),
        format!("{issuer}/."),
        format!("{issuer}/%2e"),
        format!(" {issuer}"),
        format!("{issuer} "),
        format!("{issuer}\u{0}"),
        format!("{issuer}\n"),
        issuer.to_uppercase(),
        issuer.replace("http", "HTTP"),
        issuer.replace("http", "https"),
        issuer.replace("127.0.0.1", "localhost"),
        issuer.replace("127.0.0.1", "127.1"),
        issuer.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
        issuer.replace("127.0.0.1", "127.0.0.1."),
        issuer.replace("//", "/"),
        issuer.replace("http://", ""),
        format!("http://127.0.0.1:{port}@evil.example"),
        format!("http://evil.example/{issuer}"),
        format!("http://evil.example?x={issuer}"),
        format!("{issuer}.evil.example"),
        "file:///etc/passwd".to_owned(),
        "javascript:alert(1)".to_owned(),
        "x".repeat(5_000),
    ] {
        case("iss", other.into(), "UNKNOWN_ISSUER");
    }
    let number = world.all_refused(cases).await;
    assert!(number > 130, "{number}");
}

#[tokio::test]
async fn headers_and_signatures_that_prove_nothing_are_refused() {
    let world = World::new().await;
    let mut cases = Vec::new();
    let mut case = |what: &str, token: String, reason| cases.push((what.to_owned(), token, reason));
    // First: keys that are not known are told so soon after a fetch.
    for id in [
        "two",
        "",
        "ONE",
        "one ",
        "../one",
        "../../dev/null",
        "one\u{0}",
        "' or 1=1 --",
        "http://evil.example/keys",
        "*",
    ] {
        case(
            "an unknown key",
            world.with_header(&json!({ "alg": "RS256", "kid": id })),
            "BAD_SIGNATURE",
        );
    }
    for algorithm in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "ES512",
        "ES256K",
        "RS1",
        "rs256",
        "Rs256",
        "RS256 ",
        " RS256",
        "RS256\u{0}",
        "RSA-OAEP",
        "dir",
        "A256GCM",
        "RS2048",
        "EdDSA,RS256",
        "ML-DSA-65",
        "HS256\u{212a}",
    ] {
        let header = json!({ "alg": algorithm, "kid": "one" });
        case(algorithm, world.with_header(&header), "ALGORITHM_REFUSED");
        case(
            "and no signature",
            format!("{}.", encode(&header, &world.claims())),
            "ALGORITHM_REFUSED",
        );
    }
    // What the issuer does not say that it uses, rightly signed.
    for algorithm in
        [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512]
    {
        let name = format!("{algorithm:?}");
        let signed = encode(&json!({ "alg": name, "kid": "one" }), &world.claims());
        case(&name, sign(&signed, &world.key.encoding, algorithm), "ALGORITHM_REFUSED");
    }
    for algorithm in ["ES256", "ES384", "EdDSA"] {
        case(
            algorithm,
            world.with_header(&json!({ "alg": algorithm, "kid": "one" })),
            "ALGORITHM_REFUSED",
        );
    }
    // The public key as the secret of an HMAC, in every form that it has.
    let n = world.key.jwk["n"].as_str().unwrap();
    let pem = &world.key.public_pem;
    for secret in [
        pem.as_bytes(),
        pem.trim().as_bytes(),
        n.as_bytes(),
        &URL_SAFE_NO_PAD.decode(n).unwrap(),
        b"",
    ] {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
        let token =
            jsonwebtoken::encode(&header, &world.claims(), &EncodingKey::from_secret(secret))
                .unwrap();
        case("an HMAC", token, "ALGORITHM_REFUSED");
    }
    for mistyped in MISTYPED.iter().chain(&["null"]).filter(|text| **text != "\"\"") {
        let value: Value = serde_json::from_str(mistyped).unwrap();
        case(
            "alg of another type",
            world.with_header(&json!({ "alg": value, "kid": "one" })),
            "TOKEN_MALFORMED",
        );
        case(
            "kid of another type",
            world.with_header(&json!({ "alg": "RS256", "kid": value })),
            "TOKEN_MALFORMED",
        );
    }
    case("no algorithm", world.with_header(&json!({ "kid": "one" })), "TOKEN_MALFORMED");
    for critical in
        [json!(["b64"]), json!([]), json!(["exp"]), json!("b64"), json!(null), json!({})]
    {
        let header = json!({ "alg": "RS256", "kid": "one", "crit": critical, "b64": false });
        case("crit", world.with_header(&header), "TOKEN_MALFORMED");
    }
    // Another's key: of the same name, in the token itself, or from where the token says.
    let other = IssuerKey::new("one");
    for (what, more) in [
        ("another's key of the same ID", json!({})),
        ("a key in the header", json!({ "jwk": other.jwk })),
        ("a certificate in the header", json!({ "x5c": ["MIIB"], "x5t": "AA" })),
        ("a place of keys", json!({ "jku": "http://127.0.0.1:1/keys" })),
        ("a place of certificates", json!({ "x5u": "http://127.0.0.1:1/x" })),
    ] {
        let mut header = json!({ "alg": "RS256", "kid": "one" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        case(
            what,
            sign(&encode(&header, &world.claims()), &other.encoding, Algorithm::RS256),
            "BAD_SIGNATURE",
        );
        header.as_object_mut().unwrap().remove("kid");
        case(
            "and no key ID",
            sign(&encode(&header, &world.claims()), &other.encoding, Algorithm::RS256),
            "BAD_SIGNATURE",
        );
    }
    let good = world.sign(&world.claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for place in (0..raw.len()).step_by(16) {
        let mut raw = raw.clone();
        raw[place] ^= 1;
        case(
            "a bit of the signature",
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(raw)),
            "BAD_SIGNATURE",
        );
    }
    for (what, raw) in [
        ("half a signature", raw[..128].to_vec()),
        ("a longer signature", [&raw[..], &[0]].concat()),
        ("zeros", vec![0; 256]),
        ("ones", vec![0xff; 256]),
        ("nothing", Vec::new()),
    ] {
        case(what, format!("{signed}.{}", URL_SAFE_NO_PAD.encode(raw)), "BAD_SIGNATURE");
    }
    let (header, payload) = signed.split_once('.').unwrap();
    let elsewhere = world.claims().to_string().replace(EMAIL, "ceo@example.com");
    case(
        "another payload",
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(elsewhere)),
        "BAD_SIGNATURE",
    );
    let spaced = URL_SAFE_NO_PAD.encode(r#"{ "alg":"RS256","kid":"one"}"#);
    case(
        "another spelling of the header",
        format!("{spaced}.{payload}.{signature}"),
        "BAD_SIGNATURE",
    );
    let number = world.all_refused(cases).await;
    assert!(number > 110, "{number}");
    // The tables' own signer signs rightly, and what means nothing is passed over.
    let usual = world.with_header(
        &json!({ "alg": "RS256", "kid": "one", "typ": "at+jwt", "cty": "x", "b64": false }),
    );
    world.accepted(&usual, &world.request(EMAIL)).await;
    world.accepted(&world.with_header(&json!({ "alg": "RS256" })), &world.request(EMAIL)).await;
}

#[tokio::test]
async fn what_is_not_a_token_is_refused_without_being_taken_apart() {
    let world = World::new().await;
    let good = world.sign(&world.claims());
    let [header, payload, signature] =
        <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let text = world.claims().to_string();
    let json = |header: &str, payload: &str| {
        format!(
            "{}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        )
    };
    let usual = r#"{"alg":"RS256","kid":"one"}"#;
    let mut cases = Vec::new();
    let mut case =
        |what: &str, token: String| cases.push((what.to_owned(), token, "TOKEN_MALFORMED"));
    case("text", "token".to_owned());
    case("one dot", format!("{header}.{payload}"));
    case("three dots", format!("{good}.a"));
    case("five parts, as encrypted ones have", format!("{good}.a.b"));
    case("dots", ".".repeat(10_000));
    case("two dots", "..".to_owned());
    case("17 KiB", world.with("padding", "x".repeat(17_000).into()));
    case(
        "JSON serialization",
        json!({ "protected": header, "payload": payload, "signature": signature }).to_string(),
    );
    case("no header", format!(".{payload}.{signature}"));
    case("no payload", format!("{header}..{signature}"));
    case("a blank in it", good.replacen('.', " .", 1));
    case("a percent escape in it", good.replacen('.', "%2E", 1));
    case("padding", format!("{}.{payload}.{signature}", URL_SAFE.encode(r#"{"alg":"RS256" }"#)));
    case("padding by hand", format!("{header}=.{payload}.{signature}"));
    case(
        "the other alphabet",
        format!("{}.{payload}.{signature}", STANDARD_NO_PAD.encode("{\"a\":\"\u{fb}\u{ff}>?\"}")),
    );
    // The last character has bits that no byte needs.
    let stray = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"} "#);
    let stray =
        format!("{}{}", &stray[..stray.len() - 1], if stray.ends_with('B') { 'C' } else { 'B' });
    case("stray bits", format!("{stray}.{payload}.{signature}"));
    for text in [
        "[]",
        "null",
        "7",
        "\"a\"",
        "",
        "{",
        "{}{}",
        "{\"alg\":\"RS256\"",
        "\u{feff}{}",
        "{'alg':'RS256'}",
        "{\"alg\":NaN}",
    ] {
        case("a header that is none", json(text, &text.replace("alg", "iss")));
    }
    for payload in ["[]", "null", "7", "", "{", "{}x", "{\"exp\":1e999}", "{\"iss\":\"\\ud800\"}"] {
        case("a payload that is none", json(usual, payload));
    }
    for twice in [
        r#"{"alg":"none","alg":"RS256"}"#,
        r#"{"alg":"RS256","kid":"one","kid":"two"}"#,
        r#"{"alg":"RS256","\u0061lg":"none"}"#,
    ] {
        case("a name twice in the header", json(twice, &text));
    }
    for name in ["iss", "sub", "aud", "exp", "email", "email_verified"] {
        case("a claim twice", json(usual, &text.replacen('{', &format!("{{\"{name}\":\"x\","), 1)));
    }
    case("a claim twice within", json(usual, &text.replacen('{', r#"{"a":{"b":1,"b":2},"#, 1)));
    case(
        "deep claims",
        json(usual, &format!("{{\"a\":{}{}}}", "[".repeat(4_000), "]".repeat(4_000))),
    );
    let number = world.all_refused(cases).await;
    let mut request = world.request(EMAIL);
    request["credentials"] = json!({ "oidcIdentityToken": ".".repeat(200 << 10) });
    world.refused("200 KiB in the body", "x", &request, 400, "TOKEN_MALFORMED").await;
    assert!(number > 40, "{number}");
}

#[tokio::test]
async fn a_refusal_says_what_was_expected_and_what_was_found() {
    let world = World::new().await;
    let request = world.request(EMAIL);
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
