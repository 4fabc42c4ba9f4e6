//! Test authorities for the whole workspace; never shipped.
//!
//! [`Instance`] makes bundles without the crates under test: certificates by rcgen, timestamps by a
//! few lines of DER, a log of two leaves by hand. So a verifier is not tested with its own notions.
//! [`Shape`] names every kind of bundle there is. [`tuf`] makes TUF repositories, and [`registry`] is a
//! container registry; both serve badly on demand.

mod der;
mod instance;
mod key;
pub mod registry;
mod shape;
pub mod tuf;

pub use instance::{Head, Instance, Leaf, Receipt, Signer, Stamp};
pub use key::SigningKey;
pub use shape::Shape;
