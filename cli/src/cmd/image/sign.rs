//! `sign` and `attest`: many images with one token and one certificate, for as long as it lasts.

use super::{AT_ONCE, annotations, failure, parts, registries};
use crate::args::Trust;
use crate::args::image::{Attest, ImageSigning, Sign};
use crate::cmd::sign as blob;
use crate::cmd::verify::predicate;
use crate::failure::Failure;
use crate::identity::Identity as Token;
use crate::output::NewFile;
use crate::report::{self, Results};
use crate::runtime::block_on;
use countersign_client::oci::{
    self, Payload, Reference, Registries, Repository, Stored, Where, attach_legacy,
};
use countersign_client::sign::{Patience, Signer, Subject};
use countersign_client::trust::Services;
use countersign_verify::assertion::{Intended, Intent};
use countersign_verify::certificate::{Certificate, Identity};
use countersign_verify::encoding::hex;
use countersign_verify::limits::MAX_PAYLOAD;
use countersign_verify::merkle::Hash;
use countersign_verify::statement::{IMAGE_SIGNATURE, STATEMENT_V1};
use countersign_verify::{Artifact, Bundle, Report, TrustedRoot, Verified, verify_json};
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::sync::Mutex;

/// How long a certificate must still last for a signature to begin.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// Largest predicate, bytes: a payload without what is around it.
const MAX_PREDICATE: u64 = (MAX_PAYLOAD - (64 << 10)) as u64;

/// Keeps a bundle that is logged and could not be stored, and says where.
fn kept(bundle: &Bundle, target: &Target, failure: Failure) -> Failure {
    let json = bundle.to_json();
    let (digest, number) = (&target.stored.descriptor.digest, Hash::of(json.as_bytes()));
    let number = hex(&number.as_bytes()[..4]);
    let name = format!("{}-{number}.sigstore.json", digest.as_str().replace(':', "-"));
    let path = Path::new(&name);
    match NewFile::replacing(path).and_then(|file| file.finish(json.as_bytes())) {
        Ok(()) => failure.hint(format!(
            "the signature is in the log, and kept here: once the registry takes it, `countersign attach --bundle {name} {}`",
            target.reference.at(digest)
        )),
        Err(_) => failure, // of the two it is the first
    }
}

/// What is said of each image.
enum Claim {
    /// That the signer signed it.
    Signature(BTreeMap<String, String>),
    /// What a predicate says: its type, and the file with its JSON, which may be large.
    Predicate(String, PathBuf),
}

/// `sign`
pub(crate) fn sign(args: &Sign) -> Result<ExitCode, Failure> {
    run(&args.images, &Claim::Signature(annotations(&args.annotations)?))
}

/// `attest`
pub(crate) fn attest(args: &Attest) -> Result<ExitCode, Failure> {
    let kind = predicate::uri(&args.kind)?;
    let stdin = args.predicate == Path::new("-");
    if stdin && args.images.signing.identity_token.as_deref() == Some("-") {
        return Err(Failure::unclear("standard input cannot be both the predicate and the token")
            .hint("put the predicate into a file"));
    }
    let kept = keep(&args.predicate)?;
    let file = kept.as_ref().map_or(&*args.predicate, NamedTempFile::path);
    // Known to be JSON before anybody is asked for a certificate.
    append_json(file, &mut Vec::new())?;
    run(&args.images, &Claim::Predicate(kind, file.to_owned()))
}

/// What is no file can be read once only, and the statement about each image is made of it: it is put into one.
fn keep(path: &Path) -> Result<Option<NamedTempFile>, Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let input: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => {
            let file = File::open(path).map_err(failed)?;
            if file.metadata().map_err(failed)?.is_file() {
                return Ok(None);
            }
            Box::new(file)
        }
    };
    let mut file = NamedTempFile::new().map_err(failed)?;
    std::io::copy(&mut input.take(MAX_PREDICATE + 1), &mut file).map_err(failed)?;
    Ok(Some(file))
}

