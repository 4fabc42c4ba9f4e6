//! Whether an artifact shows what it must.

use super::Judge;
use crate::condition::Truth;
use crate::explain::{Code, Nearness, Outcome, Step};
use crate::facts::{Content, Evidence};
use crate::role::Membership;
use crate::rule::{APPROVAL, Action, AttestationNeed, By, Must, Need, Proof};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How far the clocks of authorities may be ahead of ours. Ours: NTP keeps them within a second.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Most signatures that an explanation tells of one by one.
const MAX_TOLD: usize = 8;

/// One demand about one digest.
pub(super) struct Demand<'j, 'a> {
    pub(super) judge: &'j Judge<'a>,
    pub(super) digest: &'j str,
    pub(super) proof: &'j Proof,
}

/// What is to be said of one signature, and how near it came.
struct Candidate {
    nearness: Nearness,
    step: Step,
}

/// So many of `steps` must pass.
pub(super) fn at_least(what: String, count: usize, steps: Vec<Step>) -> Step {
    let of = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    let (passed, undecided) = (of(Outcome::Pass), of(Outcome::Undecided));
    let outcome = if passed >= count {
        Outcome::Pass
    } else if passed + undecided >= count {
        Outcome::Undecided
    } else {
        Outcome::Fail
    };
    let nearness =
        steps.iter().filter(|step| step.outcome != Outcome::Pass).map(|step| step.nearness);
    let (got, root, fits) = nearness.max().unwrap_or_default();
    // Each need that is met brings it nearer than anything that is not quite there.
    let needs = u8::try_from(passed.min(24)).unwrap_or_default();
    let nearness = (got.saturating_add(10 * needs), root, fits);
    Step { nearness, ..Step::new(what, outcome).because(steps) }
}

/// The name of a demand that is met; of alternatives those that held.
pub(super) fn met(must: &Must, step: &Step) -> String {
    fn held(need: &Need, step: &Step) -> String {
        let Need::AtLeast(count, needs) = need else { return step.what.clone() };
        let both = needs.iter().zip(&step.because);
        let passed = both.filter(|(_, step)| step.outcome == Outcome::Pass).take(*count);
        passed.map(|(need, step)| held(need, step)).collect::<Vec<_>>().join(" and ")
    }
    let alternative =
        |need: &Need| matches!(need, Need::AtLeast(count, needs) if *count < needs.len());
    let both = must.needs.iter().zip(&step.because);
    let both = both.filter(|(need, _)| alternative(need));
    let held: Vec<_> = both.map(|(need, step)| held(need, step)).collect();
    match held.is_empty() {
        true => must.name.clone(),
        false => format!("{}, by {}", must.name, held.join(" and ")),
    }
}

impl Demand<'_, '_> {
    pub(super) fn need(&self, need: &Need) -> Step {
        match need {
            Need::Signature { by, younger } => self.signature(by, *younger),
            Need::Attestation(need) => self.attestation(need),
            Need::Approvals { by, at_least, younger } => self.approvals(by, *at_least, *younger),
            Need::Pinned => {
                let artifact = self.judge.facts.artifact.as_ref();
                if artifact.is_some_and(|artifact| artifact.pinned) {
                    Step::pass("named by its digest")
                } else {
                    Step::no("named by its digest", Code::NotPinned)
                        .found("named by a tag, which may change")
                }
            }
            Need::AtLeast(count, needs) => {
                let steps: Vec<_> = needs.iter().map(|need| self.need(need)).collect();
                let what = match *count {
                    count if count == needs.len() => "all of these".to_owned(),
                    1 => "any of these".to_owned(),
                    count => format!("{count} of these"),
                };
                let mut step = at_least(what, *count, steps);
                // Of alternatives that are not there the nearest is to blame.
                if *count < needs.len() && step.outcome != Outcome::Pass {
                    step.because.sort_by_key(|step| Reverse((step.outcome, step.nearness)));
                }
                step
            }
        }
    }

