//! A policy's text to a [`Policy`]: strict, with all mistakes at once.
//!
//! The grammar is described in docs/policy.md and docs/policy.schema.json. Rules are kept sorted, because
//! their order means nothing: a decision is the same for a file whose rules stand in another order.

mod include;

pub use include::{Include, IncludeError};

use crate::artifact::{Class, Namespaces, Site};
use crate::claims::Claims;
use crate::condition::Condition;
use crate::facts::SignerFacts;
use crate::import;
use crate::role::{Role, is_digest, read_date};
use crate::rule::{By, Exception, May, Must, Names, Never, To, When};
use crate::yaml::{Key, Map, Mistake, Mistakes, Node, Place, Reader, Value, documents};
use countersign_verify::assertion::{Assertion, Intent};
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// One policy document, every reference in it resolved.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its number; each version's is higher than the one before.
    pub serial: u64,
    /// SHA-256 of its text, `sha256:…`.
    pub digest: String,
    /// The digest of the version before.
    pub previous: Option<String>,
    /// From when on it is no longer in force.
    pub expires: Option<Timestamp>,
    /// Who may publish the next version.
    pub owners: Option<Owners>,
    /// Trust roots by name, beside our own.
    pub trust: BTreeMap<String, Trust>,
    /// E-mail addresses of people who have several: address to person.
    pub(crate) people: BTreeMap<String, String>,
    /// The level that builders are believed to build at.
    pub(crate) builders: Vec<Builder>,
    /// Roles, by name.
    pub roles: Vec<Role>,
    pub(crate) classes: Vec<Class>,
    pub(crate) sites: Vec<Site>,
    /// Grants.
    pub may: Vec<May>,
    /// Prohibitions, by name.
    pub never: Vec<Never>,
    /// Demands, by name.
    pub must: Vec<Must>,
    pub(crate) exceptions: Vec<Exception>,
    pub(crate) unmatched: Unmatched,
    /// Other policies that it takes in.
    pub include: Vec<Include>,
    /// Those of them that are here.
    pub(crate) included: Vec<Self>,
    /// What admission does beside deciding.
    pub admission: Admission,
}

/// What becomes of an artifact that no rule covers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Unmatched {
    #[default]
    Refuse,
    Warn,
    Allow,
}

/// Who may publish the next version of a policy.
#[derive(Clone, Debug)]
pub struct Owners {
    /// Whose signatures count, by their places in the policy.
    pub(crate) roles: Vec<usize>,
    /// How many people must sign.
    pub at_least: usize,
}

/// A trust root that is not our own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trust {
    /// An instance's TUF repository, and the digest of its first root.
    Tuf {
        /// The repository's URL.
        url: String,
        /// The digest of root.json, `sha256:…`.
        root: String,
    },
    /// A `trusted_root.json`, its path beside the policy.
    File(String),
    /// A public key.
    Key {
        /// Where it is.
        pem: Pem,
        /// Whether its signatures must be in a log, as they must unless the policy says otherwise.
        logged: bool,
    },
}

/// A public key, PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pem {
    /// A file, its path beside the policy.
    File(String),
    /// The key itself.
    Here(String),
}

/// A builder, and the SLSA build level that it is believed to build at.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    /// `builder.id` of its provenance.
    pub(crate) id: String,
    /// Who must have signed that provenance, by place.
    pub(crate) by: usize,
    pub(crate) level: u8,
}

/// What admission does beside deciding.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Admission {
    /// Kinds of workloads that are looked at, by resource; empty is all that are known.
    pub kinds: Vec<String>,
    /// Where else images stand: resource and group to a path.
    pub extra_images_at: BTreeMap<String, String>,
    /// Tags are replaced by digests.
    pub pin_tags: bool,
    /// An update that changes no image is checked all the same. Otherwise it is let through: scaling down
    /// and labels must work although an image has come to be refused.
    pub check_unchanged: bool,
}

