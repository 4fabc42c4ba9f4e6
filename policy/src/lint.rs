//! What a policy allows and its author may not mean. A lint is no mistake: the policy is read all the same.

use crate::artifact::{Namespaces, Selector};
use crate::document::{Policy, Trust, Unmatched};
use crate::pattern::Glob;
use crate::role::{FOREIGN_TRIGGERS, Role, Test};
use crate::rule::{Action, By, May, Must, Need, To};
use crate::yaml::{Mistake, Place};
use jiff::Timestamp;
use std::collections::BTreeSet;

impl Policy {
    /// What its author may not mean at the time `now`, in the order of the file.
    #[must_use]
    pub fn lints(&self, now: Timestamp) -> Vec<Mistake> {
        let mut lints = Lints { policy: self, now, found: Vec::new() };
        lints.document();
        self.roles.iter().enumerate().for_each(|(place, role)| lints.role(place, role));
        lints.classes();
        self.may.iter().for_each(|may| lints.grant(may));
        self.must.iter().for_each(|must| lints.demand(must));
        lints.found.sort();
        lints.found
    }
}

struct Lints<'p> {
    policy: &'p Policy,
    now: Timestamp,
    found: Vec<Mistake>,
}

impl Lints<'_> {
    fn say(&mut self, place: Place, message: String, suggestion: &str) {
        self.found.push(Mistake { place, message, suggestion: Some(suggestion.to_owned()) });
    }

    fn document(&mut self) {
        let top = Place { line: 1, column: 1 };
        if self.policy.expires.is_none() {
            let suggestion = "add expires: a policy that nobody renews is one that nobody reads";
            self.say(top, "the policy never expires".to_owned(), suggestion);
        }
        if let Some(expires) = self.policy.expires.filter(|&expires| expires <= self.now) {
            let message = format!("the policy has expired at {expires}");
            self.say(top, message, "publish its next serial");
        }
        if let Some(owners) = &self.policy.owners {
            let by = By::Roles(owners.roles.clone());
            self.people("owners", top, &by, owners.at_least);
        }
        for exception in &self.policy.exceptions {
            if let Some(state) = exception.state(self.now) {
                let message = format!("the exception lets nothing through: {state}");
                self.say(
                    exception.place,
                    message,
                    "take it away, or give it an end within 90 days",
                );
            }
        }
        if self.policy.owners.is_none() {
            let suggestion = "add owners: {roles: [...], at-least: N}; publishing needs them";
            self.say(top, "nobody is said to own the policy".to_owned(), suggestion);
        }
        if self.policy.unmatched == Unmatched::Allow {
            let suggestion = "leave it away to refuse what no rule is about, or say warn";
            self.say(top, "unmatched: allow lets in what no rule is about".to_owned(), suggestion);
        }
    }

    /// Fewer people than must agree, where the roles name them all.
    fn people(&mut self, what: &str, place: Place, by: &By, at_least: usize) {
        let By::Roles(roles) = by else { return };
        let mut people = BTreeSet::new();
        for &role in roles {
            let role = &self.policy.roles[role];
            let Some(test) = role.test("email").or_else(|| role.test("username")) else { return };
            let Some(addresses) = exact(test) else { return };
            people.extend(addresses.into_iter().map(|address| self.policy.people_at(&address)));
        }
        if people.len() < at_least {
            let message = format!(
                "{what}: {at_least} people can never agree: the roles name {}",
                people.len()
            );
            self.say(place, message, "name more people, or ask for fewer");
        }
    }

    fn role(&mut self, place: usize, role: &Role) {
        let what = format!("role {:?}", role.name);
        let uses = |by: &By| matches!(by, By::Roles(roles) if roles.contains(&place));
        let policy = self.policy;
        let used = policy.may.iter().any(|may| uses(&may.who))
            || policy.never.iter().any(|never| uses(&never.who))
            || policy.builders.iter().any(|builder| builder.by == place)
            || policy.owners.as_ref().is_some_and(|owners| owners.roles.contains(&place))
            || policy.must.iter().any(|must| must.needs.iter().any(|need| named(need, &uses)));
        if !used {
            self.say(role.place, format!("{what} is in no rule"), "use it or leave it away");
        }
        if role.claims.is_empty() && role.any_of.is_empty() && !role.issuers.is_empty() {
            let message = format!("{what} is everybody whom the issuer knows");
            self.say(role.place, message, "name a claim: repository, email, groups…");
        }
        for (claim, test) in &role.claims {
            let mut globs = Vec::new();
            test.globs(&mut globs);
            let stars = |glob: &&&Glob| glob.as_str().bytes().all(|byte| b"*/@".contains(&byte));
            if let Some(glob) = globs.iter().find(stars) {
                let message = format!("{what}: {claim} {} excludes almost nothing", glob.as_str());
                self.say(role.place, message, "name what it begins with");
            }
            if matches!((*claim, test), ("email" | "username" | "subject", Test::Not(_))) {
                let message = format!("{what}: {claim} {} is everybody else", test.shown());
                self.say(role.place, message, "name who it is");
            }
            let gitlab = |glob: &&&Glob| {
                glob.as_str().contains(".gitlab-ci") && !glob.as_str().contains("//")
            };
            if let ("workflow" | "caller-workflow", Some(glob)) =
                (*claim, globs.iter().find(gitlab))
            {
                let message = format!("{what}: {claim} {} matches no job", glob.as_str());
                self.say(role.place, message, "GitLab writes OWNER/NAME//PATH, with two slashes");
            }
            if has_dots(test) {
                let message = format!(
                    "{what}: {claim} is a regular expression with .*, which crosses every /, @ and :"
                );
                self.say(role.place, message, "a pattern with * is narrower and easier to read");
            }
        }
        let named = |claim: &str| role.test(claim).is_some();
        let ids = named("repository-id") || named("owner-id");
        if (named("repository") || named("owner")) && !ids {
            let message =
                format!("{what} trusts a name, which somebody else can register once it is free");
            self.say(role.place, message, "add owner-id or repository-id");
        }
        let moving = role.test("workflow-ref").is_none_or(|test| {
            let mut globs = Vec::new();
            test.globs(&mut globs);
            globs.iter().any(|glob| {
                glob.as_str().starts_with("refs/heads/") || glob.as_str().starts_with('*')
            })
        });
        if named("workflow") && moving && !named("workflow-commit") && !role.mutable_ok {
            let message =
                format!("{what}: whoever may push to a branch decides what the workflow does");
            self.say(role.place, message, "name a tag in workflow-ref or a commit in workflow-commit, or say mutable-ok: true");
        }
        if let Some(trigger) = role.test("trigger") {
            let mut globs = Vec::new();
            trigger.globs(&mut globs);
            let foreign = globs.iter().find(|glob| FOREIGN_TRIGGERS.contains(&glob.as_str()));
            if let Some(glob) = foreign {
                let message = format!(
                    "{what}: jobs by {} may run code that nobody has reviewed",
                    glob.as_str()
                );
                self.say(role.place, message, "leave the trigger away unless that is meant");
            }
        }
    }

    fn classes(&mut self) {
        let policy = self.policy;
        for (place, class) in policy.classes.iter().enumerate() {
            let in_use = |to: &To| matches!(to, To::Classes(places) if places.contains(&place));
            let used = policy.may.iter().any(|may| in_use(&may.to))
                || policy.never.iter().any(|never| in_use(&never.to))
                || policy.must.iter().any(|must| in_use(&must.every));
            if !used {
                let message = format!("class {:?} is in no rule", class.name);
                self.say(class.place, message, "use it or leave it away");
            }
            let mut musts = policy.must.iter().filter(|must| in_use(&must.every)).peekable();
            let mild = musts.peek().is_some() && musts.all(|must| !self.refuses(must));
            let mut others = policy.must.iter().filter(|must| self.refuses(must));
            let covered = others.any(|must| self.overlap(&must.every, place));
            if mild && !covered && policy.unmatched == Unmatched::Refuse {
                let message = format!(
                    "class {:?} is refused all the same: no rule about it refuses, so it is unmatched",
                    class.name
                );
                self.say(class.place, message, "say unmatched: warn while you try it out");
            }
            let anywhere = class.selectors.iter().any(|selector| {
                matches!(selector, Selector::Image(glob, _) if glob.as_str() == "**" || glob.as_str().starts_with("**/"))
            });
            if anywhere {
                let message = format!("class {:?} has images of every registry", class.name);
                self.say(class.place, message, "name the registry's host");
            }
        }
        if !policy.sites.is_empty() && !policy.admission.pin_tags {
            let message = "tags are not pinned: a cluster may pull another image than the one that was judged";
            let top = Place { line: 1, column: 1 };
            self.say(top, message.to_owned(), "add admission: {pin-tags-to-digests: true}");
        }
        for site in &policy.sites {
            if matches!(site.namespaces, Namespaces::Label(..)) {
                let message = format!(
                    "context {:?} goes by a label, which whoever may edit the namespace decides",
                    site.name
                );
                self.say(site.place, message, "name the namespaces if tenants may edit theirs");
            }
        }
    }

    /// A grant that a prohibition without conditions takes away.
    fn grant(&mut self, may: &May) {
        if may.to == To::Anything {
            let message = "this grant is for every artifact there is".to_owned();
            self.say(may.place, message, "name classes under to");
        }
        let dead = self.policy.never.iter().find(|never| {
            let bare = never.when.claims.is_empty()
                && never.when.conditions.is_empty()
                && never.digests.is_empty();
            let whom = match (&never.who, &may.who) {
                (By::Anyone, _) => true,
                (By::Roles(denied), By::Roles(granted)) => {
                    granted.iter().all(|role| denied.contains(role))
                }
                (By::Roles(_), By::Anyone) => false,
            };
            let to = match (&never.to, &may.to) {
                (To::Anything, _) => true,
                (To::Classes(denied), To::Classes(granted)) => {
                    granted.iter().all(|class| denied.contains(class))
                }
                (To::Classes(_), To::Anything) => false,
            };
            bare && whom && to && may.actions.iter().all(|action| never.actions.contains(action))
        });
        if let Some(never) = dead {
            let message = format!("never {:?} takes all of this grant away", never.name);
            self.say(may.place, message, "leave the grant away");
        }
    }

    /// Whether it covers now: the milder rule of before its date does not.
    fn refuses(&self, must: &Must) -> bool {
        must.covers || (must.covers() && must.from.is_none_or(|from| from <= self.now))
    }

    fn demand(&mut self, must: &Must) {
        for need in &must.needs {
            self.need(must, need);
        }
    }

    /// What nobody is allowed to do can never be shown.
    fn need(&mut self, must: &Must, need: &Need) {
        let by = match need {
            Need::Signature { by, .. } | Need::Approvals { by, .. } => by,
            Need::Attestation(need) => &need.by,
            Need::Pinned => return,
            Need::AtLeast(_, needs) => return needs.iter().for_each(|need| self.need(must, need)),
        };
        let aged = match need {
            Need::Signature { younger, .. } | Need::Approvals { younger, .. } => younger.is_some(),
            Need::Attestation(need) => need.younger.is_some(),
            Need::Pinned | Need::AtLeast(..) => false,
        };
        if let (true, By::Roles(roles)) = (aged, by) {
            let policy = self.policy;
            for role in roles.iter().map(|&role| &policy.roles[role]) {
                let key = |name| matches!(policy.trust.get(name), Some(Trust::Key { .. }));
                if role.keys.is_empty() && !role.trust.as_ref().is_some_and(key) {
                    continue;
                }
                let message = format!(
                    "must {:?}: role {:?} signs by a key, and how old such a signature is nobody can tell",
                    must.name, role.name
                );
                self.say(must.place, message, "leave younger-than away, or demand a certificate");
            }
        }
        if let Need::Approvals { at_least, .. } = need {
            self.people(&format!("must {:?}", must.name), must.place, by, *at_least);
        }
        let what = |action: &Action| match (need, action) {
            (Need::Signature { .. }, action) => *action == Action::Sign,
            (Need::Approvals { .. }, action) => *action == Action::Approve,
            (Need::Attestation(_), Action::AttestAnything) => true,
            (Need::Attestation(need), Action::Attest(kind)) => *kind == need.kind,
            _ => false,
        };
        let By::Roles(roles) = by else { return };
        let To::Classes(classes) = &must.every else { return };
        for &class in classes {
            let granted = |role: &usize| {
                self.policy.may.iter().any(|may| {
                    may.who.has(*role)
                        && may.actions.iter().any(what)
                        && self.overlap(&may.to, class)
                })
            };
            if !roles.iter().any(granted) {
                let names: Vec<_> =
                    roles.iter().map(|&role| self.policy.roles[role].name.as_str()).collect();
                let message = format!(
                    "must {:?} can never be met: no grant lets {} do this to class {:?}",
                    must.name,
                    names.join(" or "),
                    self.policy.classes[class].name
                );
                self.say(must.place, message, "add it under may");
            }
        }
    }

    /// Whether a grant may be about an artifact of the class.
    fn overlap(&self, to: &To, class: usize) -> bool {
        let To::Classes(places) = to else { return true };
        let globs = |place: usize| {
            self.policy.classes[place].selectors.iter().filter_map(|selector| match selector {
                Selector::Image(glob, _) | Selector::Blob(glob, _) | Selector::Named(_, glob) => {
                    Some(glob)
                }
                Selector::Digest(_) => None,
            })
        };
        places.contains(&class)
            || places.iter().any(|&place| {
                globs(place)
                    .any(|a| globs(class).any(|b| a.matches(b.as_str()) || b.matches(a.as_str())))
            })
    }
}

fn named(need: &Need, uses: &impl Fn(&By) -> bool) -> bool {
    match need {
        Need::Signature { by, .. } | Need::Approvals { by, .. } => uses(by),
        Need::Attestation(need) => uses(&need.by),
        Need::Pinned => false,
        Need::AtLeast(_, needs) => needs.iter().any(|need| named(need, uses)),
    }
}

/// The texts that pass, where the test names them all.
fn exact(test: &Test) -> Option<Vec<String>> {
    match test {
        Test::Glob(glob) => glob.is_exact().then(|| vec![glob.as_str().to_owned()]),
        Test::Any(tests) => Some(tests.iter().map(exact).collect::<Option<Vec<_>>>()?.concat()),
        Test::Matches(..) | Test::Not(_) => None,
    }
}

fn has_dots(test: &Test) -> bool {
    match test {
        Test::Glob(_) => false,
        Test::Matches(pattern, _) => {
            pattern.as_str().contains(".*") || pattern.as_str().contains(".+")
        }
        Test::Not(test) => has_dots(test),
        Test::Any(tests) => tests.iter().any(has_dots),
    }
}
