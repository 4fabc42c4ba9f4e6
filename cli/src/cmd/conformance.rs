//! What the Sigstore client conformance suite calls: `sign-bundle` and `verify-bundle`, with the
//! public-good instance unless told otherwise.

use super::sign::read_signing_config;
use crate::args::Conformance;
use crate::artifact;
use crate::failure::Failure;
use crate::output::NewFile;
use crate::runtime::block_on;
use crate::trust::read_bounded;
use countersign_client::embedded::embedded;
use countersign_client::sign::{Patience, Subject, sign};
use countersign_client::token::IdentityToken;
use countersign_client::trust::SigningConfig;
use countersign_policy::Signers;
use countersign_verify::key::PublicKey;
use countersign_verify::limits::{MAX_BUNDLE, MAX_PAYLOAD, MAX_TRUSTED_ROOT};
use countersign_verify::statement::Statement;
use countersign_verify::{Artifact, Bundle, Thresholds, TrustedRoot, Verifier};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) fn run(args: &Conformance) -> Result<ExitCode, Failure> {
    match args {
        Conformance::SignBundle {
            staging,
            in_toto,
            identity_token,
            bundle,
            trusted_root,
            signing_config,
            file,
        } => {
            let root = root(trusted_root.as_deref(), *staging)?;
            let services = match signing_config {
                Some(path) => read_signing_config(path)?,
                None => SigningConfig::parse(embedded(*staging).signing_config.as_bytes())
                    .map_err(|error| Failure::unclear(error.to_string()))?,
            };
            let services = services.select(Timestamp::now());
            let services = services.map_err(|error| Failure::unclear(error.to_string()))?;
            let token = IdentityToken::parse(identity_token)
                .map_err(|error| Failure::unclear(error.to_string()))?;
            let new = NewFile::begin(bundle)?;
            let bytes = read_bounded(file, MAX_PAYLOAD)?;
            let artifact = if *in_toto { about(&bytes)? } else { Artifact::from_bytes(&bytes) };
            let subject = match in_toto {
                true => Subject::Statement(bytes, &artifact),
                false => Subject::Artifact(&artifact),
            };
            let signed =
                block_on(sign(subject, &token, &services, &root, Patience::default(), None))?;
            let signed = signed.map_err(|error| Failure::no(error.to_string()))?;
            new.finish(signed.bundle.to_json().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Conformance::VerifyBundle {
            staging,
            bundle,
            certificate_identity,
            certificate_oidc_issuer,
            key,
            trusted_root,
            file,
        } => {
            let root = root(trusted_root.as_deref(), *staging)?;
            let json = read_bounded(bundle, MAX_BUNDLE)?;
            let bundle = Bundle::parse(&json).map_err(|error| Failure::no(error.to_string()))?;
            let hashes: BTreeSet<_> = bundle.artifact_hashes().into_iter().collect();
            let artifact = artifact::read(file, &hashes, false)?;
            let key = key.as_deref().map(read_key).transpose()?;
            let verifier = Verifier::new(&root);
            let verifier = key.as_ref().map_or(verifier, |key| verifier.with_key(key));
            // The suite has a key beside a trusted root of nobody: the key's word alone counts then.
            let verifier = match key.is_some() && root.logs().is_empty() {
                true => verifier.with_thresholds(Thresholds { logs: 0, ..Thresholds::KEY }),
                false => verifier,
            };
            let report = verifier.verify(&bundle, &artifact);
            let verified = report.result().map_err(|error| Failure::no(error.to_string()))?;
            let policy = match (certificate_identity, certificate_oidc_issuer) {
                (Some(identity), Some(issuer)) => Signers::exactly(identity, issuer),
                _ => Signers::Key,
            };
            policy.accept(verified).map_err(|refusal| Failure::no(refusal.to_string()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn root(path: Option<&Path>, staging: bool) -> Result<TrustedRoot, Failure> {
    let bytes = match path {
        Some(path) => read_bounded(path, MAX_TRUSTED_ROOT)?,
        None => embedded(staging).trusted_root.as_bytes().to_vec(),
    };
    TrustedRoot::parse(&bytes).map_err(|error| Failure::unclear(error.to_string()))
}

fn read_key(path: &str) -> Result<PublicKey, Failure> {
    let pem = String::from_utf8(read_bounded(&PathBuf::from(path), 1 << 14)?).unwrap_or_default();
    PublicKey::from_pem(&pem).map_err(|error| Failure::unclear(error.to_string()))
}

fn about(statement: &[u8]) -> Result<Artifact, Failure> {
    let statement =
        Statement::parse(statement).map_err(|error| Failure::unclear(error.to_string()))?;
    statement
        .artifact()
        .ok_or_else(|| Failure::unclear("the statement has no subject with a SHA-2 digest"))
}
