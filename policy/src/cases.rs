//! Cases for a policy: facts in short, and what must come of them.
//!
//! A case is given a situation, or the one before it with changes. The grammar is described in
//! docs/policy.md. What no case would miss is told by leaving each rule out in turn.

use crate::claims::{CLAIMS, Claim, TOKEN_ONLY};
use crate::decide::{Decision, decide};
use crate::document::Policy;
use crate::explain::{Code, Outcome};
use crate::facts::{Artifact, Content, Context, Evidence, Facts, Kind, Point, SignerFacts};
use crate::pattern::image_name;
use crate::role::read_date;
use crate::rule::{APPROVAL, Action, By, KINDS};
use crate::yaml::{Key, Map, Mistakes, Node, Place, Reader, Value, documents};
use jiff::Timestamp;
use serde_json::json;

/// The cases of one policy.
#[derive(Clone, Debug)]
pub struct Cases(Vec<Case>);

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: String,
    facts: Facts,
    expect: Expect,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Expect {
    Pass,
    /// Refused, for this reason if it is given.
    Refuse(Option<String>),
    Undecided(Option<String>),
}

/// A case that came out otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Miss {
    /// As the case has it: `pass`, `refuse: CODE`…
    pub expected: String,
    /// What came out, in the same words.
    pub got: String,
    /// All of why.
    pub why: String,
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected {}, got {}\n{}", self.expected, self.got, self.why)
    }
}

impl Case {
    /// Decides, and compares.
    ///
    /// # Errors
    /// What was expected and found, with the explanation.
    pub fn check(&self, policy: &Policy) -> Result<(), Miss> {
        let decision = decide(&self.facts, policy);
        if self.expect.fits(&decision) {
            return Ok(());
        }
        let (expected, got) = (self.expect.shown(), Expect::of(&decision).shown());
        Err(Miss { expected, got, why: decision.explain() })
    }
}

impl Expect {
    fn fits(&self, decision: &Decision) -> bool {
        let code = decision.code().map(ToString::to_string);
        match (self, decision.outcome()) {
            (Self::Pass, outcome) => outcome == Outcome::Pass,
            (Self::Refuse(wanted), Outcome::Fail)
            | (Self::Undecided(wanted), Outcome::Undecided) => wanted.is_none() || *wanted == code,
            _ => false,
        }
    }

    /// What came out.
    fn of(decision: &Decision) -> Self {
        let code = decision.code().map(ToString::to_string);
        match decision.outcome() {
            Outcome::Pass => Self::Pass,
            Outcome::Fail => Self::Refuse(code),
            Outcome::Undecided => Self::Undecided(code),
        }
    }

    fn shown(&self) -> String {
        let (word, code) = match self {
            Self::Pass => ("pass", &None),
            Self::Refuse(code) => ("refuse", code),
            Self::Undecided(code) => ("undecided", code),
        };
        code.as_ref().map_or(word.to_owned(), |code| format!("{word}: {code}"))
    }
}

impl Cases {
    /// Reads cases for `policy`; `now` is the time of those that name none.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn parse(text: &str, policy: &Policy, now: Timestamp) -> Result<Self, Mistakes> {
        let documents = documents(text)?;
        let mut reader = Reader::default();
        let place = Place { line: 1, column: 1 };
        let cases = match documents.as_slice() {
            [node] => read(&mut reader, node, policy, now),
            _ => reader.wrong(place, "expected one YAML document"),
        };
        reader.finish(cases).map(Self)
    }

    /// The cases, in the order of the file.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.0
    }

    /// The rules and claims that no case would miss: without them each still comes out as it should.
    #[must_use]
    pub fn unneeded(&self, policy: &Policy) -> Vec<String> {
        let missed = |without: &Policy| self.0.iter().any(|case| case.check(without).is_err());
        let parts = policy.parts().into_iter();
        parts.filter(|(_, without)| !missed(without)).map(|(name, _)| name).collect()
    }
}

