//! Who may sign what: one policy, one decision function, pure.
//!
//! The policy of today is a list of identities, each with the issuer that must have vouched for it, or a
//! managed key. Facts come in as a `Verified`, which only verification can make; the decision names its
//! rule.

pub mod admission;
mod decide;
mod explain;
mod pattern;

pub use decide::{Claim, Decision, Expected, Match, Policy, Refusal, decide};
pub use explain::flags_for;
pub use pattern::{Error as PatternError, Pattern};
