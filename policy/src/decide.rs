//! From facts to a decision: one function for issuing, accepting and using.
//!
//! ```text
//! roles(s)    = roles whose trust root, issuer and every claim match the signer of s
//! s counts    iff some grant gives it to one of them, and no prohibition is about it
//! required    = demands whose class, context and start match
//! the answer  = no, if a demand that refuses is not met; else what becomes of the uncovered
//! ```
//! An answer is yes, no or undecided, and undecided is never yes. A signature that does not count is as if
//! it were not there: whoever may push to a registry could otherwise block what is in it.

mod gate;
mod need;

use crate::artifact::{Class, Known};
use crate::condition::Truth;
use crate::document::{Include, Policy, Unmatched};
use crate::explain::{Code, Outcome, Step};
use crate::facts::{Content, Evidence, Facts, Point};
use crate::role::{all_may_pass, all_pass};
use crate::rule::{APPROVAL, Action, By, Exception, May, Must, Never, Otherwise, To, When};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// How long a policy that has expired still decides about use, with a warning: a renewal that somebody
/// forgot is then no outage. Certificates and entries stop at once.
pub const GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The longest that an exception may still run. One with a later end does not count yet.
pub(crate) const MAX_EXCEPTION: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What a policy says. Only [`decide`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Decision {
    outcome: Outcome,
    policy: String,
    serial: u64,
    digest: String,
    rule: String,
    code: Option<Code>,
    tree: Step,
    warnings: Vec<String>,
    next: Option<String>,
    roles: Vec<String>,
    unmet: bool,
}

/// Decides by `policy` about what `facts` say. Pure: the same facts and policy give the same decision.
pub fn decide(facts: &Facts, policy: &Policy) -> Decision {
    let judge = Judge::new(facts, policy);
    let ((outcome, rule, mut steps, warnings), unmet) = match facts.at {
        Point::Use => judge.uses(),
        Point::Issuance | Point::Log => (judge.gate(), false),
    };
    let roles = match (facts.at, &*judge.standings) {
        (Point::Issuance | Point::Log, [who]) => who.roles.as_slice(),
        _ => &[],
    };
    let roles = roles.iter().map(|&role| policy.roles[role].name.clone()).collect();
    steps.sort_by_key(|step| step.outcome);
    let title = match outcome {
        Outcome::Pass => "allowed",
        Outcome::Fail => "REFUSED",
        Outcome::Undecided => "UNDECIDED",
    };
    let title = format!("{title} by {} serial {}", policy.name, policy.serial);
    let tree = Step::new(title, outcome).because(steps);
    let culprit = tree.culprit();
    let code = culprit.and_then(|step| step.code.clone());
    let next = culprit.and_then(|step| step.next.clone());
    let next = next.or_else(|| tree.because.iter().find_map(|step| step.next.clone()));
    let next = next.or_else(|| judge.where_else(outcome));
    Decision {
        outcome,
        policy: policy.name.clone(),
        serial: policy.serial,
        digest: policy.digest.clone(),
        rule,
        code,
        tree,
        warnings,
        next,
        roles,
        unmet,
    }
}

/// The evidence about the artifact that counts, by `policy` or by one that it includes and that speaks for it: a
/// grant gives it to its signer, and no prohibition is about it.
#[must_use]
pub fn counted<'f>(facts: &'f Facts, policy: &Policy) -> Vec<&'f Evidence> {
    let artifact = facts.artifact.as_ref();
    let digest = artifact.map_or("", |artifact| artifact.digest.as_str());
    let counts =
        |standing: &Standing<'_>| standing.denied.is_none() && !standing.granted.is_empty();
    let judge = Judge::new(facts, policy);
    let includes = policy.include.iter().filter(|include| include.speaks_for(artifact));
    let judges: Vec<_> = includes.filter_map(|include| judge.of_included(include)).collect();
    let mut found = Vec::new();
    for judge in std::iter::once(&judge).chain(&judges) {
        let evidence = facts.evidence.iter().zip(&judge.standings);
        let about =
            evidence.filter(|(evidence, standing)| evidence.digest == digest && counts(standing));
        found.extend(about.map(|(evidence, _)| evidence));
    }
    found
}

