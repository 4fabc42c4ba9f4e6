//! The identity provider of a development instance: it believes whatever it is told.
//!
//! Two OpenID Connect issuers on the instance's URL: people at its root, CI jobs with claims like those
//! of GitHub Actions at `/ci`. RS256. Authorization code flow with PKCE (RFC 7636, S256 only) and loopback
//! redirects, so that browsers and stock clients can log in; a direct way to a token for `countersign
//! token`; and the request URL that GitHub gives its jobs.

use crate::failure::Failure;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use axum::extract::{Form, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_client::http::is_loopback;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use url::Url;
use zeroize::Zeroizing;

/// The audience, and the one client.
const CLIENT: &str = "sigstore";
/// How long a token is valid, seconds.
const LIFETIME: i64 = 600;
/// How long a login code is valid.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// Most codes that wait to be redeemed.
const MAX_CODES: usize = 1000;
/// The header that keeps other web pages from minting tokens: no form can send it, and a page of another
/// origin must ask first.
pub(crate) const MINT_HEADER: &str = "x-countersign-development";

/// A development identity provider.
pub(crate) struct Provider {
    base: String,
    key: EncodingKey,
    jwks: Value,
    key_id: String,
    codes: Mutex<HashMap<String, Login>>,
}

struct Login {
    email: String,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    until: Instant,
}

/// A fresh key, PKCS#8, PEM.
pub(crate) fn generate_key() -> Result<Zeroizing<String>, Failure> {
    let failed = || Failure::unclear("cannot make an RSA key for the identity provider");
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| failed())?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| failed())?;
    der::pem::encode_string("PRIVATE KEY", der::pem::LineEnding::LF, der.as_ref())
        .map(Zeroizing::new)
        .map_err(|_| failed())
}

impl Provider {
    /// A provider at `base`, with its key in PKCS#8, PEM.
    pub(crate) fn new(base: &Url, pem: &str) -> Result<Self, Failure> {
        let failed =
            || Failure::unclear("the identity provider's key is not an RSA key in PKCS#8, PEM");
        let (_, der) = der::pem::decode_vec(pem.as_bytes()).map_err(|_| failed())?;
        let der = Zeroizing::new(der);
        let pair = KeyPair::from_pkcs8(&der).map_err(|_| failed())?;
        let public = pair.public_key();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let modulus = public.modulus().big_endian_without_leading_zero();
        let exponent = public.exponent().big_endian_without_leading_zero();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, modulus);
        let key_id = text(&digest.as_ref()[..12]);
        let key = json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id,
            "n": text(modulus), "e": text(exponent) });
        Ok(Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            key: EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| failed())?,
            jwks: json!({ "keys": [key] }),
            key_id,
            codes: Mutex::default(),
        })
    }

    /// The issuer of people's tokens.
    pub(crate) fn people(&self) -> String {
        self.base.clone()
    }

    /// The issuer of CI jobs' tokens.
    pub(crate) fn ci(&self) -> String {
        format!("{}/ci", self.base)
    }

    /// An identity token for whomever.
    pub(crate) fn mint(&self, whom: &Whom) -> Result<String, Failure> {
        match whom {
            Whom::Email(email) => self.person(email, None),
            Whom::Github(job) => self.job(job, CLIENT),
        }
    }

    fn person(&self, email: &str, nonce: Option<&str>) -> Result<String, Failure> {
        let mut claims = json!({ "sub": email, "email": email, "email_verified": true });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        self.sign(&self.people(), CLIENT, claims)
    }

    /// The claims that GitHub puts into a job's token; numbers and digests are made up, and the same for
    /// the same repository and workflow.
    fn job(&self, job: &Job, audience: &str) -> Result<String, Failure> {
        let Job { repository, git_ref, workflow, event } = job;
        let owner = repository.split('/').next().unwrap_or_default();
        let digest = |text: &str| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            countersign_verify::encoding::hex(&digest.as_ref()[..20])
        };
        let number =
            |text: &str| (u32::from_str_radix(&digest(text)[..7], 16).unwrap_or(1)).to_string();
        let workflow_ref = format!("{repository}/.github/workflows/{workflow}@{git_ref}");
        let sha = digest(&format!("{repository}@{git_ref}"));
        let kind = if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" };
        let name = workflow.trim_end_matches(".yml").trim_end_matches(".yaml");
        let claims = json!({
            "sub": format!("repo:{repository}:ref:{git_ref}"),
            "repository": repository, "repository_id": number(repository),
            "repository_owner": owner, "repository_owner_id": number(owner),
            "repository_visibility": "private", "ref": git_ref, "ref_type": kind, "sha": sha,
            "workflow": name, "workflow_ref": workflow_ref, "workflow_sha": sha,
            "job_workflow_ref": workflow_ref, "job_workflow_sha": sha,
            "event_name": event, "actor": "developer", "run_id": "1", "run_number": "1", "run_attempt": "1",
            "runner_environment": "self-hosted" });
        self.sign(&self.ci(), audience, claims)
    }

    fn sign(&self, issuer: &str, audience: &str, mut claims: Value) -> Result<String, Failure> {
        let now = Timestamp::now().as_second();
        for (name, value) in [
            ("iss", json!(issuer)),
            ("aud", json!(audience)),
            ("iat", json!(now)),
            ("nbf", json!(now)),
            ("exp", json!(now + LIFETIME)),
        ] {
            claims[name] = value;
        }
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|_| Failure::unclear("the identity provider could not sign a token"))
    }
}