impl Policy {
    /// Each rule and each claim of a role by name, with the policy that lacks it.
    fn parts(&self) -> Vec<(String, Self)> {
        let mut parts = Vec::new();
        let mut part = |name: String, change: &dyn Fn(&mut Self)| {
            let mut without = self.clone();
            change(&mut without);
            parts.push((name, without));
        };
        for (place, may) in self.may.iter().enumerate() {
            let actions: Vec<_> = may.actions.iter().map(Action::shown).collect();
            let name = format!("may of line {}: {}", may.place.line, actions.join(", "));
            part(name, &|policy| drop(policy.may.remove(place)));
        }
        for (place, never) in self.never.iter().enumerate() {
            part(format!("never {:?}", never.name), &|policy| drop(policy.never.remove(place)));
        }
        for (place, must) in self.must.iter().enumerate() {
            part(format!("must {:?}", must.name), &|policy| drop(policy.must.remove(place)));
        }
        for (place, role) in self.roles.iter().enumerate() {
            for (at, (claim, _)) in role.claims.iter().enumerate() {
                let name = format!("{claim} of role {:?}", role.name);
                part(name, &|policy| drop(policy.roles[place].claims.remove(at)));
            }
        }
        parts
    }

    /// The short names of kinds of attestations that it speaks of.
    #[must_use]
    pub fn kinds(&self) -> Vec<String> {
        let of = |action: &Action| match action {
            Action::Attest(kind) => Some(kind.name.clone()),
            _ => None,
        };
        let actions = self.may.iter().flat_map(|may| &may.actions);
        let actions = actions.chain(self.never.iter().flat_map(|never| &never.actions));
        let mut kinds: Vec<_> = actions.filter_map(of).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }
}

const CASE: [&str; 5] = ["name", "given", "change", "at", "expect"];
const GIVEN: [&str; 9] = [
    "artifact",
    "in",
    "context",
    "signatures",
    "attestations",
    "approvals",
    "proofs",
    "now",
    "incomplete",
];

fn read(reader: &mut Reader, node: &Node, policy: &Policy, now: Timestamp) -> Option<Vec<Case>> {
    let map = reader.map(node, "a file of cases", &["tests-for", "cases"])?;
    let subject = reader.need(map, "a file of cases", "tests-for");
    if let Some(node) = subject
        && let Some(name) = reader.text(node, "the policy's name")
        && name != policy.name
    {
        let _: Option<()> = reader.wrong(
            node.place,
            format!("these are cases for {name:?}, and the policy is {:?}", policy.name),
        );
    }
    let nodes = reader.need(map, "a file of cases", "cases").map(|node| reader.list(node, "cases"));
    let (mut cases, mut given): (Vec<Case>, Option<Node>) = (Vec::new(), None);
    for node in nodes.unwrap_or_default() {
        let Some(map) = reader.map(node, "a case", &CASE) else { continue };
        let name = reader.need(map, "a case", "name").and_then(|node| reader.text(node, "a name"));
        given = map.get("given").cloned().or(given);
        let Some(mut situation) = given.clone() else {
            let _: Option<()> = reader.wrong(node.place, "the first case needs the key \"given\"");
            continue;
        };
        if let Some(changes) = map.get("change")
            && let Some(changes) = reader.any_map(changes, "change")
        {
            for (key, value) in changes.entries() {
                change(reader, &mut situation, key, value);
            }
        }
        let at = map.get("at").and_then(|node| {
            let text = reader.text(node, "use, issuance or log")?;
            match text {
                "use" => Some(Point::Use),
                "issuance" => Some(Point::Issuance),
                "log" => Some(Point::Log),
                _ => reader.unknown(node.place, "at", text, &["use", "issuance", "log"]),
            }
        });
        let expect =
            reader.need(map, "a case", "expect").and_then(|node| read_expect(reader, node, policy));
        let facts = read_given(reader, &situation, policy, at.unwrap_or_default(), now);
        if let (Some(name), Some(expect), Some(facts)) = (name, expect, facts) {
            cases.push(Case { name: name.to_owned(), facts, expect });
        }
    }
    Some(cases)
}

