//! Verification by a policy: all bundles about a file are evidence, and one decision is made of them.

use super::bundles::Bundles;
use super::{roots, targets, thresholds};
use crate::args::Verification;
use crate::cmd::witness;
use crate::failure::Failure;
use crate::output::NewFile;
use crate::policy_file::{self, Named};
use crate::report::{Decided, Result as Found, Results};
use crate::{artifact, report};
use countersign_policy::{
    Artifact as Subject, Context, Evidence, Facts, Point, Policy, decide, facts_from,
};
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::{Artifact, Bundle, Error, TrustedRoot, Verified, Verifier};
use jiff::Timestamp;
use std::path::Path;
use std::process::ExitCode;

struct Job<'a> {
    args: &'a Verification,
    policy: Policy,
    /// Those on the command line, which are our own.
    own: Vec<TrustedRoot>,
    named: Vec<(String, Named)>,
    /// Of these the policy says how many.
    witnesses: Option<countersign_verify::witness::Policy>,
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
    if evidence.whom.names_someone() || evidence.whom.key.is_some() {
        return Err(Failure::unclear(
            "--policy and flags about who must have signed exclude each other",
        )
        .hint("the policy says who counts: its roles, and the keys under trust"));
    }
    if args.checksums.is_some() {
        return Err(Failure::unclear("--policy decides about files, not about a list of digests")
            .hint("verify the list itself: it is a file, too"));
    }
    let [path, ..] = by.policy.as_slice() else {
        return Err(Failure::unclear("by which policy? Give --policy FILE"));
    };
    let policy = policy_file::read_all(&by.policy)?;
    let known: Vec<&str> = policy.contexts().collect();
    if let Some(name) = by.context.as_deref().filter(|name| !known.contains(name)) {
        return Err(Failure::unclear(format!("--in {name}: the policy has no such context"))
            .hint(format!("its contexts are: {}", known.join(", "))));
    }
    let named = policy_file::trust(&policy, path)?;
    let own = roots(evidence, false)?;
    let witnesses = evidence.witness_policy.as_deref().map(witness::policy).transpose()?;
    let job = Job { args, policy, own, named, witnesses, now: Timestamp::now(), wanted };
    let (mut results, mut records) = (Vec::new(), String::new());
    let files = targets::expand(&args.files)?;
    let lone = files.len() == 1;
    for file in files {
        let shown = file.display().to_string();
        match job.check(&file, lone) {
            Ok((found, facts)) => {
                records.push_str(&serde_json::to_string(&facts).expect("texts and numbers only"));
                records.push('\n');
                results.push(found);
            }
            Err(failure) if lone => return Err(failure),
            Err(failure) => results.push(report::Result::undecided(&shown, &failure)),
        }
    }
    if let Some(path) = &by.record_facts {
        NewFile::begin(path)?.finish(records.as_bytes())?;
    }
    let mut output = evidence.output.clone();
    output.explain |= explain;
    Results::new(results).print(&output, "verified")
}

impl Job<'_> {
    fn check(&self, file: &Path, lone: bool) -> Result<(Found, Facts), Failure> {
        let bundles = match &self.args.bundle {
            Some(path) => Bundles::read(path)?,
            None => Bundles::all_beside(file)?,
        };
        let mut hashes = bundles.hashes();
        hashes.insert(HashAlgorithm::Sha256);
        let artifact = artifact::read(file, &hashes, lone)?;
        let digest = artifact.digest(HashAlgorithm::Sha256).map(hex).unwrap_or_default();
        let subject =
            Subject { digest: format!("sha256:{digest}"), pinned: true, ..self.subject(file) };
        let (mut evidence, mut rejected) = (Vec::new(), Vec::new());
        for (name, bundle) in bundles.about(&artifact) {
            let verified = match bundle {
                Ok(bundle) => self.verify(bundle, &artifact),
                Err(error) => Err(Error::Bundle(error.clone())),
            };
            match verified {
                // Verified over this very file, under whatever hash the bundle names.
                Ok((verified, trust)) => {
                    let facts = facts_from(&verified, trust, name);
                    evidence.push(Evidence { digest: subject.digest.clone(), ..facts });
                }
                Err(error) => rejected.push((name.to_owned(), error.to_string())),
            }
        }
        let context = Context { name: self.args.by_policy.context.clone(), ..Context::default() };
        let artifact = Some(subject);
        let facts =
            Facts { at: Point::Use, now: self.now, artifact, context, evidence, incomplete: None };
        let decision = decide(&facts, &self.policy);
        let decided = Decided {
            decision: &decision,
            facts: &facts,
            rejected,
            wanted: self.wanted.as_deref(),
        };
        Ok((Found::decided(&file.display().to_string(), decided), facts))
    }

    /// The file as policies know it. Its name is what the command line says, and nothing proves it.
    fn subject(&self, file: &Path) -> Subject {
        if let Some(name) = &self.args.by_policy.name {
            return policy_file::artifact(name);
        }
        let unnamed = file == Path::new("-") || artifact::digest_in(file).is_some();
        let name = match file.file_name() {
            _ if unnamed => String::new(),
            Some(name) if file.is_absolute() => name.to_string_lossy().into_owned(),
            _ => file.to_string_lossy().trim_start_matches("./").to_owned(),
        };
        Subject { name, ..Subject::default() }
    }

    /// By our own roots, else by one that the policy names; what the last of ours said is the reason if it
    /// holds by none.
    fn verify(
        &self,
        bundle: &Bundle,
        artifact: &Artifact,
    ) -> Result<(Verified, Option<&str>), Error> {
        let (certificate, key) =
            (thresholds(&self.args.evidence, false), thresholds(&self.args.evidence, true));
        let by = |verifier: Verifier<'_>| {
            let witnesses = self.witnesses.as_ref();
            let verifier =
                witnesses.map_or(verifier, |witnesses| verifier.with_witnesses(witnesses));
            verifier.verify(bundle, artifact).into_result()
        };
        let own = Verifier::any_of(&self.own);
        let reason = match by(own.with_thresholds(certificate)) {
            Ok(verified) => return Ok((verified, None)),
            Err(error) => error,
        };
        for (name, root) in &self.named {
            let verified = match root {
                Named::Root(root) => by(Verifier::new(root).with_thresholds(certificate)),
                Named::Key(named) => by(own.with_key(named).with_thresholds(key)),
            };
            if let Ok(verified) = verified {
                return Ok((verified, Some(name)));
            }
        }
        Err(reason)
    }
}
