//! The answer at the CA and at the log, before a signature is made or kept.
//!
//! What is not known there (which artifact, what an attestation says) does not refuse: it is decided
//! again before use. What is known decides: who asks, what they want to do, the time.

use super::{Answer, Judge, gives, need};
use crate::artifact::Known;
use crate::explain::{Code, Outcome, Step};
use crate::facts::{Content, Evidence};
use crate::rule::{Action, May, Never, To};
use jiff::SignedDuration;

impl Judge<'_> {
    pub(super) fn gate(&self) -> Answer {
        let mut warnings = Vec::new();
        if let Some(expired) = self.expired(SignedDuration::ZERO, &mut warnings) {
            return (Outcome::Fail, "expires".to_owned(), vec![expired], warnings);
        }
        let ([evidence], [standing]) = (&*self.facts.evidence, &*self.standings) else {
            let step = Step::no("one signer who asks", Code::Undecided("signer".to_owned()));
            return (Outcome::Undecided, "none".to_owned(), vec![step], warnings);
        };
        let shown = evidence.signer.shown();
        if let Some(step) = self.strays(evidence) {
            return (Outcome::Fail, "intent".to_owned(), vec![step], warnings);
        }
        // A prohibition that is certainly about this comes first: it is what nobody can grant away.
        let certain = standing.denied;
        let mut denied = certain.or_else(|| self.forbidden_outright(evidence, &standing.roles));
        let (mut grants, mut near) = (self.publishes(evidence, &standing.roles), false);
        let mut retired = None;
        for &role in &standing.roles {
            let named = &self.policy.roles[role];
            if let Some(date) = named.retired.filter(|_| !named.in_use_at(Some(self.facts.now))) {
                let what = format!("role {:?} is in use", named.name);
                let step = Step::no(what, Code::RoleRetired);
                let step = step.expected(format!("signed before {date}"));
                retired = Some(step.found(self.facts.now.to_string()));
                continue;
            }
            for may in self.policy.may.iter().filter(|may| may.who.has(role)) {
                near = true;
                if self.is_of(&may.to, Some(evidence)) == Known::No
                    || self.granted_when(&may.when, evidence, role) == Known::No
                {
                    continue;
                }
                match self.survives(may, evidence, &standing.roles) {
                    Ok(Some(what)) => {
                        grants.push(format!("role {:?} may {what}", self.policy.roles[role].name))
                    }
                    Ok(None) => {}
                    Err(never) => denied = denied.or(Some(never)),
                }
            }
        }
        if let Some(never) = denied.filter(|_| certain.is_some() || grants.is_empty()) {
            let code = Code::DeniedBy(never.name.clone());
            let step = Step::no(format!("never {:?}", never.name), code).found(shown);
            return (Outcome::Fail, format!("never {:?}", never.name), vec![step], warnings);
        }
        if !grants.is_empty() {
            grants.dedup();
            let steps = grants.iter().map(Step::pass).collect();
            return (Outcome::Pass, grants.join("; "), steps, warnings);
        }
        let step = match (standing.roles.as_slice(), retired) {
            ([], _) => self.in_no_role(evidence, shown),
            (_, Some(retired)) if !near => retired,
            (roles, _) => {
                let names: Vec<_> =
                    roles.iter().map(|&role| self.policy.roles[role].name.as_str()).collect();
                let what = match &evidence.content {
                    Content::Attestation { predicate_type, .. } => {
                        format!(" to attest {predicate_type}")
                    }
                    Content::Signature => " to sign".to_owned(),
                    Content::Unknown => String::new(),
                };
                let found = match (near, &self.facts.artifact) {
                    (true, Some(artifact)) => format!("none{what} for {:?}", artifact.name),
                    (true, None) => format!("none{what} for this"),
                    (false, _) => "none at all".to_owned(),
                };
                Step::no(format!("a grant for role {}", names.join(" or ")), Code::NotGranted)
                    .found(found)
            }
        };
        (Outcome::Fail, "may".to_owned(), vec![step], warnings)
    }

    /// Owners publish the next version without a grant.
    fn publishes(&self, evidence: &Evidence, roles: &[usize]) -> Vec<String> {
        let owners = self.policy.owners.iter().flat_map(|owners| &owners.roles);
        let owners = owners.filter(|owner| {
            roles.contains(owner)
                && self.policy.roles[**owner].in_use_at(Some(self.facts.now))
                && gives(&Action::Publish, &evidence.content) != Some(false)
        });
        let told =
            |&owner: &usize| format!("role {:?} may publish policy", self.policy.roles[owner].name);
        owners.map(told).collect()
    }

    /// The first prohibition of anything at all, where it is not said what is wanted.
    fn forbidden_outright(&self, evidence: &Evidence, roles: &[usize]) -> Option<&Never> {
        let nobody = roles.is_empty()
            && (evidence.content == Content::Unknown || self.facts.artifact.is_none());
        let about = |never: &&Never| {
            let whom = never.who == crate::rule::By::Anyone;
            let does =
                never.actions.iter().any(|action| action.covers(&evidence.content) != Some(false));
            whom && does
                && never.digests.is_empty()
                && self.is_of(&never.to, Some(evidence)) != Known::No
                && self.denied_when(never, evidence, roles)
        };
        self.policy.never.iter().filter(|_| nobody).find(about)
    }

    /// What of a grant is left beside the prohibitions: the first action, if it gives what is wanted. Where
    /// the artifact is not known a prohibition takes the classes away that it names.
    fn survives<'s>(
        &'s self,
        may: &May,
        evidence: &Evidence,
        roles: &[usize],
    ) -> Result<Option<String>, &'s Never> {
        let mut taken = None;
        for action in &may.actions {
            if gives(action, &evidence.content) == Some(false) {
                continue;
            }
            let classes: Vec<Option<usize>> = match &may.to {
                To::Anything => vec![None],
                To::Classes(places) => places.iter().copied().map(Some).collect(),
            };
            for class in classes {
                let denying = self.policy.never.iter().find(|never| {
                    let whom = match &never.who {
                        crate::rule::By::Anyone => true,
                        crate::rule::By::Roles(named) => {
                            roles.iter().any(|role| named.contains(role))
                        }
                    };
                    let to = match (self.is_of(&never.to, Some(evidence)), &never.to, class) {
                        (Known::Yes, ..) => true,
                        (Known::Unknown, To::Classes(places), Some(class)) => {
                            places.contains(&class)
                        }
                        _ => false,
                    };
                    let same = never.actions.iter().any(|other| includes(other, action));
                    let digest = never.digests.is_empty() || self.names_digest(never, evidence);
                    whom && to && same && digest && self.denied_when(never, evidence, roles)
                });
                match denying {
                    Some(never) => taken = taken.or(Some(never)),
                    None => {
                        let class = class
                            .map_or("anything", |place| self.policy.classes[place].name.as_str());
                        return Ok(Some(format!("{} {class}", action.shown())));
                    }
                }
            }
        }
        taken.map_or(Ok(None), Err)
    }

    fn in_no_role(&self, evidence: &Evidence, shown: String) -> Step {
        let memberships = self
            .policy
            .roles
            .iter()
            .map(|role| (role, role.membership(&evidence.signer, &self.policy.name)));
        let Some((role, nearest)) = memberships.max_by_key(|(_, membership)| membership.nearness())
        else {
            return Step::no(shown, Code::NoRole).found("the policy has no roles");
        };
        let mut steps = need::mismatches(&nearest, evidence, nearest.nearness().0);
        // Whoever asks is told one step alone, so it says whose it is.
        for expected in steps.iter_mut().filter_map(|step| step.expected.as_mut()) {
            expected.push_str(&format!(" for role {:?}", role.name));
        }
        Step::new(shown, Outcome::Fail)
            .found(format!("in no role; nearest is {:?}", role.name))
            .because(steps)
    }
}

/// Whether a prohibition of `wide` is one of `narrow`.
fn includes(wide: &Action, narrow: &Action) -> bool {
    wide == narrow
        || (*wide == Action::AttestAnything
            && matches!(narrow, Action::Attest(_) | Action::Approve))
}
