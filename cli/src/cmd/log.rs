//! `countersign log`: a log as an outsider reads it, from its published tiles and its public key.

use crate::args::{Format, Log as Args, Trust};
use crate::failure::Failure;
use crate::trust::{self, block_on};
use crate::{instance, output};
use async_trait::async_trait;
use bytes::Bytes;
use countersign_client::http::{self, Http};
use countersign_log::fsck::{Report, Source, SourceError, fsck};
use countersign_log::signer::LogKey;
use countersign_log::store::files::Files;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::encoding::base64;
use countersign_verify::merkle::{Hash, InclusionProof, node_hash};
use countersign_verify::note::Note;
use countersign_verify::tile::{self, EntryBundle, FULL, Tile};
use countersign_verify::trusted_root::Log;
use countersign_verify::{TrustedRoot, signed_checkpoint};
use serde_json::json;
use std::ops::Range;
use std::process::ExitCode;
use url::Url;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args {
        Args::Info { trust, output } => info(trust, *output),
        Args::Get { index, trust } => {
            let proven = prove(*index, trust)?;
            let text = String::from_utf8_lossy(&proven.entry).into_owned();
            output::print(&format!("{text}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Args::Prove { index, trust } => {
            output::print(&prove(*index, trust)?.to_file())?;
            Ok(ExitCode::SUCCESS)
        }
        Args::Fsck { dir: Some(dir), output, .. } => {
            let key = |name: &str, key: LogKey, format| {
                let store = Files::open(dir.join(name));
                let store = store.map_err(|error| Failure::unclear(error.to_string()))?;
                Ok::<_, Failure>((name.to_owned(), key, format, Box::new(store) as Box<dyn Source>))
            };
            let keys = instance::log_keys(dir)?;
            check(
                vec![
                    key("log", keys.signatures, countersign_log::Format::Entries)?,
                    key("ct", keys.certificates, countersign_log::Format::Data)?,
                ],
                *output,
            )
        }
        Args::Fsck { dir: None, trust, output } => {
            let root = trust::load(trust)?.root;
            let remote = Remote::new(&root)?;
            let key = LogKey::from_spki(remote.log.host(), remote.log.key().spki());
            let key = key.map_err(|error| Failure::unclear(error.to_string()))?;
            let name = remote.base.to_string();
            check(vec![(name, key, countersign_log::Format::Entries, Box::new(remote))], *output)
        }
    }
}

type Checked = (String, LogKey, countersign_log::Format, Box<dyn Source>);

fn check(logs: Vec<Checked>, output: Format) -> Result<ExitCode, Failure> {
    for (name, key, format, source) in logs {
        match block_on(fsck(&*source, &key, format))? {
            Ok(Report { size, root, repeated }) => output::print(&match output {
                Format::Json => {
                    format!(
                        "{}\n",
                        json!({ "schema": "countersign.fsck/1", "log": name, "whole": true,
                        "size": size, "root": root.to_string(), "repeated": repeated })
                    )
                }
                Format::Text => {
                    format!("whole: {name}, {size} entries, {repeated} repeated, root {root}\n")
                }
            })?,
            Err(error) => {
                if output == Format::Json {
                    let json = json!({ "schema": "countersign.fsck/1", "log": name, "whole": false,
                        "path": error.path(), "reason": error.to_string() });
                    output::print(&format!("{json}\n"))?;
                }
                let message = format!("{name}: {error}");
                let unreachable = matches!(error, countersign_log::fsck::Error::Fetch { .. });
                return Err(if unreachable {
                    Failure::unclear(message)
                } else {
                    Failure::no(message)
                });
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn info(trust: &Trust, output: Format) -> Result<ExitCode, Failure> {
    let root = trust::load(trust)?.root;
    let remote = Remote::new(&root)?;
    let (note, checkpoint) = block_on(remote.checkpoint())??;
    let signatures = Note::parse(&note).map(|note| note.signatures().len()).unwrap_or_default();
    output::print(&match output {
        Format::Json => format!(
            "{}\n",
            json!({ "schema": "countersign.log/1", "log": remote.base.as_str(),
            "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(),
            "logId": base64(remote.log.id()), "signatures": signatures })
        ),
        Format::Text => format!(
            "{}\n  origin {}\n  size {}\n  root {}\n  log ID {}\n  checkpoint signed by the log's key, {signatures} signature lines\n",
            remote.base,
            checkpoint.origin,
            checkpoint.size,
            checkpoint.root,
            base64(remote.log.id()),
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// An entry that is proven to be in its log.
struct Proven {
    entry: Vec<u8>,
    proof: InclusionProof,
    note: String,
}

impl Proven {
    /// C2SP tlog-proof: complete in itself, but for the entry and the log's key.
    fn to_file(&self) -> String {
        let mut text = format!("c2sp.org/tlog-proof@v1\nindex {}\n", self.proof.leaf_index());
        for hash in self.proof.path() {
            text.push_str(&format!("{hash}\n"));
        }
        format!("{text}\n{}", self.note)
    }
}

fn prove(index: u64, trust: &Trust) -> Result<Proven, Failure> {
    let root = trust::load(trust)?.root;
    let remote = Remote::new(&root)?;
    block_on(remote.prove(index))?
}

/// A Rekor v2 log over HTTP.
struct Remote {
    base: Url,
    log: Log,
    http: Http,
}

#[async_trait]
impl Source for Remote {
    async fn fetch(&self, path: &str) -> Result<Option<Bytes>, SourceError> {
        let url = self.url(path)?;
        match self.http.get(&url).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(http::Error::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Remote {
    /// The newest log of the trusted root.
    fn new(root: &TrustedRoot) -> Result<Self, Failure> {
        let newest = root.logs().iter().max_by_key(|log| log.valid_for().start);
        let log = newest.ok_or_else(|| Failure::unclear("the trusted root lists no log"))?.clone();
        let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
        let base = Url::parse(log.base_url()).map_err(|error| unclear(&error))?;
        let http = Http::new([&base]).map_err(|error| unclear(&error))?;
        Ok(Self { base, log, http })
    }

    fn url(&self, path: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{}/api/v2/{path}", self.base.as_str().trim_end_matches('/')))
    }

    async fn object(&self, path: &str) -> Result<Bytes, Failure> {
        let object = self.fetch(path).await.map_err(|error| Failure::unclear(error.to_string()))?;
        object.ok_or_else(|| Failure::no(format!("the log at {} has no {path}", self.base)))
    }

    /// The latest checkpoint, its signature checked.
    async fn checkpoint(&self) -> Result<(String, Checkpoint), Failure> {
        let bytes = self.object("checkpoint").await?;
        let refused =
            |error: &dyn std::fmt::Display| Failure::no(format!("{}: {error}", self.base));
        let note = String::from_utf8(bytes.to_vec()).map_err(|error| refused(&error))?;
        let checkpoint = signed_checkpoint(&note, &self.log).map_err(|error| refused(&error))?;
        Ok((note, checkpoint))
    }

    async fn prove(&self, index: u64) -> Result<Proven, Failure> {
        let (note, checkpoint) = self.checkpoint().await?;
        let size = checkpoint.size;
        if index >= size {
            return Err(Failure::no(format!(
                "the log has {size} entries; there is none with index {index}"
            ))
            .hint("indices count from 0"));
        }
        let bundle = index / u64::from(FULL);
        let path =
            EntryBundle { index: bundle, width: tile::width(0, bundle, size) }.path("entries");
        let bytes = self.object(&path).await?;
        let refused =
            |error: &dyn std::fmt::Display| Failure::no(format!("{}: {error}", self.base));
        let entries = tile::decode_entries(&bytes).map_err(|error| refused(&error))?;
        let place = usize::try_from(index % u64::from(FULL)).expect("below 256");
        let entry =
            entries.get(place).ok_or_else(|| refused(&"the entry bundle is too short"))?.to_vec();
        let mut hashes = Vec::new();
        for range in audit_path(index, size) {
            hashes.push(self.root(range, size).await?);
        }
        let proof = InclusionProof::new(index, size, hashes).map_err(|error| refused(&error))?;
        proof.verify(&entry, &checkpoint.root).map_err(|error| refused(&error))?;
        Ok(Proven { entry, proof, note })
    }

    /// The root over a range of leaves, folded from the complete subtrees in it.
    async fn root(&self, range: Range<u64>, size: u64) -> Result<Hash, Failure> {
        let mut nodes = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let level = (range.end - start).ilog2();
            nodes.push(self.node(level, start >> level, size).await?);
            start += 1 << level;
        }
        let folded = nodes.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
        folded.ok_or_else(|| Failure::unclear("an empty range has no root"))
    }

    /// A complete node: out of the tile whose row is at or below its level.
    async fn node(&self, level: u32, index: u64, size: u64) -> Result<Hash, Failure> {
        let (row, width) = (level / 8, 1_u64 << (level % 8));
        let (first, row) = (index * width, u8::try_from(row).expect("at most 7"));
        let number = first / u64::from(FULL);
        let path = Tile { level: row, index: number, width: tile::width(row, number, size) }.path();
        let bytes = self.object(&path).await?;
        let hash = |place: u64| {
            let place = usize::try_from(place % u64::from(FULL)).expect("below 256");
            let bytes = bytes.get(32 * place..32 * (place + 1))?;
            Hash::try_from(bytes).ok()
        };
        let mut nodes: Vec<Hash> = (first..first + width)
            .map(hash)
            .collect::<Option<_>>()
            .ok_or_else(|| Failure::no(format!("{}: {path} is too short", self.base)))?;
        while nodes.len() > 1 {
            nodes = nodes.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(nodes[0])
    }
}

/// The ranges whose roots make the audit path (RFC 6962, section 2.1.1), leaf side first.
fn audit_path(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut range, mut siblings) = (0..size, Vec::new());
    while range.end - range.start > 1 {
        let half = (range.end - range.start).div_ceil(2).next_power_of_two();
        let middle = range.start + half;
        if index < middle {
            siblings.push(middle..range.end);
            range.end = middle;
        } else {
            siblings.push(range.start..middle);
            range.start = middle;
        }
    }
    siblings.reverse();
    siblings
}
