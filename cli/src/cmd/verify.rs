//! Verification of files, one or many: `verify-blob` and `verify-blob-attestation`. Makes no network call
//! unless the trust asked for needs one, and without it starts no runtime; for one small file no thread,
//! either: most of the time is the cryptography.

pub(crate) mod bundles;
pub(crate) mod by_policy;
mod checksums;
pub(crate) mod predicate;
mod targets;
mod whom;

use crate::args::{Format, Verification, VerifyBlob, VerifyBlobAttestation};
use crate::artifact;
use crate::failure::Failure;
use crate::grounds::Grounds;
use crate::report::{self, Demand, Results, Verdict};
use crate::trust::read_bounded;
pub(super) use bundles::Bundles;
use checksums::{Checksums, place};
use countersign_policy::Signers;
use countersign_verify::statement::Statement;
use countersign_verify::{Artifact, Report, Verified, Verifier};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Largest list of digests that is read, bytes: half a million files.
const MAX_CHECKSUMS: usize = 64 << 20;

/// What a bundle must be.
enum Wanted {
    /// A signature over the file itself.
    Signature,
    /// An attestation of this predicate type.
    Attestation(String),
}

/// All that the verification of each file needs.
struct Job<'a> {
    verifier: Verifier<'a>,
    policy: Signers,
    wanted: Wanted,
    /// For all files; without it each has its own beside it.
    bundles: Option<Arc<Bundles>>,
}

/// A file's name, and its result or why there is none.
type Checked = (String, Result<report::Result, Failure>);

/// `policy explain`
pub(crate) fn explain(args: &Verification) -> Result<ExitCode, Failure> {
    by_policy::run(args, None, true)
}

/// `verify-blob`
pub(crate) fn blobs(args: &VerifyBlob) -> Result<ExitCode, Failure> {
    if !args.verification.by_policy.policy.is_empty() {
        return by_policy::run(&args.verification, None, false);
    }
    run(&args.verification, |_| Ok(Wanted::Signature))
}

/// `verify-blob-attestation`
pub(crate) fn attestations(args: &VerifyBlobAttestation) -> Result<ExitCode, Failure> {
    if !args.verification.by_policy.policy.is_empty() {
        let kind = args.kind.as_deref().map(predicate::uri).transpose()?;
        return by_policy::run(&args.verification, kind, false);
    }
    run(&args.verification, |claimed| match &args.kind {
        Some(kind) => Ok(Wanted::Attestation(predicate::uri(kind)?)),
        None => {
            let missing = Failure::unclear(
                "what do you expect to be attested? Give --type: an attestation of just anything proves nothing",
            );
            Err(match claimed() {
                Some(uri) if uri.is_empty() => {
                    missing.hint("the bundle's statement names no type, so none can be demanded")
                }
                Some(uri) => missing.hint(format!(
                    "the bundle claims to attest the following; if that is what you expect:\n      --type {}",
                    predicate::flag(&uri)
                )),
                None => missing,
            })
        }
    })
}