fn read_expect(reader: &mut Reader, node: &Node, policy: &Policy) -> Option<Expect> {
    if let Value::Text(text) = &node.value {
        return match text.as_str() {
            "pass" => Some(Expect::Pass),
            "refuse" => Some(Expect::Refuse(None)),
            "undecided" => Some(Expect::Undecided(None)),
            _ => reader.unknown(node.place, "expect", text, &["pass", "refuse", "undecided"]),
        };
    }
    let map = reader.map(node, "expect", &["refuse", "undecided"])?;
    let code = |reader: &mut Reader, key| {
        map.get(key).and_then(|node| Some(reader.text(node, "a reason")?.to_owned()))
    };
    match (code(reader, "refuse"), code(reader, "undecided")) {
        (Some(code), None) => {
            let (kind, about) =
                code.split_once(':').map_or((&code[..], None), |(a, b)| (a, Some(b)));
            let never = |name: &str| policy.never.iter().any(|never| never.name == name);
            let claim =
                |name: &str| name == "any-of" || CLAIMS.iter().any(|(known, _)| *known == name);
            match (kind, about) {
                ("denied-by", Some(name)) if never(name) => {}
                ("denied-by", Some(name)) => {
                    let known: Vec<_> = policy.never.iter().map(|never| &never.name[..]).collect();
                    return reader.unknown(node.place, "the prohibition", name, &known);
                }
                ("claim-mismatch", Some(name)) if claim(name) => {}
                ("claim-mismatch", Some(name)) => {
                    let known = CLAIMS.map(|(name, _)| name);
                    return reader.unknown(node.place, "the claim", name, &known);
                }
                (plain, None) if Code::PLAIN.contains(&plain) => {}
                _ => return reader.unknown(node.place, "the reason", &code, &Code::PLAIN),
            }
            Some(Expect::Refuse(Some(code)))
        }
        (None, Some(code)) => {
            let what = code.strip_prefix("undecided:").unwrap_or(&code);
            Some(Expect::Undecided(Some(format!("undecided:{what}"))))
        }
        _ => reader.wrong(node.place, "expect: expected refuse or undecided, one of them"),
    }
}

/// Puts `value` at a path such as `signatures.0.ref`; claims may be named without `role-facts`.
fn change(reader: &mut Reader, node: &mut Node, path: &Key, value: &Node) {
    let mut steps: Vec<&str> = path.text.split('.').collect();
    if let ["signatures", _, claim] = steps.as_slice()
        && !["trust", "signed", "name"].contains(claim)
    {
        steps.insert(2, "role-facts");
    }
    let mut place = node;
    let Some((last, before)) = steps.split_last() else { return };
    for step in before {
        let next = match &mut place.value {
            Value::Map(entries) => {
                entries.iter_mut().find(|(key, _)| key.text == *step).map(|(_, node)| node)
            }
            Value::List(list) => step.parse().ok().and_then(|at: usize| list.get_mut(at)),
            Value::Text(_) => None,
        };
        let Some(next) = next else {
            let _: Option<()> =
                reader.wrong(path.place, format!("change: nothing is given at {:?}", path.text));
            return;
        };
        place = next;
    }
    match &mut place.value {
        Value::Map(entries) => match entries.iter_mut().find(|(key, _)| key.text == *last) {
            Some((_, node)) => *node = value.clone(),
            None => {
                let key = Key { place: path.place, text: (*last).to_owned() };
                entries.push((key, value.clone()));
            }
        },
        Value::List(list) if last.parse::<usize>().is_ok_and(|at| at < list.len()) => {
            list[last.parse::<usize>().unwrap_or_default()] = value.clone();
        }
        _ => {
            let _: Option<()> =
                reader.wrong(path.place, format!("change: nothing is given at {:?}", path.text));
        }
    }
}

/// What all evidence of a case shares.
struct Proofs {
    logged: bool,
    witnesses: u64,
    signed: Option<Timestamp>,
}

