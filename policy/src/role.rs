//! Roles: who somebody is, told by the issuer and the claims that it vouches for.
//!
//! Every claim that a role names must be there and match. What a role does not name is not asked about,
//! with two exceptions, because nobody thinks of them: a job that somebody's pull request started, or
//! that ran on a self-hosted runner, is in no role that does not name it.

use crate::claims::{CLAIMS, Claim, Claims, TOKEN_ONLY};
use crate::facts::SignerFacts;
use crate::pattern::{Glob, Pattern, is_ascii, lower, lower_segments};
use crate::yaml::{Map, Node, Place, Reader, Value};
use jiff::Timestamp;
use std::borrow::Cow;

/// Triggers of jobs that run somebody else's code, or might: they carry the identity of the repository
/// that they were proposed to. GitHub's, then GitLab's.
pub const FOREIGN_TRIGGERS: [&str; 8] = [
    "pull_request",
    "pull_request_target",
    "pull_request_review",
    "pull_request_review_comment",
    "workflow_run",
    "issue_comment",
    "merge_request_event",
    "external_pull_request_event",
];

/// A role.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name.
    pub name: String,
    pub(crate) place: Place,
    /// The trust root that must have verified the signature; `None` is our own.
    pub(crate) trust: Option<String>,
    /// OIDC issuers, to the letter; any of them. Empty for keys and SPIFFE IDs.
    pub(crate) issuers: Vec<String>,
    /// Managed keys, `sha256:…`; any of them.
    pub(crate) keys: Vec<String>,
    pub(crate) claims: Vec<(&'static str, Test)>,
    /// Of these, if there are any, one must match.
    pub(crate) any_of: Vec<Vec<(&'static str, Test)>>,
    /// None of these may match.
    pub(crate) not: Vec<(&'static str, Test)>,
    /// Signatures from before this time count, later ones do not.
    pub(crate) retired: Option<Timestamp>,
    /// That a branch decides which workflow runs is meant.
    pub(crate) mutable_ok: bool,
}

/// What a claim must say.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// This, perhaps with `*`.
    Glob(Glob),
    /// A regular expression for the whole of it; and the same without case, for what excludes.
    Matches(Pattern, Pattern),
    /// Something else.
    Not(Box<Self>),
    /// Any of these.
    Any(Vec<Self>),
}

impl Role {
    /// Whether a signature of this time counts: one of which the time is not known may be from after the
    /// retirement.
    pub(crate) fn in_use_at(&self, time: Option<Timestamp>) -> bool {
        self.retired.is_none_or(|date| time.is_some_and(|time| time < date))
    }
}

/// A claim that does not match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mismatch {
    /// The claim's name, or `trust`, `issuer`, `key`.
    pub(crate) claim: &'static str,
    /// What the role wants.
    pub(crate) expected: String,
    /// What there is; `None` if there is nothing.
    pub(crate) found: Option<String>,
}

/// Whether somebody is in a role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    /// Claims that match.
    pub(crate) matched: Vec<&'static str>,
    /// Those that do not; none makes a member.
    pub(crate) mismatches: Vec<Mismatch>,
    /// Where only the answer is asked for, whether it is no; nothing is told then.
    refused: Option<bool>,
}

impl Membership {
    fn wrong(&mut self, claim: &'static str, told: impl FnOnce() -> (String, Option<String>)) {
        match &mut self.refused {
            Some(refused) => *refused = true,
            None => {
                let (expected, found) = told();
                self.mismatches.push(Mismatch { claim, expected, found });
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.refused == Some(true)
    }

    /// How near somebody is to the role: what the wrong issuer says is worth nothing.
    pub(crate) fn nearness(&self) -> (bool, usize) {
        let root = |claim: &&Mismatch| matches!(claim.claim, "trust" | "issuer" | "key");
        (!self.mismatches.iter().any(|mismatch| root(&mismatch)), self.matched.len())
    }
}

/// How two spellings of a claim are compared.
fn fold<'t>(claim: &str, text: &'t str) -> Cow<'t, str> {
    match claim {
        // Hosts of repositories do not tell case apart in owners and names; in paths they do.
        "repository" | "repository-name" | "owner" => lower(text),
        "workflow" | "caller-workflow" => lower_segments(text, 2),
        "email" => match text.rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()).into(),
            None => text.into(),
        },
        _ => text.into(),
    }
}

