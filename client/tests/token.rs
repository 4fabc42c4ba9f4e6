//! Providers of identity tokens, as CI systems and clouds have them: what each is asked, and what is made of its answer.

use base64::Engine as _;
use countersign_client::login::{self, Provider};
use countersign_client::token::{Error, Source};
use countersign_testkit::registry::{Registry, Reply};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn token(audience: &str) -> String {
    let part = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let payload = format!(r#"{{"sub":"job","aud":"{audience}"}}"#);
    format!("{}.{}.{}", part("{}".to_owned()), part(payload), part("signature".to_owned()))
}

#[tokio::test]
async fn each_provider_is_asked_in_its_own_way() {
    // Any server does; this one tells what it was asked.
    let server = Registry::start(true);
    let base = format!("http://{}", server.address);
    let github = format!("{base}/github?x=1");
    let host = server.address.to_string();
    for (variables, line, authorization, body, answer) in [
        (
            &[
                ("ACTIONS_ID_TOKEN_REQUEST_URL", github.as_str()),
                ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
            ][..],
            "GET /github?x=1&audience=sigstore",
            "bearer t",
            "",
            r#"{"value":"TOKEN"}"#,
        ),
        (
            &[
                ("BUILDKITE_AGENT_ACCESS_TOKEN", "t"),
                ("BUILDKITE_JOB_ID", "7"),
                ("BUILDKITE_AGENT_ENDPOINT", &base),
            ],
            "POST /jobs/7/oidc/tokens",
            "Token t",
            r#"{"audience":"sigstore"}"#,
            r#"{"token":"TOKEN"}"#,
        ),
        (
            &[("GCE_METADATA_HOST", &host)],
            "GET /computeMetadata/v1/instance/service-accounts/default/identity?audience=sigstore&format=full",
            "",
            "",
            "TOKEN",
        ),
    ] {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let source =
            || Source::find(None, |name| variables.get(name).map(|value| (*value).to_owned()));
        let reply = answer.to_owned();
        server.meddle(move |_, _| Reply::new(200, reply.replace("TOKEN", &token("sigstore"))));
        assert!(source().unwrap().fetch().await.is_ok(), "{line}");
        let asked = server.requests().remove(0);
        assert_eq!(asked.line(), line);
        assert_eq!(asked.authorization.unwrap_or_default(), authorization, "{line}");
        assert_eq!(asked.body, body.as_bytes(), "{line}");
        let reply = answer.to_owned();
        server.meddle(move |_, _| Reply::new(200, reply.replace("TOKEN", &token("elsewhere"))));
        let refused = source().unwrap().fetch().await.unwrap_err();
        assert!(matches!(refused, Error::Audience { .. }), "{line}: {refused}");
        server.meddle(|_, _| Reply::new(200, "{}"));
        let refused = source().unwrap().fetch().await.unwrap_err();
        assert!(matches!(refused, Error::Shape), "{line}: {refused}");
        let _ = server.requests();
    }
}

#[tokio::test]
async fn a_login_by_another_device_waits_until_the_person_is_done() {
    let server = Registry::start(true);
    let issuer: url::Url = format!("http://{}", server.address).parse().unwrap();
    let serve = |answers: Vec<Reply>| {
        let base = format!("http://{}", server.address);
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        server.meddle(move |request, _| match request.path.as_str() {
            "/.well-known/openid-configuration" => Reply::new(200, format!(
                r#"{{"issuer":"{base}","authorization_endpoint":"{base}/a","token_endpoint":"{base}/t","device_authorization_endpoint":"{base}/d"}}"#
            )),
            "/d" => Reply::new(200, r#"{"verification_uri":"http://x/","user_code":"ABCD","device_code":"c","interval":0}"#),
            _ => answers.lock().unwrap().next().expect("asked no more than needed"),
        });
    };
    let refusal = |error: &str| Reply::new(400, format!(r#"{{"error":"{error}"}}"#));
    let pending = || refusal("authorization_pending");
    let done = Reply::new(200, format!(r#"{{"id_token":"{}"}}"#, token("sigstore")));
    serve(vec![pending(), pending(), done]);
    let provider = Provider::discover(&issuer).await.unwrap();
    let mut shown = String::new();
    let show = |device: &login::Device| shown = device.user_code.clone();
    assert_eq!(provider.by_device(show).await.unwrap().challenge(), "job");
    assert_eq!(shown, "ABCD");
    serve(vec![pending(), refusal("access_denied")]);
    let refused = provider.by_device(|_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("access_denied"), "{refused}");
}

#[tokio::test]
async fn a_provider_that_is_another_or_has_no_pkce_is_refused() {
    let server = Registry::start(true);
    let issuer: url::Url = format!("http://{}", server.address).parse().unwrap();
    for (name, methods, expected) in
        [("http://other", "[]", "expected the identity provider"), ("", r#"["plain"]"#, "PKCE")]
    {
        let name = if name.is_empty() { issuer.to_string() } else { name.to_owned() };
        let text = format!(
            r#"{{"issuer":"{name}","authorization_endpoint":"{issuer}a","token_endpoint":"{issuer}t","code_challenge_methods_supported":{methods}}}"#
        );
        server.meddle(move |_, _| Reply::new(200, text.clone()));
        let refused = Provider::discover(&issuer).await.unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}
