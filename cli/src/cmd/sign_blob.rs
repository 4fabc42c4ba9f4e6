//! `countersign sign-blob`.

use crate::args::SignBlob;
use crate::failure::Failure;
use crate::output::NewFile;
use crate::trust::{self, Loaded, block_on, read_bounded};
use crate::{artifact, report};
use countersign_client::sign::{self, sign};
use countersign_client::token::Source;
use countersign_client::trust::SigningConfig;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) fn run(args: &SignBlob) -> Result<ExitCode, Failure> {
    let bundle_path = bundle_path(args)?;
    if args.file == Path::new("-") && args.identity_token.as_deref() == Some("-") {
        return Err(Failure::unclear("standard input cannot be both the file and the token")
            .hint("put the token into a file, or into SIGSTORE_ID_TOKEN"));
    }
    let source = Source::find(args.identity_token.as_deref(), |name| std::env::var(name).ok());
    let source = source.map_err(|error| Failure::unclear(error.to_string()))?;
    let Loaded { root, signing } = trust::load(&args.trust)?;
    let signing_config = trust::signing_config(args.signing_config.as_deref(), &args.trust);
    let signing = match (signing_config, signing) {
        (Some(path), _) => read_signing_config(&path)?,
        (None, Some(signing)) => signing,
        (None, None) => {
            return Err(Failure::unclear("a trusted root says whom to trust, not where to sign")
                .hint("add --signing-config FILE, or give --trust-config FILE, which holds both"));
        }
    };
    let services = signing.select(Timestamp::now());
    let services = services.map_err(|error| Failure::unclear(error.to_string()))?;
    // Opened before anything is signed: what cannot be kept should not be logged.
    let file = NewFile::begin(&bundle_path)?;
    let artifact = artifact::read(&args.file, HashAlgorithm::Sha256)?;
    let signed = block_on(async {
        let token = source.fetch().await.map_err(|error| Failure::unclear(error.to_string()))?;
        sign(&artifact, &token, &services, &root).await.map_err(failure)
    })?;
    let (bundle, verified) = signed?;
    file.finish(format!("{}\n", bundle.to_json()).as_bytes())?;
    let bundle_name = bundle_path.display().to_string();
    let name = args.file.display().to_string();
    let result = report::Result::new(name, bundle_name.clone(), &verified, None);
    result.print(&args.output, "signed")?;
    if args.output.output == crate::args::Format::Text {
        crate::output::print(&format!("  bundle {bundle_name}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn bundle_path(args: &SignBlob) -> Result<PathBuf, Failure> {
    match &args.bundle {
        Some(path) => Ok(path.clone()),
        None if args.file == Path::new("-") => {
            Err(Failure::unclear("standard input has no name to put the bundle beside")
                .hint("give --bundle FILE"))
        }
        None => {
            let mut name = args.file.clone().into_os_string();
            name.push(".sigstore.json");
            Ok(name.into())
        }
    }
}

fn read_signing_config(path: &Path) -> Result<SigningConfig, Failure> {
    SigningConfig::parse(&read_bounded(path, MAX_TRUSTED_ROOT)?)
        .map_err(|error| Failure::unclear(format!("{}: {error}", path.display())))
}

/// A service that says no, and a result that does not hold, are a no; all else could not be told.
fn failure(error: sign::Error) -> Failure {
    let message = error.to_string();
    match &error {
        sign::Error::Unverified(_) | sign::Error::CertificateUntrusted => Failure::no(message)
            .hint("trusted root and signing config are not of the same instance"),
        error if error.is_refusal() => Failure::no(message),
        _ => Failure::unclear(message),
    }
}
