//! Signing of files: `sign-blob` and `attest-blob`.

use super::verify::predicate;
use crate::args::{AttestBlob, Keeping, SignBlob, Signing, Timeout, Trust};
use crate::artifact;
use crate::failure::{self, Failure};
use crate::identity::Identity;
use crate::output::NewFile;
use crate::policy_file;
use crate::report::{self, Results};
use crate::runtime::block_on;
use crate::trust::{self, read_bounded};
use countersign_client::http;
use countersign_client::sign::{self, Patience, Signed, Subject, sign};
use countersign_client::trust::{Services, SigningConfig};
use countersign_verify::assertion::{Intended, Intent};
use countersign_verify::bundle::{Bundle, Content};
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::limits::{MAX_BUNDLE, MAX_PAYLOAD, MAX_SUBJECTS, MAX_TRUSTED_ROOT};
use countersign_verify::statement::{STATEMENT_V1, Statement};
use countersign_verify::{Artifact, TrustedRoot};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// `sign-blob`
pub(crate) fn blob(args: &SignBlob) -> Result<ExitCode, Failure> {
    let files = std::slice::from_ref(&args.file);
    let prepared = Prepared::new(&args.signing, &args.keeping, files, None)?;
    let artifact = read(&args.file)?;
    let subject = Subject::Artifact(&artifact);
    let intended = intended(&args.keeping, &args.file, &artifact);
    let intent =
        Intent { action: "sign".to_owned(), artifact: Some(intended), predicate_type: None };
    prepared.sign(&args.signing, args.keeping.defer, &args.file, subject, &intent)
}

/// `attest-blob`
pub(crate) fn attestation(args: &AttestBlob) -> Result<ExitCode, Failure> {
    let kind = predicate::uri(&args.kind)?;
    let stdin = |path: &PathBuf| path == Path::new("-");
    let also = args.files.iter().any(stdin) || args.signing.identity_token.as_deref() == Some("-");
    if stdin(&args.predicate) && also {
        return Err(Failure::unclear(
            "standard input cannot be both the predicate and something else",
        )
        .hint("put the predicate into a file"));
    }
    let json = read_bounded(&args.predicate, MAX_PAYLOAD / 2)?;
    let predicate: serde_json::Value = serde_json::from_slice(&json).map_err(|error| {
        Failure::unclear(format!("{}: not JSON: {error}", args.predicate.display()))
    })?;
    attest(&args.signing, &args.keeping, &args.files, &kind, &predicate)
}

/// Attests `predicate`, of type `kind`, about all of `files` at once.
pub(super) fn attest(
    signing: &Signing,
    keeping: &Keeping,
    files: &[PathBuf],
    kind: &str,
    predicate: &serde_json::Value,
) -> Result<ExitCode, Failure> {
    let first = files.first().ok_or_else(|| Failure::unclear("expected a file"))?;
    if files.len() > MAX_SUBJECTS {
        let message = format!("{} files; a statement is about at most {MAX_SUBJECTS}", files.len());
        return Err(Failure::unclear(message));
    }
    let prepared = Prepared::new(signing, keeping, files, Some(kind))?;
    let mut subjects = Vec::with_capacity(files.len());
    let mut artifacts = Vec::with_capacity(files.len());
    for file in files {
        let artifact = read(file)?;
        let digest = artifact.digest(HashAlgorithm::Sha256).map(hex).unwrap_or_default();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        subjects.push(serde_json::json!({ "name": name, "digest": { "sha256": digest } }));
        artifacts.push(artifact);
    }
    let statement = serde_json::json!({ "_type": STATEMENT_V1, "subject": subjects,
        "predicateType": kind, "predicate": predicate });
    let subject = Subject::Statement(statement.to_string().into_bytes(), &artifacts[0]);
    let intended = match artifacts.as_slice() {
        [one] => Some(intended(keeping, first, one)),
        _ => None,
    };
    let (action, predicate_type) = ("attest".to_owned(), Some(kind.to_owned()));
    let intent = Intent { action, artifact: intended, predicate_type };
    prepared.sign(signing, keeping.defer, first, subject, &intent)
}

/// What the authority is told that the certificate is for.
fn intended(keeping: &Keeping, file: &Path, artifact: &Artifact) -> Intended {
    let name = keeping.name.clone();
    let known = policy_file::file(file, name.as_deref());
    let digest = artifact.digest(HashAlgorithm::Sha256).map(hex).unwrap_or_default();
    Intended {
        digest: format!("sha256:{digest}"),
        kind: known.kind.name().to_owned(),
        name: name.unwrap_or(known.name),
    }
}

fn read(file: &Path) -> Result<Artifact, Failure> {
    artifact::read(file, &BTreeSet::from([HashAlgorithm::Sha256]), true)
}

/// All that can fail before anything is signed.
struct Prepared {
    identity: Identity,
    root: TrustedRoot,
    services: Services,
    bundle: PathBuf,
    file: NewFile,
}

impl Prepared {
    /// `kind` is the predicate type of what is to be attested.
    fn new(
        args: &Signing,
        keeping: &Keeping,
        files: &[PathBuf],
        kind: Option<&str>,
    ) -> Result<Self, Failure> {
        let bundle = bundle_path(keeping, files)?;
        if keeping.bundle.is_none() {
            keep_other(&bundle, kind)?;
        }
        let stdin = files.iter().any(|file| file == Path::new("-"));
        if stdin && args.identity_token.as_deref() == Some("-") {
            return Err(Failure::unclear("standard input cannot be both the file and the token")
                .hint("put the token into a file, or into SIGSTORE_ID_TOKEN"));
        }
        let (root, config) = config(&args.trust, args.signing_config.as_deref())?;
        let identity = Identity::find(args, &config)?;
        let services = select(&config)?;
        keep_secret(&services, args)?;
        // Opened before anything is signed: what cannot be kept should not be logged.
        let file = NewFile::begin(&bundle)?;
        Ok(Self { identity, root, services, bundle, file })
    }