/// The evidence that nothing in `policy` prohibits and whose certificates were asked for it.
pub(crate) fn permitted<'f>(facts: &'f Facts, policy: &Policy) -> Vec<&'f Evidence> {
    let judge = Judge::new(facts, policy);
    let both = facts.evidence.iter().zip(&judge.standings);
    let permitted = both.filter(|(evidence, standing)| {
        standing.denied.is_none() && judge.strays(evidence).is_none()
    });
    permitted.map(|(evidence, _)| evidence).collect()
}

impl Decision {
    /// Whether the answer is yes. All else is no.
    #[must_use]
    pub const fn allows(&self) -> bool {
        matches!(self.outcome, Outcome::Pass)
    }

    /// Yes, no or undecided.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The rule that decided: its name, of several those that were met.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Why not, a stable code.
    #[must_use]
    pub const fn code(&self) -> Option<&Code> {
        self.code.as_ref()
    }

    /// All of why.
    #[must_use]
    pub const fn tree(&self) -> &Step {
        &self.tree
    }

    /// The first leaf of the tree that is to blame, for a refusal in one line.
    #[must_use]
    pub fn culprit(&self) -> Option<&Step> {
        self.tree.culprit()
    }

    /// Why not, in one sentence that names the rule.
    #[must_use]
    pub fn reason(&self) -> String {
        let why = self.culprit().map(Step::sentence).unwrap_or_default();
        format!("policy {} serial {}, {}: {why}", self.policy, self.serial, self.rule)
    }

    /// Before use: whether some demand on the artifact is not met, even one that warns only or is only recorded.
    #[must_use]
    pub const fn has_unmet(&self) -> bool {
        self.unmet
    }

    /// What is to be known beside the answer: demands that only warn, a policy that has expired.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What to do about a refusal, where that can be told.
    #[must_use]
    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// At the authority and the log: the roles of whoever asks.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The tree for people.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = format!("{}\n", self.tree.what);
        for step in &self.tree.because {
            step.write(&mut text, 1);
        }
        for warning in &self.warnings {
            text.push_str(&format!("  warning: {warning}\n"));
        }
        text
    }

    /// The decision with its tree for machines; see docs/report.md.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "outcome": self.outcome,
            "policy": { "name": self.policy, "serial": self.serial, "digest": self.digest },
            "rule": self.rule,
            "code": self.code.as_ref().map(ToString::to_string),
            "because": self.tree.because.iter().map(Step::to_json).collect::<Vec<_>>(),
            "warnings": self.warnings,
            "next": self.next,
        })
    }
}

/// An answer, the rule that gave it, its steps, and warnings.
type Answer = (Outcome, String, Vec<Step>, Vec<String>);

/// What the demands on an artifact come to.
#[derive(Default)]
struct Demands {
    steps: Vec<Step>,
    /// One of them is enough to let an artifact through that shows it.
    covered: bool,
    /// The worst answer that refuses, and the rule.
    blame: Option<(Outcome, String)>,
    /// The rules that are met, and those that cover although they are not.
    met: Vec<String>,
    /// One is not met, whatever that comes to: more evidence could change it.
    unmet: bool,
}

impl Demands {
    fn refused(&mut self, outcome: Outcome, rule: String) {
        if self.blame.as_ref().is_none_or(|(other, _)| outcome < *other) {
            self.blame = Some((outcome, rule));
        }
    }
}

/// What is known of one signature before any demand is looked at.
struct Standing<'a> {
    /// The roles that its signer is in.
    roles: Vec<usize>,
    /// The prohibition that is about it.
    denied: Option<&'a Never>,
    /// The roles under which a grant gives it.
    granted: Vec<usize>,
}

struct Judge<'a> {
    facts: &'a Facts,
    policy: &'a Policy,
    /// Whether the artifact is of each class, where no signer's word is needed to tell.
    classes: Vec<Option<Known>>,
    standings: Vec<Standing<'a>>,
    /// The prohibitions of the policy that includes this one, which bind here, too.
    outer: &'a [Never],
}

impl<'a> Judge<'a> {
    fn new(facts: &'a Facts, policy: &'a Policy) -> Self {
        let artifact = facts.artifact.as_ref();
        let classes = policy.classes.iter();
        let classes = classes.map(|class| (!class.has_tags()).then(|| class.has(artifact, None)));
        let (classes, standings) = (classes.collect(), Vec::new());
        let mut judge = Self { facts, policy, classes, standings, outer: &[] };
        judge.standings = facts.evidence.iter().map(|evidence| judge.standing(evidence)).collect();
        judge
    }

