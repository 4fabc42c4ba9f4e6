//! What clients in use demand of an authority's certificates, beyond what these must say anyway.
//!
//! OpenSSL's strict mode (sigstore-python up to 4.5) wants key usage and key IDs in every CA certificate, the X.509
//! verifier of Python's cryptography (later ones) refuses extended key usage that is critical, both want basic
//! constraints critical; sigstore-js ends a chain at a certificate that signs itself.

use countersign_ca::ceremony::Role;
use countersign_verify::certificate::{
    AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, Certificate, EXTENDED_KEY_USAGE, SUBJECT_KEY_ID,
};
use countersign_verify::key::PublicKey;

/// What of `chain`, DER, the root last, some client refuses.
pub(crate) fn refused_by_clients(role: Role, chain: &[Vec<u8>]) -> Vec<String> {
    let authorities = match role {
        Role::Issuing => 0..chain.len(),
        Role::Timestamps => 1..chain.len(),
    };
    let mut refused = Vec::new();
    for (place, der) in chain.iter().enumerate() {
        let Ok(certificate) = Certificate::parse(der) else {
            refused.push(format!("certificate {}, which is none", place + 1));
            continue;
        };
        let is_authority = authorities.contains(&place);
        let is_last = place + 1 == chain.len();
        let signs_certificates =
            || matches!(certificate.key_usage(), Ok(Some(usage)) if usage.key_cert_sign());
        let critical = |id| certificate.extension(id).map(|extension| extension.critical);
        for (is_refused, why) in [
            (is_authority && !signs_certificates(), "without the key usage keyCertSign"),
            (
                is_authority && critical(BASIC_CONSTRAINTS) != Some(true),
                "whose basic constraints are not critical",
            ),
            (
                is_authority && critical(EXTENDED_KEY_USAGE) == Some(true),
                "whose extended key usage is critical",
            ),
            (
                is_authority && certificate.extension(SUBJECT_KEY_ID).is_none(),
                "without a subject key identifier",
            ),
            (
                !is_last && certificate.extension(AUTHORITY_KEY_ID).is_none(),
                "without an authority key identifier",
            ),
            (
                is_last && !signs_itself(&certificate),
                "which is the last and not a root: it does not sign itself",
            ),
        ] {
            if is_refused {
                refused.push(format!("certificate {}, {why}", place + 1));
            }
        }
    }
    refused
}

fn signs_itself(certificate: &Certificate) -> bool {
    let holds = |key: PublicKey| {
        let (algorithm, signature) = (certificate.signature_algorithm(), certificate.signature());
        key.verify_with_oid(algorithm, certificate.tbs(), signature).is_ok()
    };
    certificate.issuer() == certificate.subject()
        && PublicKey::from_spki(certificate.spki()).is_ok_and(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::production::read_chain;
    use countersign_ca::ceremony;
    use std::path::Path;
    use std::process::Command;

    /// A certificate by OpenSSL that signs itself, with these extensions.
    fn made(folder: &Path, extensions: &str) -> Vec<u8> {
        let config = format!(
            "[req]\nprompt=no\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\nCN=x\n[ext]\n{extensions}"
        );
        std::fs::write(folder.join("config"), config).unwrap();
        let made = Command::new("openssl")
            .current_dir(folder)
            .args(["req", "-x509", "-config", "config", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-out", "crt"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        read_chain(&folder.join("crt")).unwrap().remove(0)
    }

    #[test]
    fn chains_that_clients_refuse_are_told_with_the_reason() {
        let ceremony = ceremony::create("Acme", jiff::Timestamp::now()).unwrap();
        let root = ceremony.root.1;
        for (role, first) in
            [(Role::Issuing, ceremony.issuing.1.clone()), (Role::Timestamps, ceremony.timestamps.1)]
        {
            assert_eq!(refused_by_clients(role, &[first, root.clone()]), [""; 0]);
        }
        let last = refused_by_clients(Role::Issuing, &[ceremony.issuing.1]);
        assert!(last.len() == 1 && last[0].contains("does not sign itself"), "{last:?}");
        let folder = tempfile::tempdir().unwrap();
        let good = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nextendedKeyUsage=codeSigning\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=none\n";
        let refused = |extensions: &str| {
            refused_by_clients(Role::Issuing, &[made(folder.path(), extensions)])
        };
        assert_eq!(refused(good), [""; 0]);
        for (from, to, expected) in [
            ("keyUsage=critical,keyCertSign", "keyUsage=cRLSign", "keyCertSign"),
            ("keyUsage=critical,keyCertSign\n", "", "keyCertSign"),
            ("critical,CA", "CA", "basic constraints"),
            ("=codeSigning", "=critical,codeSigning", "extended key usage"),
            ("=hash", "=none", "subject key identifier"),
        ] {
            let found = refused(&good.replacen(from, to, 1));
            assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
        }
        let above = made(folder.path(), good);
        let found = refused_by_clients(Role::Issuing, &[above.clone(), above]);
        assert!(found.len() == 1 && found[0].contains("authority key identifier"), "{found:?}");
    }
}
