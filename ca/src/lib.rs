//! The authorities: certificates for verified identities, and timestamps.
//!
//! [`issue`] is the flow; [`http`] its face, Fulcio's protocol. Everything that decides who gets a
//! certificate is in [`identity`] and [`possession`]; everything about its bytes in [`profile`].

pub mod audit;
pub mod ceremony;
pub mod credential;
pub mod http;
pub mod identity;
pub mod issue;
pub mod limits;
pub mod possession;
pub mod precert;
pub mod profile;
pub mod signer;
pub mod timestamp;

/// Where times come from; a test gives a fixed one.
pub type Clock = std::sync::Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;
