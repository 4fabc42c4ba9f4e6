//! `countersign log search`: asks an instance's index, and believes of its answer what is proven.
//!
//! Checked before an entry is shown: the checkpoint is signed by a log of the trusted root, the entry is in
//! its tree, a Rekor v1 log's promise for its time holds, and the entry is what was searched for. That there
//! are no others the instance only says.

use super::remote::{Remote, log_key};
use crate::args::Format;
use crate::args::log::Search as Args;
use crate::artifact;
use crate::failure::Failure;
use crate::output::{self, visible};
use crate::runtime::block_on;
use crate::trust::{self, read_bounded};
use countersign_client::http::{self, Http};
use countersign_log::index::{Facts, Query};
use countersign_verify::TrustedRoot;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::encoding::{base64, from_base64, hex};
use countersign_verify::entry::{Kind, promise_signed_data};
use countersign_verify::key::{HashAlgorithm, KeyKind, PublicKey};
use countersign_verify::limits::MAX_CERTIFICATE;
use countersign_verify::merkle::{Hash, InclusionProof};
use countersign_verify::trusted_root::Log;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use url::Url;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let root = trust::load(&args.trust)?.root()?.0;
    let wanted = wanted(args)?;
    let mut query = Query::default();
    for (name, value) in &wanted {
        query.set(name, value).map_err(|error| Failure::unclear(error.to_string()))?;
    }
    let url = base(&root)?;
    let http = Http::new([&url]).map_err(|error| Failure::unclear(error.to_string()))?;
    let mut resume = args.resume.clone();
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut shown = 0_u64;
    loop {
        let page = fetch(&http, &url, &wanted, left, resume.as_deref())?;
        let trees = page.checkpoints.iter().map(|tree| tree.open(&root));
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        for entry in &page.entries {
            let found = entry.check(&trees, &query)?;
            output::print(&match args.output {
                Format::Json => found.json(entry),
                Format::Text => found.text(),
            })?;
            shown += 1;
            left = left.saturating_sub(1);
        }
        if page.complete || left == 0 {
            return end(args, &page, &trees, shown);
        }
        if resume.as_ref() == Some(&page.resume) {
            return Err(Failure::no(format!("{url} answers the same page again and again")));
        }
        resume = Some(page.resume);
    }
}

