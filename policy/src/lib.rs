//! Who may sign what: one document, one decision function, pure.
//!
//! ```
//! use countersign_policy::{Facts, Policy, decide};
//! # let text = include_str!("../tests/policies/acme-pay.yaml");
//! # let facts = r#"{"now": "2026-11-26T10:00:00Z", "artifact": {"kind": "image",
//! #   "name": "registry.example/acme/pay", "digest": "sha256:aa"}}"#;
//! let policy = Policy::parse(text)?;
//! let facts: Facts = serde_json::from_str(facts)?; // what was verified, and the time
//! let decision = decide(&facts, &policy);
//! assert!(!decision.allows(), "nothing is signed");
//! print!("{}", decision.explain());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A policy is read by [`Policy::parse`], facts come from [`facts_from`] a `Verified`, which only
//! verification can make, and only [`decide`] makes a [`Decision`]. The language is described in
//! docs/policy.md. No I/O, no clock: the time is one of the facts.
//!
//! For one identity that a command line names there is a shorter way, [`Signers`].

mod accept;
pub mod admission;
mod artifact;
mod cases;
mod claims;
mod condition;
mod decide;
mod document;
mod explain;
mod facts;
mod flags;
pub mod import;
mod lint;
pub mod pattern;
mod reach;
mod role;
mod rule;
mod signers;
pub mod yaml;

pub use accept::{AcceptError, MAX_JUMP, accept};
pub use cases::{Case, Cases, Miss};
pub use claims::{CLAIMS, Claim as ClaimFact, Claims, claims};
pub use countersign_verify::assertion::{Assertion, Intended, Intent};
pub use decide::{Decision, GRACE, counted, decide};
pub use document::{Admission, Include, IncludeError, Owners, Pem, Policy, Trust, digest};
pub use explain::{Code, Outcome, Step};
pub use facts::{
    Artifact, Content, Context, Evidence, Facts, Kind, MAX_STATEMENT, Point, SignerFacts,
    Statement, facts_from, package_name,
};
pub use flags::flags_for;
pub use pattern::{Error as PatternError, Pattern, image_name};
pub use reach::{Grant, Reach};
pub use role::{FOREIGN_TRIGGERS, Role};
pub use rule::{APPROVAL, Action, By, KINDS, May, Must, Never, Otherwise, POLICY};
pub use signers::{Claim, Expected, Match, Refusal, Signers};
