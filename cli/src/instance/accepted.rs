//! Whose entries the signature logs take, by the configuration and by the policy.

use crate::config::{Authorities, Takes};
use crate::failure::Failure;
use crate::gate::LogGate;
use crate::trust::read_bounded;
use countersign_ca::credential::Credential;
use countersign_log::face::accept::{Accepted, Certificates, Keys};
use countersign_verify::TrustedRoot;
use countersign_verify::chain::CertificateAuthority;
use countersign_verify::key::PublicKey;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use countersign_verify::trusted_root::Window;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Largest key file that is read, bytes: an ML-DSA-87 key in PEM has below 4 KiB.
const MAX_KEY: usize = 16 << 10;

/// Whose signatures, whatever the policy says besides. By default anybody's.
#[derive(Clone, Default)]
pub(crate) struct Signers {
    certificates: Option<Vouching>,
    keys: Keys,
}

/// Who must have certified a signer.
#[derive(Clone, Default)]
struct Vouching {
    own: bool,
    others: Vec<CertificateAuthority>,
}

impl Signers {
    /// As configured; reads the files.
    pub(super) fn read(takes: &Takes) -> Result<Self, Failure> {
        let mut signers = Self::default();
        if let Some(all) = &takes.certificates {
            let mut vouching = Vouching::default();
            for authorities in all {
                match authorities {
                    Authorities::Own => vouching.own = true,
                    Authorities::Of(path) => {
                        let root = TrustedRoot::parse(&read_bounded(path, MAX_TRUSTED_ROOT)?);
                        let root = root.map_err(|error| unusable(path, &error))?;
                        vouching.others.extend(root.certificate_authorities().iter().cloned());
                    }
                }
            }
            signers.certificates = Some(vouching);
        }
        if let Some(all) = &takes.keys {
            let key = |path: &std::path::PathBuf| {
                let pem = String::from_utf8(read_bounded(path, MAX_KEY)?).unwrap_or_default();
                let key = PublicKey::from_pem(&pem).map_err(|error| unusable(path, &error))?;
                Ok::<_, Failure>(key.spki().to_vec())
            };
            signers.keys = Keys::Listed(all.iter().map(key).collect::<Result<BTreeSet<_>, _>>()?);
        }
        Ok(signers)
    }

    /// What the logs of an instance take whose `own` authorities these are, if `gate` lets it through.
    pub(super) fn accepted(&self, own: &[CertificateAuthority], gate: &LogGate) -> Accepted {
        let clock: countersign_log::Clock = Arc::new(Timestamp::now);
        let certificates = match &self.certificates {
            None => Certificates::Any,
            Some(vouching) => {
                let own = own.iter().filter(|_| vouching.own);
                let all = own.chain(&vouching.others).cloned().collect();
                Certificates::IssuedBy(all, Arc::clone(&clock))
            }
        };
        Accepted { certificates, keys: self.keys.clone(), ..gate.accepted(clock) }
    }
}

/// The instance's own authorities, whose keys are `issuing`.
pub(super) fn authorities(issuing: &[Credential]) -> Result<Vec<CertificateAuthority>, Failure> {
    let any_time = Window { start: None, end: None };
    let authority = |credential: &Credential| {
        let chain = credential.chain.iter().map(Vec::as_slice).collect();
        CertificateAuthority::new(chain, any_time)
            .map_err(|error| Failure::unclear(format!("the certificate authority: {error}")))
    };
    issuing.iter().map(authority).collect()
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::unclear(format!("{}: {error}", path.display()))
}
