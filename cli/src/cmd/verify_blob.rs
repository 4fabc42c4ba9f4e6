//! `countersign verify-blob`. Makes no network call unless --instance asks for one, or stored trust is due for a
//! refresh, and without it starts no runtime; for a small file no thread, either: most of the time is the cryptography.

use crate::args::VerifyBlob;
use crate::failure::Failure;
use crate::trust::{Choice, read_bounded};
use crate::{artifact, report};
use countersign_policy::{Policy, decide, flags_for};
use countersign_verify::certificate::{Certificate, Identity};
use countersign_verify::key::HashAlgorithm;
use countersign_verify::limits::MAX_BUNDLE;
use countersign_verify::{Artifact, Bundle, verify, verify_json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) fn run(args: &VerifyBlob) -> Result<ExitCode, Failure> {
    let bundle_path = bundle_path(args)?;
    let json = read_bounded(&bundle_path, MAX_BUNDLE)?;
    let policy = policy(args, &json)?;
    let choice = Choice::of(&args.trust)?;
    if args.offline && !choice.is_file() {
        return Err(Failure::unclear(
            "--offline makes no network call, so trust must come from a file",
        )
        .hint("give --trust-config FILE or --trusted-root FILE"));
    }
    let root = choice.load_with(args.offline)?.root;
    let (name, bundle_name) = (args.file.display().to_string(), bundle_path.display().to_string());
    let bundle = match Bundle::parse(&json) {
        Ok(bundle) => bundle,
        Err(_) => {
            let report = verify_json(&json, &Artifact::default(), &root);
            return report::Result::new(name, bundle_name, &report, None)
                .print(&args.output, "verified");
        }
    };
    let hash = bundle.artifact_hash().unwrap_or(HashAlgorithm::Sha256);
    let artifact = artifact::read(&args.file, hash)?;
    let report = verify(&bundle, &artifact, &root);
    let decision = report.result().ok().map(|verified| decide(verified, &policy));
    report::Result::new(name, bundle_name, &report, decision.as_ref())
        .print(&args.output, "verified")
}

/// Both flags, or an error with those that would fit.
fn policy(args: &VerifyBlob, json: &[u8]) -> Result<Policy, Failure> {
    let given = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    match (given(&args.certificate_identity), given(&args.certificate_oidc_issuer)) {
        (Some(identity), Some(issuer)) => Ok(Policy::exactly(identity, issuer)),
        _ => {
            let missing = Failure::unclear(
                "whom do you expect? Give --certificate-identity and --certificate-oidc-issuer: a signature by just anybody proves nothing",
            );
            Err(match claimed_identity(json) {
                Some(identity) => missing.hint(format!(
                    "the bundle claims the following, not verified; if that is whom you expect:\n      {}",
                    flags_for(&identity)
                )),
                None => missing,
            })
        }
    }
}

fn claimed_identity(json: &[u8]) -> Option<Identity> {
    let bundle = Bundle::parse(json).ok()?;
    Certificate::parse(bundle.certificate()?).ok()?.identity().ok()
}

fn bundle_path(args: &VerifyBlob) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.bundle {
        return Ok(path.clone());
    }
    let beside = |suffix: &str| {
        let mut name = args.file.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let names = [beside(".sigstore.json"), beside(".sigstore")];
    let nameless =
        args.file == Path::new("-") || args.file.to_string_lossy().starts_with("sha256:");
    match names.iter().find(|name| name.exists()).filter(|_| !nameless) {
        Some(name) => Ok(name.clone()),
        None if nameless => Err(Failure::unclear("there is no name to look for the bundle beside")
            .hint("give --bundle FILE")),
        None => Err(Failure::unclear(format!("no bundle: {} does not exist", names[0].display()))
            .hint("give --bundle FILE")),
    }
}
