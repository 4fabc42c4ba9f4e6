//! Fulcio's identity configuration, as it is in use (`--config-path`): YAML or JSON, in either spelling of its
//! names.
//!
//! Read strictly: an unknown name, a setting that its issuer's type does not have, an issuer that two patterns
//! match and a template that is not understood are mistakes, and all of them are told at once, with their
//! lines. Fulcio passes over the first two and picks one of the third at random.

mod mistake;
mod yaml;

pub use mistake::{Fault, Mistake, Mistakes};
pub use yaml::Fault as SyntaxFault;

use super::jwks;
use super::pattern::Pattern;
use super::providers::{Mapping, Templates};
use super::template::Template;
use std::collections::BTreeMap;
use url::{Host, Url};
use yaml::{Kind, Node, Value};

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct FulcioConfig {
    /// The issuers, those with a URL of their own first, in the order of their URLs.
    pub issuers: Vec<Issuer>,
}

/// An issuer whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its URL, as it stands in tokens.
    pub url: IssuerUrl,
    /// The audience that its tokens must name.
    pub audience: String,
    /// Fulcio's name of what it is; published.
    pub kind: &'static str,
    /// The claim that clients are told to sign as proof of possession; published, no more.
    pub challenge_claim: String,
    /// How its claims become a name.
    pub mapping: Mapping,
    /// Certificates, PEM, that its TLS may lead to beside the system's.
    pub ca_cert: Option<String>,
}

/// One issuer, or many of a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IssuerUrl {
    /// Compared to the letter.
    Exact(String),
    /// Whatever it matches; an issuer with its own entry is none of these.
    Pattern(Pattern),
}

impl Issuer {
    /// An issuer with the audience `sigstore`, known by `url` to the letter.
    #[must_use]
    pub fn new(url: &str, mapping: Mapping) -> Self {
        let (kind, challenge_claim) = match mapping {
            Mapping::Email { .. } => ("email", "email"),
            Mapping::Uri { .. } => ("uri", "sub"),
            Mapping::Username { .. } => ("username", "sub"),
            Mapping::Spiffe { .. } => ("spiffe", "sub"),
            Mapping::Kubernetes => ("kubernetes", "sub"),
            Mapping::Chainguard => ("chainguard-identity", "sub"),
            Mapping::Templates(_) => ("ci-provider", "sub"),
        };
        Self {
            url: IssuerUrl::Exact(url.to_owned()),
            audience: "sigstore".to_owned(),
            kind,
            challenge_claim: challenge_claim.to_owned(),
            mapping,
            ca_cert: None,
        }
    }
}

/// A name in YAML and in JSON.
type Name = (&'static str, &'static str);

const DOCUMENT: &[Name] = &[
    ("oidc-issuers", "OIDCIssuers"),
    ("meta-issuers", "MetaIssuers"),
    ("ci-issuer-metadata", "CIIssuerMetadata"),
    // Where the public instance keeps its anchors; nothing reads it.
    ("define", "define"),
];

const ISSUER: &[Name] = &[
    ("issuer-url", "IssuerURL"),
    ("client-id", "ClientID"),
    ("type", "Type"),
    ("ci-provider", "CIProvider"),
    ("issuer-claim", "IssuerClaim"),
    ("subject-domain", "SubjectDomain"),
    ("spiffe-trust-domain", "SPIFFETrustDomain"),
    ("challenge-claim", "ChallengeClaim"),
    ("ca-cert", "CACert"),
    ("skip-email-verification", "SkipEmailVerification"),
    ("description", "Description"),
    ("contact", "Contact"),
    ("environment", "Environment"),
];

const PROVIDER: &[Name] = &[
    ("default-template-values", "DefaultTemplateValues"),
    ("extension-templates", "ExtensionTemplates"),
    ("subject-alternative-name-template", "SubjectAlternativeNameTemplate"),
];

