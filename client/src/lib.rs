//! The network side of signing: identity tokens, certificate authority, log, timestamps, trust files.
//!
//! [`sign::sign`] is the flow, and [`complete::complete`] the end of one that was deferred; everything else
//! is one of their steps. Verification needs none of this:
//! it is pure and stands in `countersign-verify`.

pub mod complete;
pub mod embedded;
pub mod http;
pub mod login;
pub mod oci;
pub mod retry;
pub mod services;
pub mod sign;
pub mod token;
pub mod trust;
pub mod trust_store;