/// Appends a file of JSON, which is checked and then taken as it is.
fn append_json(path: &Path, text: &mut Vec<u8>) -> Result<(), Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let start = text.len();
    let size = file.metadata().map_or(0, |found| found.len()).min(MAX_PAYLOAD as u64);
    text.reserve_exact(usize::try_from(size).unwrap_or_default() + 2);
    file.take(MAX_PREDICATE + 1).read_to_end(text).map_err(failed)?;
    if (text.len() - start) as u64 > MAX_PREDICATE {
        let message = format!("{}: a predicate has at most {MAX_PREDICATE} bytes", path.display());
        return Err(Failure::unclear(message));
    }
    let json: Result<IgnoredAny, _> = serde_json::from_slice(&text[start..]);
    json.map(drop)
        .map_err(|error| Failure::unclear(format!("{}: not JSON: {error}", path.display())))
}

fn run(args: &ImageSigning, claim: &Claim) -> Result<ExitCode, Failure> {
    let signing = &args.signing;
    let registries = registries(&args.registry, signing.timeout)?;
    let (root, config) = blob::config(&signing.trust, signing.signing_config.as_deref())?;
    let identity = Token::find(signing, &config)?;
    let now = Timestamp::now();
    let unclear = |error: countersign_client::trust::Error| Failure::unclear(error.to_string());
    let services = config.select(now).map_err(unclear)?;
    blob::keep_secret(&services, signing)?;
    let legacy = args.legacy.then(|| config.select_v1(now)).transpose().map_err(|error| {
        unclear(error).hint("--legacy needs a Rekor v1 log, whose promise old verifiers ask for")
    })?;
    let results = block_on(async {
        let targets = targets(&registries, &args.images, args.recursive).await?;
        let intent = claim.intent(&targets);
        let session = Session::begin(identity, &services, &root, args, intent).await?;
        let sign = async |target: Result<Target, report::Result>| match target {
            Ok(target) => session.sign(&target, claim, legacy.as_ref()).await,
            Err(undecided) => undecided,
        };
        let results = stream::iter(targets).map(sign).buffered(AT_ONCE);
        Ok::<_, Failure>(results.collect::<Vec<_>>().await)
    })??;
    Results::new(results).trusting(&signing.trust).print(&signing.output, "signed")
}

/// An image to sign.
struct Target {
    reference: Reference,
    repository: Repository,
    stored: Stored,
}

/// What the names mean, each manifest once. Alone, an image that cannot be found is an error; among others
/// it is a line. Nothing is signed unless one is found.
async fn targets(
    registries: &Registries,
    images: &[String],
    recursive: bool,
) -> Result<Vec<Result<Target, report::Result>>, Failure> {
    let find = async |name: &String| {
        let reference = Reference::parse(name)?;
        let repository = registries.repository(&reference)?;
        let place = Where::Registry(repository.clone());
        let stored = place.resolve(&reference).await?;
        let below = match recursive {
            true => parts(&place, &reference, &stored).await?,
            false => Vec::new(),
        };
        let reference = reference.at(&stored.descriptor.digest);
        let target =
            |(reference, stored)| Target { reference, repository: repository.clone(), stored };
        let all = std::iter::once((reference, stored)).chain(below).map(target);
        Ok::<_, oci::Error>(all.collect::<Vec<_>>())
    };
    let found: Vec<_> = stream::iter(images).map(find).buffered(AT_ONCE).collect().await;
    let mut targets = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, found) in images.iter().zip(found) {
        match found {
            Err(error) if images.len() == 1 => return Err(failure(error)),
            Err(error) => {
                targets.push(Err(report::Result::unread(name, error.code(), &failure(error))))
            }
            Ok(found) => targets.extend(
                found
                    .into_iter()
                    .filter(|target| seen.insert((target.reference.name(), target.digest())))
                    .map(Ok),
            ),
        }
    }
    if targets.iter().all(Result::is_err) {
        return Err(Failure::unclear("none of the images can be read, so nothing was signed")
            .hint("`countersign tree IMAGE` says why"));
    }
    Ok(targets)
}

impl Target {
    fn digest(&self) -> String {
        self.stored.descriptor.digest.to_string()
    }
}

