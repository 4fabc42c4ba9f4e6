//! Two questions about a policy: who can sign this, and what can this role sign?

use crate::artifact::Known;
use crate::document::Policy;
use crate::facts::Artifact;
use crate::role::{Role, Test};
use crate::rule::{By, Exception, May, Must, Never, When};
use serde::Serialize;

/// What a policy says about an artifact or a role.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// The classes that an artifact is of.
    pub classes: Vec<String>,
    /// Grants.
    pub grants: Vec<Grant>,
    /// Prohibitions that may be about it, one sentence each.
    pub prohibitions: Vec<String>,
    /// Demands, each with its contexts.
    pub demands: Vec<String>,
    /// Exceptions from them, one sentence each.
    pub exceptions: Vec<String>,
}

/// One grant to one role.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The role.
    pub role: String,
    /// Who that is.
    pub who: Vec<String>,
    /// What it may do, as policies have it.
    pub may: Vec<String>,
    /// The classes it may do that to.
    pub to: String,
    /// What must be so beside.
    pub when: Vec<String>,
}

impl Policy {
    /// Who can sign `artifact`, or attest something about it.
    #[must_use]
    pub fn who_can_sign(&self, artifact: &Artifact) -> Reach {
        let of = |to: &crate::rule::To| match to {
            crate::rule::To::Anything => true,
            crate::rule::To::Classes(places) => {
                places.iter().any(|&place| {
                    let class = &self.classes[place];
                    // Which tag a signer will write is not known: perhaps one that fits.
                    class.has(Some(artifact), None) == Known::Yes || class.may_have(artifact)
                })
            }
        };
        let classes = self.classes.iter();
        let classes = classes.filter(|class| {
            class.has(Some(artifact), None) == Known::Yes || class.may_have(artifact)
        });
        let grants = self.may.iter().filter(|may| of(&may.to));
        let prohibitions = self.never.iter().filter(|never| of(&never.to));
        let demands = self.must.iter().filter(|must| of(&must.every));
        let exceptions = self.exceptions.iter().filter(|exception| {
            // Where a name alone is asked about, which digest it will have is not known.
            let any_digest = artifact.digest.is_empty() && exception.digest.is_some();
            any_digest || exception.is_about(artifact)
        });
        Reach {
            classes: classes.map(|class| class.name.clone()).collect(),
            grants: grants.flat_map(|may| self.grant(may, None)).collect(),
            prohibitions: prohibitions.map(|never| self.prohibition(never)).collect(),
            demands: demands.map(|must| self.demand(must)).collect(),
            exceptions: exceptions.map(Exception::sentence).collect(),
        }
    }

    /// What the role of this name can sign; `None` if there is no such role.
    #[must_use]
    pub fn what_can(&self, role: &str) -> Option<Reach> {
        let place = self.roles.iter().position(|known| known.name == role)?;
        let about = |by: &By| by.has(place);
        let grants = self.may.iter().filter(|may| about(&may.who));
        let prohibitions = self.never.iter().filter(|never| about(&never.who));
        Some(Reach {
            classes: Vec::new(),
            grants: grants.flat_map(|may| self.grant(may, Some(place))).collect(),
            prohibitions: prohibitions.map(|never| self.prohibition(never)).collect(),
            demands: Vec::new(),
            exceptions: Vec::new(),
        })
    }

    fn grant(&self, may: &May, only: Option<usize>) -> Vec<Grant> {
        let By::Roles(roles) = &may.who else { return Vec::new() };
        let roles = roles.iter().filter(|&&role| only.is_none_or(|only| only == role));
        let grant = |&role: &usize| {
            let role = &self.roles[role];
            Grant {
                role: role.name.clone(),
                who: role.sentences(),
                may: may.actions.iter().map(crate::rule::Action::shown).collect(),
                to: self.shown(&may.to),
                when: may.when.sentences(),
            }
        };
        roles.map(grant).collect()
    }

    fn demand(&self, must: &Must) -> String {
        let sites: Vec<_> = must.sites.iter().map(|&site| &self.sites[site].name[..]).collect();
        match sites.as_slice() {
            [] => format!("{:?}", must.name),
            sites => format!("{:?} in {}", must.name, sites.join(", ")),
        }
    }

    fn prohibition(&self, never: &Never) -> String {
        let who = match &never.who {
            By::Anyone => "anyone".to_owned(),
            By::Roles(roles) => {
                let names: Vec<_> =
                    roles.iter().map(|&role| self.roles[role].name.as_str()).collect();
                names.join(", ")
            }
        };
        let actions: Vec<_> = never.actions.iter().map(crate::rule::Action::shown).collect();
        let when = never.when.sentences();
        let when =
            if when.is_empty() { String::new() } else { format!(", when {}", when.join(" and ")) };
        let digests = match never.digests.as_slice() {
            [] => String::new(),
            digests => format!(", of digest {}", digests.join(", ")),
        };
        format!(
            "{:?}: {who} never {}, to {}{digests}{when}",
            never.name,
            actions.join(", "),
            self.shown(&never.to)
        )
    }
}

impl Exception {
    fn sentence(&self) -> String {
        let name = self.named.as_ref().map(|named| &named.name);
        let what = self.digest.as_ref().or(name).map_or("", String::as_str);
        let (until, because) = (self.until, &self.because);
        format!("{} for {what} until {until}: {because}", self.skips.join(", "))
    }
}

impl Role {
    fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(trust) = &self.trust {
            sentences.push(format!("trust root {trust}"));
        }
        if !self.issuers.is_empty() {
            sentences.push(format!("issuer {}", self.issuers.join(" or ")));
        }
        if !self.keys.is_empty() {
            sentences.push(format!("key {}", self.keys.join(" or ")));
        }
        let tests = |tests: &[(&str, Test)]| -> Vec<String> {
            tests.iter().map(|(claim, test)| format!("{claim} {}", test.shown())).collect()
        };
        sentences.extend(tests(&self.claims));
        if !self.any_of.is_empty() {
            let any: Vec<_> = self.any_of.iter().map(|any| tests(any).join(" and ")).collect();
            sentences.push(format!("any of: {}", any.join("; ")));
        }
        sentences.extend(tests(&self.not).into_iter().map(|test| format!("not {test}")));
        sentences.extend(self.retired.map(|retired| format!("signed before {retired}")));
        sentences
    }
}

impl When {
    fn sentences(&self) -> Vec<String> {
        let claims = self.claims.iter().map(|(claim, test)| format!("{claim} is {}", test.shown()));
        claims.chain(self.conditions.iter().map(|condition| condition.that.clone())).collect()
    }
}