const KEYS: [&str; 18] = [
    "policy",
    "serial",
    "expires",
    "previous",
    "owners",
    "people",
    "trust",
    "builders",
    "who",
    "what",
    "where",
    "may",
    "never",
    "must",
    "exceptions",
    "unmatched",
    "include",
    "admission",
];

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// Every mistake in it, with its place and what to write instead.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let documents = documents(text)?;
        let [node] = documents.as_slice() else {
            let message = format!("expected one YAML document, found {}", documents.len());
            let place = documents.get(1).map_or(Place { line: 1, column: 1 }, |node| node.place);
            return Err(Mistakes(vec![Mistake { place, message, suggestion: None }]));
        };
        let mut reader = Reader::default();
        let policy = read(&mut reader, node, text);
        reader.finish(policy)
    }

    /// Reads a policy, or ClusterImagePolicies as one that is called `imported`; with what is to be said of
    /// the latter.
    ///
    /// # Errors
    /// Every mistake in it, with its place and what to write instead.
    pub fn parse_any(text: &str) -> Result<(Self, Vec<String>), Mistakes> {
        if !import::is_cluster_image_policy(text) {
            return Ok((Self::parse(text)?, Vec::new()));
        }
        let import::Imported { notes, parsed: mut policy, .. } =
            import::cluster_image_policies(text, "imported")?;
        // As the webhook does that they are made for.
        policy.admission.pin_tags = true;
        Ok((policy, notes))
    }

    /// The role of this name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// Who somebody is, whatever the issuer; a service is nobody.
    pub(crate) fn person(&self, claims: &Claims) -> Option<String> {
        let address = claims.get("email").or_else(|| claims.get("username"))?;
        Some(self.people_at(address.texts().first()?))
    }

    /// Whose address it is.
    pub(crate) fn people_at(&self, address: &str) -> String {
        let address = address.to_ascii_lowercase();
        self.people.get(&address).cloned().unwrap_or(address)
    }

    /// What a certificate says of a decision by this policy.
    #[must_use]
    pub fn asserts(&self, roles: Vec<String>, intent: Option<Intent>) -> Assertion {
        let (policy, policy_digest, serial) = (self.name.clone(), self.digest.clone(), self.serial);
        Assertion { intent, policy, policy_digest, roles, serial }
    }

    /// The names of its contexts.
    pub fn contexts(&self) -> impl Iterator<Item = &str> {
        self.sites.iter().map(|site| site.name.as_str())
    }

    /// Whether it bars digests, so that of an image for several platforms each one's digest is needed.
    #[must_use]
    pub fn bars_digests(&self) -> bool {
        let bars = |policy: &Self| policy.never.iter().any(|never| never.outright);
        bars(self) || self.included.iter().any(Self::bars_digests)
    }

    /// Whether it may demand something of the image for each platform, so that evidence about these is needed.
    #[must_use]
    pub fn asks_each_platform(&self) -> bool {
        let asks = |policy: &Self| policy.must.iter().any(|must| must.each_platform);
        asks(self) || self.included.iter().any(Self::asks_each_platform)
    }

    /// Whether a condition or a level may look at what this signer attests. What strangers say is of no account,
    /// except to a rule that takes anybody's word.
    pub(crate) fn reads_statements_of(&self, signer: &SignerFacts) -> bool {
        let reads = |when: &When| when.conditions.iter().any(Condition::reads_statement);
        let by_condition = |role: usize| {
            self.may.iter().any(|may| may.who.has(role) && reads(&may.when))
                || self.never.iter().any(|never| never.who.has(role) && reads(&never.when))
        };
        let needs = || self.must.iter().flat_map(|must| &must.needs);
        let roles = self.roles.iter().enumerate();
        let anyone = needs().any(|need| need.attestations().any(|need| need.by == By::Anyone));
        anyone
            || roles.filter(|(_, role)| role.has(signer, &self.name)).any(|(place, _)| {
                by_condition(place)
                    || needs().any(|need| {
                        need.attestations().any(|need| need.by.has(place) && need.reads_statement())
                    })
            })
            || self.included.iter().any(|policy| policy.reads_statements_of(signer))
            || self.bars_by_statement(signer)
    }

    /// Whether a prohibition for everybody looks at what a signer of an included policy attests: it binds there, too.
    fn bars_by_statement(&self, signer: &SignerFacts) -> bool {
        let mut never = self.never.iter().filter(|never| never.who == By::Anyone);
        never.any(|never| never.when.conditions.iter().any(Condition::reads_statement))
            && self
                .included
                .iter()
                .any(|policy| policy.roles.iter().any(|role| role.has(signer, &policy.name)))
    }

    /// Contexts that are chosen by a label of the namespace, those of included policies among them: who does
    /// not know labels must not decide by this policy.
    pub fn contexts_by_label(&self) -> impl Iterator<Item = &str> {
        let all = std::iter::once(self).chain(&self.included).flat_map(|policy| &policy.sites);
        let by_label = all.filter(|site| matches!(site.namespaces, Namespaces::Label(..)));
        by_label.map(|site| site.name.as_str())
    }

    /// Names of classes, for people.
    pub(crate) fn shown(&self, to: &To) -> String {
        match to {
            To::Anything => "anything".to_owned(),
            To::Classes(places) => {
                let names: Vec<_> =
                    places.iter().map(|&place| self.classes[place].name.as_str()).collect();
                names.join(", ")
            }
        }
    }
}

