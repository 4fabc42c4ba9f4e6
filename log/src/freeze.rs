//! The end of a log: its last checkpoint says that none will follow.
//!
//! As rekor-tiles does it, the checkpoint of the last tree is signed once more, with an extension line that
//! monitors read as the end of the shard:
//!
//! ```text
//! Log frozen — Mon Nov 23 10:00:00 UTC 2026
//! ```

use crate::engine::{Head, Log};
use crate::sequencer::CHECKPOINT;
use crate::signer;
use crate::store::{StoreError, SwapError};
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::witness;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const FROZEN: &str = "Log frozen \u{2014} ";

impl Head {
    /// Whether this is the last tree of its log, as its checkpoint says.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        is_end(&self.checkpoint)
    }
}

pub(crate) fn is_end(checkpoint: &Checkpoint) -> bool {
    checkpoint.extensions.iter().any(|line| line.starts_with(FROZEN))
}

impl Log {
    /// Closes the log and signs its last checkpoint once more, as the end. A frozen log never takes entries
    /// again; all that is in it is answered for as before.
    ///
    /// # Errors
    /// When its last tree is not published, its key does not sign, or storage fails. Then it is closed, and
    /// may be frozen or not; a restart, or the same again, finds out.
    pub async fn freeze(&self, time: Timestamp) -> Result<(), Error> {
        self.close().await;
        let head = self.head();
        if head.is_frozen() {
            return Ok(());
        }
        let stored = self.store().get(CHECKPOINT).await?;
        if stored.is_none_or(|stored| stored != head.note()) {
            return Err(Error::Unsettled);
        }
        let shared = self.shared();
        let known = shared.lock.load().await?.unwrap_or_default();
        let (checkpoint, note) = match shared.signer.key().open(&known) {
            // The same order before found too few witnesses.
            Ok(checkpoint) if is_end(&checkpoint) => (checkpoint, known),
            _ => {
                // The layout of Go's UnixDate, which pads days with a space.
                let line = format!("{FROZEN}{}", time.strftime("%a %b %e %H:%M:%S UTC %Y"));
                let checkpoint = Checkpoint { extensions: vec![line], ..head.checkpoint().clone() };
                let note = shared.signer.sign_checkpoint(&checkpoint)?;
                shared.lock.compare_and_swap(Some(&head.signed), &note, 0, &[]).await?;
                (checkpoint, note)
            }
        };
        shared.lock.settle().await?;
        // Restart finds the frozen checkpoint in the lock, and publishes it.
        let signed = note.clone();
        let frozen = Arc::new(Head { checkpoint, signed, note, ..Head::clone(&head) });
        let note = match &shared.options.witnesses {
            None => frozen.signed.clone(),
            Some(witnesses) => {
                shared.held.store(true, Ordering::Relaxed);
                let note = witnesses.cosign(&shared.tiles, &frozen).await?;
                shared.held.store(false, Ordering::Relaxed);
                note
            }
        };
        shared.store.put(CHECKPOINT, note.clone().into()).await?;
        // Restart finds it published.
        let frozen = Head { note, ..Arc::unwrap_or_clone(frozen) };
        *shared.published.write() = Arc::new(frozen);
        Ok(())
    }
}

/// Why a log is not frozen, or may not be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key does not sign.
    #[error(transparent)]
    Signing(#[from] signer::Error),
    /// The lock has another checkpoint than the one that is published, or failed.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// It is frozen, but too few witnesses cosigned that, and it is held for them: the same again, or a restart,
    /// asks them again.
    #[error("the frozen checkpoint waits for its witnesses: {0}")]
    Held(#[from] witness::Refusal),
    /// The last tree has not settled: its checkpoint is not stored. A restart mends that.
    #[error("the log's last checkpoint is not stored; start the log again, then freeze it")]
    Unsettled,
    /// The checkpoint could not be published.
    #[error(transparent)]
    Store(#[from] StoreError),
}
