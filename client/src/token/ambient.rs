//! Identity tokens that the surroundings of a job or workload offer, without a secret to keep.
//!
//! Detected by the variables that each provider sets, in cosign's order. The audience asked for is
//! `sigstore`, and the token must claim to be for it.

use super::{AUDIENCE, Error, IdentityToken};
use crate::http::Http;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use url::Url;

/// Where a token is to come from.
#[derive(Clone)]
pub enum Ambient {
    /// GitHub Actions: URL, and the token that the runner gives the job for it.
    GitHubActions(Url, String),
    /// Buildkite's agent API: where to ask for the job's token, and the agent's token.
    Buildkite(Url, String),
    /// CircleCI's program, which is on each runner.
    CircleCi,
    /// The metadata server of Google's cloud: its base.
    Google(Url),
    /// The SPIFFE Workload API: its socket.
    Spiffe(PathBuf),
}

impl std::fmt::Debug for Ambient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::GitHubActions(url, _) => write!(f, "GitHubActions({url})"),
            Self::Buildkite(url, _) => write!(f, "Buildkite({url})"),
            Self::CircleCi => f.write_str("CircleCi"),
            Self::Google(url) => write!(f, "Google({url})"),
            Self::Spiffe(socket) => write!(f, "Spiffe({})", socket.display()),
        }
    }
}