    /// By an included policy, if it is here. What this one prohibits stays prohibited.
    fn of_included(&self, include: &Include) -> Option<Self> {
        let policy = self.policy.included.iter().find(|policy| policy.name == include.policy)?;
        let mut inner = Self { outer: &self.policy.never, ..Self::new(self.facts, policy) };
        for (inner, outer) in inner.standings.iter_mut().zip(&self.standings) {
            inner.denied = outer.denied.or(inner.denied);
        }
        Some(inner)
    }

    fn standing(&self, evidence: &Evidence) -> Standing<'a> {
        let name = &self.policy.name;
        let roles = self.policy.roles.iter().enumerate();
        let roles: Vec<usize> = roles
            .filter(|(_, role)| role.has(&evidence.signer, name))
            .map(|(place, _)| place)
            .collect();
        let denied = self.policy.never.iter().find(|never| self.denies(never, evidence, &roles));
        let granted = roles.iter().copied();
        let granted = granted
            .filter(|_| self.strays(evidence).is_none())
            .filter(|&role| self.policy.roles[role].in_use_at(evidence.signed))
            .filter(|&role| self.policy.may.iter().any(|may| self.grants(may, evidence, role)));
        Standing { granted: granted.collect(), roles, denied }
    }

    /// What the certificate was asked for, where this is something else: an artifact goes by the name that its
    /// signer told, and as a mirror's.
    fn strays(&self, evidence: &Evidence) -> Option<Step> {
        let step = |told: String, found: String| {
            let step = Step::no("what its certificate was asked for", Code::IntentMismatch);
            step.expected(told).found(found)
        };
        if let Some((told, found)) = evidence.strays() {
            return Some(step(told, found));
        }
        let name = &self.facts.artifact.as_ref()?.name;
        let told = evidence.told_name()?;
        let same = name.is_empty()
            || *name == told
            || self.policy.classes.iter().any(|class| class.mirrors(&told, name));
        let next = format!(
            "if it is that one under another name, --name {told}; where else a class is found stands under also-at"
        );
        (!same).then(|| Step { next: Some(next), ..step(told, name.clone()) })
    }

    /// Whether an artifact is of the classes.
    fn is_of(&self, to: &To, evidence: Option<&Evidence>) -> Known {
        let To::Classes(places) = to else { return Known::Yes };
        let mut found = Known::No;
        for &place in places {
            let class = &self.policy.classes[place];
            let known = self.classes[place];
            match known.unwrap_or_else(|| class.has(self.facts.artifact.as_ref(), evidence)) {
                Known::Yes => return Known::Yes,
                Known::Unknown => found = Known::Unknown,
                Known::No => {}
            }
        }
        found
    }

    /// Whether `never` is certainly about this signature. What a condition cannot answer is as if it did.
    fn denies(&self, never: &Never, evidence: &Evidence, roles: &[usize]) -> bool {
        let whom = match &never.who {
            By::Anyone => true,
            By::Roles(named) => roles.iter().any(|role| named.contains(role)),
        };
        let does =
            never.actions.iter().any(|action| action.covers(&evidence.content) == Some(true));
        whom && does
            && self.is_of(&never.to, Some(evidence)) == Known::Yes
            && self.names_digest(never, evidence)
            && self.denied_when(never, evidence, roles)
    }

    fn names_digest(&self, never: &Never, evidence: &Evidence) -> bool {
        let artifact = self.facts.artifact.as_ref().map(|artifact| &artifact.digest);
        let named = |digest: &String| never.digests.contains(digest);
        never.digests.is_empty() || named(&evidence.digest) || artifact.is_some_and(named)
    }

    /// Whether what a prohibition says beside whom it is about holds for one of the signer's roles that it names.
    fn denied_when(&self, never: &Never, evidence: &Evidence, roles: &[usize]) -> bool {
        let when = &never.when;
        if !all_may_pass(&when.claims, &evidence.signer.claims) {
            return false;
        }
        let holds = |role: &str| {
            when.conditions.iter().all(|condition| {
                match condition.holds(self.facts, evidence, role) {
                    Truth::Yes | Truth::Error(_) => true,
                    // At the CA and the log it is left to whoever uses the artifact.
                    Truth::Unknown(_) => self.facts.at == Point::Use,
                    Truth::No => false,
                }
            })
        };
        let mut named = roles.iter().filter(|&&role| never.who.has(role)).peekable();
        match named.peek() {
            Some(_) => named.any(|&role| holds(&self.policy.roles[role].name)),
            None => holds(""),
        }
    }

    /// Whether `may` certainly gives this signature to `role`.
    fn grants(&self, may: &May, evidence: &Evidence, role: usize) -> bool {
        may.who.has(role)
            && may.actions.iter().any(|action| gives(action, &evidence.content) == Some(true))
            && self.is_of(&may.to, Some(evidence)) == Known::Yes
            && self.granted_when(&may.when, evidence, role) == Known::Yes
    }

    fn granted_when(&self, when: &When, evidence: &Evidence, role: usize) -> Known {
        if !all_pass(&when.claims, &evidence.signer.claims) {
            return Known::No;
        }
        let mut found = Known::Yes;
        for condition in &when.conditions {
            match condition.holds(self.facts, evidence, &self.policy.roles[role].name) {
                Truth::Yes => {}
                Truth::Unknown(_) => found = Known::Unknown,
                Truth::No | Truth::Error(_) => return Known::No,
            }
        }
        found
    }

    /// The answer before use, and whether some demand is not met.
    fn uses(&self) -> (Answer, bool) {
        let mut warnings = Vec::new();
        if self.facts.artifact.is_none() {
            let step = Step::no("which artifact", Code::Undecided("artifact".to_owned()));
            return ((Outcome::Undecided, "none".to_owned(), vec![step], warnings), false);
        }
        let demands = self.demands(&mut warnings);
        let unmet = demands.unmet;
        (self.by_demands(demands, warnings), unmet)
    }

    fn by_demands(&self, demands: Demands, mut warnings: Vec<String>) -> Answer {
        let Demands { mut steps, covered, blame, met, .. } = demands;
        if let Some((outcome, rule)) = blame {
            return (outcome, rule, steps, warnings);
        }
        if covered {
            return (Outcome::Pass, met.join("; "), steps, warnings);
        }
        let nothing = "no rule demands anything of this artifact here";
        let rule = "unmatched".to_owned();
        match self.policy.unmatched {
            Unmatched::Refuse => {
                let found = self.uncovered();
                steps.push(Step::no(nothing, Code::Unmatched).found(found));
                (Outcome::Fail, rule, steps, warnings)
            }
            unmatched => {
                if unmatched == Unmatched::Warn {
                    warnings.push(nothing.to_owned());
                }
                let step = Step::pass(nothing).found("unmatched artifacts are let through");
                steps.push(Step { code: Some(Code::Unmatched), ..step });
                (Outcome::Pass, rule, steps, warnings)
            }
        }
    }

    /// All demands that apply, those of included policies among them.
    fn demands(&self, warnings: &mut Vec<String>) -> Demands {
        let mut found = Demands::default();
        if let Some(expired) = self.expired(GRACE, warnings) {
            found.refused(Outcome::Fail, format!("policy {:?} expires", self.policy.name));
            found.steps.push(expired);
            return found;
        }
        if let Some(never) = self.policy.never.iter().find(|never| self.bars(never)) {
            let rule = format!("never {:?}", never.name);
            let step = Step::no(rule.clone(), Code::DeniedBy(never.name.clone()));
            found.steps.push(step.found("its digest, whoever signs it"));
            found.refused(Outcome::Fail, rule);
        }
        if let Some(step) = self.foreign_digest() {
            found.refused(Outcome::Undecided, step.what.clone());
            found.steps.push(step);
        }
        for must in self.policy.must.iter().filter(|must| self.applies(must)) {
            let (step, skipped) = self.must(must);
            found.unmet |= step.outcome != Outcome::Pass;
            let early = must.from.filter(|&from| self.facts.now < from);
            let covers = must.covers || (early.is_none() && must.covers());
            found.covered |= covers;
            let otherwise = match (must.otherwise, early) {
                (otherwise, None) => otherwise,
                (Otherwise::Refuse, Some(_)) => Otherwise::Warn,
                (_, Some(_)) => Otherwise::Record,
            };
            let step = match (step.outcome, otherwise) {
                (Outcome::Pass, _) => {
                    warnings.extend(skipped.clone());
                    found.met.push(skipped.unwrap_or_else(|| need::met(must, &step)));
                    step
                }
                (outcome, Otherwise::Refuse) => {
                    found.refused(outcome, step.what.clone());
                    step
                }
                _ => {
                    let why = step.culprit().map(Step::sentence).unwrap_or_default();
                    if covers {
                        found.met.push(format!("{} ({})", must.name, unmet(otherwise)));
                    }
                    if otherwise == Otherwise::Warn {
                        let from = early.map(|from| format!(", refused from {from} on"));
                        let from = from.unwrap_or_default();
                        warnings.push(format!("must {:?} is not met{from}: {why}", must.name));
                    }
                    told(step, otherwise, &why)
                }
            };
            found.steps.push(step);
        }
        let artifact = self.facts.artifact.as_ref();
        for include in self.policy.include.iter().filter(|include| include.speaks_for(artifact)) {
            let Some(judge) = self.of_included(include) else {
                let code = Code::Undecided(format!("include {}", include.policy));
                let step = Step::no(format!("policy {:?}", include.policy), code);
                found.steps.push(step.found("it is included, and not here"));
                found.refused(Outcome::Undecided, format!("include {:?}", include.policy));
                continue;
            };
            let (inner, policy) = (judge.demands(warnings), judge.policy);
            let title = format!("policy {:?} serial {}", policy.name, policy.serial);
            let outcome = inner.blame.as_ref().map_or(Outcome::Pass, |(outcome, _)| *outcome);
            if let Some((outcome, rule)) = inner.blame {
                found.refused(outcome, format!("policy {:?}, {rule}", policy.name));
            }
            found.covered |= inner.covered;
            found.unmet |= inner.unmet;
            found.met.extend(inner.met);
            found.steps.push(Step::new(title, outcome).because(inner.steps));
        }
        found
    }

    /// Why nothing is demanded: the artifact is of no class, or is not used where something would be.
    fn uncovered(&self) -> String {
        let about =
            self.policy.must.iter().filter(|must| self.is_of(&must.every, None) == Known::Yes);
        let sites =
            about.flat_map(|must| &must.sites).map(|&site| self.policy.sites[site].name.as_str());
        let mut sites: Vec<_> = sites.collect();
        sites.sort_unstable();
        sites.dedup();
        let name = self.facts.artifact.as_ref().map_or("", |artifact| artifact.name.as_str());
        match (sites.as_slice(), name) {
            ([], "") => "only its digest is known, and no class names it".to_owned(),
            ([], name) => format!("no rule that refuses is about {name:?}"),
            (sites, _) => format!("there are rules in {}", sites.join(", ")),
        }
    }

    /// The step of an expired policy; within the grace a warning.
    fn expired(&self, grace: SignedDuration, warnings: &mut Vec<String>) -> Option<Step> {
        let expires = self.policy.expires.filter(|&expires| self.facts.now >= expires)?;
        if self.facts.now.duration_since(expires) < grace {
            warnings.push(format!(
                "policy {} has expired at {expires}: publish its next serial",
                self.policy.name
            ));
            return None;
        }
        let step = Step::no("the policy is in force", Code::PolicyExpired);
        Some(step.expected(format!("a time before {expires}")).found(self.facts.now.to_string()))
    }

    /// Whether the artifact's digest, or that of its image for some platform, is one that nobody may sign.
    fn bars(&self, never: &Never) -> bool {
        let named = |digest: &String| never.digests.contains(digest);
        never.outright
            && self.facts.artifact.as_ref().is_some_and(|artifact| {
                named(&artifact.digest) || artifact.platforms.iter().any(named)
            })
            && self.is_of(&never.to, None) == Known::Yes
    }

    /// By a policy that names digests it cannot be told whether an artifact is one of them that is known by another
    /// kind of digest, or by none.
    fn foreign_digest(&self) -> Option<Step> {
        let artifact = self.facts.artifact.as_ref().filter(|one| !one.has_known_digest())?;
        let policy = self.policy;
        let named = policy.never.iter().any(|never| !never.digests.is_empty())
            || policy.classes.iter().any(Class::has_digests);
        let undecided = || {
            let step = Step::no("its SHA-256 digest", Code::Undecided("digest".to_owned()));
            let step = step.expected("sha256:…, as the policy names digests");
            let next = Some("give the artifact itself, or its sha256 digest".to_owned());
            Step { next, ..step.found(artifact.digest.clone()) }
        };
        named.then(undecided)
    }

    /// What to say about a place of which nothing is known.
    fn where_else(&self, outcome: Outcome) -> Option<String> {
        let nowhere = self.facts.at == Point::Use && self.facts.context.is_nowhere();
        let here = |must: &&Must| !must.sites.is_empty() && self.applies(must);
        if outcome == Outcome::Pass || !nowhere || !self.policy.must.iter().any(|must| here(&must))
        {
            return None;
        }
        let flags: Vec<_> = self.policy.contexts().map(|name| format!("--in {name}")).collect();
        Some(format!(
            "say where it is used, or the demands of all contexts apply: {}",
            flags.join(", ")
        ))
    }

    fn applies(&self, must: &Must) -> bool {
        let here = |&site: &usize| self.policy.sites[site].has(&self.facts.context);
        self.is_of(&must.every, None) == Known::Yes
            && (must.sites.is_empty() || must.sites.iter().any(here))
    }

    /// Whether the artifact shows what it must; with a sentence if it need not.
    fn must(&self, must: &Must) -> (Step, Option<String>) {
        let mut title = format!("must {:?}", must.name);
        if self.facts.context.is_nowhere() && !must.sites.is_empty() {
            let sites = must.sites.iter().map(|&site| self.policy.sites[site].name.as_str());
            title.push_str(&format!(" (in {})", sites.collect::<Vec<_>>().join(", ")));
        }
        let artifact =
            self.facts.artifact.as_ref().expect("only demands of a known artifact apply");
        let about = |exception: &&Exception| {
            exception.skips.contains(&must.name) && exception.is_about(artifact)
        };
        let about = self.policy.exceptions.iter().filter(about);
        let (exception, others): (Vec<_>, Vec<_>) =
            about.partition(|exception| exception.state(self.facts.now).is_none());
        let exception = exception.first();
        // What is prohibited for ever no exception lets in.
        let barred = |never: &&Never| never.digests.contains(&artifact.digest);
        let barred = self.policy.never.iter().chain(self.outer).find(barred);
        if let (Some(exception), None) = (exception, barred) {
            let (until, because) = (exception.until, &exception.because);
            let found = format!("EXCEPTION until {until}: {because}");
            let skipped = format!("{found} (must {:?} was skipped)", must.name);
            let step = Step::pass(title).found(found);
            return (Step { code: Some(Code::ExceptionUsed), ..step }, Some(skipped));
        }
        let mut steps = self.needs(must, &artifact.digest);
        if must.each_platform {
            for digest in &artifact.platforms {
                let each = self.needs(must, digest);
                steps.push(need::at_least(format!("platform {digest}"), each.len(), each));
            }
        }
        let mut step = need::at_least(title, steps.len(), steps);
        let state = others.first().and_then(|other| other.state(self.facts.now));
        let barred = barred.map(|never| format!("never {:?} is about this digest", never.name));
        let state = state.or(barred.filter(|_| exception.is_some()));
        if let (Some(state), true) = (state, step.outcome != Outcome::Pass) {
            step.next =
                Some(format!("there is an exception from must {:?}, and {state}", must.name));
        }
        (step, None)
    }

    fn needs(&self, must: &Must, digest: &str) -> Vec<Step> {
        let demand = need::Demand { judge: self, digest, proof: &must.proof };
        must.needs.iter().map(|need| demand.need(need)).collect()
    }
}

/// Whether a grant of `action` gives the signing of `content`; `None` if that is not known.
fn gives(action: &Action, content: &Content) -> Option<bool> {
    let approval = matches!(content, Content::Attestation { predicate_type, .. } if predicate_type == APPROVAL);
    // Who may attest anything is a machine; approvals are given by name.
    if *action == Action::AttestAnything && approval { Some(false) } else { action.covers(content) }
}

fn unmet(otherwise: Otherwise) -> &'static str {
    match otherwise {
        Otherwise::Warn => "not met, which warns only",
        _ => "not met, which is only recorded",
    }
}

/// A demand that is not met and does not refuse: it is no reason for the answer, and is told.
fn told(step: Step, otherwise: Otherwise, why: &str) -> Step {
    let found = Some(format!("{}: {why}", unmet(otherwise)));
    Step { outcome: Outcome::Pass, expected: None, found, because: Vec::new(), ..step }
}