    /// The evidence about this digest that is of a kind, by its place.
    fn about(&self, wanted: impl Fn(&Content) -> bool) -> Vec<usize> {
        let evidence = self.judge.facts.evidence.iter().enumerate();
        let about = evidence.filter(|(_, evidence)| {
            !self.digest.is_empty() && evidence.digest == self.digest && wanted(&evidence.content)
        });
        about.map(|(place, _)| place).collect()
    }

    /// What is not there may only not have been found.
    fn missing(&self, step: Step) -> Step {
        self.unless_whole(step, Outcome::Fail)
    }

    /// What was not found may be newer, or say otherwise.
    fn whole(&self, step: Step) -> Step {
        self.unless_whole(step, Outcome::Pass)
    }

    /// An answer that more evidence may turn is none yet.
    fn unless_whole(&self, step: Step, turned: Outcome) -> Step {
        match &self.judge.facts.incomplete {
            Some(why) if step.outcome == turned => Step {
                outcome: Outcome::Undecided,
                code: Some(Code::Undecided(why.clone())),
                found: Some(format!("not all evidence could be had: {why}")),
                because: Vec::new(),
                ..step
            },
            _ => step,
        }
    }

    fn signature(&self, by: &By, younger: Option<SignedDuration>) -> Step {
        let what = format!("signature by {}", self.shown(by));
        let found = self.about(|content| Action::Sign.covers(content) == Some(true));
        if found.is_empty() {
            return self.missing(
                Step::no(what, Code::SignatureMissing).found("there is none of this artifact"),
            );
        }
        let candidates =
            found.iter().map(|&place| self.candidate(place, by, younger, |_, step| step));
        self.any(what, candidates.collect())
    }

    fn attestation(&self, need: &AttestationNeed) -> Step {
        let level = need.level.map_or(String::new(), |level| format!(", level {level}"));
        let what = format!("{} by {}{level}", need.kind.name, self.shown(&need.by));
        let kind = |content: &Content| match content {
            Content::Attestation { predicate_type, .. } => need.kind.has(predicate_type),
            _ => false,
        };
        let found = self.about(kind);
        if found.is_empty() {
            return self.missing(
                Step::no(what, Code::PredicateMissing).found("there is none about this artifact"),
            );
        }
        let candidate = |&place: &usize| {
            self.candidate(place, &need.by, need.younger, |role, step| {
                self.says(need, place, role, step)
            })
        };
        if need.kind.newest_counts() && !need.all {
            let strangers =
                found.iter().filter(|&&place| !self.is_by(place, &need.by)).map(candidate);
            let newest = self.newest(&found, &need.by).into_iter();
            // Of two at the same time it cannot be told which holds, so both must.
            let newest = newest.filter_map(|places| {
                places
                    .iter()
                    .map(candidate)
                    .min_by_key(|candidate| (candidate.step.outcome, candidate.nearness))
            });
            return self.whole(self.any(what, strangers.chain(newest).collect()));
        }
        let candidates: Vec<_> = found.iter().map(candidate).collect();
        if need.all {
            // Of those by others nothing is demanded, or anybody could block.
            let by_role =
                found.iter().zip(candidates).filter(|(place, _)| self.is_by(**place, &need.by));
            let steps: Vec<_> = by_role.map(|(_, candidate)| candidate.step).collect();
            if steps.is_empty() {
                return self.missing(
                    Step::no(what, Code::PredicateMissing).found("there is none by this role"),
                );
            }
            return self.whole(self.missing(at_least(what, steps.len(), steps)));
        }
        self.any(what, candidates)
    }

    fn is_by(&self, place: usize, by: &By) -> bool {
        *by == By::Anyone || self.judge.standings[place].roles.iter().any(|&role| by.has(role))
    }

