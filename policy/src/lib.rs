//! Who may sign what: one policy, one decision function, pure.
//!
//! The policy of today is one rule: exactly this identity, vouched for by exactly this issuer. Facts
//! come in as a [`Verified`], which only verification can make; the decision names its rule.

mod decide;
mod explain;

pub use decide::{Decision, Policy, Refusal, decide};
pub use explain::flags_for;
