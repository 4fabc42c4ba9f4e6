//! What bundles are verified by: whom to trust, and how much must speak for a signature.

use crate::args::Evidence;
use crate::failure::Failure;
use crate::trust::Choice;
use crate::witness_policy;
use countersign_verify::key::PublicKey;
use countersign_verify::witness::Policy as Witnesses;
use countersign_verify::{Thresholds, TrustedRoot, Verifier};
use std::sync::Arc;

/// Whom to trust, and how much must speak for a signature. Owned, so that it can be shared.
#[derive(Clone, Debug)]
pub(crate) struct Grounds {
    roots: Arc<[TrustedRoot]>,
    /// By a managed key instead of a certificate.
    key: Option<PublicKey>,
    thresholds: Thresholds,
    witnesses: Option<Arc<Witnesses>>,
}

impl Grounds {
    /// Certificates of any of `roots`.
    pub(crate) fn new(
        roots: Vec<TrustedRoot>,
        thresholds: Thresholds,
        witnesses: Option<Witnesses>,
    ) -> Self {
        Self { roots: roots.into(), key: None, thresholds, witnesses: witnesses.map(Arc::new) }
    }

    /// As the flags have them; with a managed key nobody else's.
    pub(crate) fn of(args: &Evidence, key: Option<PublicKey>) -> Result<Self, Failure> {
        let thresholds = thresholds(args, key.is_some());
        let roots = roots(args, key.is_some() && thresholds.logs == 0)?;
        let witnesses = args.witness_policy.as_deref().map(witness_policy::read).transpose()?;
        Ok(Self { key, ..Self::new(roots, thresholds, witnesses) })
    }

    /// The same for certificates of another root alone.
    pub(crate) fn by_root(&self, root: TrustedRoot) -> Self {
        Self { roots: [root].into(), ..self.clone() }
    }

    /// The same for a managed key, whose logs are those of the same roots.
    pub(crate) fn by_key(&self, key: PublicKey, thresholds: Thresholds) -> Self {
        Self { key: Some(key), thresholds, ..self.clone() }
    }

    /// A verifier by them.
    pub(crate) fn verifier(&self) -> Verifier<'_> {
        let verifier = Verifier::any_of(&self.roots);
        // A key brings thresholds of its own, so ours come after it.
        let verifier = self.key.as_ref().map_or(verifier, |key| verifier.with_key(key));
        let verifier = verifier.with_thresholds(self.thresholds);
        let witnesses = self.witnesses.as_deref();
        witnesses.map_or(verifier, |witnesses| verifier.with_witnesses(witnesses))
    }
}

/// How much must speak for a signature by a certificate, or by a managed key.
pub(crate) fn thresholds(args: &Evidence, key: bool) -> Thresholds {
    let usual = if key { Thresholds::KEY } else { Thresholds::CERTIFICATE };
    let unless = |ignored: bool, usual| if ignored { 0 } else { usual };
    Thresholds {
        logs: args.log_threshold.unwrap_or(unless(args.insecure_ignore_tlog, usual.logs)),
        times: args.timestamp_threshold.unwrap_or(usual.times),
        certificate_logs: args
            .certificate_log_threshold
            .unwrap_or(unless(args.insecure_ignore_sct, usual.certificate_logs)),
    }
}

/// The trusted roots. `alone` is a key without a log, which needs nobody else's word.
fn roots(args: &Evidence, alone: bool) -> Result<Vec<TrustedRoot>, Failure> {
    let choice = match Choice::of(&args.trust) {
        Err(_) if alone => return Ok(vec![TrustedRoot::default()]),
        choice => choice?,
    };
    if args.offline && !choice.is_file() {
        return Err(Failure::unclear(
            "--offline makes no network call, so trust must come from a file",
        )
        .hint("give --trust-config FILE or --trusted-root FILE"));
    }
    Ok(choice.load_with(args.offline)?.roots)
}