    fn sign(
        self,
        args: &Signing,
        defer: bool,
        file: &Path,
        subject: Subject<'_>,
        intent: &Intent,
    ) -> Result<ExitCode, Failure> {
        let Self { identity, root, services, bundle: path, file: new } = self;
        let patience = Patience { defer, ..patience(args.timeout) };
        let Signed { bundle, report, deferred } = block_on(async {
            let token = identity.token().await?;
            sign(subject, &token, &services, &root, patience, Some(intent))
                .await
                .map_err(|error| failure(error, &args.trust))
        })??;
        new.finish(format!("{}\n", bundle.to_json()).as_bytes())?;
        let (name, path) = (file.display().to_string(), path.display().to_string());
        let result = report::Result::new(&name, &path, &report, Vec::new());
        let deferred = deferred.map(|error| error.to_string());
        Results::new(vec![result.deferred(deferred.clone())]).print(&args.output, "signed")?;
        if args.output.output == crate::args::Format::Text {
            crate::output::print(&format!("  bundle {path}\n"))?;
        }
        if let Some(reason) = deferred {
            failure::warn(
                &format!("not yet logged: {reason}"),
                &format!("nobody accepts the bundle until it is: countersign log submit {path}"),
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whom to trust, and where to sign or to log.
pub(super) fn services(
    trust: &Trust,
    signing_config: Option<&Path>,
) -> Result<(TrustedRoot, Services), Failure> {
    let (root, signing) = config(trust, signing_config)?;
    let services = select(&signing)?;
    Ok((root, services))
}

fn select(config: &SigningConfig) -> Result<Services, Failure> {
    config.select(Timestamp::now()).map_err(|error| Failure::unclear(error.to_string()))
}

/// The token is not for others to read.
pub(super) fn keep_secret(services: &Services, args: &Signing) -> Result<(), Failure> {
    let Some(url) = services.exposed().filter(|_| !args.allow_http_ca) else { return Ok(()) };
    let message = format!(
        "expected https for the certificate authority, found {url}: whoever reads the token on the way can sign as you"
    );
    Err(Failure::unclear(message)
        .hint("serve it with TLS; or, where the network itself is encrypted, add --allow-http-ca"))
}

/// Whom to trust, and all the services there are to sign with.
pub(super) fn config(
    trust: &Trust,
    signing_config: Option<&Path>,
) -> Result<(TrustedRoot, SigningConfig), Failure> {
    let (root, signing) = trust::load(trust)?.root()?;
    let signing = match (trust::signing_config(signing_config, trust), signing) {
        (Some(path), _) => read_signing_config(&path)?,
        (None, Some(signing)) => signing,
        (None, None) => {
            return Err(Failure::unclear("a trusted root says whom to trust, not where to sign")
                .hint("add --signing-config FILE, or give --trust-config FILE, which holds both"));
        }
    };
    Ok((root, signing))
}

/// Tells of waiting on standard error, so that nobody wonders why nothing happens.
pub(super) fn patience(timeout: Timeout) -> Patience {
    Patience { budget: timeout.timeout, defer: false, waiting }
}

/// Tells of the first failure that is waited for.
pub(super) fn waiting(error: &http::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        eprintln!("waiting: {}", crate::output::visible(&error.to_string()));
    }
}

fn bundle_path(args: &Keeping, files: &[PathBuf]) -> Result<PathBuf, Failure> {
    match (&args.bundle, files) {
        (Some(path), _) => Ok(path.clone()),
        (None, [file]) if file == Path::new("-") => {
            Err(Failure::unclear("standard input has no name to put the bundle beside")
                .hint("give --bundle FILE"))
        }
        (None, [file]) => {
            let mut name = file.clone().into_os_string();
            name.push(".sigstore.json");
            Ok(name.into())
        }
        (None, _) => Err(Failure::unclear("one bundle about several files has no name of its own")
            .hint("give --bundle FILE")),
    }
}

/// A bundle whose place nobody gave takes that of one of its kind, and of no other: who signs a file and attests
/// something about it wants both.
fn keep_other(path: &Path, kind: Option<&str>) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let found = read_bounded(path, MAX_BUNDLE)?;
    let same = Bundle::parse(&found).is_ok_and(|bundle| match (bundle.content(), kind) {
        (Content::Message(_), None) => true,
        (Content::Dsse(envelope), Some(kind)) => Statement::parse(&envelope.payload)
            .is_ok_and(|statement| statement.predicate_type() == kind),
        _ => false,
    });
    match same {
        true => Ok(()),
        false => {
            let message = format!("{} holds another signature or attestation", path.display());
            Err(Failure::unclear(message).hint("give --bundle FILE, another place for this one"))
        }
    }
}

pub(super) fn read_signing_config(path: &Path) -> Result<SigningConfig, Failure> {
    let bytes = read_bounded(path, MAX_TRUSTED_ROOT)?;
    SigningConfig::parse(&bytes)
        .map_err(|error| Failure::unclear(format!("{}: {error}", path.display())))
}

pub(super) fn failure(error: sign::Error, trust: &Trust) -> Failure {
    let message = error.to_string();
    if error.is_mismatch() {
        return Failure::no(message).hint(trust::renewal(trust));
    }
    if error.is_refusal() { Failure::no(message) } else { Failure::unclear(message) }
}
