//! Formats, Merkle maths and the verification procedure of Countersign.
//!
//! Pure: bytes, keys and times in, a typed verdict out. No I/O, no clock, no globals, no panics on
//! hostile input; every parser has a bound, see [`limits`].

pub mod artifact;
pub mod assertion;
mod bounded;
pub mod bundle;
pub mod certificate;
pub mod chain;
pub mod checkpoint;
pub mod dsse;
pub mod encoding;
pub mod entry;
pub mod json;
pub mod key;
pub mod limits;
pub mod merkle;
pub mod note;
pub mod report;
pub mod sct;
pub mod simple_signing;
pub mod statement;
pub mod tile;
pub mod timestamp;
pub mod trusted_root;
pub mod verify;
pub mod witness;

pub use artifact::Artifact;
pub use bundle::Bundle;
pub use report::{Check, Outcome, Report};
pub use trusted_root::TrustedRoot;
pub use verify::{
    Error, Signer, Thresholds, Verified, Verifier, signed_checkpoint, verify, verify_json,
};