/// One identity, and its certificate while that lasts.
struct Session<'a> {
    identity: Token,
    services: &'a Services,
    root: &'a TrustedRoot,
    trust: &'a Trust,
    patience: Patience,
    /// Whether to look for what was signed before.
    resume: bool,
    /// What the authority is told that the certificate is for.
    intent: Intent,
    signer: Mutex<Arc<Signer<'a>>>,
}

impl<'a> Session<'a> {
    async fn begin(
        identity: Token,
        services: &'a Services,
        root: &'a TrustedRoot,
        args: &'a ImageSigning,
        intent: Intent,
    ) -> Result<Self, Failure> {
        let (patience, resume) = (blob::patience(args.signing.timeout), args.resume);
        let trust = &args.signing.trust;
        let signer = certify(&identity, services, (root, trust), patience, &intent).await?;
        let signer = Mutex::new(Arc::new(signer));
        Ok(Self { identity, services, root, trust, patience, resume, intent, signer })
    }

    /// The signer; a new one when the certificate is about to expire.
    async fn signer(&self) -> Result<Arc<Signer<'a>>, Failure> {
        let mut signer = self.signer.lock().await;
        if signer.expires() < Timestamp::now() + MARGIN {
            let Self { identity, services, root, trust, patience, intent, .. } = self;
            let by = (*root, *trust);
            *signer = Arc::new(certify(identity, services, by, *patience, intent).await?);
        }
        Ok(Arc::clone(&signer))
    }

    async fn sign(
        &self,
        target: &Target,
        claim: &Claim,
        legacy: Option<&Services>,
    ) -> report::Result {
        let name = target.reference.to_string();
        match self.attach(target, claim, legacy).await {
            Ok((bundle, report)) => report::Result::new(&name, &bundle, &report, Vec::new()),
            Err((code, failure)) => report::Result::unread(&name, code, &failure),
        }
    }

    /// Signs, and stores it; for old verifiers, too, if `legacy` services are given.
    async fn attach(
        &self,
        target: &Target,
        claim: &Claim,
        legacy: Option<&Services>,
    ) -> Result<(String, Report), (&'static str, Failure)> {
        let Target { reference, repository, stored } = target;
        let subject = &stored.descriptor;
        let artifact = subject.digest.artifact();
        let not_signed = |error| ("NOT_SIGNED", blob::failure(error, self.trust));
        let not_stored = |error: oci::Error| (error.code(), failure(error));
        let signer = self.signer().await.map_err(|failure| ("NOT_SIGNED", failure))?;
        let statement =
            || claim.statement(reference, &artifact).map_err(|failure| ("UNREADABLE", failure));
        let text = statement()?;
        if self.resume
            && let Some(found) =
                self.before(target, &signer, claim.kind(), &text).await.map_err(not_stored)?
        {
            eprintln!("signed before: {reference}");
            return Ok(found);
        }
        let text = Subject::Statement(text, &artifact);
        let signed = signer.sign(text, self.services).await.map_err(not_signed)?;
        let bundle = Arc::new(signed.bundle);
        let stored = oci::attach(repository, subject, &bundle, Timestamp::now());
        let referrer = match stored.await {
            Ok(referrer) => referrer,
            Err(error) => return Err((error.code(), kept(&bundle, target, failure(error)))),
        };
        if let Some(services) = legacy {
            let payload = claim.payload(reference, &subject.digest);
            let message = Artifact::from_bytes(&payload);
            let subject = match claim {
                Claim::Signature(_) => Subject::Artifact(&message),
                Claim::Predicate(..) => Subject::Statement(statement()?, &artifact),
            };
            let older = signer.sign(subject, services).await.map_err(not_signed)?;
            attach_legacy(repository, &target.stored.descriptor.digest, &older.bundle, &payload)
                .await
                .map_err(not_stored)?;
        }
        Ok((referrer.digest.to_string(), signed.report))
    }

    /// Where this very signer said the very same before, and what proves it.
    async fn before(
        &self,
        target: &Target,
        signer: &Signer<'_>,
        kind: &str,
        statement: &[u8],
    ) -> Result<Option<(String, Report)>, oci::Error> {
        let (place, digest) =
            (Where::Registry(target.repository.clone()), &target.stored.descriptor.digest);
        let certificate = Certificate::parse(signer.certificate()).ok();
        let us = certificate.and_then(|certificate| certificate.identity().ok());
        let same = |verified: &Verified| {
            let them = verified.identity();
            let named = |identity: &Identity| {
                (identity.subject().clone(), identity.issuer().map(str::to_owned))
            };
            verified.payload() == Some(statement) && them.map(named) == us.as_ref().map(named)
        };
        for attachment in place.referrers(digest).await? {
            if attachment.predicate_type().is_some_and(|found| found != kind) {
                continue;
            }
            let found = match place.bundle(digest, &attachment).await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) if error.is_finding() => continue,
                Err(error) => return Err(error),
            };
            let report = verify_json(&found.bundle, &digest.artifact(), self.root);
            if report.result().is_ok_and(same) {
                return Ok(Some((found.digest.to_string(), report)));
            }
        }
        Ok(None)
    }
}