    /// The newest of each role. Which one that is is settled before any prohibition: one that forbids a bad
    /// scan must not make an older good one the newest.
    fn newest(&self, found: &[usize], by: &By) -> Vec<Vec<usize>> {
        let By::Roles(roles) = by else { return found.iter().map(|&place| vec![place]).collect() };
        // Without a time it might be the newest.
        let time = |place: usize| {
            let signed = made(&self.judge.facts.evidence[place]);
            (signed.is_none(), signed)
        };
        let newest = roles.iter().map(|role| {
            let of_role = found.iter().copied();
            let of_role: Vec<usize> =
                of_role.filter(|&place| self.judge.standings[place].roles.contains(role)).collect();
            let last = of_role.iter().map(|&place| time(place)).max();
            of_role.into_iter().filter(|&place| Some(time(place)) == last).collect()
        });
        let mut newest: Vec<_> = newest.collect();
        // Of those that fail alike one leads: not by the names of roles, which are sorted.
        newest.sort_unstable();
        newest
    }

    /// Whether an attestation says what it must.
    fn says(&self, need: &AttestationNeed, place: usize, role: Option<usize>, step: Step) -> Step {
        let evidence = &self.judge.facts.evidence[place];
        if let Some(wanted) = need.level {
            let (level, builder) = self.level(evidence, role);
            if level < wanted {
                let code = Code::LevelShort;
                let expected = format!("{wanted} or more");
                let found = format!("{level}, by builder {builder:?}");
                return Step::no("SLSA build level", code).expected(expected).found(found);
            }
        }
        let name = role.map_or("", |role| self.judge.policy.roles[role].name.as_str());
        for check in &need.checks {
            let said = match check.holds(self.judge.facts, evidence, name) {
                Truth::Yes => continue,
                Truth::Unknown(what) => Step::no("check", Code::Undecided(what.to_owned()))
                    .found(format!("could not be evaluated: the {what} is not known")),
                Truth::No => Step::no("check", Code::CheckFailed).found(check.complaint()),
                Truth::Error(error) => {
                    let found = format!("could not be evaluated: {error}, in {}", check.that);
                    Step::no("check", Code::CheckFailed).found(found)
                }
            };
            return said;
        }
        step
    }

    /// The SLSA build level that the signer is believed to vouch for, never one that the document claims.
    fn level(&self, evidence: &Evidence, role: Option<usize>) -> (u8, String) {
        let Content::Attestation { statement, .. } = &evidence.content else {
            return (0, String::new());
        };
        let predicate = statement.json().get("predicate");
        let v1 = predicate.and_then(|predicate| predicate.pointer("/runDetails/builder/id"));
        let id = v1.or_else(|| predicate.and_then(|predicate| predicate.pointer("/builder/id")));
        let Some(id) = id.and_then(Value::as_str) else { return (0, "none".to_owned()) };
        let named = self.judge.policy.builders.iter();
        let named = named.filter(|builder| builder.id == id && role == Some(builder.by));
        let claims = &evidence.signer.claims;
        let one = |name: &str| {
            claims.get(name).and_then(|claim| claim.texts().first()).map(String::as_str)
        };
        let hosted = one("runner") == Some("github-hosted");
        // GitHub's own builder, or the workflow that signs calls itself the builder.
        let workflow = one("workflow").zip(one("workflow-ref"));
        let itself =
            workflow.is_some_and(|(file, git_ref)| id.ends_with(&format!("/{file}@{git_ref}")));
        let known = id == "https://github.com/actions/runner/github-hosted" || itself;
        // Steps that the build's own repository writes cannot reach a reusable workflow of another one.
        let apart = one("workflow").zip(one("repository")).is_some_and(|(file, repository)| {
            let own = file.get(..repository.len());
            let own = own.is_some_and(|own| own.eq_ignore_ascii_case(repository));
            !own || file.as_bytes().get(repository.len()) != Some(&b'/')
        });
        let usual = match (known && hosted, apart) {
            (true, true) => 3,
            (true, false) => 2,
            (false, _) => 1,
        };
        let level = named.map(|builder| builder.level).max().unwrap_or(usual);
        (level, id.to_owned())
    }