/// What a policy's text is known by, `sha256:…`.
#[must_use]
pub fn digest(text: &[u8]) -> String {
    format!("sha256:{}", hex(&HashAlgorithm::Sha256.digest(text)))
}

fn read(reader: &mut Reader, node: &Node, text: &str) -> Option<Policy> {
    let map = reader.map(node, "a policy", &KEYS)?;
    let name = reader.need(map, "a policy", "policy").and_then(|node| reader.text(node, "a name"));
    let serial =
        reader.need(map, "a policy", "serial").and_then(|node| reader.number(node, "serial"));
    let expires = map.get("expires").and_then(|node| read_date(reader, node, "expires"));
    let previous = map.get("previous").and_then(|node| crate::artifact::read_digest(reader, node));
    let trust = read_trust(reader, map);
    let keys: Vec<String> = trust
        .iter()
        .filter(|(_, trust)| matches!(trust, Trust::Key { .. }))
        .map(|(name, _)| name.clone())
        .collect();
    let roles: Vec<Role> = sorted(reader, map, "who", "role", |reader, name, node| {
        let role = Role::read(reader, name, node, &keys)?;
        if let Some(trust_name) = role.trust.as_ref().filter(|name| !trust.contains_key(*name)) {
            let known: Vec<&str> = trust.keys().map(String::as_str).collect();
            return reader.unknown(node.place, "the trust root", trust_name, &known);
        }
        Some(role)
    });
    let classes = sorted(reader, map, "what", "class", Class::read);
    let sites = sorted(reader, map, "where", "context", Site::read);
    // Names stand for themselves even where what is behind them has a mistake, lest it be told twice.
    let names = Names {
        roles: key_names(map, "who"),
        classes: key_names(map, "what"),
        sites: key_names(map, "where"),
    };
    let owners = map.get("owners").and_then(|node| read_owners(reader, node, &names));
    let mut may: Vec<May> =
        items(reader, map, "may", |reader, node| May::read(reader, node, &names));
    may.sort_by_cached_key(|may| {
        format!("{:?}{:?}{:?}{:?}", may.who, may.actions, may.to, may.when)
    });
    let mut never = items(reader, map, "never", |reader, node| Never::read(reader, node, &names));
    never.sort_by(|a, b| a.name.cmp(&b.name));
    let mut must = items(reader, map, "must", |reader, node| {
        let must = Must::read(reader, node, &names)?;
        let tags = |place: &usize| classes.get(*place).is_some_and(Class::has_tags);
        if let To::Classes(places) = &must.every
            && places.iter().any(tags)
        {
            return reader.suggest(
                node.place,
                "must: a registry's tag says nothing about what was signed, so no demand can rest on it",
                "name a class without a tag",
            );
        }
        Some(must)
    });
    must.sort_by(|a, b| a.name.cmp(&b.name));
    for pair in must.windows(2) {
        if pair[0].name == pair[1].name {
            let place = pair[0].place.max(pair[1].place);
            let _: Option<()> =
                reader.wrong(place, format!("the name {:?} stands for another rule", pair[0].name));
        }
    }
    let musts: Vec<String> = must.iter().map(|must| must.name.clone()).collect();
    let owner_roles = owners.iter().flat_map(|owners: &Owners| &owners.roles);
    let owner_roles: Vec<String> = owner_roles.map(|&place| names.roles[place].clone()).collect();
    let exceptions = items(reader, map, "exceptions", |reader, node| {
        Exception::read(reader, node, &musts, &owner_roles)
    });
    let unmatched = map.get("unmatched").and_then(|node| {
        let text = reader.text(node, "refuse, warn or allow")?;
        match text {
            "refuse" => Some(Unmatched::Refuse),
            "warn" => Some(Unmatched::Warn),
            "allow" => Some(Unmatched::Allow),
            _ => reader.unknown(node.place, "unmatched", text, &["refuse", "warn", "allow"]),
        }
    });
    let people = map.get("people").map(|node| read_people(reader, node)).unwrap_or_default();
    let builders =
        items(reader, map, "builders", |reader, node| read_builder(reader, node, &names));
    let include = items(reader, map, "include", Include::read);
    let admission = map.get("admission").and_then(|node| read_admission(reader, node));
    Some(Policy {
        name: name?.to_owned(),
        serial: serial?,
        digest: digest(text.as_bytes()),
        previous,
        expires,
        owners,
        trust,
        people,
        builders,
        roles,
        classes,
        sites,
        may,
        never,
        must,
        exceptions,
        unmatched: unmatched.unwrap_or_default(),
        include,
        included: Vec::new(),
        admission: admission.unwrap_or_default(),
    })
}