fn run(
    args: &Verification,
    wanted: impl FnOnce(&dyn Fn() -> Option<String>) -> Result<Wanted, Failure>,
) -> Result<ExitCode, Failure> {
    let files = targets::expand(&args.files)?;
    let first = args.checksums.as_ref().or(files.first());
    let stdin = |path: &PathBuf| path == Path::new("-");
    if args.bundle.as_ref().is_some_and(stdin) && files.iter().chain(&args.checksums).any(stdin) {
        return Err(Failure::unclear("standard input cannot be both the bundle and the file")
            .hint("put the bundle into a file"));
    }
    let bundles = args.bundle.as_deref().map(Bundles::read).transpose()?;
    let claimed_identity = || claimed(bundles.as_ref(), first, Bundles::claimed_identity);
    let evidence = &args.evidence;
    let (policy, key) = evidence.whom.policy(claimed_identity)?;
    let wanted = wanted(&|| claimed(bundles.as_ref(), first, Bundles::claimed_predicate))?;
    let grounds = Grounds::of(evidence, key)?;
    let bundles = bundles.map(Arc::new);
    let job = Job { verifier: grounds.verifier(), policy, wanted, bundles };
    let results = match &args.checksums {
        Some(list) => job.check_list(list, &files)?,
        None => check_all(&files, |file, lone| job.check(file, lone)),
    };
    // Alone, a file that cannot be read is an error with its hint; among others it is a line.
    let results = match <[_; 1]>::try_from(results) {
        Ok([(_, Err(failure))]) if evidence.output.output == Format::Text => return Err(failure),
        Ok([result]) => vec![result],
        Err(results) => results,
    };
    let settle = |(file, result): (String, Result<_, Failure>)| {
        result.unwrap_or_else(|failure| report::Result::undecided(&file, &failure))
    };
    let results = Results::new(results.into_iter().map(settle).collect());
    results.trusting(&evidence.trust).print(&evidence.output, "verified")
}

/// What the bundle for the first file claims; only read for the errors that show it.
fn claimed<T>(
    bundles: Option<&Bundles>,
    first: Option<&PathBuf>,
    of: impl Fn(&Bundles) -> Option<T>,
) -> Option<T> {
    match bundles {
        Some(bundles) => of(bundles),
        None => of(&Bundles::beside(first?).ok()?),
    }
}

/// Checks every file, several at once where there are several, and keeps their order.
fn check_all(
    files: &[PathBuf],
    check: impl Fn(&Path, bool) -> Result<report::Result, Failure> + Sync,
) -> Vec<Checked> {
    let named = |file: &Path, result| (file.display().to_string(), result);
    if let [file] = files {
        return vec![named(file, check(file, true))];
    }
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(files.len());
    let (next, done) = (AtomicUsize::new(0), bar(files.len()));
    let work = || {
        let mut results = Vec::new();
        while let Some((place, file)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            files.get(place).map(|file| (place, file))
        } {
            results.push((place, named(file, check(file, false))));
            done.inc(1);
        }
        results
    };
    let mut results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().expect("verification does not panic")
        };
        threads.into_iter().flat_map(join).collect()
    });
    done.finish_and_clear();
    results.sort_unstable_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A few files are done before a bar could be read.
fn bar(files: usize) -> ProgressBar {
    if files < 1000 || !console::user_attended_stderr() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("verifying {bar:30} {pos}/{len} files {eta}");
    ProgressBar::new(files as u64).with_style(style.unwrap_or(ProgressStyle::default_bar()))
}

