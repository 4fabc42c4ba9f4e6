//! Rules: who may put their name on what, who never may, and what an artifact must show.

mod exception;

pub(crate) use exception::Exception;

use crate::artifact::read_digest;
use crate::condition::Condition;
use crate::facts::Content;
use crate::role::{Test, read_date, read_tests};
use crate::yaml::{Map, Node, Place, Reader, Value};
use jiff::{SignedDuration, Timestamp};

/// The predicate type of an approval.
pub const APPROVAL: &str = "urn:countersign:approval:v1";
/// The predicate type by which owners publish a policy.
pub const POLICY: &str = "urn:countersign:policy:v1";
/// What cosign signs an image with: a signature, though in the form of an attestation.
const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// Short names of predicate types, and the URIs that each stands for; a URI with `/` at its end stands
/// for its versions.
pub const KINDS: [(&str, &[&str]); 7] = [
    ("slsa-provenance", &["https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"]),
    (
        "sbom",
        &[
            "https://spdx.dev/Document",
            "https://spdx.dev/Document/",
            "https://cyclonedx.org/bom",
            "https://cyclonedx.org/bom/",
        ],
    ),
    (
        "vuln-scan",
        &[
            "https://in-toto.io/attestation/vulns/v0.2",
            "https://in-toto.io/attestation/vulns/v0.1",
            "https://cosign.sigstore.dev/attestation/vuln/v1",
        ],
    ),
    ("vex", &["https://openvex.dev/ns", "https://openvex.dev/ns/"]),
    ("test-result", &["https://in-toto.io/attestation/test-result/v0.1"]),
    ("verification-summary", &["https://slsa.dev/verification_summary/v1"]),
    ("link", &["https://in-toto.io/Link/v1", "https://in-toto.io/attestation/link/v0.3"]),
];

/// Kinds of which only the newest says how things are.
const NEWEST: [&str; 3] = ["vuln-scan", "test-result", "vex"];

/// A kind of attestation.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct AttestationKind {
    /// As the policy has it: a short name or a URI.
    pub name: String,
    uris: Vec<String>,
}

impl AttestationKind {
    pub(crate) fn has(&self, predicate_type: &str) -> bool {
        self.uris.iter().any(|uri| match uri.strip_suffix('/') {
            Some(stem) => {
                predicate_type.strip_prefix(stem).is_some_and(|rest| rest.starts_with('/'))
            }
            None => uri == predicate_type,
        })
    }

    pub(crate) fn newest_counts(&self) -> bool {
        NEWEST.contains(&self.name.as_str())
    }

    fn read(reader: &mut Reader, place: Place, text: &str) -> Option<Self> {
        let name = text.to_owned();
        if let Some((_, uris)) = KINDS.iter().find(|(short, _)| *short == text) {
            return Some(Self { name, uris: uris.iter().map(|uri| (*uri).to_owned()).collect() });
        }
        let plain = |c: char| c.is_ascii_graphic() && !"*'\"".contains(c);
        if text.contains(':') && text.chars().all(plain) {
            return Some(Self { uris: vec![name.clone()], name });
        }
        let known = KINDS.map(|(short, _)| short);
        reader.unknown(place, "the kind of attestation", text, &known)
    }
}

/// What somebody does.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Signs the artifact.
    Sign,
    /// Attests something of a kind about it.
    Attest(AttestationKind),
    /// Attests anything about it; of `may` without approvals.
    AttestAnything,
    /// Approves it.
    Approve,
    /// Signs the next policy.
    Publish,
}

impl Action {
    /// Whether signing `content` is this; `None` if it is not known what is signed.
    pub(crate) fn covers(&self, content: &Content) -> Option<bool> {
        let uri = match content {
            Content::Unknown => return None,
            Content::Signature => return Some(*self == Self::Sign),
            Content::Attestation { predicate_type, .. } => predicate_type.as_str(),
        };
        Some(match self {
            Self::Sign => uri == COSIGN_SIGN,
            Self::Attest(kind) => kind.has(uri),
            Self::AttestAnything => uri != COSIGN_SIGN && uri != POLICY,
            Self::Approve => uri == APPROVAL,
            Self::Publish => uri == POLICY,
        })
    }