fn read_given(
    reader: &mut Reader,
    node: &Node,
    policy: &Policy,
    at: Point,
    now: Timestamp,
) -> Option<Facts> {
    let map = reader.map(node, "given", &GIVEN)?;
    let now = map.get("now").and_then(|node| read_date(reader, node, "now")).unwrap_or(now);
    let artifact = map.get("artifact").and_then(|node| read_artifact(reader, node));
    let context = read_context(reader, map, policy);
    let proofs = match map.get("proofs") {
        Some(node) => read_proofs(reader, node, now)?,
        None => Proofs { logged: true, witnesses: 0, signed: Some(now) },
    };
    let digest = artifact.as_ref().map_or(String::new(), |artifact| artifact.digest.clone());
    let evidence = |signer: SignerFacts, content: Content| Evidence {
        source: String::new(),
        signer,
        content,
        digest: digest.clone(),
        signed_name: None,
        signed: proofs.signed,
        timestamped: proofs.signed.is_some(),
        logged: proofs.logged,
        logged_at: proofs.signed.filter(|_| proofs.logged),
        witnesses: proofs.witnesses,
        bundled: true,
    };
    let mut all = Vec::new();
    for node in
        map.get("signatures").map(|node| reader.list(node, "signatures")).unwrap_or_default()
    {
        let Some(inner) =
            reader.map(node, "a signature", &["role-facts", "trust", "signed", "name"])
        else {
            continue;
        };
        let trust =
            inner.get("trust").and_then(|node| Some(reader.text(node, "a trust root")?.to_owned()));
        let facts = reader.need(inner, "a signature", "role-facts");
        let Some(mut signer) = facts.and_then(|node| read_signer(reader, node)) else { continue };
        signer.trust = trust;
        let mut one = evidence(as_certified(signer, policy, at), Content::Signature);
        one.source = unnamed(&one.signer, "signature", all.len() + 1);
        if let Some(node) = inner.get("signed") {
            one.signed = read_date(reader, node, "signed");
            one.logged_at = one.signed.filter(|_| one.logged);
        }
        let name = inner.get("name").and_then(|node| reader.text(node, "the name that was signed"));
        one.signed_name = name.map(str::to_owned);
        all.push(one);
    }
    let first = all.first().map(|one| one.signer.clone());
    for node in
        map.get("attestations").map(|node| reader.list(node, "attestations")).unwrap_or_default()
    {
        let Some((signer, content, signed)) =
            read_attestation(reader, node, first.as_ref(), policy, at)
        else {
            continue;
        };
        let one = evidence(signer, content);
        let source = unnamed(&one.signer, "evidence", all.len() + 1);
        let signed = signed.or(one.signed);
        let logged_at = signed.filter(|_| one.logged);
        all.push(Evidence { source, signed, logged_at, ..one });
    }
    for node in map.get("approvals").map(|node| reader.list(node, "people")).unwrap_or_default() {
        let Some(email) = reader.text(node, "an e-mail address") else { continue };
        let content = attested(APPROVAL, json!({}));
        all.push(evidence(approver(email, policy), content));
    }
    if at != Point::Use {
        all.truncate(1);
    }
    let incomplete = map.get("incomplete").and_then(|node| reader.text(node, "why"));
    Some(Facts {
        at,
        now,
        artifact,
        context,
        evidence: all,
        incomplete: incomplete.map(str::to_owned),
    })
}

/// What to call evidence by somebody of whom the case gives no name.
fn unnamed(signer: &SignerFacts, what: &str, number: usize) -> String {
    match signer.name() {
        Some(_) => String::new(),
        None => format!("{what} {number}"),
    }
}

fn read_artifact(reader: &mut Reader, node: &Node) -> Option<Artifact> {
    const KEYS: [&str; 9] =
        ["image", "blob", "package", "git", "model", "digest", "version", "media-type", "pinned"];
    let map = reader.map(node, "artifact", &KEYS)?;
    let text = |reader: &mut Reader, key: &str| {
        map.get(key).and_then(|node| Some(reader.text(node, key)?.to_owned()))
    };
    let kinds = [
        ("image", Kind::Image),
        ("blob", Kind::Blob),
        ("package", Kind::Package),
        ("git", Kind::Git),
        ("model", Kind::Model),
    ];
    let named = kinds.into_iter().find_map(|(key, kind)| Some((kind, map.get(key)?)));
    let (kind, mut name) = match named {
        Some((kind, node)) => (kind, reader.text(node, "a name")?.to_owned()),
        None => (Kind::Blob, String::new()),
    };
    let mut version = text(reader, "version");
    if kind == Kind::Image {
        match image_name(&name) {
            Ok(image) => {
                name = image.repository;
                version = version.or(image.tag);
            }
            Err(error) => return reader.wrong(node.place, error.to_string()),
        }
    }
    let pinned = map.get("pinned").and_then(|node| reader.boolean(node, "pinned"));
    Some(Artifact {
        kind,
        name,
        version,
        digest: text(reader, "digest").unwrap_or_else(|| "sha256:00".to_owned()),
        media_type: text(reader, "media-type"),
        pinned: pinned.unwrap_or(true),
        platforms: Vec::new(),
    })
}

