//! The protocols that the engine is spoken to in. A face checks a request, makes it a leaf, and makes
//! the answer out of what the engine returns; [`http`](crate::http) carries both.

pub mod accept;
pub mod rekor_v1;
pub mod rekor_v2;
pub mod static_ct;

use countersign_verify::entry::OwnedVerifier;