/// Whom a token is for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Whom {
    /// A person, by e-mail address.
    Email(String),
    /// A GitHub Actions job.
    Github(Job),
}

/// A CI job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    pub(crate) repository: String,
    pub(crate) git_ref: String,
    pub(crate) workflow: String,
    pub(crate) event: String,
}

/// The provider's routes.
pub(crate) fn router(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/ci/.well-known/openid-configuration", get(ci_discovery))
        .route("/keys", get(keys))
        .route("/auth", get(authorize))
        .route("/token", post(redeem))
        .route("/ci/actions", get(actions))
        .route("/dev/token", post(mint))
        .layer(middleware::from_fn_with_state(Arc::clone(&provider), own_host))
        .with_state(provider)
}

/// Lets requests through that name the instance or a loopback address as their host. A web page whose own
/// name was made to resolve to this machine (DNS rebinding) would otherwise share the origin, and could
/// send any header.
async fn own_host(State(provider): State<Arc<Provider>>, request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let url = |host: &str| Url::parse(&format!("http://{host}")).ok();
    let own = Url::parse(&provider.base).ok();
    // HTTP/2 has the host in the URL.
    let named = named.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let known = named.and_then(url).is_some_and(|url| {
        loopback(url.as_str()).is_some() || own.is_some_and(|own| own.host() == url.host())
    });
    if known {
        return next.run(request).await;
    }
    let description = "this instance goes by another host: see the issuer it was started with";
    let body = json!({ "error": "invalid_request", "error_description": description });
    (StatusCode::MISDIRECTED_REQUEST, Json(body)).into_response()
}

async fn discovery(State(provider): State<Arc<Provider>>) -> Json<Value> {
    Json(document(&provider, &provider.people()))
}

async fn ci_discovery(State(provider): State<Arc<Provider>>) -> Json<Value> {
    Json(document(&provider, &provider.ci()))
}

fn document(provider: &Provider, issuer: &str) -> Value {
    let base = &provider.base;
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{base}/auth"),
        "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
        "grant_types_supported": ["authorization_code"],
        "scopes_supported": ["openid", "email"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "email", "email_verified"] })
}

async fn keys(State(provider): State<Arc<Provider>>) -> Json<Value> {
    Json(provider.jwks.clone())
}

#[derive(Clone, Deserialize)]
struct Authorize {
    client_id: String,
    redirect_uri: String,
    response_type: String,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
    login_hint: Option<String>,
}

/// The login page, which takes any address; with `login_hint` it is passed over.
async fn authorize(
    State(provider): State<Arc<Provider>>,
    Query(request): Query<Authorize>,
) -> Response {
    // Errors before the redirect is known to be harmless are shown, not sent there.
    let Some(mut redirect) = loopback(&request.redirect_uri) else {
        return refuse("invalid_request", "redirect_uri must be http on a loopback address");
    };
    if request.client_id != CLIENT {
        return refuse("unauthorized_client", "client_id must be \"sigstore\"");
    }
    let challenge = request.code_challenge.clone().filter(|_| {
        request.response_type == "code" && request.code_challenge_method.as_deref() == Some("S256")
    });
    let Some(challenge) = challenge else {
        return refuse(
            "invalid_request",
            "expected response_type=code with code_challenge_method=S256",
        );
    };
    let Some(email) = request.login_hint.as_deref().filter(|email| !email.is_empty()) else {
        return Html(login_page(&request)).into_response();
    };
    let mut random = [0; 24];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        return refuse("server_error", "no randomness");
    }
    let code = URL_SAFE_NO_PAD.encode(random);
    let login = Login {
        email: email.to_owned(),
        redirect_uri: request.redirect_uri.clone(),
        challenge,
        nonce: request.nonce.clone(),
        until: Instant::now() + CODE_LIFETIME,
    };
    let mut codes = provider.codes.lock().unwrap_or_else(PoisonError::into_inner);
    codes.retain(|_, login| login.until > Instant::now());
    if codes.len() >= MAX_CODES {
        return refuse("temporarily_unavailable", "too many logins at once");
    }
    codes.insert(code.clone(), login);
    redirect.query_pairs_mut().append_pair("code", &code);
    if let Some(state) = &request.state {
        redirect.query_pairs_mut().append_pair("state", state);
    }
    Redirect::to(redirect.as_str()).into_response()
}