fn read_context(reader: &mut Reader, map: Map<'_>, policy: &Policy) -> Context {
    let mut context = Context::default();
    if let Some(node) = map.get("in")
        && let Some(name) = reader.text(node, "a context")
    {
        let known: Vec<&str> = policy.contexts().collect();
        if !known.contains(&name) {
            let _: Option<()> = reader.unknown(node.place, "the context", name, &known);
        }
        context.name = Some(name.to_owned());
    }
    if let Some(node) = map.get("context")
        && let Some(inner) = reader.map(node, "context", &["cluster", "namespace", "labels"])
    {
        let text = |reader: &mut Reader, key: &str| {
            inner.get(key).and_then(|node| Some(reader.text(node, key)?.to_owned()))
        };
        context.cluster = text(reader, "cluster");
        context.namespace = text(reader, "namespace");
        if let Some(labels) = inner.get("labels").and_then(|node| reader.any_map(node, "labels")) {
            for (key, node) in labels.entries() {
                if let Some(label) = reader.text(node, "a label") {
                    context.labels.insert(key.text.clone(), label.to_owned());
                }
            }
        }
    }
    context
}

fn read_proofs(reader: &mut Reader, node: &Node, now: Timestamp) -> Option<Proofs> {
    let map = reader.map(node, "proofs", &["logged", "witnesses", "timestamp"])?;
    let logged = map.get("logged").and_then(|node| reader.boolean(node, "logged"));
    let witnesses = map.get("witnesses").and_then(|node| reader.number(node, "witnesses"));
    let signed = map.get("timestamp").and_then(|node| match &node.value {
        Value::Text(text) if text == "now" => Some(now),
        _ => read_date(reader, node, "timestamp"),
    });
    Some(Proofs { logged: logged.unwrap_or(false), witnesses: witnesses.unwrap_or(0), signed })
}

fn read_signer(reader: &mut Reader, node: &Node) -> Option<SignerFacts> {
    let names = CLAIMS.iter().map(|(name, _)| *name);
    let known: Vec<&str> = names.chain(["issuer", "key"]).collect();
    let map = reader.map(node, "role-facts", &known)?;
    let mut signer = SignerFacts::default();
    for (key, node) in map.entries() {
        if let Value::List(list) = &node.value {
            let texts =
                list.iter().filter_map(|node| Some(reader.text(node, &key.text)?.to_owned()));
            let texts = texts.collect();
            signer.claims.insert(key.text.clone(), Claim::Many(texts));
            continue;
        }
        let Some(text) = reader.text(node, &key.text) else { continue };
        match key.text.as_str() {
            "workflow" | "caller-workflow"
                if text.contains(".gitlab-ci") && !text.contains("//") =>
            {
                let _: Option<()> = reader.suggest(
                    node.place,
                    format!("{}: no certificate says {text:?}", key.text),
                    "GitLab writes OWNER/NAME//PATH, with two slashes",
                );
            }
            "issuer" => text.clone_into(&mut signer.issuer),
            "key" => signer.key = Some(text.to_owned()),
            name => drop(signer.claims.insert(name.to_owned(), Claim::One(text.to_owned()))),
        }
    }
    let one = |name: &str| signer.claims.get(name).and_then(|claim| claim.texts().first()).cloned();
    if let Some(repository) = one("repository") {
        let name = repository.rsplit('/').next().unwrap_or_default().to_owned();
        signer.claims.entry("repository-name".to_owned()).or_insert(Claim::One(name));
    }
    Some(signer)
}

/// What a certificate of our CA would say: token-only claims become the roles that they give.
fn as_certified(mut signer: SignerFacts, policy: &Policy, at: Point) -> SignerFacts {
    if at != Point::Issuance && TOKEN_ONLY.iter().any(|claim| signer.claims.contains_key(*claim)) {
        let roles = policy.roles.iter();
        let roles = roles.filter(|role| role.has(&signer, &policy.name));
        let roles = roles.map(|role| role.name.clone()).collect();
        signer.asserted = Some(policy.asserts(roles, None));
        TOKEN_ONLY.iter().for_each(|claim| drop(signer.claims.remove(*claim)));
    }
    signer
}