impl Test {
    /// Whether one of the claim's texts passes; of `not`, whether none does what it excludes.
    fn passes(&self, claim: &str, texts: &[String]) -> bool {
        match self {
            Self::Glob(glob) => texts.iter().any(|text| glob.matches(&fold(claim, text))),
            Self::Matches(pattern, _) => {
                texts.iter().any(|text| is_clear(text) && pattern.matches(text))
            }
            Self::Not(test) => {
                !texts.is_empty()
                    && texts.iter().all(|text| is_clear(text))
                    && !test.may_pass(claim, texts)
            }
            Self::Any(tests) => tests.iter().any(|test| test.passes(claim, texts)),
        }
    }

    /// The same for what excludes: of a text that cannot be compared it is not known that it does not.
    fn may_pass(&self, claim: &str, texts: &[String]) -> bool {
        !texts.iter().all(|text| is_clear(text))
            || match self {
                Self::Matches(_, any_case) => texts.iter().any(|text| any_case.matches(text)),
                Self::Any(tests) => tests.iter().any(|test| test.may_pass(claim, texts)),
                Self::Not(test) => !texts.is_empty() && !test.passes(claim, texts),
                Self::Glob(_) => self.passes(claim, texts),
            }
    }

    /// Whether it has this text to the letter.
    fn names(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.as_str() == text,
            Self::Matches(..) | Self::Not(_) => false,
            Self::Any(tests) => tests.iter().any(|test| test.names(text)),
        }
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Glob(glob) => glob.as_str().to_owned(),
            Self::Matches(pattern, _) => format!("matching {}", pattern.as_str()),
            Self::Not(test) => format!("not {}", test.shown()),
            Self::Any(tests) => tests.iter().map(Self::shown).collect::<Vec<_>>().join(" or "),
        }
    }

    /// Every pattern in it.
    pub(crate) fn globs<'t>(&'t self, found: &mut Vec<&'t Glob>) {
        match self {
            Self::Glob(glob) => found.push(glob),
            Self::Matches(..) => {}
            Self::Not(test) => test.globs(found),
            Self::Any(tests) => tests.iter().for_each(|test| test.globs(found)),
        }
    }

    fn read(reader: &mut Reader, claim: &'static str, node: &Node) -> Option<Self> {
        match &node.value {
            Value::Text(_) => {
                let text = reader.text(node, &format!("what {claim} must be"))?;
                match Glob::new(&fold(claim, text)) {
                    Ok(_) if text.contains('*') && claim.ends_with("workflow") => {
                        // Of a pattern only what stands before `**` is known to be owner and name.
                        Glob::new(text).ok().map(|glob| Self::Glob(glob.lowered(2)))
                    }
                    Ok(glob) => Some(Self::Glob(glob)),
                    Err(error) => reader.wrong(node.place, format!("{claim}: {error}")),
                }
            }
            Value::List(_) => {
                let tests = reader.list(node, &format!("what {claim} may be"));
                let tests: Vec<_> =
                    tests.iter().filter_map(|test| Self::read(reader, claim, test)).collect();
                (!tests.is_empty()).then_some(Self::Any(tests))
            }
            Value::Map(_) => {
                let map = reader.map(node, claim, &["not", "matches"])?;
                if map.entries().count() != 1 {
                    return reader.wrong(
                        node.place,
                        format!("{claim}: expected not or matches, one of them"),
                    );
                }
                if let Some(node) = map.get("not") {
                    return Some(Self::Not(Box::new(Self::read(reader, claim, node)?)));
                }
                let node = map.get("matches")?;
                let text = reader.text(node, "a regular expression")?;
                let (exact, folded) = (Pattern::new, Pattern::of_any_case);
                let pair = match claim {
                    "repository" | "repository-name" | "owner" => {
                        folded(text).map(|pattern| (pattern.clone(), pattern))
                    }
                    // A part of these is compared without case. A prohibition is rather too wide than too narrow.
                    "workflow" | "caller-workflow" | "email" => {
                        exact(text).and_then(|pattern| Ok((pattern, folded(text)?)))
                    }
                    _ => exact(text).map(|pattern| (pattern.clone(), pattern)),
                };
                match pair {
                    Ok((pattern, any_case)) => Some(Self::Matches(pattern, any_case)),
                    Err(error) => reader.wrong(node.place, format!("{claim}: {error}")),
                }
            }
        }
    }
}

