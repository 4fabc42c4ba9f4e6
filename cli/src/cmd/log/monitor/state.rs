//! What a monitor keeps of a log. The file is replaced whole and durably; a crash leaves the one before.

use super::log::Log;
use crate::failure::Failure;
use crate::output::NewFile;
use crate::trust::read_bounded;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::limits::MAX_CHECKPOINT;
use countersign_verify::merkle::{Frontier, Hash};
use serde::{Deserialize, Serialize};
use std::path::Path;

const SCHEMA: &str = "countersign.monitor-state/2";

/// Largest file, in bytes: of more shards than a log ever has.
const MAX_STATE: usize = 64 * (MAX_CHECKPOINT + (16 << 10));

/// Of one shard the newest checkpoint that was found consistent, and how far its entries were read.
pub(super) struct State {
    log: String,
    /// SubjectPublicKeyInfo, base64.
    pub(super) key: String,
    pub(super) checkpoint: Checkpoint,
    /// The signed note that carries it.
    pub(super) note: String,
    pub(super) frontier: Frontier,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    schema: String,
    shards: Vec<WireShard>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WireShard {
    log: String,
    /// SubjectPublicKeyInfo, base64.
    log_key: String,
    checkpoint: String,
    /// Entries that were read.
    read: u64,
    /// The roots of the perfect subtrees that these make up, largest first, base64.
    subtrees: Vec<String>,
}

impl State {
    pub(super) fn new(log: &Log, checkpoint: Checkpoint, note: String) -> Self {
        let (log, key) = (log.name().to_owned(), log.key());
        Self { log, key, checkpoint, note, frontier: Frontier::new() }
    }

    /// Reads the file; nothing when there is none. The logs' signatures on the checkpoints are checked again.
    pub(super) fn load(path: &Path, logs: &[Log]) -> Result<Vec<Self>, Failure> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        let unclear = |reason: &dyn std::fmt::Display| {
            Failure::unclear(format!("the state in {}: {reason}", path.display()))
                .hint("give the file of this log, or another one to begin anew: then what the log showed before is forgotten")
        };
        let bytes = read_bounded(path, MAX_STATE)?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| unclear(&error))?;
        if wire.schema != SCHEMA {
            return Err(unclear(&format!("expected schema {SCHEMA}, found {:?}", wire.schema)));
        }
        let state = |wire: WireShard| {
            let log = logs.iter().find(|log| log.key() == wire.log_key);
            let log = log.ok_or_else(|| unclear(&format!("it is of another log, {}", wire.log)))?;
            let checkpoint = log.open(&wire.checkpoint).map_err(|error| unclear(&error))?;
            let hash = |text: &String| Hash::try_from(&from_base64(text).ok()?[..]).ok();
            let subtrees = wire.subtrees.iter().map(hash).collect::<Option<Vec<_>>>();
            let frontier = subtrees.and_then(|roots| Frontier::from_subtrees(wire.read, roots));
            let frontier = frontier.filter(|frontier| frontier.size() <= checkpoint.size);
            let frontier =
                frontier.ok_or_else(|| unclear(&"read and subtrees do not fit together"))?;
            let (log, key) = (log.name().to_owned(), wire.log_key);
            Ok(Self { log, key, checkpoint, note: wire.checkpoint, frontier })
        };
        wire.shards.into_iter().map(state).collect()
    }

    pub(super) fn keep(all: &[Self], path: &Path) -> Result<(), Failure> {
        let shard = |state: &Self| WireShard {
            log: state.log.clone(),
            log_key: state.key.clone(),
            checkpoint: state.note.clone(),
            read: state.frontier.size(),
            subtrees: state.frontier.subtrees().iter().map(|it| base64(it.as_bytes())).collect(),
        };
        let wire = Wire { schema: SCHEMA.to_owned(), shards: all.iter().map(shard).collect() };
        let json = serde_json::to_string_pretty(&wire).expect("texts and numbers only");
        NewFile::begin(path)?.finish(format!("{json}\n").as_bytes())
        // Restart finds this state, and tells nothing of it again.
    }
}