    /// Distinct people; who signs twice, or through two issuers, is one.
    fn approvals(&self, by: &By, count: usize, younger: Option<SignedDuration>) -> Step {
        let what = format!("{count} approvals by {}", self.shown(by));
        let approval = |content: &Content| matches!(content, Content::Attestation { predicate_type, .. } if predicate_type == APPROVAL);
        let found = self.about(approval);
        let mut people: BTreeMap<String, Step> = BTreeMap::new();
        let mut others = Vec::new();
        for &place in &found {
            let Candidate { step, nearness } = self.candidate(place, by, younger, |_, step| step);
            let claims = &self.judge.facts.evidence[place].signer.claims;
            let person = self.judge.policy.person(claims);
            match person {
                Some(person) if step.outcome != Outcome::Fail => {
                    let better =
                        people.get(&person).is_none_or(|other| step.outcome > other.outcome);
                    if better {
                        people.insert(person.clone(), Step { what: person, ..step });
                    }
                }
                None if step.outcome != Outcome::Fail => {
                    let what = self.judge.facts.evidence[place].signer.shown();
                    let step = Step::no(what, Code::NoRole).found("a service is not a person");
                    others.push(Candidate { nearness, step });
                }
                _ => others.push(Candidate { nearness, step }),
            }
        }
        let mut steps: Vec<Step> = people.into_values().collect();
        let passed = steps.iter().filter(|step| step.outcome == Outcome::Pass).count();
        let undecided = steps.len() - passed;
        if passed >= count {
            return Step::pass(what).because(steps);
        }
        let found = format!("{passed} of {count} people");
        others.sort_by_key(|candidate| Reverse(candidate.nearness));
        let nearest = others.first().map(|candidate| candidate.nearness).unwrap_or_default();
        let nearness = if passed > 0 { (5, true, passed) } else { nearest };
        steps.extend(others.into_iter().map(|candidate| candidate.step).take(MAX_TOLD));
        if passed + undecided >= count {
            return Step::new(what, Outcome::Undecided).found(found).because(steps);
        }
        // What failed one by one is told, and the number is to blame.
        let short = Step::no("people who approve", Code::KOfNShort)
            .found(format!("{passed} of {count} needed"));
        steps.insert(0, short);
        self.missing(Step { nearness, ..Step::new(what, Outcome::Fail).because(steps) })
    }

    /// The first that passes; if none does all that were seen, the nearest first.
    fn any(&self, what: String, mut candidates: Vec<Candidate>) -> Step {
        candidates.sort_by_key(|candidate| Reverse((candidate.step.outcome, candidate.nearness)));
        let Some(best) = candidates.first() else { return Step::new(what, Outcome::Fail) };
        let (outcome, nearness) = (best.step.outcome, best.nearness);
        let told = if outcome == Outcome::Pass { 1 } else { MAX_TOLD };
        let steps = candidates.into_iter().map(|candidate| candidate.step).take(told).collect();
        self.missing(Step { nearness, ..Step::new(what, outcome).because(steps) })
    }

    fn shown(&self, by: &By) -> String {
        match by {
            By::Anyone => "anyone".to_owned(),
            By::Roles(roles) => {
                let names: Vec<_> =
                    roles.iter().map(|&role| self.judge.policy.roles[role].name.as_str()).collect();
                names.join(" or ")
            }
        }
    }

