//! Logging in as a person, for an identity token.
//!
//! In a browser: authorization code with PKCE (RFC 7636) and a redirect to loopback (RFC 8252). On a
//! terminal without one: the device flow (RFC 8628), in which any other device shows the provider's page.
//! The token's signature is the CA's to check; here it must be for the login that asked for it.

use crate::http::{self, Http, Read};
use crate::token::{self, AUDIENCE, IdentityToken};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::key::HashAlgorithm;
use serde::Deserialize;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// How long a person has. Cosign waits as long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest reply or request that is read, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// Between questions whether the person is done, unless the provider says otherwise (RFC 8628, section 3.2).
const INTERVAL: u64 = 5;
/// The longest pause between two, in seconds, whatever the provider says.
const LONGEST_INTERVAL: u64 = 60;
/// Where the provider sends the browser back to; what cosign registers.
const CALLBACK: &str = "/auth/callback";
const SCOPE: &str = "openid email";

/// An identity provider.
#[derive(Clone, Debug)]
pub struct Provider {
    http: Http,
    issuer: Url,
    endpoints: Endpoints,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoints {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    device_authorization_endpoint: Option<Url>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
}

/// What a person is to do on another device.
#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    /// The page to open.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// What to enter there.
    pub user_code: String,
    device_code: String,
    interval: Option<u64>,
}

/// Proof Key for Code Exchange: only who began the login can end it.
struct Proof {
    verifier: String,
    challenge: String,
}

impl Proof {
    fn new() -> Result<Self, Error> {
        let verifier = random()?;
        let digest = HashAlgorithm::Sha256.digest(verifier.as_bytes());
        Ok(Self { verifier, challenge: URL_SAFE_NO_PAD.encode(digest) })
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Randomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Provider {
    /// Asks `issuer` for its endpoints.
    ///
    /// # Errors
    /// When it is away, or is another one than it says.
    pub async fn discover(issuer: &Url) -> Result<Self, Error> {
        let http = Http::new([issuer])?;
        let base = issuer.as_str().trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let url = Url::parse(&url).map_err(|_| Error::Reply { expected: "an issuer's URL" })?;
        let reply = http.get(&url).await?;
        let expected = "the configuration of an OpenID provider";
        let endpoints: Endpoints =
            serde_json::from_slice(&reply).map_err(|_| Error::Reply { expected })?;
        if endpoints.issuer.trim_end_matches('/') != base {
            return Err(Error::Issuer { expected: base.to_owned(), found: endpoints.issuer });
        }
        let methods = &endpoints.code_challenge_methods_supported;
        if !methods.is_empty() && !methods.iter().any(|method| method == "S256") {
            return Err(Error::NoPkce);
        }
        Ok(Self { http, issuer: issuer.clone(), endpoints })
    }

    /// Logs in by a browser on this machine, which `open` shows the page.
    ///
    /// # Errors
    /// When the person does not log in, or the provider refuses.
    pub async fn by_browser(&self, open: impl FnOnce(&Url)) -> Result<IdentityToken, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::Listen)?;
        let port = listener.local_addr().map_err(Error::Listen)?.port();
        let redirect = format!("http://localhost:{port}{CALLBACK}");
        let (proof, state, nonce) = (Proof::new()?, random()?, random()?);
        let mut page = self.endpoints.authorization_endpoint.clone();
        page.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", AUDIENCE),
            ("redirect_uri", &redirect),
            ("scope", SCOPE),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &proof.challenge),
            ("code_challenge_method", "S256"),
        ]);
        open(&page);
        let code = tokio::time::timeout(PATIENCE, returned(&listener, &state)).await;
        let code = code.map_err(|_| Error::TooLate)??;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect),
            ("client_id", AUDIENCE),
            ("code_verifier", &proof.verifier),
        ];
        match self.ask(&self.endpoints.token_endpoint, &form).await? {
            Ok(token) => {
                let token = identity(&token)?;
                if token.nonce() == Some(&nonce) { Ok(token) } else { Err(Error::Nonce) }
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Logs in by another device; `show` tells the person where.
    ///
    /// # Errors
    /// As [`by_browser`](Self::by_browser), and when the provider has no such flow.
    pub async fn by_device(&self, show: impl FnOnce(&Device)) -> Result<IdentityToken, Error> {
        let endpoint = self.endpoints.device_authorization_endpoint.as_ref();
        let endpoint =
            endpoint.ok_or_else(|| Error::NoDevice { issuer: self.issuer.to_string() })?;
        let proof = Proof::new()?;
        let form = [
            ("client_id", AUDIENCE),
            ("scope", SCOPE),
            ("code_challenge", &proof.challenge),
            ("code_challenge_method", "S256"),
        ];
        let reply = self.ask(endpoint, &form).await?.map_err(Error::from)?;
        let expected = "a code for another device";
        let device: Device =
            serde_json::from_value(reply).map_err(|_| Error::Reply { expected })?;
        show(&device);
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", &device.device_code),
            ("client_id", AUDIENCE),
            ("code_verifier", &proof.verifier),
        ];
        let deadline = Instant::now() + PATIENCE;
        let asked = device.interval.unwrap_or(INTERVAL);
        let mut interval = Duration::from_secs(asked.clamp(1, LONGEST_INTERVAL));
        while Instant::now() < deadline {
            tokio::time::sleep(interval).await;
            match self.ask(&self.endpoints.token_endpoint, &form).await? {
                Ok(token) => return identity(&token),
                Err(refusal) => match refusal.error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += Duration::from_secs(INTERVAL),
                    _ => return Err(refusal.into()),
                },
            }
        }
        Err(Error::TooLate)
    }

    /// Posts a form; the answer, or the provider's refusal.
    async fn ask(
        &self,
        url: &Url,
        form: &[(&str, &str)],
    ) -> Result<Result<serde_json::Value, Refusal>, Error> {
        let request = |client: &reqwest::Client| client.post(url.clone()).form(form);
        let how = Read::Whole(MAX_MESSAGE);
        let reply = self.http.exchange(request, url, how, Duration::ZERO).await?;
        if let Ok(refusal) = serde_json::from_slice::<Refusal>(&reply.body) {
            return Ok(Err(refusal));
        }
        let expected = "JSON";
        let reply = reply.success(url)?;
        serde_json::from_slice(&reply.body).map(Ok).map_err(|_| Error::Reply { expected })
    }
}

