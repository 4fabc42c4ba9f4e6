//! The log through its public door: appended to, killed, damaged, read as an outsider.

mod accept;
mod append;
mod clock;
mod cosigner;
mod damage;
mod evidence;
mod faults;
mod http;
mod index;
mod proofs;
mod reindex;
mod rekor_v1;
mod shards;
mod support;
mod witnesses;