    /// As a policy has it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Sign => "sign".to_owned(),
            Self::Attest(kind) => format!("attest {}", kind.name),
            Self::AttestAnything => "attest anything".to_owned(),
            Self::Approve => "approve".to_owned(),
            Self::Publish => "publish policy".to_owned(),
        }
    }

    fn read(reader: &mut Reader, node: &Node) -> Option<Self> {
        let text = reader.text(node, "what somebody does")?;
        match text {
            "sign" => Some(Self::Sign),
            "approve" => Some(Self::Approve),
            "publish policy" => Some(Self::Publish),
            "attest anything" => Some(Self::AttestAnything),
            _ => match text.strip_prefix("attest ") {
                Some(kind) => {
                    // In `attest "https://…"` YAML takes the quotes for a part of the text.
                    let quoted = |quote: char| kind.strip_prefix(quote)?.strip_suffix(quote);
                    let kind = quoted('"').or_else(|| quoted('\'')).unwrap_or(kind);
                    AttestationKind::read(reader, node.place, kind).map(Self::Attest)
                }
                None => {
                    let known =
                        ["sign", "attest KIND", "attest anything", "approve", "publish policy"];
                    reader.unknown(node.place, "the action", text, &known)
                }
            },
        }
    }
}

/// The names that a policy has given, to tell whether a rule speaks of something.
pub(crate) struct Names {
    pub(crate) roles: Vec<String>,
    pub(crate) classes: Vec<String>,
    pub(crate) sites: Vec<String>,
}

/// Whom a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum By {
    /// Anybody whose signature verifies.
    Anyone,
    /// Whoever is in one of these roles, by their places in the policy.
    Roles(Vec<usize>),
}

impl By {
    pub(crate) fn has(&self, role: usize) -> bool {
        match self {
            Self::Anyone => true,
            Self::Roles(roles) => roles.contains(&role),
        }
    }

    fn read(reader: &mut Reader, node: &Node, names: &Names) -> Option<Self> {
        let nodes = reader.list(node, "roles");
        if let [node] = nodes
            && matches!(&node.value, Value::Text(text) if text == "anyone")
        {
            return Some(Self::Anyone);
        }
        let roles = places(reader, nodes, "the role", &names.roles);
        (!roles.is_empty()).then_some(Self::Roles(roles))
    }
}