async fn certify<'a>(
    identity: &Token,
    services: &Services,
    (root, trust): (&'a TrustedRoot, &Trust),
    patience: Patience,
    intent: &Intent,
) -> Result<Signer<'a>, Failure> {
    let token = identity.token().await?;
    let signer = Signer::new(&token, services, root, patience, Some(intent)).await;
    signer.map_err(|error| blob::failure(error, trust))
}

impl Claim {
    /// The predicate type.
    fn kind(&self) -> &str {
        match self {
            Self::Signature(_) => IMAGE_SIGNATURE,
            Self::Predicate(kind, _) => kind,
        }
    }

    /// Of several images, which share a certificate, none is named.
    fn intent(&self, targets: &[Result<Target, report::Result>]) -> Intent {
        let artifact = match targets {
            [Ok(target)] => Some(Intended {
                digest: target.digest(),
                kind: "image".to_owned(),
                name: target.reference.to_string(),
            }),
            _ => None,
        };
        let (action, predicate_type) = match self {
            Self::Signature(_) => ("sign", None),
            Self::Predicate(kind, _) => ("attest", Some(kind.clone())),
        };
        Intent { action: action.to_owned(), artifact, predicate_type }
    }

    /// The in-toto statement about an image. Its subject has the tag that the image is signed by: policies
    /// take it as the signer's promise. By digest alone a signature's subject has no name, as cosign has it.
    fn statement(&self, reference: &Reference, artifact: &Artifact) -> Result<Vec<u8>, Failure> {
        let digests = artifact.digests();
        let digests: BTreeMap<_, _> = digests
            .map(|(hash, digest)| (hash.short_name(), countersign_verify::encoding::hex(digest)))
            .collect();
        let mut subject = serde_json::json!({ "digest": digests });
        if let Some(tag) = reference.tag() {
            subject["name"] = format!("{}:{tag}", reference.name()).into();
        }
        let (kind, predicate) = match self {
            Self::Signature(annotations) => {
                if !annotations.is_empty() {
                    subject["annotations"] = serde_json::json!(annotations);
                }
                (IMAGE_SIGNATURE, None)
            }
            Self::Predicate(kind, file) => {
                if reference.tag().is_none() {
                    subject["name"] = reference.name().into();
                }
                (kind.as_str(), Some(file))
            }
        };
        let kind = serde_json::Value::from(kind);
        let head = format!(
            r#"{{"_type":"{STATEMENT_V1}","subject":[{subject}],"predicateType":{kind},"predicate":"#
        );
        let mut statement = head.into_bytes();
        match predicate {
            Some(file) => append_json(file, &mut statement)?,
            None => statement.extend_from_slice(b"{}"),
        }
        statement.push(b'}');
        Ok(statement)
    }

    /// What cosign 1 and 2 sign.
    fn payload(&self, reference: &Reference, digest: &oci::Digest) -> Vec<u8> {
        let annotations = match self {
            Self::Signature(annotations) => annotations.clone(),
            Self::Predicate(..) => BTreeMap::new(),
        };
        let (digest, name) = (digest.to_string(), reference.name());
        Payload { digest, name, annotations }.to_json()
    }
}
