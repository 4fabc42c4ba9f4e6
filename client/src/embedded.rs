//! The public instances of Sigstore, as the crate `sigstore-trust-root` has them at the time of the build.

use sigstore_trust_root::{
    SIGSTORE_PRODUCTION_SIGNING_CONFIG, SIGSTORE_PRODUCTION_TRUSTED_ROOT,
    SIGSTORE_STAGING_SIGNING_CONFIG, SIGSTORE_STAGING_TRUSTED_ROOT,
};

/// The files that describe an instance, JSON.
#[derive(Clone, Copy, Debug)]
pub struct Instance {
    /// `trusted_root.json`.
    pub trusted_root: &'static str,
    /// A signing config of version 0.2.
    pub signing_config: &'static str,
}

/// The public-good instance.
pub const PUBLIC_GOOD: Instance = Instance {
    trusted_root: SIGSTORE_PRODUCTION_TRUSTED_ROOT,
    signing_config: SIGSTORE_PRODUCTION_SIGNING_CONFIG,
};

/// The staging instance, whose keys prove nothing.
pub const STAGING: Instance = Instance {
    trusted_root: SIGSTORE_STAGING_TRUSTED_ROOT,
    signing_config: SIGSTORE_STAGING_SIGNING_CONFIG,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::SigningConfig;
    use countersign_verify::TrustedRoot;

    #[test]
    fn both_instances_can_be_verified_by_and_signed_with() {
        for instance in [PUBLIC_GOOD, STAGING] {
            let root = TrustedRoot::parse(instance.trusted_root.as_bytes()).unwrap();
            assert!(!root.logs().is_empty() && !root.certificate_authorities().is_empty());
            let config = SigningConfig::parse(instance.signing_config.as_bytes()).unwrap();
            let services = config.select("2026-11-23T00:00:00Z".parse().unwrap()).unwrap();
            assert!(!services.logs.is_empty());
        }
    }
}