fn places(reader: &mut Reader, nodes: &[Node], what: &str, names: &[String]) -> Vec<usize> {
    let mut found = Vec::new();
    for node in nodes {
        let Some(text) = reader.text(node, "a name") else { continue };
        match names.iter().position(|name| name == text) {
            Some(place) => found.push(place),
            None => {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                let _: Option<()> = reader.unknown(node.place, what, text, &known);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Of which classes an artifact must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum To {
    Anything,
    Classes(Vec<usize>),
}

impl To {
    fn read(reader: &mut Reader, node: &Node, names: &Names) -> Option<Self> {
        let nodes = reader.list(node, "classes");
        if let [node] = nodes
            && matches!(&node.value, Value::Text(text) if text == "anything")
        {
            return Some(Self::Anything);
        }
        let classes = places(reader, nodes, "the class", &names.classes);
        (!classes.is_empty()).then_some(Self::Classes(classes))
    }
}

/// What must be so beside role, action and class.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    pub(crate) claims: Vec<(&'static str, Test)>,
    pub(crate) conditions: Vec<Condition>,
}

impl When {
    fn read(reader: &mut Reader, node: &Node) -> Self {
        match &node.value {
            // One condition is a list of one.
            Value::Map(entries) if entries.iter().any(|(key, _)| key.text == "that") => {
                let conditions = Condition::read(reader, node).into_iter().collect();
                Self { claims: Vec::new(), conditions }
            }
            Value::Map(_) => {
                Self { claims: read_tests(reader, node, "when", &[]), conditions: Vec::new() }
            }
            _ => {
                let nodes = reader.list(node, "conditions").iter();
                let conditions = nodes.filter_map(|node| Condition::read(reader, node)).collect();
                Self { claims: Vec::new(), conditions }
            }
        }
    }
}

/// A grant.
#[derive(Clone, Debug)]
pub struct May {
    pub(crate) place: Place,
    /// Whom it is given to.
    pub who: By,
    /// What for.
    pub actions: Vec<Action>,
    pub(crate) to: To,
    pub(crate) when: When,
}

/// A prohibition; no grant is stronger.
#[derive(Clone, Debug)]
pub struct Never {
    /// Its name.
    pub name: String,
    /// Whom it is about.
    pub who: By,
    /// What they never may.
    pub actions: Vec<Action>,
    pub(crate) to: To,
    /// Only of these artifacts, if there are any.
    pub(crate) digests: Vec<String>,
    pub(crate) when: When,
    /// It says nothing but the digests: these are refused, whoever signs them.
    pub(crate) outright: bool,
}

const MAY: [&str; 4] = ["who", "do", "to", "when"];
const NEVER: [&str; 6] = ["name", "who", "do", "to", "digest", "when"];

fn read_actions(reader: &mut Reader, map: Map<'_>, what: &str) -> Vec<Action> {
    let Some(node) = reader.need(map, what, "do") else { return Vec::new() };
    let nodes = reader.list(node, "what somebody does").iter();
    let mut actions: Vec<_> = nodes.filter_map(|node| Action::read(reader, node)).collect();
    actions.sort();
    actions.dedup();
    actions
}

impl May {
    pub(crate) fn read(reader: &mut Reader, node: &Node, names: &Names) -> Option<Self> {
        let map = reader.map(node, "may", &MAY)?;
        let who = reader.need(map, "may", "who").and_then(|node| {
            let who = By::read(reader, node, names)?;
            if who == By::Anyone {
                return reader.wrong(node.place, "may: a grant to anyone is no rule: name a role");
            }
            Some(who)
        });
        let actions = read_actions(reader, map, "may");
        let to = reader.need(map, "may", "to").and_then(|node| To::read(reader, node, names));
        let when = map.get("when").map(|node| When::read(reader, node)).unwrap_or_default();
        Some(Self { place: node.place, who: who?, actions, to: to?, when })
    }
}

impl Never {
    pub(crate) fn read(reader: &mut Reader, node: &Node, names: &Names) -> Option<Self> {
        let map = reader.map(node, "never", &NEVER)?;
        let name = map.get("name").and_then(|node| reader.text(node, "a name"));
        let name = name.map_or_else(|| format!("never of line {}", node.place.line), str::to_owned);
        let about = ["who", "do", "when"];
        let outright =
            map.get("digest").is_some() && about.iter().all(|key| map.get(key).is_none());
        let (who, actions) = match outright {
            true => (Some(By::Anyone), vec![Action::Sign, Action::AttestAnything]),
            false => {
                let who = reader.need(map, "never", "who");
                let who = who.and_then(|node| By::read(reader, node, names));
                (who, read_actions(reader, map, "never"))
            }
        };
        let to = match map.get("to") {
            Some(node) => To::read(reader, node, names),
            None => Some(To::Anything),
        };
        let digests =
            map.get("digest").map(|node| reader.list(node, "digests")).unwrap_or_default();
        let digests = digests.iter().filter_map(|node| read_digest(reader, node)).collect();
        let when = map.get("when").map(|node| When::read(reader, node)).unwrap_or_default();
        Some(Self { name, who: who?, actions, to: to?, digests, when, outright })
    }
}

/// What happens when an artifact does not show what it must.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Otherwise {
    /// It is written down.
    Record,
    /// Whoever asked is warned.
    Warn,
    /// The artifact is refused.
    Refuse,
}

/// What artifacts of a class must show.
#[derive(Clone, Debug)]
pub struct Must {
    /// Its name.
    pub name: String,
    pub(crate) place: Place,
    pub(crate) every: To,
    /// Only in these contexts; none is everywhere.
    pub(crate) sites: Vec<usize>,
    pub(crate) needs: Vec<Need>,
    pub(crate) proof: Proof,
    /// What happens otherwise.
    pub otherwise: Otherwise,
    /// From this time on; before it is one step milder.
    pub(crate) from: Option<Timestamp>,
    pub(crate) covers: bool,
    /// Of an image for several platforms each one's image must show it, too.
    pub(crate) each_platform: bool,
}

/// Something that an artifact must show.
#[derive(Clone, Debug)]
pub(crate) enum Need {
    Signature {
        by: By,
        younger: Option<SignedDuration>,
    },
    Attestation(Box<AttestationNeed>),
    Approvals {
        by: By,
        at_least: usize,
        younger: Option<SignedDuration>,
    },
    Pinned,
    /// So many of these.
    AtLeast(usize, Vec<Need>),
}

#[derive(Clone, Debug)]
pub(crate) struct AttestationNeed {
    pub(crate) kind: AttestationKind,
    pub(crate) by: By,
    pub(crate) level: Option<u8>,
    pub(crate) younger: Option<SignedDuration>,
    pub(crate) checks: Vec<Condition>,
    /// Not any one that is there, but all.
    pub(crate) all: bool,
}

/// What each signature must have beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proof {
    pub(crate) logged: bool,
    pub(crate) witnesses: u64,
    pub(crate) timestamp: bool,
    pub(crate) log_age: Option<SignedDuration>,
    pub(crate) bundle_only: bool,
}

impl AttestationNeed {
    /// Whether it asks what an attestation says.
    pub(crate) fn reads_statement(&self) -> bool {
        self.level.is_some() || self.checks.iter().any(Condition::reads_statement)
    }
}

impl Need {
    /// The attestations that it asks for.
    pub(crate) fn attestations(&self) -> Box<dyn Iterator<Item = &AttestationNeed> + '_> {
        match self {
            Self::Attestation(need) => Box::new(std::iter::once(&**need)),
            Self::AtLeast(_, needs) => Box::new(needs.iter().flat_map(Self::attestations)),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Whether it can only be met by somebody's word.
    pub(crate) fn demands(&self) -> bool {
        match self {
            Self::Signature { by, .. } => *by != By::Anyone,
            Self::Attestation(need) => need.by != By::Anyone,
            Self::Approvals { .. } => true,
            Self::Pinned => false,
            // So many must be met that one of those which demand is among them.
            Self::AtLeast(count, needs) => {
                needs.iter().filter(|need| !need.demands()).count() < *count
            }
        }
    }

    fn read(reader: &mut Reader, node: &Node, names: &Names, mild: bool) -> Option<Self> {
        const KEYS: [&str; 7] =
            ["signature", "attestation", "approvals", "pinned", "any-of", "all-of", "at-least"];
        let map = reader.map(node, "needs", &KEYS)?;
        let mut entries = map.entries();
        let (Some((key, node)), None) = (entries.next(), entries.next()) else {
            return reader.wrong(node.place, format!("needs: expected one of {}", KEYS.join(", ")));
        };
        let by = |reader: &mut Reader, map: Map<'_>, what: &str| {
            let node = reader.need(map, what, "by")?;
            let by = By::read(reader, node, names)?;
            if by == By::Anyone && !mild {
                return reader.suggest(
                    node.place,
                    format!("{what}: by anyone lets everybody in, and this rule refuses"),
                    "name a role, or say otherwise: warn or record",
                );
            }
            Some(by)
        };
        match key.text.as_str() {
            "signature" => {
                let map = reader.map(node, "signature", &["by", "younger-than"])?;
                let younger = read_age(reader, map, "younger-than");
                Some(Self::Signature { by: by(reader, map, "signature")?, younger })
            }
            "attestation" => {
                const KEYS: [&str; 6] =
                    ["kind", "by", "min-level", "younger-than", "check", "all-must-pass"];
                let map = reader.map(node, "attestation", &KEYS)?;
                let kind = reader.need(map, "attestation", "kind").and_then(|node| {
                    let text = reader.text(node, "a kind of attestation")?;
                    AttestationKind::read(reader, node.place, text)
                });
                let by = by(reader, map, "attestation");
                let level = map.get("min-level").and_then(|node| {
                    match (reader.number(node, "min-level")?, &kind) {
                        (level @ 1..=4, Some(kind)) if kind.name == "slsa-provenance" => {
                            u8::try_from(level).ok()
                        }
                        (1..=4, _) => {
                            reader.wrong(node.place, "min-level: only slsa-provenance has levels")
                        }
                        (other, _) => reader.wrong(
                            node.place,
                            format!("min-level: expected 1 to 4, found {other}"),
                        ),
                    }
                });
                let younger = read_age(reader, map, "younger-than");
                let checks = map.get("check").map(|node| reader.list(node, "conditions"));
                let checks = checks.unwrap_or_default().iter();
                let checks = checks.filter_map(|node| Condition::read(reader, node)).collect();
                let all =
                    map.get("all-must-pass").and_then(|node| reader.boolean(node, "all-must-pass"));
                Some(Self::Attestation(Box::new(AttestationNeed {
                    kind: kind?,
                    by: by?,
                    level,
                    younger,
                    checks,
                    all: all.unwrap_or(false),
                })))
            }
            "approvals" => {
                let map = reader.map(node, "approvals", &["by", "at-least", "younger-than"])?;
                let at_least = reader.need(map, "approvals", "at-least");
                let at_least = at_least.and_then(|node| reader.number(node, "at-least"));
                let younger = read_age(reader, map, "younger-than");
                let by = by(reader, map, "approvals")?;
                if by == By::Anyone {
                    return reader
                        .wrong(node.place, "approvals: by anyone approves nothing: name a role");
                }
                Some(Self::Approvals { by, at_least: usize::try_from(at_least?).ok()?, younger })
            }
            "pinned" => {
                let map = reader.map(node, "pinned", &["digest"])?;
                let digest = reader.need(map, "pinned", "digest")?;
                match reader.text(digest, "required")? {
                    "required" => Some(Self::Pinned),
                    _ => reader.wrong(digest.place, "pinned: expected digest: required"),
                }
            }
            "at-least" => {
                let map = reader.map(node, "at-least", &["count", "of"])?;
                let count = reader.need(map, "at-least", "count");
                let count = count.and_then(|node| reader.number(node, "count"));
                let of = reader.need(map, "at-least", "of")?;
                let needs = read_needs(reader, of, names, mild);
                let count = usize::try_from(count?).ok()?;
                if count > needs.len() {
                    let message = format!("at-least: {count} of {} can never be met", needs.len());
                    return reader.wrong(node.place, message);
                }
                let written: Vec<_> = needs.iter().map(|need| format!("{need:?}")).collect();
                let twice = (1..written.len()).any(|at| written[..at].contains(&written[at]));
                if count > 1 && twice {
                    return reader.suggest(
                        node.place,
                        "at-least: two of these are the same, and one signature meets both",
                        "for two people use approvals: {by: ROLE, at-least: 2}",
                    );
                }
                Some(Self::AtLeast(count, needs))
            }
            any_or_all => {
                let needs = read_needs(reader, node, names, mild);
                let count = if any_or_all == "any-of" { 1 } else { needs.len() };
                (!needs.is_empty()).then_some(Self::AtLeast(count, needs))
            }
        }
    }
}

fn read_needs(reader: &mut Reader, node: &Node, names: &Names, mild: bool) -> Vec<Need> {
    let nodes = reader.list(node, "what is needed").iter();
    nodes.filter_map(|node| Need::read(reader, node, names, mild)).collect()
}

/// A duration in days, hours, minutes and seconds: `7d`, `36h`, `1d12h`.
fn read_age(reader: &mut Reader, map: Map<'_>, key: &str) -> Option<SignedDuration> {
    let node = map.get(key)?;
    let text = reader.text(node, "a duration")?;
    match duration(text) {
        Some(duration) => Some(duration),
        None => reader.wrong(
            node.place,
            format!("{key}: expected a duration such as 7d, 36h or 30m, found {text:?}"),
        ),
    }
}

fn duration(text: &str) -> Option<SignedDuration> {
    let (mut seconds, mut digits) = (0_i64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        let part = digits.parse::<i64>().ok()?.checked_mul(unit)?;
        seconds = seconds.checked_add(part)?;
        digits.clear();
    }
    (digits.is_empty() && seconds > 0).then(|| SignedDuration::from_secs(seconds))
}

impl Proof {
    fn read(reader: &mut Reader, node: &Node) -> Option<Self> {
        const KEYS: [&str; 5] = ["logged", "witnesses", "timestamp", "log-age", "bundle-only"];
        let map = reader.map(node, "proof", &KEYS)?;
        let boolean = |reader: &mut Reader, key: &str| {
            map.get(key).and_then(|node| reader.boolean(node, key)).unwrap_or(false)
        };
        let (logged, bundle_only) = (boolean(reader, "logged"), boolean(reader, "bundle-only"));
        let witnesses = map.get("witnesses").and_then(|node| reader.number(node, "witnesses"));
        let timestamp =
            map.get("timestamp").and_then(|node| match reader.text(node, "required")? {
                "required" => Some(true),
                _ => reader.wrong(node.place, "timestamp: expected required"),
            });
        let log_age = read_age(reader, map, "log-age");
        Some(Self {
            logged,
            witnesses: witnesses.unwrap_or(0),
            timestamp: timestamp.unwrap_or(false),
            log_age,
            bundle_only,
        })
    }
}

impl Must {
    pub(crate) fn read(reader: &mut Reader, node: &Node, names: &Names) -> Option<Self> {
        const KEYS: [&str; 9] = [
            "name",
            "every",
            "in",
            "needs",
            "proof",
            "otherwise",
            "from",
            "covers",
            "each-platform",
        ];
        let map = reader.map(node, "must", &KEYS)?;
        let name = reader.need(map, "must", "name");
        let name = name.and_then(|node| Some(reader.text(node, "a name")?.to_owned()));
        let every =
            reader.need(map, "must", "every").and_then(|node| To::read(reader, node, names));
        let sites = map.get("in").map(|node| reader.list(node, "contexts")).unwrap_or_default();
        let sites = places(reader, sites, "the context", &names.sites);
        let otherwise = reader.need(map, "must", "otherwise").and_then(|node| {
            let text = reader.text(node, "refuse, warn or record")?;
            match text {
                "refuse" => Some(Otherwise::Refuse),
                "warn" => Some(Otherwise::Warn),
                "record" => Some(Otherwise::Record),
                _ => reader.unknown(node.place, "otherwise", text, &["refuse", "warn", "record"]),
            }
        });
        let mild = otherwise.is_some_and(|otherwise| otherwise < Otherwise::Refuse);
        let needs = reader.need(map, "must", "needs");
        let needs = needs.map(|node| read_needs(reader, node, names, mild)).unwrap_or_default();
        let proof = map.get("proof").and_then(|node| Proof::read(reader, node));
        let from = map.get("from").and_then(|node| read_date(reader, node, "from"));
        let covers = map.get("covers").and_then(|node| reader.boolean(node, "covers"));
        let platforms = map.get("each-platform");
        let platforms = platforms.and_then(|node| reader.boolean(node, "each-platform"));
        Some(Self {
            name: name?,
            place: node.place,
            every: every?,
            sites,
            needs,
            proof: proof.unwrap_or_default(),
            otherwise: otherwise?,
            from,
            covers: covers.unwrap_or(false),
            each_platform: platforms.unwrap_or(false),
        })
    }

    /// Whether it demands somebody's word, so that nothing else is asked of an artifact that shows it.
    pub(crate) fn covers(&self) -> bool {
        let demands = self.otherwise == Otherwise::Refuse && self.needs.iter().any(Need::demands);
        self.covers || demands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_of_days_to_seconds() {
        for (text, expected) in [
            ("7d", Some(7 * 86_400)),
            ("1d12h", Some(36 * 3600)),
            ("90s", Some(90)),
            ("4h", Some(4 * 3600)),
            ("7", None),
            ("", None),
            ("0d", None),
            ("1w", None),
            ("-1h", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(duration(text).map(|duration| duration.as_secs()), expected, "{text}");
        }
    }

    #[test]
    fn a_short_name_has_the_versions_of_its_type_and_no_longer_name() {
        let (_, uris) = KINDS[1];
        let sbom = AttestationKind {
            name: "sbom".to_owned(),
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        };
        for (uri, expected) in [
            ("https://spdx.dev/Document", true),
            ("https://spdx.dev/Document/v2.3", true),
            ("https://cyclonedx.org/bom/v1.6", true),
            ("https://spdx.dev/Documents", false),
            ("https://slsa.dev/provenance/v1", false),
        ] {
            assert_eq!(sbom.has(uri), expected, "{uri}");
        }
    }
}
