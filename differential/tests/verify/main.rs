//! Our verifier and the `sigstore-verify` crate over the same bundles: genuine ones of every kind,
//! mutations of them, and bundles wrong in meaning with every signature in place.
//!
//! Each disagreement is listed in `known.rs` with its reason, or fails the test. The keys are made
//! afresh, the choice of mutations follows from [`SEED`]. `COUNTERSIGN_DIFFERENTIAL_ROUNDS` says how many
//! random mutations to make of each kind of bundle, beside the systematic ones.

mod corpus;
mod known;
mod mutate;

use corpus::{ARTIFACT, ENTRY, Seed};
use countersign_testkit::Instance;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::{Artifact, TrustedRoot, verify_json};
use mutate::{Random, members, twice, values, with, without};
use serde_json::Value;
use sigstore_verify::{VerificationPolicy, Verifier};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEED: u64 = 20_261_123;
/// Random mutations of each kind of bundle: two or three places at once.
const ROUNDS: usize = 500;

/// The verdict of a verifier that panics; ours must not.
const PANIC: &str = "panic";

/// A bundle to verify.
pub(crate) struct Case {
    /// The genuine bundle it comes from, or the group of cases in meaning.
    pub(crate) seed: &'static str,
    /// What was done, and where: the JSON pointer, for what is inside a member followed by `#`.
    pub(crate) kind: String,
    pub(crate) path: String,
    pub(crate) json: String,
}

/// What a verifier says: the reason for a refusal.
pub(crate) type Verdict = Result<(), String>;

/// One instance, as both verifiers trust it.
struct Trust {
    ours: TrustedRoot,
    theirs: Verifier,
    /// `trusted_root.json`.
    text: String,
}

impl Trust {
    fn new(instance: &Instance) -> Self {
        let text = instance.trusted_root();
        let root = sigstore_trust_root::TrustedRoot::from_json(&text).unwrap();
        let ours = TrustedRoot::parse(text.as_bytes()).unwrap();
        Self { ours, theirs: Verifier::new(&root).unwrap(), text }
    }

    fn ours(&self, json: &str) -> Verdict {
        let verify = || {
            let artifact = Artifact::from_bytes(ARTIFACT);
            verify_json(json.as_bytes(), &artifact, &self.ours).into_result().map(drop)
        };
        match catch_unwind(AssertUnwindSafe(verify)) {
            Ok(verdict) => verdict.map_err(|error| format!("{}: {error}", error.code())),
            Err(_) => Err(PANIC.to_owned()),
        }
    }

    fn theirs(&self, json: &str) -> Verdict {
        let verify = || {
            let bundle =
                sigstore_types::Bundle::from_json(json).map_err(|e| format!("read: {e}"))?;
            let policy = VerificationPolicy::any_identity();
            self.theirs.verify(ARTIFACT, &bundle, &policy).map(drop).map_err(|e| e.to_string())
        };
        catch_unwind(AssertUnwindSafe(verify)).unwrap_or_else(|_| Err(PANIC.to_owned()))
    }
}

/// Every member of a bundle altered in every way.
fn systematic(seed: &Seed, random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut push = |kind: &str, path: &str, json: String| {
        cases.push(Case { seed: seed.name, kind: kind.to_owned(), path: path.to_owned(), json });
    };
    let bundle = &seed.bundle;
    push("as it is", "", bundle.to_string());
    push("of another signer", "", seed.sibling.to_string());
    push("of another instance", "", seed.stranger.to_string());
    push("spaced", "", serde_json::to_string_pretty(bundle).unwrap());
    push("trailing data", "", format!("{bundle}{{}}"));
    push("cut", "", bundle.to_string()[..bundle.to_string().len() - 1].to_owned());
    push("surplus member", "", with(bundle, "", surplus(bundle)).to_string());
    for path in members(bundle) {
        let value = bundle.pointer(&path).unwrap();
        if let Some(less) = without(bundle, &path) {
            push("removed", &path, less.to_string());
        }
        for (kind, altered) in values(value, random) {
            push(kind, &path, with(bundle, &path, altered).to_string());
        }
        for (kind, donor) in [("sibling's", &seed.sibling), ("stranger's", &seed.stranger)] {
            let Some(theirs) = donor.pointer(&path).filter(|theirs| *theirs != value) else {
                continue;
            };
            push(kind, &path, with(bundle, &path, theirs.clone()).to_string());
            if let Some(text) = twice(bundle, &path, theirs) {
                push("twice, second differs", &path, text);
            }
        }
        if let Some(text) = twice(bundle, &path, value) {
            push("twice", &path, text);
        }
    }
    cases
}

fn surplus(bundle: &Value) -> Value {
    let mut bundle = bundle.clone();
    corpus::object(&mut bundle, "").insert("surplus".into(), 1.into());
    bundle
}

