//! Test authorities for the whole workspace; never shipped.
//!
//! [`Instance`] makes bundles without the crates under test: certificates by rcgen, timestamps by a
//! few lines of DER, a log of two leaves by hand. So a verifier is not tested with its own notions.
//! [`tuf`] makes TUF repositories, and serves them badly on demand.

mod der;
mod instance;
pub mod tuf;

pub use instance::{Instance, Signer};
