//! `countersign log`: a log as an outsider reads it, from its published tiles and its public key.

use crate::args::{Format, Log as Args, Trust};
use crate::failure::Failure;
use crate::trust::{self, block_on};
use crate::{instance, output};
use async_trait::async_trait;
use bytes::Bytes;
use countersign_client::http::{self, Http};
use countersign_log::fsck::{self, Report, fsck};
use countersign_log::read::{Proven, Reader};
use countersign_log::store::{Folder, Source, StoreError};
use countersign_log::{LogKey, OpenError};
use countersign_verify::TrustedRoot;
use countersign_verify::encoding::base64;
use countersign_verify::key::KeyKind;
use countersign_verify::note::Note;
use countersign_verify::trusted_root::Log;
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use url::Url;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args {
        Args::Info { trust, output } => info(trust, *output),
        Args::Get { index, trust } => {
            let (proven, _) = prove(*index, trust)?;
            let text = String::from_utf8_lossy(&proven.leaf).into_owned();
            output::print(&format!("{text}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Args::Prove { index, trust } => {
            let (proven, note) = prove(*index, trust)?;
            output::print(&proof_file(&proven, &note))?;
            Ok(ExitCode::SUCCESS)
        }
        Args::Fsck { dir: Some(dir), output, .. } => {
            let keys = instance::log_keys(dir)?;
            for (name, key, format) in [
                ("log", keys.signatures, countersign_log::Format::Entries),
                ("log-v1", keys.older, countersign_log::Format::Timed),
                ("ct", keys.certificates, countersign_log::Format::Data),
            ] {
                check(name, &Folder::new(dir.join(name)), &key, format, *output)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Args::Fsck { dir: None, trust, output } => {
            let remote = Remote::new(&trust::load(trust)?.root()?.0)?;
            let (name, key) = (remote.log.base_url().to_owned(), remote.key()?);
            check(&name, &remote, &key, countersign_log::Format::Entries, *output)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(
    name: &str,
    source: &dyn Source,
    key: &LogKey,
    format: countersign_log::Format,
    output: Format,
) -> Result<(), Failure> {
    match block_on(fsck(source, key, format))? {
        Ok(Report { size, root, repeated, .. }) => output::print(&match output {
            Format::Json => format!(
                "{}\n",
                json!({ "schema": "countersign.fsck/1", "log": name, "whole": true, "size": size,
                    "root": root.to_string(), "repeated": repeated })
            ),
            Format::Text => {
                format!("whole: {name}, {size} entries, {repeated} repeated, root {root}\n")
            }
        }),
        Err(error) => {
            if output == Format::Json {
                // Not read to the end: neither whole nor broken.
                let whole = (!matches!(error, fsck::Error::Source(_))).then_some(false);
                let json = json!({ "schema": "countersign.fsck/1", "log": name, "whole": whole,
                    "path": error.path(), "reason": error.to_string() });
                output::print(&format!("{json}\n"))?;
            }
            let message = format!("{name}: {error}");
            Err(match error {
                fsck::Error::Source(_) => Failure::unclear(message),
                _ => Failure::no(message),
            })
        }
    }
}

fn info(trust: &Trust, output: Format) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&trust::load(trust)?.root()?.0)?;
    let log = remote.log.clone();
    let reader = remote.read()?;
    let (checkpoint, note) = (reader.head().checkpoint(), reader.head().note());
    let signatures = Note::parse(note).map(|note| note.signatures().len()).unwrap_or_default();
    output::print(&match output {
        Format::Json => format!(
            "{}\n",
            json!({ "schema": "countersign.log/1", "log": log.base_url(),
            "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(),
            "logId": base64(log.id()), "signatures": signatures })
        ),
        Format::Text => format!(
            "{}\n  origin {}\n  size {}\n  root {}\n  log ID {}\n  checkpoint signed by the log's key, {signatures} signature lines\n",
            log.base_url(),
            checkpoint.origin,
            checkpoint.size,
            checkpoint.root,
            base64(log.id()),
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// C2SP tlog-proof: complete in itself, but for the entry and the log's key.
fn proof_file(proven: &Proven, note: &str) -> String {
    let hashes: String = proven.proof.path().iter().map(|hash| format!("{hash}\n")).collect();
    format!("c2sp.org/tlog-proof@v1\nindex {}\n{hashes}\n{note}", proven.proof.leaf_index())
}

/// The entry at `index`, proven, and the checkpoint that the proof leads to.
fn prove(index: u64, trust: &Trust) -> Result<(Proven, String), Failure> {
    let reader = Remote::new(&trust::load(trust)?.root()?.0)?.read()?;
    let size = reader.head().checkpoint().size;
    let proven = block_on(reader.prove_inclusion(index))?;
    let proven = proven.map_err(|error| match error {
        countersign_log::proof::Error::Store(error) => Failure::unclear(error.to_string()),
        error => Failure::no(error.to_string()),
    })?;
    let proven = proven.ok_or_else(|| {
        Failure::no(format!("the log has {size} entries; there is none with index {index}"))
            .hint("indices count from 0")
    })?;
    Ok((proven, reader.head().note().to_owned()))
}

/// A Rekor v2 log over HTTP.
struct Remote {
    log: Log,
    http: Http,
}

#[async_trait]
impl Source for Remote {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let failed = |source| StoreError::Fetch { path: path.to_owned(), source };
        let url = format!("{}/api/v2/{path}", self.log.base_url().trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| failed(Arc::new(error)))?;
        match self.http.get(&url).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(http::Error::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(failed(Arc::new(error))),
        }
    }
}

impl Remote {
    /// The newest Rekor v2 log of the trusted root: those have Ed25519 keys, older ones no tiles.
    fn new(root: &TrustedRoot) -> Result<Self, Failure> {
        let tiled = root.logs().iter().filter(|log| log.key().kind() == KeyKind::Ed25519);
        let newest = tiled.max_by_key(|log| log.valid_for().start);
        let newest =
            newest.ok_or_else(|| Failure::unclear("the trusted root lists no Rekor v2 log"))?;
        let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
        let base = Url::parse(newest.base_url()).map_err(|error| unclear(&error))?;
        let http = Http::new([&base]).map_err(|error| unclear(&error))?;
        Ok(Self { log: newest.clone(), http })
    }

    fn key(&self) -> Result<LogKey, Failure> {
        LogKey::from_spki(self.log.host(), self.log.key().spki())
            .map_err(|error| Failure::unclear(error.to_string()))
    }

    /// Fetches the latest checkpoint and checks its signature, and the right edge of its tree.
    fn read(self) -> Result<Reader, Failure> {
        let (key, name) = (self.key()?, self.log.base_url().to_owned());
        let source: Arc<dyn Source> = Arc::new(self);
        let reader = block_on(Reader::open(source, &key, countersign_log::Format::Entries))?;
        reader.map_err(|error| {
            let message = format!("{name}: {error}");
            match error {
                OpenError::Store(_) => Failure::unclear(message),
                _ => Failure::no(message),
            }
        })
    }
}