/// What an OAuth server says when it says no (RFC 6749, section 5.2).
#[derive(Clone, Debug, Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let Refusal { error, error_description } = refusal;
        Self::Refused { reason: error_description.unwrap_or(error) }
    }
}

fn identity(answer: &serde_json::Value) -> Result<IdentityToken, Error> {
    let token = answer.get("id_token").and_then(serde_json::Value::as_str);
    let token = token.ok_or(Error::Reply { expected: "an identity token" })?;
    Ok(IdentityToken::parse(token)?)
}

/// Waits for the browser to come back with a code. Whatever else knocks is turned away.
async fn returned(listener: &TcpListener, state: &str) -> Result<String, Error> {
    loop {
        let (mut stream, _) = listener.accept().await.map_err(Error::Listen)?;
        let Some(query) = asked(&mut stream).await else { continue };
        let value = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
        };
        if value("state").as_deref() != Some(state) {
            reply(&mut stream, "400 Bad Request", "This is not the login that was begun.").await;
            continue;
        }
        if let Some(error) = value("error") {
            reply(&mut stream, "200 OK", "The provider refused. You can close this page.").await;
            let reason = value("error_description").unwrap_or(error);
            return Err(Error::Refused { reason });
        }
        if let Some(code) = value("code") {
            reply(&mut stream, "200 OK", "You are logged in. You can close this page.").await;
            return Ok(code);
        }
        reply(&mut stream, "400 Bad Request", "The provider sent no code.").await;
    }
}

/// The query of a request for the callback.
async fn asked(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer));
        match read.await {
            Ok(Ok(read @ 1..)) if head.len() + read <= MAX_MESSAGE => {
                head.extend_from_slice(&buffer[..read]);
            }
            _ => return None,
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next()?.to_owned();
    let path = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    match path.strip_prefix(CALLBACK).and_then(|rest| rest.strip_prefix('?')) {
        Some(query) => Some(query.to_owned()),
        None => {
            reply(stream, "404 Not Found", "There is nothing here.").await;
            None
        }
    }
}

async fn reply(stream: &mut TcpStream, status: &str, text: &str) {
    let page = format!("<!doctype html><meta charset=utf-8><title>Countersign</title><p>{text}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    // Whether the browser shows the page does not matter.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The provider does not answer.
    #[error("the identity provider: {0}")]
    Http(#[from] http::Error),
    /// The provider calls itself something else.
    #[error("expected the identity provider {expected}, found {found:?}")]
    Issuer {
        /// As configured.
        expected: String,
        /// As it says.
        found: String,
    },
    /// It would let anybody end a login who saw the code.
    #[error(
        "the identity provider does not offer PKCE with S256, and without it a login can be stolen"
    )]
    NoPkce,
    /// No device flow.
    #[error(
        "{issuer} offers no login by another device; log in with a browser, or give --identity-token"
    )]
    NoDevice {
        /// The provider.
        issuer: String,
    },
    /// A reply that the protocol does not allow.
    #[error("the identity provider answered something else than {expected}")]
    Reply {
        /// What was expected.
        expected: &'static str,
    },
    /// The provider, or the person, said no.
    #[error("the identity provider refused: {reason}")]
    Refused {
        /// In its words.
        reason: String,
    },
    /// Nobody logged in.
    #[error("nobody logged in within two minutes")]
    TooLate,
    /// A token of another login.
    #[error("the identity provider gave a token of another login")]
    Nonce,
    /// No port to be redirected to.
    #[error("no port on loopback for the browser to come back to: {0}")]
    Listen(std::io::Error),
    /// No randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// Not a token.
    #[error(transparent)]
    Token(#[from] token::Error),
}