/// The names and values that the instance is asked for.
fn wanted(args: &Args) -> Result<Vec<(&'static str, String)>, Failure> {
    let digest = match &args.file {
        None => args.digest.clone(),
        Some(file) => {
            let sha256 = HashAlgorithm::Sha256;
            let artifact = artifact::read(file, &BTreeSet::from([sha256]), true)?;
            artifact.digest(sha256).map(|digest| format!("sha256:{}", hex(digest)))
        }
    };
    let key = args.key.as_deref().map(key).transpose()?;
    let text = |value: &Option<String>| value.clone();
    let all = [
        ("digest", digest),
        ("identity", text(&args.identity)),
        ("issuer", text(&args.issuer)),
        ("serial", text(&args.serial)),
        ("key", key),
        ("kind", text(&args.kind)),
        ("since", text(&args.since)),
        ("until", text(&args.until)),
    ];
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// A digest as it is, or that of the key in a file.
fn key(text: &str) -> Result<String, Failure> {
    if text.starts_with("sha256:") {
        return Ok(text.to_owned());
    }
    let pem = read_bounded(text.as_ref(), MAX_CERTIFICATE)?;
    let key = std::str::from_utf8(&pem).ok().and_then(|pem| PublicKey::from_pem(pem).ok());
    let key = key.ok_or_else(|| {
        Failure::unclear(format!("{text} is not a public key in PEM"))
            .hint("give a PEM file, or sha256: and the digest of its SubjectPublicKeyInfo")
    })?;
    Ok(format!("sha256:{}", hex(Hash::of(key.spki()).as_bytes())))
}

/// Where the instance of the trusted root's newest log is served; it searches all of its logs. Shards after
/// the first are served below `/shards/`.
fn base(root: &TrustedRoot) -> Result<Url, Failure> {
    let log = Remote::new(root, false)?.log;
    let instance = log.base_url().split("/shards/").next().unwrap_or_default();
    let base = format!("{}/api/search", instance.trim_end_matches('/'));
    Url::parse(&base).map_err(|error| Failure::unclear(format!("{base}: {error}")))
}

/// Entries of a page; the instance gives fewer where they are long.
const PAGE: u64 = 100;

fn fetch(
    http: &Http,
    url: &Url,
    wanted: &[(&'static str, String)],
    left: u64,
    resume: Option<&str>,
) -> Result<Page, Failure> {
    let mut url = url.clone();
    url.query_pairs_mut()
        .extend_pairs(wanted)
        .append_pair("limit", &left.min(PAGE).to_string())
        .extend_pairs(resume.map(|resume| ("resume", resume)));
    let answer = block_on(http.get(&url))?.map_err(|error| match error {
        http::Error::Status { status: 404, .. } => Failure::unclear("the instance has no search")
            .hint("only instances of Countersign have"),
        error => Failure::unclear(error.to_string()),
    })?;
    serde_json::from_slice(&answer)
        .map_err(|error| Failure::unclear(format!("the answer is not as it must be: {error}")))
}

/// What is read of an answer; what it says of entries beside their bodies is not.
#[derive(Deserialize)]
struct Page {
    checkpoints: Vec<WireTree>,
    entries: Vec<WireEntry>,
    complete: bool,
    resume: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTree {
    log_id: String,
    checkpoint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    log_id: String,
    index: u64,
    body: String,
    hashes: Vec<String>,
    /// Over all shards; what a promise is about.
    log_index: Option<u64>,
    integrated_time: Option<i64>,
    promise: Option<String>,
    resume: String,
}

/// A tree that a trusted log signed.
struct Tree {
    log: Log,
    checkpoint: Checkpoint,
}

impl Tree {
    /// What tells shards apart: the URL of a Rekor v2 log, the tree of a Rekor v1 log.
    fn name(&self) -> &str {
        match self.log.key().kind() {
            KeyKind::Ed25519 => self.log.base_url(),
            _ => &self.checkpoint.origin,
        }
    }
}

impl WireTree {
    fn open(&self, root: &TrustedRoot) -> Result<Tree, Failure> {
        let log = root.logs().iter().find(|log| base64(log.id()) == self.log_id);
        let log = log.ok_or_else(|| {
            Failure::no("the answer is about a log that the trusted root does not list")
                .hint("refresh whom you trust, and ask again")
        })?;
        let origin = self.checkpoint.lines().next().unwrap_or_default();
        let key = log_key(log, origin)?;
        let checkpoint = key.open(&self.checkpoint);
        let checkpoint = checkpoint.map_err(|error| Failure::no(error.to_string()))?;
        Ok(Tree { log: log.clone(), checkpoint })
    }
}

impl WireEntry {
    /// The entry, once all of it is known to be so.
    fn check<'a>(&self, trees: &'a [Tree], query: &Query) -> Result<Found<'a>, Failure> {
        let index = self.index;
        let lie = |what: &str| Failure::no(format!("entry {index} of the answer {what}"));
        let tree = trees.iter().find(|tree| base64(tree.log.id()) == self.log_id);
        let tree = tree.ok_or_else(|| lie("comes without a checkpoint"))?;
        let body = from_base64(&self.body).map_err(|_| lie("has no body"))?;
        let hash = |text: &String| Hash::try_from(&from_base64(text).ok()?[..]).ok();
        let path = self.hashes.iter().map(hash).collect::<Option<_>>();
        let path = path.ok_or_else(|| lie("has no proof"))?;
        InclusionProof::new(index, tree.checkpoint.size, path)
            .and_then(|proof| proof.verify(&body, &tree.checkpoint.root))
            .map_err(|error| lie(&format!("is not in the log: {error}")))?;
        if let Some(time) = self.integrated_time {
            let promise = self.promise.as_deref().and_then(|promise| from_base64(promise).ok());
            let promise = promise.ok_or_else(|| lie("tells a time that nothing proves"))?;
            let index = self.log_index.unwrap_or(index);
            let signed = promise_signed_data(&body, time, tree.log.id(), index);
            let holds = tree.log.verify(&signed, &promise);
            holds.map_err(|error| lie(&format!("tells a time that the log did not: {error}")))?;
        }
        let facts = Facts::read(&body, self.integrated_time.and_then(|time| time.try_into().ok()));
        if !query.matches(&facts) {
            return Err(lie("is not what was searched for"));
        }
        Ok(Found { index, tree, facts })
    }
}

/// An entry that is in the log, and is what was searched for.
struct Found<'a> {
    index: u64,
    tree: &'a Tree,
    facts: Facts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonSigner<'a> {
    names: &'a [String],
    issuers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Found<'_> {
    fn time(&self) -> Option<String> {
        let time = self.facts.time.and_then(|time| Timestamp::from_second(time).ok());
        time.map(|time| time.to_string())
    }

    fn digests(&self) -> Vec<String> {
        let digests = self.facts.digests.iter().map(|digest| {
            let named = |hash: &HashAlgorithm| hash.digest_len() == digest.len();
            let hash = HashAlgorithm::ALL.into_iter().find(named);
            format!("{}:{}", hash.map_or("", HashAlgorithm::short_name), hex(digest))
        });
        digests.collect()
    }

    fn json(&self, entry: &WireEntry) -> String {
        let signers = self.facts.signers.iter().map(|signer| JsonSigner {
            names: &signer.names,
            issuers: &signer.issuers,
            serial: signer.serial.as_deref().map(hex),
            key: signer.key.map(|key| format!("sha256:{}", hex(key.as_bytes()))),
        });
        let json = json!({ "schema": "countersign.entry/1", "log": self.tree.checkpoint.origin,
            "logId": entry.log_id, "index": self.index, "treeSize": self.tree.checkpoint.size,
            "kind": self.facts.kind.map(Kind::name), "time": self.time(),
            "digests": self.digests(), "signers": signers.collect::<Vec<_>>(),
            "body": entry.body, "resume": entry.resume });
        format!("{json}\n")
    }

    /// One line; what is not there is a dash.
    fn text(&self) -> String {
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let all = |of: &dyn Fn(&countersign_log::index::Signer) -> Vec<String>| {
            or_dash(self.facts.signers.iter().flat_map(of).collect::<Vec<_>>().join(","))
        };
        let whom = all(&|signer| match (&signer.names[..], signer.key) {
            ([], Some(key)) => vec![format!("key sha256:{}", hex(key.as_bytes()))],
            (names, _) => names.to_vec(),
        });
        let line = format!(
            "{:>8}  {:20}  {:18}  {whom}  {}  {}  {}",
            self.index,
            or_dash(self.time().unwrap_or_default()),
            self.facts.kind.map_or("unknown", Kind::name),
            all(&|signer| signer.issuers.clone()),
            or_dash(self.digests().join(",")),
            self.tree.name(),
        );
        format!("{}\n", visible(&line).replace('\n', "\u{fffd}"))
    }
}

/// Up to where the answer is complete.
fn end(args: &Args, page: &Page, trees: &[Tree], shown: u64) -> Result<ExitCode, Failure> {
    let complete = page.complete;
    // Cut off by --limit within a page, the place is that of the last entry shown.
    let text = match args.output {
        Format::Json => {
            let checkpoints: Vec<_> = trees
                .iter()
                .map(|Tree { log, checkpoint }| {
                    json!({ "log": checkpoint.origin, "logId": base64(log.id()),
                        "size": checkpoint.size, "root": checkpoint.root.to_string() })
                })
                .collect();
            let json = json!({ "schema": "countersign.search/1", "complete": complete,
                "entries": shown, "checkpoints": checkpoints, "resume": page.resume });
            format!("{json}\n")
        }
        Format::Text => {
            let noun = if shown == 1 { "entry" } else { "entries" };
            let mut text = format!("{shown} {noun}, each proven to be in its log\n");
            for tree in trees {
                let Checkpoint { origin, size, root, .. } = &tree.checkpoint;
                let so_far = if complete { "complete up to" } else { "there may be more, up to" };
                let name = tree.name();
                text.push_str(&format!(
                    "{so_far} {size} entries of {origin:?} ({name}), root {root}\n"
                ));
            }
            if !complete {
                text.push_str(&format!("go on with --resume {}\n", visible(&page.resume)));
            }
            text
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