impl Job<'_> {
    /// Verifies one file by the bundles for it.
    fn check(&self, file: &Path, lone: bool) -> Result<report::Result, Failure> {
        let bundles = self.bundles_for(file)?;
        let artifact = artifact::read(file, &bundles.hashes(), lone)?;
        Ok(self.judge(&file.display().to_string(), &bundles, &artifact))
    }

    /// Those for all files, else the one beside this.
    fn bundles_for(&self, file: &Path) -> Result<Arc<Bundles>, Failure> {
        match &self.bundles {
            Some(bundles) => Ok(Arc::clone(bundles)),
            None => Bundles::beside(file).map(Arc::new),
        }
    }

    /// Verifies a list of digests, and then the files by it: those given, else all that it lists.
    fn check_list(&self, list: &Path, files: &[PathBuf]) -> Result<Vec<Checked>, Failure> {
        let bundles = self.bundles_for(list)?;
        // Read once: what is verified is what is believed.
        let bytes = read_bounded(list, MAX_CHECKSUMS)?;
        let name = list.display().to_string();
        let signed = self.judge(&name, &bundles, &Artifact::from_bytes(&bytes));
        if signed.verdict != Verdict::Accepted {
            return Ok(vec![(name, Ok(signed))]);
        }
        let checksums = Checksums::parse(list, &bytes)?;
        // The list stands for itself, where a directory has it.
        let files: Vec<_> = match files {
            [] => checksums.all().map(|(file, _)| file).collect(),
            files => {
                let mut folders = HashMap::new();
                let own = place(list, &mut folders);
                let others = files.iter().filter(|file| place(file, &mut folders) != own);
                others.cloned().collect()
            }
        };
        let mut results = check_all(&files, |file, _| {
            let shown = file.display().to_string();
            let Some(listed) = checksums.about(file) else {
                let reason = format!("{name} does not list this file");
                return Ok(report::Result::refused(&shown, "CHECKSUM_MISSING", reason));
            };
            let hashes = listed.digests.iter().map(|(hash, _)| *hash).collect();
            let artifact = artifact::read(file, &hashes, false)?;
            let found = |hash| artifact.digest(hash).unwrap_or_default();
            let other = listed.digests.iter().find(|(hash, digest)| found(*hash) != digest);
            let (hash, digest) = other.unwrap_or(&listed.digests[0]);
            Ok(signed.listed(&shown, &name, *hash, digest, found(*hash)))
        });
        results.insert(0, (name.clone(), Ok(signed)));
        Ok(results)
    }

    /// The first bundle about `artifact` that is accepted; if none is, the one that came furthest.
    fn judge(&self, file: &str, bundles: &Bundles, artifact: &Artifact) -> report::Result {
        let mut furthest: Option<report::Result> = None;
        for (name, bundle) in bundles.about(artifact) {
            let report = match bundle {
                Ok(bundle) => self.verifier.verify(bundle, artifact),
                Err(error) => Report::malformed(error.clone()),
            };
            let demands = self.demands(report.result().ok());
            let result = report::Result::new(file, name, &report, demands);
            if result.verdict == Verdict::Accepted {
                return result;
            }
            if furthest.as_ref().is_none_or(|other| result.passed() > other.passed()) {
                furthest = Some(result);
            }
        }
        furthest.unwrap_or_else(|| {
            let collection = bundles.collection().unwrap_or("the collection");
            let reason = format!("no bundle of {collection} is about this file");
            report::Result::refused(file, "BUNDLE_MISSING", reason)
        })
    }

    /// What is asked beyond the evidence: the right kind of claim, by the right signer.
    fn demands(&self, verified: Option<&Verified>) -> Vec<Demand> {
        let found = verified.and_then(Verified::statement).map(Statement::predicate_type);
        let content = match &self.wanted {
            Wanted::Signature => Demand {
                name: "content",
                expected: "a signature over the file itself".to_owned(),
                outcome: match found {
                    None => Ok("a signature over the file itself".to_owned()),
                    Some(uri) => Err((
                        "CONTENT_MISMATCH",
                        format!(
                            "the bundle attests something about the file, and is no signature over it: use verify-blob-attestation --type {}",
                            predicate::flag(uri)
                        ),
                    )),
                },
            },
            Wanted::Attestation(expected) => Demand {
                name: "content",
                expected: format!("an attestation of type {expected}"),
                outcome: match found {
                    Some(uri) if uri == expected => Ok(format!("an attestation of type {uri}")),
                    Some(uri) => Err((
                        "PREDICATE_TYPE_MISMATCH",
                        match uri.is_empty() {
                            true => "its statement names no type".to_owned(),
                            false => format!(
                                "expected an attestation of type {expected}, found one of type {uri}"
                            ),
                        },
                    )),
                    None => Err((
                        "CONTENT_MISMATCH",
                        format!(
                            "expected an attestation of type {expected}, found a signature over the file: use verify-blob"
                        ),
                    )),
                },
            },
        };
        let outcome =
            verified.map_or(Ok(String::new()), |verified| match self.policy.accept(verified) {
                Ok(rule) => Ok(rule.to_owned()),
                Err(refusal) => Err(("IDENTITY_MISMATCH", refusal.to_string())),
            });
        let expected = "signed by whom the flags demand".to_owned();
        vec![content, Demand { name: "policy", expected, outcome }]
    }
}
