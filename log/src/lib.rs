//! One tiled Merkle log engine, and a face for each protocol that it speaks.
//!
//! The engine, [`Log`], knows bytes, indices and hashes. A face turns requests into leaves and
//! answers out of proofs: [`face::rekor_v2`] for signatures, [`face::static_ct`] for certificates.
//! Several logs live in one process over the same storage code; each has its own key and origin.
//!
//! What a caller was told is in the tree is durable and published; two different trees are never
//! signed under one key, because every checkpoint passes the compare-and-swap of a
//! [`store::CheckpointLock`]. See [`sequencer`] for the order of the writes.

pub mod backup;
pub mod cosigner;
pub mod evidence;
pub mod face;
pub mod freeze;
pub mod fsck;
pub mod http;
pub mod index;
pub mod monitor;
pub mod pool;
pub mod proof;
pub mod read;
pub mod record;
pub mod recover;
pub mod reindex;
pub mod sequencer;
pub mod shards;
pub mod signer;
pub mod store;
mod thread;
mod tree;
pub mod witness;

mod database;
mod engine;
mod journal;

pub use engine::{Appended, Head, Load, Log, Options};
pub use pool::{AppendError, Candidate, Leaf};
pub use record::Format;
pub use recover::OpenError;
pub use shards::Shards;
pub use signer::{LogKey, Signer};

/// Where times come from; a test gives a fixed one.
pub type Clock = std::sync::Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;
