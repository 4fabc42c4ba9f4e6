//! Search over the signature logs.
//!
//! ```text
//! GET  /api/search?NAME=VALUE&…        one page, JSON; names as in `index::Query`, and `limit`, `resume`
//! GET  /api/search/lines?NAME=VALUE&…  all pages, JSON lines
//! POST /api/v1/index/retrieve          Rekor v1: IDs of its own log's entries
//! ```
//! Entries come with their proofs. A line is one of three: the checkpoints that the proofs of the entries
//! after it lead to; an entry; the end, without which the answer was cut short. An end that is not `complete`
//! says where to go on: a search may take longer than one answer.
//!
//! Refused: unknown and repeated names, by name; a search for nothing. No URL is ever fetched.

use super::v1::{self, json_reply};
use super::{Refusal, Whole, only};
use crate::face::rekor_v1;
use crate::index::{
    Error, Facts, Field, Index, Page, Query, Resume, Signer, folded, without_zeros,
};
use crate::read::Proven;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, from_base64, from_hex, hex};
use countersign_verify::entry::Kind;
use countersign_verify::json;
use countersign_verify::key::{HashAlgorithm, PublicKey};
use countersign_verify::merkle::{Hash, leaf_hash};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Entries of a page, unless asked otherwise.
const PAGE: usize = 50;
/// Most entries of a page.
const MAX_PAGE: usize = 100;
/// A page ends when its bodies are longer, in bytes: with proofs and base64 it stays below the 1 MiB that
/// clients read.
const MAX_BODIES: usize = 384 << 10;
/// Most IDs that `index/retrieve` answers with.
const MAX_IDS: usize = 10_000;
/// Largest request of `index/retrieve`, in bytes: a chain of certificates in base64.
const MAX_RETRIEVE: usize = 64 << 10;
const LINES: &str = "application/jsonl";
/// After which no page is begun: half of what a server lets a request take.
const LINES_TIME: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Searched {
    index: Index,
    /// Whose entries have names and promises.
    older: rekor_v1::Face,
}

/// The routes of an index over the logs of an instance.
pub fn search(index: Index, older: rekor_v1::Face) -> Router {
    Router::new()
        .route("/api/v1/index/retrieve", post(retrieve))
        .route("/api/search", only(get(page)))
        .route("/api/search/lines", only(get(lines)))
        .with_state(Searched { index, older })
}

/// What a search asks for.
struct Asked {
    query: Query,
    limit: usize,
    resume: Resume,
}

type Pairs = Result<Parameters<Vec<(String, String)>>, QueryRejection>;

fn read(pairs: Pairs) -> Result<Asked, Refusal> {
    let refused = |error: &dyn std::fmt::Display| Refusal::invalid("QUERY", &error.to_string());
    let Parameters(pairs) = pairs.map_err(|rejection| refused(&rejection.body_text()))?;
    let (mut query, mut limit, mut resume) = (Query::default(), None, None);
    for (name, value) in &pairs {
        let repeated = match name.as_str() {
            "limit" => {
                let number = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                let number = number.ok_or_else(|| {
                    refused(&format!("limit: expected a number from 1 to {MAX_PAGE}"))
                })?;
                limit.replace(number).is_some()
            }
            "resume" => resume.replace(Resume::parse(value)?).is_some(),
            _ => {
                query.set(name, value).map_err(|error| refused(&error))?;
                false
            }
        };
        if repeated {
            return Err(refused(&format!("{name} is given twice")));
        }
    }
    let query = query.checked().map_err(|error| refused(&error))?;
    Ok(Asked { query, limit: limit.unwrap_or(PAGE), resume: resume.unwrap_or_default() })
}

async fn page(State(searched): State<Searched>, pairs: Pairs) -> Result<Response, Refusal> {
    let answer = searched.answer(&read(pairs)?).await?;
    let body = json!({ "schema": "countersign.search/1", "checkpoints": answer.checkpoints,
        "entries": answer.entries, "complete": answer.complete,
        "resume": answer.resume.to_string() });
    Ok(json_reply(&body))
}

/// Pages until the answer is complete or the time is up, each made when the one before has been sent.
async fn lines(State(searched): State<Searched>, pairs: Pairs) -> Result<Response, Refusal> {
    let (asked, started) = (read(pairs)?, Instant::now());
    let first = searched.answer(&asked).await?;
    let pages = stream::unfold(Some((searched, asked, started, Some(first))), async |state| {
        let (searched, mut asked, started, answer) = state?;
        let answer = match answer {
            Some(answer) => answer,
            None if started.elapsed() >= LINES_TIME => {
                return Some((Ok(end(false, &asked.resume)), None));
            }
            None => match searched.answer(&asked).await {
                Ok(answer) => answer,
                Err(_) => return Some((Err("the search failed"), None)), // logged where it failed
            },
        };
        let checkpoints = json!({ "checkpoints": answer.checkpoints });
        let mut text = format!("{checkpoints}\n");
        for entry in &answer.entries {
            text.push_str(&format!("{entry}\n"));
        }
        if answer.complete {
            text.push_str(&end(true, &answer.resume));
            return Some((Ok(text), None));
        }
        asked.resume = answer.resume;
        Some((Ok(text), Some((searched, asked, started, None))))
    });
    Ok(([(CONTENT_TYPE, LINES)], Body::from_stream(pages.boxed())).into_response())
}