fn loopback(uri: &str) -> Option<Url> {
    let url = Url::parse(uri).ok()?;
    (is_loopback(&url) && url.scheme() == "http").then_some(url)
}

fn login_page(request: &Authorize) -> String {
    let field = |name: &str, value: Option<&str>| {
        value.map_or(String::new(), |value| {
            format!(r#"<input type="hidden" name="{name}" value="{}">"#, escaped(value))
        })
    };
    let fields = [
        field("client_id", Some(&request.client_id)),
        field("redirect_uri", Some(&request.redirect_uri)),
        field("response_type", Some(&request.response_type)),
        field("code_challenge", request.code_challenge.as_deref()),
        field("code_challenge_method", request.code_challenge_method.as_deref()),
        field("state", request.state.as_deref()),
        field("nonce", request.nonce.as_deref()),
    ]
    .concat();
    format!(
        r#"<!doctype html><meta charset="utf-8"><title>Countersign development login</title>
<body style="font:16px system-ui;max-width:30em;margin:4em auto">
<h1>Development login</h1>
<p>This instance believes any address. It is for development only.</p>
<form method="get" action="/auth">{fields}
<label>E-mail address <input name="login_hint" type="email" value="dev@example.com" required autofocus></label>
<button>Log in</button></form>"#
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[derive(Deserialize)]
struct Redeem {
    grant_type: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

async fn redeem(State(provider): State<Arc<Provider>>, Form(request): Form<Redeem>) -> Response {
    if request.grant_type != "authorization_code" {
        return refuse("unsupported_grant_type", "expected authorization_code");
    }
    // Whatever comes of it, a code is good for one attempt.
    let login = provider.codes.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.code);
    let Some(login) = login.filter(|login| login.until > Instant::now()) else {
        return refuse("invalid_grant", "the code is unknown, used or expired");
    };
    let verifier = request.code_verifier.as_bytes();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier);
    if URL_SAFE_NO_PAD.encode(digest) != login.challenge
        || request.redirect_uri != login.redirect_uri
    {
        return refuse("invalid_grant", "code_verifier or redirect_uri do not fit the code");
    }
    match provider.person(&login.email, login.nonce.as_deref()) {
        // sigstore-python takes the access token for the identity token.
        Ok(token) => {
            let answer = json!({ "id_token": token, "access_token": token, "token_type": "Bearer",
                "expires_in": LIFETIME, "scope": "openid email" });
            ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
        }
        Err(_) => refuse("server_error", "the token could not be signed"),
    }
}

#[derive(Deserialize)]
struct Actions {
    audience: Option<String>,
    repository: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    workflow: Option<String>,
    event: Option<String>,
}

/// What `ACTIONS_ID_TOKEN_REQUEST_URL` points to in a job; the job's particulars may stand in the query.
async fn actions(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    Query(request): Query<Actions>,
) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer =
        authorization.is_some_and(|value| value.to_ascii_lowercase().starts_with("bearer "));
    if !bearer {
        let error = json!({ "error": "expected an Authorization header with a bearer token" });
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
    let job = Job {
        repository: or(request.repository, "acme/widget"),
        git_ref: or(request.git_ref, "refs/heads/main"),
        workflow: or(request.workflow, "release.yml"),
        event: or(request.event, "push"),
    };
    match provider.job(&job, request.audience.as_deref().unwrap_or(CLIENT)) {
        Ok(token) => Json(json!({ "count": 1, "value": token })).into_response(),
        Err(_) => refuse("server_error", "the token could not be signed"),
    }
}

async fn mint(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    Json(whom): Json<Whom>,
) -> Response {
    if !headers.contains_key(MINT_HEADER) {
        return refuse("invalid_request", "expected the header x-countersign-development");
    }
    match provider.mint(&whom) {
        Ok(token) => Json(json!({ "token": token })).into_response(),
        Err(_) => refuse("server_error", "the token could not be signed"),
    }
}

/// An error of RFC 6749, section 5.2.
fn refuse(error: &str, description: &str) -> Response {
    let body = json!({ "error": error, "error_description": description });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