/// Reads claims and what each must be, out of a map that may have `others`, too.
pub(crate) fn read_tests(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    others: &[&str],
) -> Vec<(&'static str, Test)> {
    let names = CLAIMS.iter().map(|(name, _)| *name);
    let names = names.filter(|name| !name.starts_with("kubernetes-"));
    let known: Vec<&str> = names.chain(["kubernetes"]).chain(others.iter().copied()).collect();
    let mut tests = Vec::new();
    let Some(map) = reader.map(node, what, &known) else { return tests };
    for (key, node) in map.entries() {
        if key.text == "kubernetes" {
            tests.extend(read_kubernetes(reader, node));
        } else if let Some((name, _)) = CLAIMS.iter().find(|(name, _)| *name == key.text) {
            tests.extend(Test::read(reader, name, node).map(|test| (*name, test)));
        }
    }
    tests.sort_by_key(|(name, _)| *name);
    tests
}

fn read_kubernetes(reader: &mut Reader, node: &Node) -> Vec<(&'static str, Test)> {
    let keys =
        [("namespace", "kubernetes-namespace"), ("service-account", "kubernetes-service-account")];
    let Some(map) = reader.map(node, "kubernetes", &keys.map(|(key, _)| key)) else {
        return Vec::new();
    };
    let mut tests = Vec::new();
    for (key, claim) in keys {
        if let Some(node) = reader.need(map, "kubernetes", key) {
            tests.extend(Test::read(reader, claim, node).map(|test| (claim, test)));
        }
    }
    tests
}

/// Whether a text can be compared with a pattern.
fn is_clear(text: &str) -> bool {
    !text.is_empty() && is_ascii(text)
}