/// The logged body altered member by member, and logged again: what refuses it is its meaning.
fn logged_bodies(seed: &Seed, instance: &Instance, random: &mut Random) -> Vec<Case> {
    let path = format!("{ENTRY}/canonicalizedBody");
    let text = seed.bundle.pointer(&path).unwrap().as_str().unwrap();
    let body: Value = serde_json::from_slice(&from_base64(text).unwrap()).unwrap();
    let mut cases = Vec::new();
    let mut push = |kind: &str, at: &str, body: String| {
        let again = corpus::logged_again(instance, &seed.bundle, body.into_bytes());
        let (kind, path) = (format!("logged: {kind}"), format!("{path}#{at}"));
        cases.push(Case { seed: seed.name, kind, path, json: again.to_string() });
    };
    push("as it is", "", body.to_string());
    push("spaced", "", serde_json::to_string_pretty(&body).unwrap());
    for at in members(&body) {
        let value = body.pointer(&at).unwrap();
        if let Some(less) = without(&body, &at) {
            push("removed", &at, less.to_string());
        }
        for (kind, altered) in values(value, random) {
            push(kind, &at, with(&body, &at, altered).to_string());
        }
        if let Some(text) = twice(&body, &at, value) {
            push("twice", &at, text);
        }
    }
    cases
}

/// Every bit of the certificate altered, in the bundle and in what was logged.
fn logged_certificates(seed: &Seed, instance: &Instance) -> Vec<Case> {
    if !["0.3 message, Rekor v2", "0.3 message, Rekor v1"].contains(&seed.name) {
        return vec![];
    }
    let path = "/verificationMaterial/certificate/rawBytes";
    let text = seed.bundle.pointer(path).unwrap().as_str().unwrap();
    let body = seed.bundle.pointer(&format!("{ENTRY}/canonicalizedBody")).unwrap();
    let body = String::from_utf8(from_base64(body.as_str().unwrap()).unwrap()).unwrap();
    let pem = |text: &str| base64(corpus::pem(text).as_bytes());
    flips(&from_base64(text).unwrap())
        .map(|altered| {
            let altered = base64(&altered);
            let bundle = with(&seed.bundle, path, altered.clone().into());
            let body = body.replace(text, &altered).replace(&pem(text), &pem(&altered));
            let json = corpus::logged_again(instance, &bundle, body.into_bytes()).to_string();
            Case { seed: seed.name, kind: "logged: bit".into(), path: path.to_owned(), json }
        })
        .collect()
}

/// Every bit of the first timestamp and of the first checkpoint altered, in one bundle of each sort.
fn bits(seed: &Seed) -> Vec<Case> {
    let stamps = ["Rekor v2", "embedded certificate", "with a timestamp", "two stamps"];
    let notes = ["0.3 message, Rekor v2", "0.3 message, Rekor v1"];
    let is_one = |names: &[&str]| {
        !seed.name.contains("statement") && names.iter().any(|name| seed.name.contains(name))
    };
    let stamp =
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let note = &format!("{ENTRY}/inclusionProof/checkpoint/envelope");
    let mut cases = Vec::new();
    let mut push = |kind: &str, path: &str, value: Value| {
        let json = with(&seed.bundle, path, value).to_string();
        cases.push(Case { seed: seed.name, kind: kind.to_owned(), path: path.to_owned(), json });
    };
    let at =
        |path, wanted: bool| seed.bundle.pointer(path).and_then(Value::as_str).filter(|_| wanted);
    if let Some(text) = at(stamp, is_one(&stamps)) {
        let bytes = from_base64(text).unwrap();
        flips(&bytes).for_each(|altered| push("bit", stamp, base64(&altered).into()));
    }
    if let Some(text) = at(note, notes.contains(&seed.name)) {
        let altered = flips(text.as_bytes()).filter_map(|altered| String::from_utf8(altered).ok());
        altered.for_each(|altered| push("note: bit", note, altered.into()));
    }
    cases
}

/// The bytes with one bit turned over, for each bit.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..8 * bytes.len()).map(|bit| {
        let mut altered = bytes.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        altered
    })
}

/// Several alterations at once, of members neither of which is in the other: what else comes of one member is
/// another value of it.
fn random(seed: &Seed, rounds: usize, random: &mut Random) -> Vec<Case> {
    let cases = (0..rounds).map(|_| {
        let mut bundle = seed.bundle.clone();
        let mut applied: Vec<(String, String)> = Vec::new();
        for _ in 0..2 + random.below(2) {
            let mut paths = members(&bundle);
            paths.retain(|path| !applied.iter().any(|(_, other)| nested(path, other)));
            let path = paths.swap_remove(random.below(paths.len()));
            let mut ways = values(bundle.pointer(&path).unwrap(), random);
            let (kind, altered) = ways.swap_remove(random.below(ways.len()));
            bundle = with(&bundle, &path, altered);
            applied.push((kind.to_owned(), path));
        }
        let (kinds, paths): (Vec<_>, Vec<_>) = applied.into_iter().unzip();
        let (kind, path) = (format!("several: {}", kinds.join(" + ")), paths.join(" + "));
        Case { seed: seed.name, kind, path, json: bundle.to_string() }
    });
    cases.collect()
}