fn end(complete: bool, resume: &Resume) -> String {
    format!("{}\n", json!({ "complete": complete, "resume": resume.to_string() }))
}

struct Answer {
    checkpoints: Vec<Value>,
    entries: Vec<Value>,
    complete: bool,
    resume: Resume,
}

impl Searched {
    async fn answer(&self, asked: &Asked) -> Result<Answer, Refusal> {
        let Asked { query, limit, resume } = asked;
        let found = self.index.search(query, &|_| true, resume, *limit).await?;
        let checkpoints = found.trees.iter().map(|tree| {
            let (head, checkpoint) = (tree.head(), tree.head().checkpoint());
            json!({ "origin": checkpoint.origin, "logId": base64(tree.log_id()),
                "size": checkpoint.size, "root": checkpoint.root.to_string(),
                "checkpoint": head.note() })
        });
        let (checkpoints, mut entries, mut bodies) = (checkpoints.collect(), Vec::new(), 0);
        let mut place = resume.clone();
        for (number, &(tree, index)) in found.entries.iter().enumerate() {
            if bodies > MAX_BODIES {
                return Ok(Answer { checkpoints, entries, complete: false, resume: place });
            }
            let proven = found.trees[tree].prove_inclusion(index).await?;
            let proven = proven.ok_or_else(|| Refusal::internal("INDEX", "the index is ahead"))?;
            bodies += proven.leaf.len();
            place = resume.behind(&found, number);
            let mut entry = self.entry(found.trees[tree].log_id(), &proven)?;
            entry["resume"] = place.to_string().into();
            entries.push(entry);
        }
        let Page { complete, resume, .. } = found;
        Ok(Answer { checkpoints, entries, complete, resume })
    }

    /// An entry with its proof; what it says of itself, read out of the body for whoever cannot.
    fn entry(&self, log_id: &[u8; 32], proven: &Proven) -> Result<Value, Refusal> {
        let Proven { leaf: body, time, proof } = proven;
        let index = proof.leaf_index();
        let facts = Facts::read(body, *time);
        let hashes: Vec<_> = proof.path().iter().map(ToString::to_string).collect();
        let mut entry = json!({ "logId": base64(log_id), "index": index,
            "kind": facts.kind.map(Kind::name), "time": facts.time.map(rfc3339),
            "digests": facts.digests.iter().map(|digest| named(digest)).collect::<Vec<_>>(),
            "signers": facts.signers.iter().map(signer).collect::<Vec<_>>(),
            "body": base64(body), "hashes": hashes });
        let time = time.and_then(|time| i64::try_from(time).ok());
        if let (Some(time), Some((before, tree))) = (time, self.older.by_log_id(log_id)) {
            let promise = tree.promise(before + index, time, body);
            let promise = promise.map_err(|error| {
                tracing::error!(%error, "no promise");
                Refusal::internal("SIGNING", "failed to sign")
            })?;
            entry["id"] = tree.entry_id(&leaf_hash(body)).into();
            entry["logIndex"] = (before + index).into();
            entry["integratedTime"] = time.into();
            entry["promise"] = base64(&promise).into();
        }
        Ok(entry)
    }
}

fn rfc3339(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|time| time.to_string()).unwrap_or_default()
}

fn named(digest: &[u8]) -> String {
    let hash = HashAlgorithm::ALL.into_iter().find(|hash| hash.digest_len() == digest.len());
    format!("{}:{}", hash.map_or("", HashAlgorithm::short_name), hex(digest))
}

