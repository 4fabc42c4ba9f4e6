//! The authorities over their HTTP faces. What attackers and mistaken clients send gets a 4xx with a
//! sentence and a code, no certificate, and one line in the audit log.

mod hostile_keys;
mod issuance;
mod issuers;
mod keys;
mod openssl;
mod requests;
mod tokens;
mod world;