/// Whether one is the other, or in it.
fn nested(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(one, other) || within(other, one)
}

#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
    listed: BTreeMap<&'static str, usize>,
    unlisted: Vec<Unlisted>,
}

/// A disagreement that no rule is about.
struct Unlisted {
    line: String,
    json: String,
}

impl Tally {
    fn count(&mut self, trust: &Trust, case: &Case) {
        let (ours, theirs) = (trust.ours(&case.json), trust.theirs(&case.json));
        match (&ours, &theirs, known::listed(case, &ours, &theirs)) {
            (Err(message), ..) if message == PANIC => self.unlisted(case, &ours, &theirs),
            (Ok(()), Ok(()), _) => self.accepted += 1,
            (Err(_), Err(_), _) => self.refused += 1,
            (_, _, Some(rule)) => *self.listed.entry(rule.name).or_default() += 1,
            _ => self.unlisted(case, &ours, &theirs),
        }
    }

    fn unlisted(&mut self, case: &Case, ours: &Verdict, theirs: &Verdict) {
        let Case { seed, kind, path, json } = case;
        let line = format!("{seed} | {kind} | {path} | ours {ours:?} | theirs {theirs:?}");
        self.unlisted.push(Unlisted { line, json: json.clone() });
    }
}

#[test]
fn both_verifiers_agree_or_the_difference_is_listed() {
    let rounds = std::env::var("COUNTERSIGN_DIFFERENTIAL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let (instance, other) = (Instance::new(), Instance::new());
    let trust = Trust::new(&instance);
    let mut choice = Random(SEED);
    let mut cases = Vec::new();
    for (name, make) in corpus::kinds() {
        let seed = corpus::seed(name, &make, &instance, &other);
        cases.extend(systematic(&seed, &mut choice));
        cases.extend(logged_bodies(&seed, &instance, &mut choice));
        cases.extend(logged_certificates(&seed, &instance));
        cases.extend(bits(&seed));
        cases.extend(random(&seed, rounds, &mut choice));
    }
    for (name, bundle) in corpus::in_meaning(&instance, &other) {
        cases.push(Case {
            seed: "in meaning",
            kind: name,
            path: String::new(),
            json: bundle.to_string(),
        });
    }
    // Their refusals may panic; the messages would hide ours.
    std::panic::set_hook(Box::new(|_| {}));
    let halves: Vec<Tally> = std::thread::scope(|scope| {
        let workers: Vec<_> = cases
            .chunks(cases.len().div_ceil(2))
            .map(|cases| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    cases.iter().for_each(|case| tally.count(&trust, case));
                    tally
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    drop(std::panic::take_hook());
    report(&cases, halves, &trust);
}

fn report(cases: &[Case], tallies: Vec<Tally>, trust: &Trust) {
    let (accepted, refused) =
        tallies.iter().fold((0, 0), |(yes, no), tally| (yes + tally.accepted, no + tally.refused));
    println!("{} bundles: both accept {accepted}, both refuse {refused}", cases.len());
    let mut idle = Vec::new();
    for rule in known::RULES {
        let found: usize = tallies.iter().filter_map(|tally| tally.listed.get(rule.name)).sum();
        if found == 0 {
            idle.push(rule.name);
        }
        println!("{found:6} {:?}: {}: {}", rule.side, rule.name, rule.reason);
    }
    let unlisted: Vec<_> = tallies.into_iter().flat_map(|tally| tally.unlisted).collect();
    unlisted.iter().for_each(|line| println!("UNLISTED {}", line.line));
    // The keys are new each time: what is needed to see a disagreement again is kept.
    if !unlisted.is_empty() {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(folder.join("trusted_root.json"), &trust.text).unwrap();
        let bundles: Vec<_> = unlisted.iter().map(|line| line.json.as_str()).collect();
        std::fs::write(folder.join("unlisted.jsonl"), bundles.join("\n")).unwrap();
        println!("trusted_root.json and unlisted.jsonl are in {}", folder.display());
    }
    assert!(unlisted.is_empty(), "{} disagreements that are not listed", unlisted.len());
    let (enough, idle) = (cases.len() > 10_000 && accepted > 100, idle.join(", "));
    assert!(enough, "{} bundles, {accepted} accepted by both: too few", cases.len());
    assert!(idle.is_empty(), "rules without a case: {idle}");
}