    /// Whether a signature counts for one of the roles, with the proof that is demanded. `content` then
    /// looks at what it says.
    fn candidate(
        &self,
        place: usize,
        by: &By,
        younger: Option<SignedDuration>,
        content: impl Fn(Option<usize>, Step) -> Step,
    ) -> Candidate {
        let judge = self.judge;
        let (evidence, standing) = (&judge.facts.evidence[place], &judge.standings[place]);
        let what = match (evidence.signer.name(), evidence.source.as_str()) {
            (None, source) if !source.is_empty() => source.to_owned(),
            (_, "") => evidence.signer.shown(),
            (_, source) => format!("{} ({source})", evidence.signer.shown()),
        };
        let wrap = |inner: Step, nearness: u8| {
            let step = match inner.outcome {
                Outcome::Pass => inner,
                outcome => Step::new(what.clone(), outcome).because(vec![inner]),
            };
            Candidate { nearness: (nearness, true, 0), step }
        };
        if let Some(step) = judge.strays(evidence) {
            return wrap(step, 3);
        }
        if let Some(never) = standing.denied {
            let name = never.name.clone();
            return wrap(Step::no(format!("never {name:?}"), Code::DeniedBy(name)), 2);
        }
        let By::Roles(wanted) = by else {
            return match self.proven(evidence, younger) {
                Some(missing) => wrap(missing, 4),
                None => wrap(content(None, Step::pass(what.clone())), 5),
            };
        };
        let members: Vec<usize> =
            wanted.iter().copied().filter(|role| standing.roles.contains(role)).collect();
        if members.is_empty() {
            return self.stranger(evidence, wanted, what);
        }
        let mut best: Option<Candidate> = None;
        for role in members {
            let candidate =
                match self.by_role(evidence, standing.granted.contains(&role), role, younger) {
                    Some((missing, nearness)) => wrap(missing, nearness),
                    None => {
                        let name = &judge.policy.roles[role].name;
                        let step =
                            Step::pass(what.clone()).found(self.as_role(evidence, role, name));
                        wrap(content(Some(role), step), 5)
                    }
                };
            let better = |other: &Candidate| {
                (candidate.step.outcome, candidate.nearness) > (other.step.outcome, other.nearness)
            };
            if best.as_ref().is_none_or(better) {
                best = Some(candidate);
            }
        }
        best.expect("there is a role at least")
    }

    fn as_role(&self, evidence: &Evidence, role: usize, name: &str) -> String {
        let asserted: Vec<_> = self.judge.policy.roles[role].asserted(&evidence.signer).collect();
        match asserted.as_slice() {
            [] => format!("as {name}"),
            claims => {
                format!("as {name}, {} as asserted by the CA at signing time", claims.join(", "))
            }
        }
    }

    /// What a member of `role` lacks, and how near that is.
    fn by_role(
        &self,
        evidence: &Evidence,
        granted: bool,
        role: usize,
        younger: Option<SignedDuration>,
    ) -> Option<(Step, u8)> {
        let role = &self.judge.policy.roles[role];
        if let Some(retired) = role.retired {
            let what = format!("role {:?} was in use", role.name);
            match evidence.signed {
                None => return Some((Step::no(what, Code::Undecided("time".to_owned())), 3)),
                Some(signed) if signed >= retired => {
                    let step = Step::no(what, Code::RoleRetired)
                        .expected(format!("signed before {retired}"));
                    return Some((step.found(signed.to_string()), 3));
                }
                Some(_) => {}
            }
        }
        if !granted {
            let artifact =
                self.judge.facts.artifact.as_ref().map_or("", |artifact| artifact.name.as_str());
            let done = match &evidence.content {
                Content::Attestation { predicate_type, .. } => format!("attest {predicate_type}"),
                _ => "sign".to_owned(),
            };
            let step = Step::no(format!("a grant for role {:?}", role.name), Code::NotGranted);
            return Some((step.found(format!("none to {done} for {artifact:?}")), 3));
        }
        self.proven(evidence, younger).map(|missing| (missing, 4))
    }

