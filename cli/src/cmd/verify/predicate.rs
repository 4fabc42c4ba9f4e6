//! Predicate types by the short names that cosign gave them.

use crate::failure::Failure;
use url::Url;

/// Of two names for a type the first is shown.
const SHORT: [(&str, &str); 11] = [
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("spdx", "https://spdx.dev/Document"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("link", "https://in-toto.io/Link/v1"),
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("sign", "https://sigstore.dev/cosign/sign/v1"),
];

/// The URI that a short name stands for, or the URI itself.
pub(crate) fn uri(name: &str) -> Result<String, Failure> {
    if let Some((_, uri)) = SHORT.iter().find(|(short, _)| *short == name) {
        return Ok((*uri).to_owned());
    }
    // Cosign 1 left the scheme out.
    if Url::parse(name).is_ok() || name.contains('/') {
        return Ok(name.to_owned());
    }
    let known: Vec<_> = SHORT.iter().map(|(short, _)| *short).collect();
    Err(Failure::unclear(format!("--type {name}: expected a URI or one of {}", known.join(", "))))
}

/// What to give as --type for `uri`.
pub(crate) fn flag(uri: &str) -> &str {
    SHORT.iter().find(|(_, known)| *known == uri).map_or(uri, |(short, _)| short)
}