fn signer(signer: &Signer) -> Value {
    json!({ "names": signer.names, "issuers": signer.issuers,
        "serial": signer.serial.as_deref().map(hex),
        "key": signer.key.map(|key| hex(key.as_bytes())),
        "notBefore": signer.not_before.map(rfc3339) })
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Resume => Self::invalid("RESUME", &error),
            Error::Proof(error) => error.into(),
            error => {
                tracing::error!(%error, "no answer from the index");
                Self {
                    next: Some("send the same request again"),
                    ..Self::unavailable("INDEX", "the search index could not answer")
                }
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Retrieve {
    hash: Option<String>,
    email: Option<String>,
    subject: Option<String>,
    public_key: Option<RetrieveKey>,
    operator: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetrieveKey {
    format: String,
    content: Option<String>,
    url: Option<String>,
}

/// The formats of keys that Rekor v1 names; entries here have only the first.
const KEY_FORMATS: [&str; 5] = ["x509", "pgp", "minisign", "ssh", "tuf"];

async fn retrieve(
    State(searched): State<Searched>,
    headers: HeaderMap,
    body: Whole<MAX_RETRIEVE>,
) -> Result<Response, v1::Refusal> {
    let refused = |message: String| v1::Refusal::new(StatusCode::BAD_REQUEST, message);
    let asked: Retrieve =
        json::from_slice(&v1::read(&headers, body)?).map_err(|error| refused(error.to_string()))?;
    let all = match asked.operator.as_deref() {
        None | Some("" | "or") => false,
        Some("and") => true,
        Some(_) => return Err(refused("operator: expected \"and\" or \"or\"".to_owned())),
    };
    let criteria = asked.criteria().map_err(refused)?;
    // One search for all of it, or one for each.
    let mut queries = vec![Query::default()];
    for (number, group) in criteria.into_iter().enumerate() {
        if !all && number > 0 {
            queries.push(Query::default());
        }
        for (field, value) in group {
            queries.last_mut().expect("there is one").also(field, value);
        }
    }
    let failed = |error: Error| {
        tracing::error!(%error, "no answer from the index");
        let message = "the search index could not answer; send the same request again".to_owned();
        v1::Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
    };
    let (index, older) = (&searched.index, &searched.older);
    let is_older = |log_id: &[u8; 32]| older.by_log_id(log_id).is_some();
    let mut ids = BTreeSet::new();
    for query in queries {
        let mut resume = Resume::default();
        loop {
            let page = index.search(&query, &is_older, &resume, MAX_PAGE).await;
            let page = page.map_err(failed)?;
            for &(tree, leaf) in &page.entries {
                let reader = &page.trees[tree];
                let Some((before, tree)) = older.by_log_id(reader.log_id()) else { continue };
                let hash = reader.leaf_hash(leaf).await.map_err(|error| failed(error.into()))?;
                ids.insert((before + leaf, tree.entry_id(&hash)));
            }
            if ids.len() > MAX_IDS {
                return Err(refused(format!(
                    "more than {MAX_IDS} entries match; GET /api/search answers in pages"
                )));
            }
            if page.complete {
                break;
            }
            resume = page.resume;
        }
    }
    Ok(json_reply(&ids.into_iter().map(|(_, id)| id).collect()))
}

/// What one thing that is asked for stands for; an entry must have all of it.
type Values = Vec<(Field, Vec<u8>)>;

impl Retrieve {
    /// What is asked for.
    fn criteria(&self) -> Result<Vec<Values>, String> {
        let mut criteria = Vec::new();
        if let Some(hash) = self.hash.as_deref().filter(|hash| !hash.is_empty()) {
            let (name, digits) = hash.split_once(':').unwrap_or(("", hash));
            let digest = from_hex(digits).ok().filter(|digest| {
                let bits = [("sha1", 20), ("sha256", 32), ("sha384", 48), ("sha512", 64), ("", 32)];
                bits.contains(&(name, digest.len()))
            });
            let digest = digest.ok_or("hash: expected sha256: and 64 hexadecimal digits")?;
            criteria.push(vec![(Field::Digest, digest)]);
        }
        for (name, value) in [("email", &self.email), ("subject", &self.subject)] {
            let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
            if value.chars().count() > 512 {
                return Err(format!("{name}: expected at most 512 characters"));
            }
            criteria.push(vec![(Field::Identity, folded(value).into_bytes())]);
        }
        if let Some(RetrieveKey { format, content, url }) = &self.public_key {
            if url.is_some() {
                return Err("publicKey.url is never fetched; send the key as content".to_owned());
            }
            if !KEY_FORMATS.contains(&format.as_str()) {
                return Err(format!("publicKey.format: expected one of {KEY_FORMATS:?}"));
            }
            let expected = "publicKey.content: expected base64 of a key or certificate in PEM";
            let content = from_base64(content.as_deref().unwrap_or_default());
            let pem = content.ok().filter(|pem| !pem.is_empty()).ok_or(expected)?;
            criteria.push(match format.as_str() {
                "x509" => key(&pem).ok_or(expected)?,
                // Never in an entry of this log.
                _ => vec![(Field::Key, pem)],
            });
        }
        if criteria.is_empty() {
            return Err("expected one of hash, email, subject or publicKey".to_owned());
        }
        Ok(criteria)
    }
}

/// A key, or a certificate by its key and serial number.
fn key(pem: &[u8]) -> Option<Values> {
    let key = |spki: &[u8]| (Field::Key, Hash::of(spki).as_bytes().to_vec());
    match der::pem::decode_vec(pem.trim_ascii()).ok()? {
        ("PUBLIC KEY", der) => Some(vec![key(PublicKey::from_spki(&der).ok()?.spki())]),
        ("CERTIFICATE", der) => {
            let certificate = Certificate::parse(&der).ok()?;
            let serial = without_zeros(certificate.serial()).to_vec();
            Some(vec![key(certificate.spki()), (Field::Serial, serial)])
        }
        _ => None,
    }
}