/// Extensions with their numbers (Fulcio's oid-info.md). 1, 8 and 24 are always the token's own.
const EXTENSIONS: &[(Name, u8)] = &[
    (("github-workflow-trigger", "GithubWorkflowTrigger"), 2),
    (("github-workflow-sha", "GithubWorkflowSHA"), 3),
    (("github-workflow-name", "GithubWorkflowName"), 4),
    (("github-workflow-repository", "GithubWorkflowRepository"), 5),
    (("github-workflow-ref", "GithubWorkflowRef"), 6),
    (("build-signer-uri", "BuildSignerURI"), 9),
    (("build-signer-digest", "BuildSignerDigest"), 10),
    (("runner-environment", "RunnerEnvironment"), 11),
    (("source-repository-uri", "SourceRepositoryURI"), 12),
    (("source-repository-digest", "SourceRepositoryDigest"), 13),
    (("source-repository-ref", "SourceRepositoryRef"), 14),
    (("source-repository-identifier", "SourceRepositoryIdentifier"), 15),
    (("source-repository-owner-uri", "SourceRepositoryOwnerURI"), 16),
    (("source-repository-owner-identifier", "SourceRepositoryOwnerIdentifier"), 17),
    (("build-config-uri", "BuildConfigURI"), 18),
    (("build-config-digest", "BuildConfigDigest"), 19),
    (("build-trigger", "BuildTrigger"), 20),
    (("run-invocation-uri", "RunInvocationURI"), 21),
    (("source-repository-visibility-at-signing", "SourceRepositoryVisibilityAtSigning"), 22),
    (("deployment-environment", "DeploymentEnvironment"), 23),
];

/// The types, with the provider that an older type stands for, and the settings that only some have.
const TYPES: &[(&str, Option<&str>, &[&str])] = &[
    ("email", None, &["issuer-claim", "skip-email-verification"]),
    ("uri", None, &["subject-domain"]),
    ("username", None, &["subject-domain"]),
    ("spiffe", None, &["spiffe-trust-domain"]),
    ("kubernetes", None, &[]),
    ("chainguard-identity", None, &[]),
    ("ci-provider", None, &["ci-provider"]),
    ("github-workflow", Some("github-workflow"), &[]),
    ("gitlab-pipeline", Some("gitlab-pipeline"), &[]),
    ("buildkite-job", Some("buildkite-job"), &[]),
    ("codefresh-workflow", Some("codefresh-workflow"), &[]),
];

/// The settings that some types have and others do not.
const SPECIAL: [&str; 5] = [
    "issuer-claim",
    "skip-email-verification",
    "subject-domain",
    "spiffe-trust-domain",
    "ci-provider",
];

/// Providers that need no configuration.
const PRESETS: &str = include_str!("presets.yaml");

impl FulcioConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// All its mistakes, in the order of their lines.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let mut reader = Reader::default();
        let issuers = reader.document(text);
        reader.mistakes.sort_by_key(|mistake| mistake.line);
        match reader.mistakes.is_empty() {
            true => Ok(Self { issuers }),
            false => Err(Mistakes(reader.mistakes)),
        }
    }

    /// A provider that needs no configuration.
    #[must_use]
    pub fn preset(name: &str) -> Option<Templates> {
        let mut reader = Reader::default();
        let document = yaml::parse(PRESETS).expect("it is part of the program");
        let document = reader.members(&document, "", DOCUMENT);
        let mut providers = reader.providers(document.get("ci-issuer-metadata"));
        assert!(reader.mistakes.is_empty(), "the presets are part of the program");
        providers.remove(name)
    }
}

#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
}

/// The members of a mapping by their YAML names.
struct Members<'a> {
    line: usize,
    place: String,
    values: BTreeMap<&'static str, &'a Node>,
}

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a Node> {
        self.values.get(name).copied()
    }
}

impl Reader {
    fn mistake(&mut self, line: usize, place: &str, fault: impl Into<Fault>) {
        self.mistakes.push(Mistake { line, place: place.to_owned(), fault: fault.into() });
    }

    fn document(&mut self, text: &str) -> Vec<Issuer> {
        let document = match yaml::parse(text) {
            Ok(document) => document,
            Err(error) => {
                self.mistake(error.line, "", error.fault);
                return Vec::new();
            }
        };
        let document = self.members(&document, "", DOCUMENT);
        let providers = self.providers(document.get("ci-issuer-metadata"));
        let mut issuers: Vec<Issuer> = Vec::new();
        for (section, pattern) in [("oidc-issuers", false), ("meta-issuers", true)] {
            let mut entries = self.entries(document.get(section), section);
            entries.sort_by_key(|(url, _)| *url);
            for (url, node) in entries {
                let place = format!("{section}.{url}");
                let Some(issuer) = self.issuer(url, node, &place, pattern, &providers) else {
                    continue;
                };
                if let IssuerUrl::Pattern(pattern) = &issuer.url {
                    let overlapping = issuers.iter().find_map(|other| match &other.url {
                        IssuerUrl::Pattern(other) if other.overlaps(pattern) => {
                            Some(other.as_str().to_owned())
                        }
                        _ => None,
                    });
                    if let Some(other) = overlapping {
                        self.mistake(node.line, &place, Fault::Overlap { other });
                    }
                }
                issuers.push(issuer);
            }
        }
        if issuers.is_empty() && self.mistakes.is_empty() {
            self.mistake(document.line, "", Fault::NoIssuer);
        }
        issuers
    }