/// The names in the map `key`, sorted as [`sorted`] has them.
fn key_names(map: Map<'_>, key: &str) -> Vec<String> {
    let Some(Node { value: Value::Map(entries), .. }) = map.get(key) else { return Vec::new() };
    let mut names: Vec<_> = entries.iter().map(|(key, _)| key.text.clone()).collect();
    names.sort();
    names
}

/// The values of the map `key`, by name.
fn sorted<T>(
    reader: &mut Reader,
    map: Map<'_>,
    key: &str,
    what: &str,
    mut read: impl FnMut(&mut Reader, &str, &Node) -> Option<T>,
) -> Vec<T> {
    let Some(node) = map.get(key) else { return Vec::new() };
    let Some(map) = reader.any_map(node, key) else { return Vec::new() };
    let mut entries: Vec<(&Key, &Node)> = map.entries().collect();
    entries.sort_by(|(a, _), (b, _)| a.text.cmp(&b.text));
    let mut values = Vec::new();
    for (key, node) in entries {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let reserved = matches!(key.text.as_str(), "anyone" | "anything");
        if key.text.is_empty() || reserved || !key.text.chars().all(allowed) {
            let message = format!(
                "{:?} is no name for a {what}: expected lower-case letters, digits, - _ .",
                key.text
            );
            let _: Option<()> = reader.wrong(key.place, message);
        }
        values.extend(read(reader, &key.text, node));
    }
    values
}

/// The items of the list `key`.
fn items<T>(
    reader: &mut Reader,
    map: Map<'_>,
    key: &str,
    mut read: impl FnMut(&mut Reader, &Node) -> Option<T>,
) -> Vec<T> {
    let Some(node) = map.get(key) else { return Vec::new() };
    let nodes = reader.list(node, key);
    nodes.iter().filter_map(|node| read(reader, node)).collect()
}

fn read_owners(reader: &mut Reader, node: &Node, names: &Names) -> Option<Owners> {
    let map = reader.map(node, "owners", &["roles", "at-least"])?;
    let nodes = reader.need(map, "owners", "roles").map(|node| reader.list(node, "roles"));
    let mut roles = Vec::new();
    for node in nodes.unwrap_or_default() {
        let Some(text) = reader.text(node, "a role") else { continue };
        match names.roles.iter().position(|name| name == text) {
            Some(place) => roles.push(place),
            None => {
                let known: Vec<&str> = names.roles.iter().map(String::as_str).collect();
                let _: Option<()> = reader.unknown(node.place, "the role", text, &known);
            }
        }
    }
    let at_least = reader.need(map, "owners", "at-least");
    let at_least = at_least.and_then(|node| reader.number(node, "at-least"))?;
    Some(Owners { roles, at_least: usize::try_from(at_least).ok()? })
}

