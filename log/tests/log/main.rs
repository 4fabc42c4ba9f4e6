//! The log through its public door: appended to, killed, damaged, read as an outsider.

mod append;
mod cosigner;
mod damage;
mod faults;
mod http;
mod proofs;
mod rekor_v1;
mod shards;
mod support;
mod witnesses;
