//! What the program knows of Sigstore's own instances without the network: the files of the crate
//! `sigstore-trust-root`, as old as that crate's release. They start a refresh and serve comparisons;
//! for verification, refresh first.

use sigstore_trust_root::SigstoreInstance;

/// An instance that the Sigstore project runs.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// Where its TUF repository is served.
    pub tuf_url: &'static str,
    /// The TUF root that a refresh starts from, JSON.
    pub tuf_root: &'static [u8],
    /// `trusted_root.json`.
    pub trusted_root: &'static str,
    /// The signing config, version 0.2, JSON.
    pub signing_config: &'static str,
}

/// The public-good instance of Sigstore, or its staging instance.
#[must_use]
pub fn embedded(staging: bool) -> Embedded {
    let instance = if staging { SigstoreInstance::Staging } else { SigstoreInstance::PublicGood };
    Embedded {
        tuf_url: instance.tuf_url(),
        tuf_root: instance.tuf_root(),
        trusted_root: instance.embedded_trusted_root_json(),
        signing_config: instance
            .embedded_signing_config_json()
            .expect("both instances have one embedded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::SigningConfig;
    use countersign_verify::TrustedRoot;

    #[test]
    fn the_embedded_files_are_read_by_our_own_readers() {
        for staging in [false, true] {
            let embedded = embedded(staging);
            assert!(embedded.tuf_url.starts_with("https://"));
            TrustedRoot::parse(embedded.trusted_root.as_bytes()).unwrap();
            SigningConfig::parse(embedded.signing_config.as_bytes()).unwrap();
        }
    }
}