impl Ambient {
    /// Looks around.
    pub(super) fn find(env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let url =
            |variable, text: String| Url::parse(&text).map_err(|_| Error::RequestUrl { variable });
        let (variable, token) =
            ("ACTIONS_ID_TOKEN_REQUEST_URL", set("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
        match (set(variable), token) {
            (Some(text), Some(token)) => {
                return Ok(Some(Self::GitHubActions(url(variable, text)?, token)));
            }
            _ if set("GITHUB_ACTIONS").is_some() => return Err(Error::GitHubPermission),
            _ => {}
        }
        let agent = (set("BUILDKITE_AGENT_ACCESS_TOKEN"), set("BUILDKITE_JOB_ID"));
        if let (Some(token), Some(job)) = agent {
            let variable = "BUILDKITE_AGENT_ENDPOINT";
            let endpoint =
                set(variable).unwrap_or_else(|| "https://agent.buildkite.com/v3".to_owned());
            let endpoint = format!("{}/jobs/{job}/oidc/tokens", endpoint.trim_end_matches('/'));
            return Ok(Some(Self::Buildkite(url(variable, endpoint)?, token)));
        }
        if set("GITLAB_CI").is_some() {
            return Err(Error::GitLabToken);
        }
        if set("CIRCLECI").is_some() {
            return Ok(Some(Self::CircleCi));
        }
        if let Some(socket) = set("SPIFFE_ENDPOINT_SOCKET") {
            let path = socket.strip_prefix("unix://").or_else(|| socket.strip_prefix("unix:"));
            return Ok(Some(Self::Spiffe(path.unwrap_or(&socket).into())));
        }
        let host = set("GCE_METADATA_HOST");
        if host.is_some() || on_google() {
            let host = host.unwrap_or_else(|| "metadata.google.internal".to_owned());
            let base = url("GCE_METADATA_HOST", format!("http://{host}/"))?;
            return Ok(Some(Self::Google(base)));
        }
        Ok(None)
    }

    /// Gets the token.
    pub(super) async fn fetch(self) -> Result<IdentityToken, Error> {
        let text = match self {
            Self::GitHubActions(mut url, token) => {
                #[derive(Deserialize)]
                struct Answer {
                    value: String,
                }
                url.query_pairs_mut().append_pair("audience", AUDIENCE);
                let authorization = format!("bearer {token}");
                let header = ("authorization", authorization.as_str());
                let reply = http(&url)?.get_with_header(&url, header).await;
                read::<Answer>(&reply.map_err(Error::Provider)?)?.value
            }
            Self::Buildkite(url, token) => {
                #[derive(Deserialize)]
                struct Answer {
                    token: String,
                }
                let request = serde_json::json!({ "audience": AUDIENCE }).to_string();
                let authorization = format!("Token {token}");
                let header = ("authorization", authorization.as_str());
                let reply = http(&url)?.post_with_header(&url, header, request.as_bytes()).await;
                read::<Answer>(&reply.map_err(Error::Provider)?)?.token
            }
            Self::CircleCi => circleci().await?,
            Self::Google(base) => {
                let path = format!(
                    "computeMetadata/v1/instance/service-accounts/default/identity?audience={AUDIENCE}&format=full"
                );
                let url = base.join(&path).expect("a path below a base");
                let reply = http(&url)?.get_with_header(&url, ("metadata-flavor", "Google")).await;
                String::from_utf8(reply.map_err(Error::Provider)?).map_err(|_| Error::Shape)?
            }
            Self::Spiffe(socket) => spiffe(&socket).await?,
        };
        IdentityToken::parse(&text)?.for_audience(AUDIENCE)
    }
}

fn http(url: &Url) -> Result<Http, Error> {
    Http::new([url]).map_err(Error::Provider)
}

fn read<'a, T: Deserialize<'a>>(reply: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(reply).map_err(|_| Error::Shape)
}

/// Whether the machine is one of Google's, by what its firmware says.
fn on_google() -> bool {
    let name = std::fs::read_to_string("/sys/class/dmi/id/product_name").unwrap_or_default();
    matches!(name.trim(), "Google" | "Google Compute Engine")
}

async fn circleci() -> Result<String, Error> {
    let program = "circleci";
    let failed = |reason: String| Error::Program { program, reason };
    let claims = serde_json::json!({ "aud": AUDIENCE }).to_string();
    let run = move || {
        let arguments = ["run", "oidc", "get", "--root-issuer", "--claims", &claims];
        Command::new(program).args(arguments).stdin(Stdio::null()).output()
    };
    let output = tokio::task::spawn_blocking(run).await.expect("running a program does not panic");
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| Error::Shape)
}

/// `FetchJWTSVID` of the SPIFFE Workload API: gRPC over a Unix socket. One message each way, so its few
/// bytes of protobuf are written and read here.
#[cfg(unix)]
async fn spiffe(socket: &Path) -> Result<String, Error> {
    use reqwest::header::{CONTENT_TYPE, TE};
    let failed = |reason: String| Error::Spiffe { socket: socket.display().to_string(), reason };
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .http2_prior_knowledge()
        .tls_certs_only([])
        .no_proxy()
        .timeout(std::time::Duration::from_secs(10))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    // JWTSVIDRequest: 1 = audience, repeated. Before it gRPC's flag and length.
    let mut message = vec![0x0a, AUDIENCE.len() as u8];
    message.extend_from_slice(AUDIENCE.as_bytes());
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    let response = client
        .post("http://localhost/SpiffeWorkloadAPI/FetchJWTSVID")
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header("workload.spiffe.io", "true")
        .body(body)
        .send()
        .await
        .map_err(|error| failed(format!("it did not answer: {}", error.without_url())))?;
    let refusal = response.headers().get("grpc-message").cloned();
    let body = response.bytes().await.map_err(|error| failed(error.without_url().to_string()))?;
    svid(&body).ok_or_else(|| {
        let refusal = refusal.and_then(|text| text.to_str().map(str::to_owned).ok());
        failed(refusal.unwrap_or_else(|| "no identity is registered for this process".to_owned()))
    })
}

#[cfg(not(unix))]
async fn spiffe(socket: &Path) -> Result<String, Error> {
    let socket = socket.display().to_string();
    Err(Error::Spiffe { socket, reason: "this system has no such sockets".to_owned() })
}

/// The first token of a gRPC reply: JWTSVIDResponse, 1 = svids, of which 2 = svid.
fn svid(body: &[u8]) -> Option<String> {
    let (&[0, a, b, c, d], rest) = body.split_first_chunk()? else { return None };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let first = field(rest.get(..length)?, 1)?;
    String::from_utf8(field(first, 2)?.to_vec()).ok()
}

/// The first field of a protobuf message with this number, of those that have a length.
fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            2 => usize::try_from(varint(&mut message)?).ok()?,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(length)?;
        if key >> 3 == number {
            return Some(value);
        }
        message = rest;
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn found(variables: &[(&str, &str)]) -> Result<Option<String>, Error> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let env = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        Ok(Ambient::find(env)?.map(|ambient| format!("{ambient:?}")))
    }

    #[test]
    fn each_provider_is_known_by_its_variables() {
        for (variables, expected) in [
            (
                &[
                    ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://a/?x=1"),
                    ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret"),
                ][..],
                "GitHubActions(http://a/?x=1)",
            ),
            (
                &[("BUILDKITE_AGENT_ACCESS_TOKEN", "secret"), ("BUILDKITE_JOB_ID", "7")],
                "Buildkite(https://agent.buildkite.com/v3/jobs/7/oidc/tokens)",
            ),
            (&[("CIRCLECI", "true")], "CircleCi"),
            (&[("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock")], "Spiffe(/run/agent.sock)"),
            (&[("GCE_METADATA_HOST", "127.0.0.1:80")], "Google(http://127.0.0.1/)"),
        ] {
            let found = found(variables).unwrap().expect("it is there");
            assert_eq!(found, expected);
            assert!(!found.contains("secret"));
        }
        let not_a_url = found(&[
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "x"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
        ]);
        assert!(matches!(not_a_url, Err(Error::RequestUrl { .. })), "{not_a_url:?}");
    }

    #[test]
    fn the_first_svid_of_a_reply_is_read() {
        // { svids: [ { spiffe_id: "s", svid: "a.b.c" } ] } behind gRPC's five bytes.
        let inner = [&[0x0a, 1][..], b"s", &[0x12, 5], b"a.b.c"].concat();
        let outer = [&[0x0a, inner.len() as u8][..], &inner].concat();
        let body = [&[0, 0, 0, 0, outer.len() as u8][..], &outer].concat();
        assert_eq!(svid(&body).as_deref(), Some("a.b.c"));
        for cut in 0..body.len() {
            assert_eq!(svid(&body[..cut]), None, "{cut}");
        }
        assert_eq!(svid(&[0, 0, 0, 0, 2, 0x0a, 200]), None, "a length beyond the message");
    }
}
