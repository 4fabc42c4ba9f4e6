//! Whom the flags demand.

use crate::args::Whom;
use crate::failure::Failure;
use crate::trust::read_bounded;
use countersign_policy::{Claim, Expected, Match, Pattern, Signers, flags_for};
use countersign_verify::certificate::Identity;
use countersign_verify::key::PublicKey;
use std::path::Path;

/// Largest key file that is read, bytes: an ML-DSA-87 key in PEM has below 4 KiB.
const MAX_KEY: usize = 16 << 10;

impl Whom {
    /// The policy of the flags, and the key if one is given. `claimed` is whom the first bundle claims to
    /// be by, for the error that there is when nobody is demanded.
    pub(crate) fn policy(
        &self,
        claimed: impl FnOnce() -> Option<Identity>,
    ) -> Result<(Signers, Option<PublicKey>), Failure> {
        if let Some(key) = self.key.as_deref().filter(|key| !key.is_empty()) {
            if self.names_someone() {
                return Err(Failure::unclear("--key and --certificate-… exclude each other")
                    .hint("a signature is either by a key or by whom a certificate names"));
            }
            return Ok((Signers::Key, Some(read_key(key)?)));
        }
        let identities = matches(
            "--certificate-identity",
            &self.certificate_identity,
            self.certificate_identity_regexp.as_deref(),
        )?;
        let issuers = matches(
            "--certificate-oidc-issuer",
            &self.certificate_oidc_issuer,
            self.certificate_oidc_issuer_regexp.as_deref(),
        )?;
        if identities.is_empty() || issuers.is_empty() {
            return Err(nobody(claimed()));
        }
        if issuers.len() != 1 && issuers.len() != identities.len() {
            let message = format!(
                "{} identities and {} issuers: expected one issuer for all, or one for each",
                identities.len(),
                issuers.len()
            );
            return Err(Failure::unclear(message));
        }
        let claims = self.claims()?;
        let issuers = issuers.iter().cycle().cloned();
        let expected = identities.into_iter().zip(issuers).map(|(identity, issuer)| {
            let expected = Expected::new(identity, issuer);
            claims.iter().fold(expected, |expected, (claim, value)| {
                expected.with_claim(*claim, value.clone())
            })
        });
        Ok((Signers::Identities(expected.collect()), None))
    }

    pub(crate) fn names_someone(&self) -> bool {
        !self.certificate_identity.is_empty()
            || !self.certificate_oidc_issuer.is_empty()
            || self.certificate_identity_regexp.is_some()
            || self.certificate_oidc_issuer_regexp.is_some()
            || !self.certificate_claim.is_empty()
            || self.github().iter().any(|(_, value)| value.is_some())
    }

    fn github(&self) -> [(Claim, &Option<String>); 5] {
        [
            (Claim::REPOSITORY, &self.certificate_github_workflow_repository),
            (Claim::REF, &self.certificate_github_workflow_ref),
            (Claim::NAME, &self.certificate_github_workflow_name),
            (Claim::TRIGGER, &self.certificate_github_workflow_trigger),
            (Claim::SHA, &self.certificate_github_workflow_sha),
        ]
    }

    fn claims(&self) -> Result<Vec<(Claim, String)>, Failure> {
        let given = self.github().into_iter();
        let mut claims: Vec<_> = given
            .filter_map(|(claim, value)| value.as_ref().map(|value| (claim, value.clone())))
            .collect();
        for text in &self.certificate_claim {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let claim = Claim::named(name).filter(|_| !value.is_empty()).ok_or_else(|| {
                Failure::unclear(format!("--certificate-claim {text}: expected NAME=VALUE"))
                    .hint("`countersign bundle inspect --output json` shows names and values")
            })?;
            claims.push((claim, value.to_owned()));
        }
        Ok(claims)
    }
}

/// Empty texts do not count: they are variables that nobody set.
fn matches(flag: &str, exact: &[String], regexp: Option<&str>) -> Result<Vec<Match>, Failure> {
    let mut exact: Vec<_> = exact.iter().filter(|text| !text.is_empty()).cloned().collect();
    let Some(regexp) = regexp.filter(|text| !text.is_empty()) else {
        return Ok(exact.into_iter().map(Match::Exactly).collect());
    };
    let pattern = Pattern::new(regexp)
        .map_err(|error| Failure::unclear(format!("{flag}-regexp: {error}")))?;
    match (exact.pop(), exact.is_empty()) {
        (None, _) => Ok(vec![Match::Pattern(pattern)]),
        (Some(exact), true) => Ok(vec![Match::Both(exact, pattern)]),
        (Some(_), false) => {
            let message = format!("{flag} several times and {flag}-regexp: which is to hold?");
            Err(Failure::unclear(message).hint("put the names into the regular expression"))
        }
    }
}

fn nobody(claimed: Option<Identity>) -> Failure {
    let missing = Failure::unclear(
        "whom do you expect? Give --certificate-identity and --certificate-oidc-issuer: a signature by just anybody proves nothing",
    );
    match claimed {
        Some(identity) => missing.hint(format!(
            "the bundle claims the following, not verified; if that is whom you expect:\n      {}",
            flags_for(&identity)
        )),
        None => missing,
    }
}

fn read_key(name: &str) -> Result<PublicKey, Failure> {
    let pem = match name.strip_prefix("env://") {
        Some(variable) => std::env::var(variable)
            .map_err(|_| Failure::unclear(format!("--key {name}: the variable is not set")))?,
        None => {
            let bytes = read_bounded(Path::new(name), MAX_KEY)?;
            String::from_utf8(bytes).unwrap_or_default()
        }
    };
    PublicKey::from_pem(&pem).map_err(|error| {
        Failure::unclear(format!("--key {name}: {error}"))
            .hint("give the public key, as `cosign public-key` or `openssl pkey -pubout` prints it")
    })
}
