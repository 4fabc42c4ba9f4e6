//! Verification by a policy: all bundles about a file are evidence, and one decision is made of them.

use super::bundles::Bundles;
use super::targets;
use crate::args::policy::ByPolicy;
use crate::args::{Output, Verification};
use crate::failure::Failure;
use crate::judge::{Content, Gathered, Judge};
use crate::report::{Decided, Result as Found, Results};
use crate::{artifact, policy_file};
use countersign_policy::{Artifact as Subject, Context, Kind};
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use jiff::Timestamp;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

struct Job<'a> {
    args: &'a Verification,
    judge: Judge,
    now: Timestamp,
    /// What must be attested beside what the policy demands.
    wanted: Option<String>,
}

/// Decides about each file. With `explain` all of why is told whatever the flags say.
pub(super) fn run(
    args: &Verification,
    wanted: Option<String>,
    explain: bool,
) -> Result<ExitCode, Failure> {
    let (evidence, by) = (&args.evidence, &args.by_policy);
    if args.checksums.is_some() {
        return Err(Failure::unclear("--policy decides about files, not about a list of digests")
            .hint("verify the list itself: it is a file, too"));
    }
    let job = Job { args, judge: Judge::of(evidence, by)?, now: Timestamp::now(), wanted };
    let files = targets::expand(&args.files)?;
    let mut results = Vec::new();
    for file in &files {
        results.push(match job.check(file, files.len() == 1) {
            Err(failure) if files.len() == 1 => return Err(failure),
            Err(failure) => Found::undecided(&file.display().to_string(), &failure),
            Ok(found) => found,
        });
    }
    let mut output = evidence.output.clone();
    output.explain |= explain;
    conclude(by, &output, results)
}

/// Prints the decisions, and records what they were made from if that is asked for.
pub(crate) fn conclude(
    by: &ByPolicy,
    output: &Output,
    results: Vec<Found>,
) -> Result<ExitCode, Failure> {
    let results = Results::new(results);
    if let Some(path) = &by.record_facts {
        append(path, &results.records())?;
    }
    results.print(output, "verified")
}

/// Puts `text` behind what is in the file.
fn append(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::file("write", path, &error))
}

/// Where the flags say that the artifact is to be used.
pub(crate) fn context(by: &ByPolicy) -> Context {
    Context { name: by.context.clone(), ..Context::default() }
}

impl Job<'_> {
    fn check(&self, file: &Path, lone: bool) -> Result<Found, Failure> {
        let bundles = match &self.args.bundle {
            Some(path) => Bundles::read(path)?,
            None => Bundles::all_beside(file)?,
        };
        let mut hashes = bundles.hashes();
        hashes.insert(HashAlgorithm::Sha256);
        let artifact = artifact::read(file, &hashes, lone)?;
        // A digest of another kind that stands for the file is all that is known of it.
        let known = artifact.digest(HashAlgorithm::Sha256);
        let known = known.map(|digest| (HashAlgorithm::Sha256, digest));
        let known = known.or_else(|| artifact.digests().next());
        let shown =
            |(hash, digest): (HashAlgorithm, _)| format!("{}:{}", hash.short_name(), hex(digest));
        let digest = known.map(shown).unwrap_or_default();
        let mut gathered = Gathered::default();
        for (name, bundle) in bundles.about(&artifact) {
            self.judge.weigh(&mut gathered, name, bundle, &Content::File(&artifact, &digest));
        }
        let named = policy_file::file(file, self.args.by_policy.name.as_deref());
        if named.kind == Kind::Image && self.judge.needs_platforms() {
            let message = "by this policy the images for an image's platforms count, too, and a file does not show them";
            return Err(
                Failure::unclear(message).hint("countersign verify --policy IMAGE reads them")
            );
        }
        let subject = Subject { digest, pinned: true, ..named };
        let context = context(&self.args.by_policy);
        let (decision, facts) = self.judge.decide(subject, context, &gathered, self.now);
        let wanted = self.wanted.as_deref();
        let lacking = wanted.filter(|kind| !self.judge.attested(&facts, kind));
        let decided = Decided { decision: &decision, facts, gathered, lacking };
        Ok(Found::decided(&file.display().to_string(), decided))
    }
}