    /// Somebody in none of the roles: told by the role that came nearest.
    fn stranger(&self, evidence: &Evidence, wanted: &[usize], what: String) -> Candidate {
        let policy = self.judge.policy;
        let memberships = wanted.iter().map(|&role| {
            let role = &policy.roles[role];
            (role, role.membership(&evidence.signer, &policy.name))
        });
        let nearest = memberships.max_by_key(|(_, membership)| membership.nearness());
        let (role, membership) = nearest.expect("there is a role at least");
        let nearness = membership.nearness();
        let step = mismatches(&membership, evidence, nearness.0);
        let found = format!("nearest is role {:?}", role.name);
        let step = Step::new(what, Outcome::Fail).found(found).because(step);
        Candidate { nearness: (1, nearness.0, nearness.1), step }
    }

    /// What the proof lacks.
    fn proven(&self, evidence: &Evidence, younger: Option<SignedDuration>) -> Option<Step> {
        let (proof, now) = (self.proof, self.judge.facts.now);
        if proof.logged && !evidence.logged {
            return Some(
                Step::no("in a log", Code::NotLogged).found("there is no proof of an entry"),
            );
        }
        if proof.bundle_only && !evidence.bundled {
            return Some(
                Step::no("proof in the bundle", Code::NotBundled).found("a log was asked"),
            );
        }
        if evidence.witnesses < proof.witnesses {
            let step = Step::no("witnesses of the log", Code::WitnessShort);
            return Some(
                step.expected(proof.witnesses.to_string()).found(evidence.witnesses.to_string()),
            );
        }
        if proof.timestamp && !evidence.timestamped {
            return Some(
                Step::no("timestamp by an authority", Code::NotTimestamped).found("there is none"),
            );
        }
        if let Some(wanted) = proof.log_age {
            let what = "time in the log";
            let Some(since) = evidence.logged_at else {
                let step = Step::no(what, Code::Undecided("log-time".to_owned()));
                return Some(step.found("the log does not say when it took the entry"));
            };
            let age = now.duration_since(since);
            if age < wanted {
                let step = Step::no(what, Code::TooYoung).expected(format!("{wanted:#} or more"));
                return Some(step.found(format!("{age:#}")));
            }
        }
        let younger = younger?;
        let what = "age of the signature";
        let Some(signed) = made(evidence) else {
            let step = Step::no(what, Code::Undecided("time".to_owned()));
            let found = match evidence.signed {
                Some(_) => {
                    "a key's signature can be timestamped and logged anew long after it was made"
                }
                None => "no trusted time says when it was made",
            };
            return Some(step.found(found));
        };
        let age = now.duration_since(signed);
        if age < -SKEW {
            let step = Step::no(what, Code::Undecided("clock".to_owned()));
            return Some(step.found(format!("signed at {signed}, after now")));
        }
        (age >= younger).then(|| {
            let step = Step::no(what, Code::TooOld).expected(format!("less than {younger:#}"));
            step.found(format!("{age:#}"))
        })
    }
}

/// When a signature was made. Its trusted times are from no earlier; they are from within minutes where a
/// certificate of minutes signed, and from whenever somebody likes where a key did.
fn made(evidence: &Evidence) -> Option<Timestamp> {
    evidence.signed.filter(|_| evidence.signer.key.is_none())
}

/// What a signer's claims are, where they differ from a role: those that do not fit first.
pub(super) fn mismatches(membership: &Membership, evidence: &Evidence, near: bool) -> Vec<Step> {
    let wrong = membership.mismatches.iter().map(|mismatch| {
        let root = matches!(mismatch.claim, "trust" | "issuer" | "key");
        let code = if root || !near { Code::NoRole } else { Code::ClaimMismatch(mismatch.claim) };
        let step = Step::no(mismatch.claim, code).expected(mismatch.expected.clone());
        Step { found: mismatch.found.clone(), ..step }
    });
    let right = membership.matched.iter().map(|claim| {
        let found = evidence.signer.claims.get(*claim).map(crate::claims::Claim::shown);
        Step::pass(*claim).found(found.unwrap_or_default())
    });
    wrong.chain(right).collect()
}