    fn issuer(
        &mut self,
        key: &str,
        node: &Node,
        place: &str,
        is_pattern: bool,
        providers: &BTreeMap<String, Templates>,
    ) -> Option<Issuer> {
        if node.kind() != Kind::Mapping {
            self.mistake(node.line, place, Fault::NoMapping);
            return None;
        }
        let before = self.mistakes.len();
        let members = self.members(node, place, ISSUER);
        if let Some(found) = self.text(&members, "issuer-url")
            && found != key
        {
            self.mistake(members.line, place, Fault::OtherUrl { found });
        }
        let url = if is_pattern {
            match Pattern::parse(key) {
                Ok(pattern) => Some(IssuerUrl::Pattern(pattern)),
                Err(error) => {
                    self.mistake(node.line, place, error);
                    None
                }
            }
        } else {
            if jwks::issuer_url(key).is_err() {
                self.mistake(node.line, place, Fault::Url);
            }
            Some(IssuerUrl::Exact(key.to_owned()))
        };
        let audience = self.needed(&members, "client-id");
        for informational in ["description", "contact", "environment"] {
            self.text(&members, informational);
        }
        let ca_cert = self.text(&members, "ca-cert");
        let usable = |pem: &String| {
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).is_ok_and(|all| !all.is_empty())
        };
        if !ca_cert.as_ref().is_none_or(usable) {
            self.mistake(members.line, place, Fault::Certificates);
        }
        let challenge = self.text(&members, "challenge-claim");
        let (kind, mapping) = self.mapping(key, &members, is_pattern, providers)?;
        if self.mistakes.len() > before {
            return None;
        }
        let usual = Issuer::new(key, mapping);
        let challenge_claim = challenge.unwrap_or(usual.challenge_claim);
        Some(Issuer {
            url: url?,
            audience: audience?,
            kind,
            challenge_claim,
            mapping: usual.mapping,
            ca_cert,
        })
    }

    fn mapping(
        &mut self,
        key: &str,
        members: &Members<'_>,
        is_pattern: bool,
        providers: &BTreeMap<String, Templates>,
    ) -> Option<(&'static str, Mapping)> {
        let kind = self.needed(members, "type")?;
        let Some(&(kind, preset, settings)) = TYPES.iter().find(|(name, ..)| *name == kind) else {
            self.mistake(members.line, &members.place, Fault::Type { found: kind });
            return None;
        };
        for setting in SPECIAL.into_iter().filter(|setting| !settings.contains(setting)) {
            if members.get(setting).is_some_and(|node| node.kind() != Kind::Nothing) {
                let fault = Fault::NotForType { setting, kind };
                self.mistake(members.line, &members.place, fault);
            }
        }
        if is_pattern && matches!(kind, "uri" | "username" | "spiffe") {
            self.mistake(members.line, &members.place, Fault::PatternType { kind });
            return None;
        }
        let fault = |reader: &mut Self, fault| {
            reader.mistake(members.line, &members.place, fault);
            None
        };
        let mapping = match kind {
            "email" => {
                let issuer_claim = match self.text(members, "issuer-claim") {
                    None => None,
                    Some(path) => match claim_path(&path) {
                        Some(path) => Some(path),
                        None => return fault(self, Fault::ClaimPath { found: path }),
                    },
                };
                let skip_verification = match self
                    .text(members, "skip-email-verification")
                    .as_deref()
                {
                    None | Some("false") => false,
                    Some("true") => true,
                    Some(_) => {
                        return fault(self, Fault::Boolean { setting: "skip-email-verification" });
                    }
                };
                Mapping::Email { issuer_claim, skip_verification }
            }
            "uri" => {
                let domain = self.needed(members, "subject-domain")?;
                let issuer = Url::parse(key).ok()?;
                match Url::parse(&domain) {
                    Ok(url) if is_origin(&url, &domain) && url.scheme() == issuer.scheme() => {
                        if !same_owner(url.host(), issuer.host()) {
                            return fault(self, Fault::Foreign { found: domain });
                        }
                        Mapping::Uri { subject_domain: url }
                    }
                    _ => {
                        return fault(
                            self,
                            Fault::SubjectOrigin {
                                scheme: issuer.scheme().to_owned(),
                                found: domain,
                            },
                        );
                    }
                }
            }
            "username" => {
                let domain = self.needed(members, "subject-domain")?;
                let issuer = Url::parse(key).ok()?;
                match Url::parse(&format!("https://{domain}")) {
                    Ok(url)
                        if is_origin(&url, &format!("https://{domain}"))
                            && url.port().is_none() =>
                    {
                        if !same_owner(url.host(), issuer.host()) {
                            return fault(self, Fault::Foreign { found: domain });
                        }
                        Mapping::Username { subject_domain: domain }
                    }
                    _ => return fault(self, Fault::SubjectHost { found: domain }),
                }
            }
            "spiffe" => {
                let domain = self.needed(members, "spiffe-trust-domain")?;
                // SPIFFE-ID, section 2.1.
                let legal = |byte: u8| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
                };
                if domain.len() > 255 || !domain.bytes().all(legal) {
                    return fault(self, Fault::TrustDomain { found: domain });
                }
                Mapping::Spiffe { trust_domain: domain }
            }
            "kubernetes" => Mapping::Kubernetes,
            "chainguard-identity" => Mapping::Chainguard,
            "ci-provider" => {
                let name = self.needed(members, "ci-provider")?;
                match providers.get(&name).cloned().or_else(|| FulcioConfig::preset(&name)) {
                    Some(templates) => Mapping::Templates(templates),
                    None => return fault(self, Fault::Provider { found: name }),
                }
            }
            _ => {
                let preset = preset.expect("all other types have one");
                let mut templates = FulcioConfig::preset(preset).expect("it is among the presets");
                if let Some(url) = web_address(kind, key) {
                    templates.defaults.insert("url".to_owned(), url);
                }
                Mapping::Templates(templates)
            }
        };
        Some((kind, mapping))
    }

    fn providers(&mut self, node: Option<&Node>) -> BTreeMap<String, Templates> {
        let section = "ci-issuer-metadata";
        let mut providers = BTreeMap::new();
        for (name, node) in self.entries(node, section) {
            let place = format!("{section}.{name}");
            let members = self.members(node, &place, PROVIDER);
            let defaults = self.texts(
                members.get("default-template-values"),
                &format!("{place}.default-template-values"),
            );
            let defaults =
                defaults.into_iter().map(|(name, _, value)| (name.to_owned(), value)).collect();
            let mut extensions = BTreeMap::new();
            let place_of = format!("{place}.extension-templates");
            for (name, line, text) in self.texts(members.get("extension-templates"), &place_of) {
                let known =
                    EXTENSIONS.iter().find(|((yaml, json), _)| *yaml == name || *json == name);
                let Some(&(_, number)) = known else {
                    self.mistake(
                        line,
                        &place_of,
                        Fault::Unknown {
                            found: name.to_owned(),
                            expected: names(EXTENSIONS.iter().map(|(name, _)| name)),
                        },
                    );
                    continue;
                };
                // Fulcio, too, leaves out an extension without a template.
                if text.is_empty() {
                    continue;
                }
                match Template::parse(&text) {
                    Ok(template) if !extensions.contains_key(&number) => {
                        drop(extensions.insert(number, template))
                    }
                    Ok(_) => self.mistake(
                        line,
                        &place_of,
                        Fault::BothSpellings { name: name.to_owned() },
                    ),
                    Err(error) => self.mistake(line, &format!("{place_of}.{name}"), error),
                }
            }
            let Some(san) = self.needed(&members, "subject-alternative-name-template") else {
                continue;
            };
            match Template::parse(&san) {
                Ok(san) => {
                    drop(providers.insert(name.to_owned(), Templates { defaults, san, extensions }))
                }
                Err(error) => self.mistake(
                    members.line,
                    &format!("{place}.subject-alternative-name-template"),
                    error,
                ),
            }
        }
        providers
    }

    /// The members of a mapping whose names are fixed.
    fn members<'a>(&mut self, node: &'a Node, place: &str, known: &'static [Name]) -> Members<'a> {
        let mut members =
            Members { line: node.line, place: place.to_owned(), values: BTreeMap::new() };
        for (name, node) in self.entries(Some(node), place) {
            match known.iter().find(|(yaml, json)| *yaml == name || *json == name) {
                None => {
                    let expected = names(known.iter());
                    self.mistake(
                        node.line,
                        place,
                        Fault::Unknown { found: name.to_owned(), expected },
                    );
                }
                Some((yaml, _)) => {
                    if members.values.insert(yaml, node).is_some() {
                        self.mistake(
                            node.line,
                            place,
                            Fault::BothSpellings { name: name.to_owned() },
                        );
                    }
                }
            }
        }
        members
    }

    /// The members of a mapping whose names are free.
    fn entries<'a>(&mut self, node: Option<&'a Node>, place: &str) -> Vec<(&'a str, &'a Node)> {
        match node.map(|node| (node, &node.value)) {
            None | Some((_, Value::Nothing)) => Vec::new(),
            Some((_, Value::Mapping(members))) => {
                members.iter().map(|(name, node)| (&name[..], node)).collect()
            }
            Some((node, _)) => {
                self.mistake(node.line, place, Fault::NoMapping);
                Vec::new()
            }
        }
    }

    /// The members of a mapping of texts, with their lines.
    fn texts<'a>(&mut self, node: Option<&'a Node>, place: &str) -> Vec<(&'a str, usize, String)> {
        let mut texts = Vec::new();
        for (name, node) in self.entries(node, place) {
            match &node.value {
                Value::Text(text) => texts.push((name, node.line, text.clone())),
                Value::Nothing => texts.push((name, node.line, String::new())),
                _ => self.mistake(node.line, &format!("{place}.{name}"), Fault::NoText),
            }
        }
        texts
    }

    /// A text; one that is empty is none.
    fn text(&mut self, members: &Members<'_>, name: &str) -> Option<String> {
        let node = members.get(name)?;
        match &node.value {
            Value::Nothing => None,
            Value::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => {
                self.mistake(node.line, &format!("{}.{name}", members.place), Fault::NoText);
                None
            }
        }
    }

    fn needed(&mut self, members: &Members<'_>, name: &'static str) -> Option<String> {
        let text = self.text(members, name);
        let wrong =
            members.get(name).is_some_and(|node| matches!(node.kind(), Kind::List | Kind::Mapping));
        if text.is_none() && !wrong {
            self.mistake(members.line, &members.place, Fault::Missing { name });
        }
        text
    }
}