/// Whether all of `tests` pass, or might if a claim could be compared; an absent claim passes none.
pub(crate) fn all_may_pass(tests: &[(&'static str, Test)], claims: &Claims) -> bool {
    tests.iter().all(|(name, test)| {
        claims.get(*name).is_some_and(|claim| test.may_pass(name, claim.texts()))
    })
}

/// Whether all of `tests` pass; an absent claim passes none.
pub(crate) fn all_pass(tests: &[(&'static str, Test)], claims: &Claims) -> bool {
    tests
        .iter()
        .all(|(name, test)| claims.get(*name).is_some_and(|claim| test.passes(name, claim.texts())))
}

impl Role {
    /// Reads a role; `keys` are the names of trust roots that are keys.
    pub(crate) fn read(
        reader: &mut Reader,
        name: &str,
        node: &Node,
        keys: &[String],
    ) -> Option<Self> {
        const OTHERS: [&str; 7] =
            ["issuer", "trust", "key", "any-of", "not", "retired", "mutable-ok"];
        let what = format!("role {name:?}");
        let claims = read_tests(reader, node, &what, &OTHERS);
        let map = reader.any_map(node, &what)?;
        let texts = |reader: &mut Reader, key: &str, expected: &str| {
            let Some(node) = map.get(key) else { return Vec::new() };
            let nodes = reader.list(node, expected).iter();
            nodes
                .filter_map(|node| Some((node.place, reader.text(node, expected)?.to_owned())))
                .collect()
        };
        let mut issuers: Vec<(Place, String)> = texts(reader, "issuer", "an issuer's URL");
        for (place, issuer) in &issuers {
            if issuer.contains('*') || !is_ascii(issuer) {
                let _: Option<()> = reader.suggest(
                    *place,
                    format!("issuer: expected a URL to the letter, found {issuer:?}"),
                    "a role trusts issuers one by one: list them",
                );
            }
        }
        issuers.sort();
        let trust =
            map.get("trust").and_then(|node| Some(reader.text(node, "a trust root")?.to_owned()));
        let mut fingerprints = Vec::new();
        for (place, text) in texts(reader, "key", "a key's digest, sha256:…") {
            if is_digest(&text) {
                fingerprints.push(text);
            } else {
                let _: Option<()> = reader.wrong(
                    place,
                    "key: expected sha256: and 64 hexadecimal digits, of the SubjectPublicKeyInfo",
                );
            }
        }
        let any_of = map.get("any-of").map(|node| reader.list(node, "claims"));
        let any_of = any_of.unwrap_or_default().iter();
        let any_of: Vec<_> = any_of.map(|node| read_tests(reader, node, "any-of", &[])).collect();
        let not = map.get("not").map(|node| read_tests(reader, node, "not", &[]));
        let retired = map.get("retired").and_then(|node| read_date(reader, node, "retired"));
        let mutable_ok = map.get("mutable-ok").and_then(|node| reader.boolean(node, "mutable-ok"));
        let role = Self {
            name: name.to_owned(),
            place: node.place,
            issuers: issuers.into_iter().map(|(_, issuer)| issuer).collect(),
            trust,
            keys: fingerprints,
            claims,
            any_of,
            not: not.unwrap_or_default(),
            retired,
            mutable_ok: mutable_ok.unwrap_or(false),
        };
        role.complete(reader, map, keys);
        Some(role)
    }

    /// Refuses roles that would have somebody whom nobody thought of.
    fn complete(&self, reader: &mut Reader, map: Map<'_>, keys: &[String]) {
        let what = format!("role {:?}", self.name);
        let by_key =
            !self.keys.is_empty() || self.trust.as_ref().is_some_and(|name| keys.contains(name));
        let by_spiffe = self.test("spiffe").is_some_and(|test| {
            let mut globs = Vec::new();
            test.globs(&mut globs);
            !globs.is_empty()
                && globs.iter().all(|glob| {
                    let domain = glob
                        .as_str()
                        .strip_prefix("spiffe://")
                        .and_then(|rest| rest.split('/').next());
                    domain.is_some_and(|domain| !domain.is_empty() && !domain.contains('*'))
                })
        });
        if self.issuers.is_empty() && !by_key && !by_spiffe {
            let _: Option<()> = reader.suggest(
                map.place(),
                format!("{what} names no issuer: anybody's word would do for its claims"),
                "add issuer: https://…",
            );
        }
        if by_key && !(self.issuers.is_empty() && self.claims.is_empty()) {
            let _: Option<()> = reader
                .wrong(map.place(), format!("{what} is by key: a key has no issuer and no claims"));
        }
        let built = ["repository", "repository-id", "owner", "owner-id"];
        if self.test("workflow").is_some() && !built.iter().any(|claim| self.test(claim).is_some())
        {
            let _: Option<()> = reader.suggest(
                map.place(),
                format!("{what} names a workflow, but not whose repository it must run for: anybody may call a reusable workflow"),
                "add repository, repository-id, owner or owner-id",
            );
        }
    }

    /// What a claim must be.
    pub(crate) fn test(&self, claim: &str) -> Option<&Test> {
        self.claims.iter().find(|(name, _)| *name == claim).map(|(_, test)| test)
    }

    /// Whether `signer` is in the role, by the policy named `policy`.
    pub(crate) fn has(&self, signer: &SignerFacts, policy: &str) -> bool {
        let found = Membership { refused: Some(false), ..Membership::default() };
        !self.compare(signer, policy, found).is_settled()
    }

    /// How `signer` compares with the role, by the policy named `policy`: all that fits and all that does not.
    pub(crate) fn membership(&self, signer: &SignerFacts, policy: &str) -> Membership {
        self.compare(signer, policy, Membership::default())
    }

    fn compare(&self, signer: &SignerFacts, policy: &str, mut found: Membership) -> Membership {
        for check in [Self::origin, Self::named, Self::unnamed] {
            check(self, signer, policy, &mut found);
            if found.is_settled() {
                break;
            }
        }
        found
    }

    /// Of a member's claims those that only the CA saw, and vouches for.
    pub(crate) fn asserted(&self, signer: &SignerFacts) -> impl Iterator<Item = &'static str> {
        let names = self.claims.iter().map(|(name, _)| *name);
        names.filter(|name| TOKEN_ONLY.contains(name) && !signer.claims.contains_key(*name))
    }

    /// Who vouches.
    fn origin(&self, signer: &SignerFacts, _: &str, found: &mut Membership) {
        if self.trust != signer.trust {
            let own =
                |trust: &Option<String>| trust.clone().unwrap_or_else(|| "our own".to_owned());
            found.wrong("trust", || (own(&self.trust), Some(own(&signer.trust))));
        }
        if !self.keys.is_empty() && !signer.key.as_ref().is_some_and(|key| self.keys.contains(key))
        {
            found.wrong("key", || (self.keys.join(" or "), signer.key.clone()));
        }
        if !self.issuers.is_empty() && !self.issuers.contains(&signer.issuer) {
            let issuer = || Some(signer.issuer.clone()).filter(|issuer| !issuer.is_empty());
            found.wrong("issuer", || (self.issuers.join(" or "), issuer()));
        }
    }

    /// The claims that the role names.
    fn named(&self, signer: &SignerFacts, policy: &str, found: &mut Membership) {
        let vouched = || {
            let asserted = signer.asserted.as_ref().filter(|_| signer.trust.is_none());
            asserted.is_some_and(|asserted| {
                asserted.policy == policy && asserted.roles.contains(&self.name)
            })
        };
        for (name, test) in &self.claims {
            match signer.claims.get(*name) {
                Some(claim) if test.passes(name, claim.texts()) => found.matched.push(name),
                None if TOKEN_ONLY.contains(name) && vouched() => {}
                claim => found.wrong(name, || (test.shown(), claim.map(Claim::shown))),
            }
            if found.is_settled() {
                return;
            }
        }
        let any = |tests: &Vec<(&'static str, Test)>| all_pass(tests, &signer.claims);
        if !self.any_of.is_empty() && !self.any_of.iter().any(any) {
            found.wrong("any-of", || ("one of the role's alternatives".to_owned(), None));
        }
        for (name, test) in &self.not {
            let claim = signer.claims.get(*name);
            if let Some(claim) = claim.filter(|claim| test.may_pass(name, claim.texts())) {
                found.wrong(name, || (format!("not {}", test.shown()), Some(claim.shown())));
            }
        }
    }

    /// What a role must name if it means it.
    fn unnamed(&self, signer: &SignerFacts, _: &str, found: &mut Membership) {
        let texts = |claim: &str| signer.claims.get(claim).map(Claim::texts).unwrap_or_default();
        let named = |text: &str| self.test("trigger").is_some_and(|test| test.names(text));
        let foreign = |text: &&String| FOREIGN_TRIGGERS.contains(&text.as_str()) && !named(text);
        if let Some(trigger) = texts("trigger").iter().find(foreign)
            && !found.mismatches.iter().any(|mismatch| mismatch.claim == "trigger")
        {
            found.matched.retain(|claim| *claim != "trigger");
            let expected = "none that may run foreign code, unless the role names it";
            found.wrong("trigger", || (expected.to_owned(), Some(trigger.clone())));
        }
        if self.test("runner").is_none() && texts("runner").iter().any(|text| text == "self-hosted")
        {
            let expected = "none that is self-hosted, unless the role names it";
            found.wrong("runner", || (expected.to_owned(), Some("self-hosted".to_owned())));
        }
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
pub(crate) fn is_digest(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

/// A date, which begins at midnight UTC, or a time as RFC 3339 has it.
pub(crate) fn read_date(reader: &mut Reader, node: &Node, what: &str) -> Option<Timestamp> {
    let text = reader.text(node, "a date")?;
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10);
    let day = day.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    match day.map(|day| day.timestamp()).or_else(|| text.parse().ok()) {
        Some(time) => Some(time),
        None => reader.wrong(
            node.place,
            format!("{what}: expected a date such as 2027-05-01 or a time such as 2027-05-01T12:00:00Z, found {text:?}"),
        ),
    }
}