fn read_trust(reader: &mut Reader, map: Map<'_>) -> BTreeMap<String, Trust> {
    let roots = sorted(reader, map, "trust", "trust root", |reader, name, node| {
        let what = format!("trust root {name:?}");
        const KEYS: [&str; 6] = ["tuf", "root", "trusted-root", "key-file", "key", "logged"];
        let map = reader.map(node, &what, &KEYS)?;
        let text = |reader: &mut Reader, key: &str| {
            map.get(key).and_then(|node| Some(reader.text(node, key)?.to_owned()))
        };
        let (tuf, root) = (text(reader, "tuf"), text(reader, "root"));
        let file = text(reader, "key-file").map(Pem::File);
        let pem = match (file, text(reader, "key").map(Pem::Here)) {
            (Some(_), Some(_)) => {
                return reader.wrong(node.place, format!("{what}: expected key or key-file"));
            }
            (file, here) => file.or(here),
        };
        let logged = map.get("logged");
        let trust = match (tuf, root, text(reader, "trusted-root"), pem) {
            (Some(url), Some(root), None, None) if is_digest(&root) && logged.is_none() => {
                Trust::Tuf { url, root }
            }
            (None, None, Some(file), None) if logged.is_none() => Trust::File(file),
            (None, None, None, Some(pem)) => {
                let logged = logged.and_then(|node| reader.boolean(node, "logged"));
                Trust::Key { pem, logged: logged.unwrap_or(true) }
            }
            _ => {
                return reader.wrong(
                    node.place,
                    format!("{what}: expected tuf with root: sha256:…, or trusted-root: FILE, or key-file: FILE, or key: PEM"),
                );
            }
        };
        Some((name.to_owned(), trust))
    });
    roots.into_iter().collect()
}

fn read_people(reader: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let mut people = BTreeMap::new();
    let Some(map) = reader.any_map(node, "people") else { return people };
    for (person, node) in map.entries() {
        for node in reader.list(node, "e-mail addresses") {
            let Some(address) = reader.text(node, "an e-mail address") else { continue };
            let address = address.to_ascii_lowercase();
            if let Some(other) = people.insert(address, person.text.clone())
                && other != person.text
            {
                let message = format!("the address is {other}'s already");
                let _: Option<()> = reader.wrong(node.place, message);
            }
        }
    }
    people
}

fn read_builder(reader: &mut Reader, node: &Node, names: &Names) -> Option<Builder> {
    let map = reader.map(node, "a builder", &["id", "by", "level"])?;
    let id = reader.need(map, "a builder", "id");
    let id = id.and_then(|node| reader.text(node, "the builder's URI"))?.to_owned();
    let node = reader.need(map, "a builder", "by")?;
    let role = reader.text(node, "a role")?;
    let Some(by) = names.roles.iter().position(|name| name == role) else {
        let known: Vec<&str> = names.roles.iter().map(String::as_str).collect();
        return reader.unknown(node.place, "the role", role, &known);
    };
    let node = reader.need(map, "a builder", "level")?;
    match reader.number(node, "level")? {
        level @ 1..=4 => Some(Builder { id, by, level: u8::try_from(level).ok()? }),
        other => reader.wrong(node.place, format!("level: expected 1 to 4, found {other}")),
    }
}

fn read_admission(reader: &mut Reader, node: &Node) -> Option<Admission> {
    const KEYS: [&str; 5] = [
        "kinds",
        "extra-images-at",
        "pin-tags-to-digests",
        "unchanged-images-on-update",
        "when-undecided",
    ];
    let map = reader.map(node, "admission", &KEYS)?;
    let kinds = map.get("kinds").map(|node| reader.list(node, "resources")).unwrap_or_default();
    let kinds = kinds.iter().filter_map(|node| Some(reader.text(node, "a resource")?.to_owned()));
    let kinds: Vec<String> = kinds.collect();
    let mut extra_images_at = BTreeMap::new();
    if let Some(node) = map.get("extra-images-at")
        && let Some(paths) = reader.any_map(node, "extra-images-at")
    {
        for (key, node) in paths.entries() {
            if let Some(path) = reader.text(node, "a path") {
                extra_images_at.insert(key.text.clone(), path.to_owned());
            }
        }
    }
    let pin = map.get("pin-tags-to-digests");
    let pin_tags = pin.and_then(|node| reader.boolean(node, "pin-tags-to-digests"));
    let unchanged = map.get("unchanged-images-on-update").and_then(|node| {
        let text = reader.text(node, "allow or check")?;
        match text {
            "allow" => Some(false),
            "check" => Some(true),
            _ => {
                reader.unknown(node.place, "unchanged-images-on-update", text, &["allow", "check"])
            }
        }
    });
    if let Some(node) = map.get("when-undecided")
        && let Some(text) = reader.text(node, "refuse")
        && text != "refuse"
    {
        let _: Option<()> = reader.suggest(
            node.place,
            "when-undecided: what cannot be decided is refused",
            "for a milder rule say otherwise: warn in the must",
        );
    }
    Some(Admission {
        kinds,
        extra_images_at,
        pin_tags: pin_tags.unwrap_or(false),
        check_unchanged: unchanged.unwrap_or(false),
    })
}