fn names<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    names.map(|(yaml, _)| *yaml).collect::<Vec<_>>().join(", ")
}

/// The member names of a JSONPath of the form `$.a.b`, all that configurations in use have.
fn claim_path(path: &str) -> Option<Vec<String>> {
    let names: Vec<String> = path.strip_prefix("$.")?.split('.').map(str::to_owned).collect();
    let plain = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    (names.len() <= 8 && names.iter().all(plain)).then_some(names)
}

/// Whether `text`, which `url` was read from, is scheme, host and perhaps port.
fn is_origin(url: &Url, text: &str) -> bool {
    url.host().is_some() && url.origin().ascii_serialization() == text
}

/// Whether two hosts end in the same two labels. Where names are handed out one label lower, as in
/// `co.uk`, it takes three: a short label before a country's is taken for such a place.
fn same_owner(one: Option<Host<&str>>, other: Option<Host<&str>>) -> bool {
    match (one, other) {
        (Some(Host::Domain(one)), Some(Host::Domain(other))) => {
            let end = |host: &str| {
                let labels: Vec<String> = host.rsplit('.').map(str::to_owned).collect();
                let shared = matches!(labels.as_slice(), [country, second, ..] if country.len() == 2 && second.len() <= 3);
                labels.into_iter().take(if shared { 3 } else { 2 }).collect::<Vec<_>>()
            };
            end(one) == end(other)
        }
        (one, other) => one.is_some() && one == other,
    }
}

/// Where an older type's provider shows its pages, when that follows from the issuer: a GitLab of one's
/// own is its issuer; GitHub Enterprise Server issues under `https://HOST/_services/token`, and
/// GitHub Enterprise Cloud with data residency under `https://token.actions.NAME.ghe.com`.
fn web_address(kind: &str, issuer: &str) -> Option<String> {
    match kind {
        "gitlab-pipeline" => Some(issuer.trim_end_matches('/').to_owned()),
        "github-workflow" => {
            let cloud = issuer
                .strip_prefix("https://token.actions.")
                .filter(|host| host.ends_with(".ghe.com"));
            let server = issuer.strip_suffix("/_services/token").map(str::to_owned);
            cloud.map(|host| format!("https://{host}")).or(server)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
