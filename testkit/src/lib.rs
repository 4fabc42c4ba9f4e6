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

/// A TLS certificate for these names that vouches for itself, and its key: PEM both.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn tls_certificate(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = countersign_verify::encoding::base64(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let key = pem("PRIVATE KEY", &made.signing_key.serialize_der());
    (pem("CERTIFICATE", made.cert.der()), key)
}

pub use der::tlv;
pub use instance::{Head, Instance, Leaf, Named, Receipt, Signer, Stamp, TIMESTAMP_KEY_ID};
pub use key::SigningKey;
pub use shape::Shape;