/// A person in every role that may approve.
fn approver(email: &str, policy: &Policy) -> SignerFacts {
    let approves = |action: &Action| *action == Action::Approve;
    let grants = policy.may.iter().filter(|may| may.actions.iter().any(approves));
    let mut roles: Vec<usize> = grants
        .flat_map(|may| match &may.who {
            By::Roles(roles) => roles.clone(),
            By::Anyone => Vec::new(),
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let issuer = roles.first().and_then(|&role| policy.roles[role].issuers.first());
    let names = roles.iter().map(|&role| policy.roles[role].name.clone()).collect();
    let claims = ["subject", "email"].map(|name| (name.to_owned(), Claim::One(email.to_owned())));
    SignerFacts {
        issuer: issuer.cloned().unwrap_or_default(),
        claims: claims.into_iter().collect(),
        asserted: Some(policy.asserts(names, None)),
        ..SignerFacts::default()
    }
}

fn attested(predicate_type: &str, predicate: serde_json::Value) -> Content {
    let statement = json!({ "predicateType": predicate_type, "predicate": predicate });
    let statement = crate::facts::Statement::new(statement);
    Content::Attestation { predicate_type: predicate_type.to_owned(), statement }
}

/// `KIND` or `slsa-provenance level N` by the first signature's signer, or a map that says more.
fn read_attestation(
    reader: &mut Reader,
    node: &Node,
    first: Option<&SignerFacts>,
    policy: &Policy,
    at: Point,
) -> Option<(SignerFacts, Content, Option<Timestamp>)> {
    let uri = |reader: &mut Reader, place: Place, name: &str| {
        if let Some((_, uris)) = KINDS.iter().find(|(short, _)| *short == name) {
            return Some(uris[0].to_owned());
        }
        if name.contains(':') {
            return Some(name.to_owned());
        }
        reader.unknown(place, "the kind of attestation", name, &KINDS.map(|(short, _)| short))
    };
    let mut signer = first.cloned();
    let (mut predicate, mut signed) = (json!({}), None);
    let kind = match &node.value {
        Value::Text(text) => {
            let (kind, level) = match text.split_once(" level ") {
                Some((kind, level)) => (kind, level.parse().unwrap_or(0)),
                None => (text.as_str(), 3),
            };
            if kind == "slsa-provenance" {
                // The usual builder; which level it is believed to have follows from who signed.
                let hosted = "https://github.com/actions/runner/github-hosted";
                let id = if level >= 2 { hosted } else { "urn:unknown-builder" };
                predicate = json!({ "runDetails": { "builder": { "id": id } } });
            }
            uri(reader, node.place, kind)?
        }
        _ => {
            let map = reader.map(
                node,
                "an attestation",
                &["kind", "predicate", "role-facts", "signed"],
            )?;
            if let Some(node) = map.get("role-facts") {
                signer = read_signer(reader, node).map(|signer| as_certified(signer, policy, at));
            }
            predicate = map.get("predicate").map_or(json!({}), to_json);
            signed = map.get("signed").and_then(|node| read_date(reader, node, "signed"));
            let node = reader.need(map, "an attestation", "kind")?;
            let name = reader.text(node, "a kind of attestation")?;
            uri(reader, node.place, name)?
        }
    };
    let Some(signer) = signer else {
        return reader.wrong(node.place, "an attestation without role-facts is by the first signature's signer, and there is none");
    };
    Some((signer, attested(&kind, predicate), signed))
}

/// YAML as JSON: numbers, truths and nothing by their usual spelling.
fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Text(text) if text.is_empty() => serde_json::Value::Null,
        Value::Text(text) => {
            let plain = serde_json::from_str::<serde_json::Value>(text).ok();
            let plain = plain.filter(|value| value.is_number() || value.is_boolean());
            plain.unwrap_or_else(|| text.clone().into())
        }
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(key, node)| (key.text.clone(), to_json(node))).collect()
        }
    }
}
