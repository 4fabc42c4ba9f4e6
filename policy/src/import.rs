//! Policies of others, written as ours, with what their meaning loses or gains by that.
//!
//! [`cluster_image_policies`] reads ClusterImagePolicy of `policy.sigstore.dev`, v1alpha1 and v1beta1. What has
//! no equal here (keys in secrets or KMS, CUE and Rego, CAs by PEM) is a mistake with its place, so that
//! nothing is silently weaker. What came out is a policy that loads.

use crate::document::Policy;
use crate::yaml::{Map, Mistakes, Node, Place, Reader, documents};
use std::fmt::Write as _;

/// A policy of ours, made of somebody else's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Imported {
    /// The policy, YAML.
    pub policy: String,
    /// What it means that the original did not, and the other way round: each a sentence.
    pub changes: Vec<String>,
    /// Files that it names, to be put beside it: name and content.
    pub files: Vec<(String, String)>,
}

/// Predicate types by the short names that ClusterImagePolicy gives them.
const ALIASES: [(&str, &str); 12] = [
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("intoto", "https://in-toto.io/Link/v1"),
    ("sign", "https://sigstore.dev/cosign/sign/v1"),
];

/// What is written, section by section.
#[derive(Default)]
struct Out {
    trust: String,
    who: String,
    what: String,
    may: String,
    must: String,
    changes: Vec<String>,
    files: Vec<(String, String)>,
}

/// Writes the ClusterImagePolicies of `text` as one policy called `name`. All of them apply, as there.
///
/// # Errors
/// Every part that cannot be written, and every mistake, with its place.
pub fn cluster_image_policies(text: &str, name: &str) -> Result<Imported, Mistakes> {
    let (nodes, mut reader, mut out) = (documents(text)?, Reader::default(), Out::default());
    for node in &nodes {
        let _: Option<()> = object(&mut reader, node, &mut out);
    }
    if nodes.is_empty() {
        let place = Place { line: 1, column: 1 };
        let _: Option<()> = reader.wrong(place, "expected a ClusterImagePolicy, found nothing");
    }
    reader.finish(Some(()))?;
    let mut policy = format!("policy: {}\nserial: 1\n", quoted(name));
    for (key, section) in [
        ("trust", &out.trust),
        ("who", &out.who),
        ("what", &out.what),
        ("may", &out.may),
        ("must", &out.must),
    ] {
        if !section.is_empty() {
            let _ = write!(policy, "{key}:\n{section}");
        }
    }
    out.changes.push("an image that no policy is about is refused; the original followed no-match-policy, which refuses unless told otherwise".to_owned());
    policy.push_str("unmatched: refuse\n");
    Policy::parse(&policy)?;
    Ok(Imported { policy, changes: out.changes, files: out.files })
}

fn object(reader: &mut Reader, node: &Node, out: &mut Out) -> Option<()> {
    let map = reader.map(node, "an object", &["apiVersion", "kind", "metadata", "spec"])?;
    let version = reader.need(map, "an object", "apiVersion")?;
    let text = reader.text(version, "a version")?;
    if !matches!(text, "policy.sigstore.dev/v1alpha1" | "policy.sigstore.dev/v1beta1") {
        return reader.wrong(
            version.place,
            format!("expected policy.sigstore.dev/v1beta1 or v1alpha1, found {text:?}"),
        );
    }
    let kind = reader.need(map, "an object", "kind")?;
    if reader.text(kind, "a kind")? != "ClusterImagePolicy" {
        return reader
            .wrong(kind.place, "expected ClusterImagePolicy; trust roots are for trust init");
    }
    let metadata = reader.need(map, "an object", "metadata")?;
    let metadata = reader.any_map(metadata, "metadata")?;
    let name = reader.need(metadata, "metadata", "name")?;
    let name = identifier(reader.text(name, "a name")?);
    let spec = reader.need(map, "an object", "spec")?;
    let spec = reader.map(spec, "spec", &["images", "match", "authorities", "policy", "mode"])?;
    if let Some(node) = spec.get("policy") {
        let _: Option<()> = reader.suggest(
            node.place,
            "policy: CUE and Rego have no equal here",
            "write it as check in CEL",
        );
    }
    if spec.get("match").is_some() {
        out.changes.push(format!(
            "{name}: match chose kinds of resources; this policy is about the images of all"
        ));
    }
    images(reader, spec, &name, out);
    let mode = spec.get("mode").and_then(|node| match reader.text(node, "enforce or warn")? {
        mode @ ("enforce" | "warn") => Some(mode),
        mode => reader.unknown(node.place, "mode", mode, &["enforce", "warn"]),
    });
    let otherwise = if mode == Some("warn") { "warn" } else { "refuse" };
    if otherwise == "warn" {
        out.changes.push(format!("{name}: mode warn lets everything in there; here its images still need another rule that refuses, or covers: true"));
    }
    let nodes =
        reader.need(spec, "spec", "authorities").map(|node| reader.list(node, "authorities"));
    let (mut needs, mut logged, mut stamped) = (Vec::new(), false, false);
    for (place, node) in nodes.unwrap_or_default().iter().enumerate() {
        if let Some(found) = authority(reader, node, &name, place, out) {
            logged |= found.logged;
            stamped |= found.stamped;
            needs.push(found.need);
        }
    }
    let mut proof = Vec::new();
    proof.extend(logged.then_some("logged: true"));
    proof.extend(stamped.then_some("timestamp: required"));
    let needs = match needs.as_slice() {
        [one] => format!("      - {one}\n"),
        several => format!("      - any-of: [{}]\n", several.join(", ")),
    };
    let _ = write!(out.must, "  - name: {name}\n    every: {name}\n    needs:\n{needs}");
    if !proof.is_empty() {
        let _ = writeln!(out.must, "    proof: {{{}}}", proof.join(", "));
    }
    let _ = writeln!(out.must, "    otherwise: {otherwise}");
    Some(())
}

fn images(reader: &mut Reader, spec: Map<'_>, name: &str, out: &mut Out) {
    let nodes = reader.need(spec, "spec", "images").map(|node| reader.list(node, "images"));
    let mut patterns = Vec::new();
    for node in nodes.unwrap_or_default() {
        let Some(map) = reader.map(node, "an image", &["glob"]) else { continue };
        let Some(node) = reader.need(map, "an image", "glob") else { continue };
        let Some(text) = reader.text(node, "a glob") else { continue };
        match glob(text, name, &mut out.changes) {
            Some(found) => patterns.extend(found),
            None => {
                let _: Option<()> = reader.suggest(
                    node.place,
                    format!("glob {text:?}: ** within a name has no equal here"),
                    "name hosts and repositories, with /** for what is below",
                );
            }
        }
    }
    let patterns: Vec<_> = patterns.iter().map(|pattern| quoted(pattern)).collect();
    let _ = writeln!(out.what, "  {name}: {{images: [{}]}}", patterns.join(", "));
}

/// A glob over canonical names with digests, as patterns over repositories.
fn glob(text: &str, name: &str, changes: &mut Vec<String>) -> Option<Vec<String>> {
    let mut change = |what: &str| changes.push(format!("{name}: glob {text:?} {what}"));
    let (base, digest) = match text.split_once('@') {
        Some((base, _)) => (base, true),
        None => (text, false),
    };
    let base = match base {
        "*" => "docker.io/library/*",
        "*/*" => "docker.io/*/*",
        base => base,
    };
    let last = base.rfind('/').map_or(0, |at| at + 1);
    let (base, tag) = match base[last..].split_once(':') {
        Some((repository, _)) if last > 0 => (&base[..last + repository.len()], true),
        _ => (base, false),
    };
    let host = base.split('/').next().unwrap_or_default();
    let wild = host.contains('*') && base.contains('/');
    let base = if base == "**" || wild || host.contains(['.', ':']) || host == "localhost" {
        if matches!(host, "docker.io" | "registry-1.docker.io") {
            change("never matched, because Docker Hub is index.docker.io there; here it matches");
        }
        base.to_owned()
    } else {
        change("never matched, for want of a host; here it is one of Docker Hub");
        let library = if base.contains('/') { "" } else { "library/" };
        format!("docker.io/{library}{base}")
    };
    if tag {
        change("never matched, because tags are gone by then; here it is for every tag");
    }
    let stem = base.strip_suffix("**").unwrap_or(&base);
    if stem.contains("**") {
        return None;
    }
    let word = stem.chars().next_back().is_some_and(|c| c != '/' && c != '*');
    if base.ends_with("**") && word {
        change(
            "has every name that begins so, prefix-evil among them: the patterns still do; write NAME and NAME/**",
        );
        return Some(vec![format!("{stem}*"), format!("{stem}*/**")]);
    }
    if base.ends_with('*') && !base.ends_with("/*") && !base.ends_with("**") && !digest {
        change(
            "has every name that begins so, prefix-evil among them: the pattern still does; write NAME",
        );
    }
    if !base.ends_with('*') && !digest && !tag {
        change("never matched, because names end with their digest there; here it matches");
    }
    Some(vec![base])
}

/// What one authority comes to.
struct Authority {
    need: String,
    logged: bool,
    stamped: bool,
}

fn authority(
    reader: &mut Reader,
    node: &Node,
    policy: &str,
    place: usize,
    out: &mut Out,
) -> Option<Authority> {
    const KEYS: [&str; 10] = [
        "name",
        "key",
        "keyless",
        "static",
        "source",
        "ctlog",
        "rfc3161timestamp",
        "attestations",
        "signatureFormat",
        "policy",
    ];
    let map = reader.map(node, "an authority", &KEYS)?;
    let own = map.get("name").and_then(|node| reader.text(node, "a name"));
    let own = own.map_or_else(|| format!("authority-{place}"), identifier);
    let role = format!("{policy}-{own}");
    for (key, why) in [("source", "signatures that are kept elsewhere"), ("policy", "CUE and Rego")]
    {
        if let Some(node) = map.get(key) {
            let _: Option<()> =
                reader.wrong(node.place, format!("{key}: {why} have no equal here"));
        }
    }
    let roles = match (map.get("key"), map.get("keyless"), map.get("static")) {
        (Some(node), None, None) => key(reader, node, &role, out),
        (None, Some(node), None) => keyless(reader, node, &role, out),
        (None, None, Some(node)) => return fixed(reader, node, &role, out),
        _ => return reader.wrong(map.place(), "expected key, keyless or static, one of them"),
    }?;
    let mut kinds = Vec::new();
    for node in
        map.get("attestations").map(|node| reader.list(node, "attestations")).unwrap_or_default()
    {
        let Some(inner) = reader.map(node, "an attestation", &["name", "predicateType", "policy"])
        else {
            continue;
        };
        if let Some(node) = inner.get("policy") {
            let _: Option<()> = reader.suggest(
                node.place,
                "policy: CUE and Rego have no equal here",
                "write it as check in CEL",
            );
        }
        let Some(node) = reader.need(inner, "an attestation", "predicateType") else { continue };
        let Some(text) = reader.text(node, "a predicate type") else { continue };
        let uri = ALIASES.iter().find(|(alias, _)| *alias == text).map_or(text, |(_, uri)| *uri);
        if text == "openvex" {
            out.changes
                .push(format!("{policy}: openvex had {uri} alone; vex has its versions, too"));
        }
        kinds.push(uri.to_owned());
    }
    let who = format!("[{}]", roles.join(", "));
    let (actions, need) = if kinds.is_empty() {
        ("sign".to_owned(), format!("signature: {{by: {who}}}"))
    } else {
        let actions: Vec<_> = kinds.iter().map(|uri| quoted(&format!("attest {uri}"))).collect();
        let needs = kinds
            .iter()
            .map(|uri| format!("{{attestation: {{kind: {}, by: {who}}}}}", quoted(uri)));
        let needs: Vec<_> = needs.collect();
        (actions.join(", "), format!("all-of: [{}]", needs.join(", ")))
    };
    let _ = writeln!(out.may, "  - {{who: {who}, do: [{actions}], to: {policy}}}");
    let stamped = map.get("rfc3161timestamp").is_some();
    let keyless = map.get("keyless").is_some();
    if !keyless && map.get("ctlog").is_none() {
        out.changes.push(format!("{policy}: {own} is a key without ctlog, so no log is asked for; verification here asks for one unless --log-threshold 0"));
    }
    let logged = !stamped && (keyless || map.get("ctlog").is_some());
    Some(Authority { need: format!("{{{need}}}"), logged, stamped })
}

/// Always yes or always no.
fn fixed(reader: &mut Reader, node: &Node, role: &str, out: &mut Out) -> Option<Authority> {
    let map = reader.map(node, "static", &["action", "message"])?;
    let action = reader.need(map, "static", "action")?;
    let need = match reader.text(action, "pass or fail")? {
        "pass" => {
            return reader.suggest(
                action.place,
                "static: pass lets images in that nobody signed",
                "leave them to a rule with otherwise: record and covers: true",
            );
        }
        "fail" => {
            let _ = writeln!(
                out.who,
                "  {role}: {{issuer: 'https://nobody.invalid', subject: nobody}}"
            );
            out.changes.push(format!("{role}: static fail is a role that nobody is in"));
            format!("{{signature: {{by: {role}}}}}")
        }
        other => return reader.unknown(action.place, "action", other, &["pass", "fail"]),
    };
    Some(Authority { need, logged: false, stamped: false })
}

fn key(reader: &mut Reader, node: &Node, role: &str, out: &mut Out) -> Option<Vec<String>> {
    let map = reader.map(node, "key", &["data", "secretRef", "kms", "hashAlgorithm"])?;
    if let Some(node) = map.get("secretRef").or_else(|| map.get("kms")) {
        return reader.suggest(
            node.place,
            "key: one in a secret or KMS cannot be read here",
            "write its public key as data",
        );
    }
    let data = reader.need(map, "key", "data")?;
    let pem = reader.text(data, "a public key, PEM")?;
    let file = format!("{role}.pub");
    let _ = writeln!(out.trust, "  {role}: {{key-file: {file}}}");
    let _ = writeln!(out.who, "  {role}: {{trust: {role}}}");
    out.files.push((file, format!("{}\n", pem.trim_end())));
    Some(vec![role.to_owned()])
}

fn keyless(reader: &mut Reader, node: &Node, role: &str, out: &mut Out) -> Option<Vec<String>> {
    const KEYS: [&str; 5] = ["url", "identities", "ca-cert", "trustRootRef", "insecureIgnoreSCT"];
    let map = reader.map(node, "keyless", &KEYS)?;
    if let Some(node) = map.get("ca-cert") {
        return reader.wrong(node.place, "ca-cert: it never verified anything; name a trust root");
    }
    if let Some(node) = map.get("trustRootRef") {
        let name = reader.text(node, "a trust root's name")?;
        out.changes.push(format!(
            "{role}: trust root {name:?} is our own here: what verification is given"
        ));
    }
    let identities = reader.need(map, "keyless", "identities")?;
    let nodes = reader.list(identities, "identities");
    let mut roles = Vec::new();
    for (place, node) in nodes.iter().enumerate() {
        let keys = ["issuer", "issuerRegExp", "subject", "subjectRegExp"];
        let Some(map) = reader.map(node, "an identity", &keys) else { continue };
        let issuer = match (map.get("issuer"), map.get("issuerRegExp")) {
            (Some(node), None) => reader.text(node, "an issuer").map(str::to_owned),
            (None, Some(node)) => reader.text(node, "a regular expression").and_then(|text| {
                literal(text).or_else(|| {
                    reader.suggest(
                        node.place,
                        "issuerRegExp: an issuer is to the letter here",
                        "list the issuers",
                    )
                })
            }),
            _ => reader.wrong(node.place, "expected issuer or issuerRegExp, one of them"),
        };
        let subject = match (map.get("subject"), map.get("subjectRegExp")) {
            (Some(node), None) => reader
                .text(node, "a subject")
                .map(|text| format!("{{matches: {}}}", quoted(&escaped(text)))),
            (None, Some(node)) => reader.text(node, "a regular expression").map(|text| {
                traps(text, role, &mut out.changes);
                format!("{{matches: {}}}", quoted(text))
            }),
            _ => reader.wrong(node.place, "expected subject or subjectRegExp, one of them"),
        };
        let (Some(issuer), Some(subject)) = (issuer, subject) else { continue };
        let name = if nodes.len() == 1 { role.to_owned() } else { format!("{role}-{place}") };
        let _ = writeln!(out.who, "  {name}: {{issuer: {}, subject: {subject}}}", quoted(&issuer));
        roles.push(name);
    }
    out.changes.push(format!("{role}: jobs by triggers that may run foreign code, and self-hosted runners, are in no role here that does not name them"));
    (!roles.is_empty()).then_some(roles)
}

/// What a regular expression means there and not here.
fn traps(text: &str, role: &str, changes: &mut Vec<String>) {
    let anchored = text.starts_with('^') && text.ends_with('$');
    if !anchored {
        changes.push(format!("{role}: the regular expression {text:?} matched a part there, so that anything might stand around it; here it must match the whole"));
    }
    if text.contains("/*") || text.contains("/**") {
        changes.push(format!("{role}: the regular expression {text:?} looks like a glob: /* are slashes repeated, and it may never match"));
    }
    let bare = text.contains('.') && !text.contains("\\.");
    if bare {
        changes.push(format!("{role}: in {text:?} each . stands for any character; write \\."));
    }
}

/// The one text that a regular expression matches, if it is so simple.
fn literal(regexp: &str) -> Option<String> {
    let inner = regexp.strip_prefix('^')?.strip_suffix('$')?;
    let (mut text, mut chars) = (String::new(), inner.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(|c| !c.is_ascii_alphanumeric())?),
            c if "^$.|?*+()[]{}".contains(c) => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

/// A text as a regular expression that matches it alone: a subject may hold a `*` that is none.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        if "\\^$.|?*+()[]{}".contains(c) {
            all.push('\\');
        }
        all.push(c);
        all
    })
}

/// A name as ours are.
fn identifier(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    text.to_ascii_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: apps-must-be-released}
spec:
  images: [{glob: 'registry.example/acme/apps/**'}]
  authorities:
    - name: release
      keyless:
        trustRootRef: countersign
        identities:
          - issuer: https://token.actions.githubusercontent.com
            subjectRegExp: '^https://github\\.com/acme/pipelines/\\.github/workflows/release\\.yml@refs/tags/v[0-9.]+$'
      ctlog: {trustRootRef: countersign}
      attestations:
        - {name: prov, predicateType: 'https://slsa.dev/provenance/v1'}
";

    #[test]
    fn a_cluster_image_policy_becomes_one_that_loads() {
        let imported = cluster_image_policies(POLICY, "acme").unwrap();
        let policy = Policy::parse(&imported.policy).unwrap();
        assert_eq!((policy.roles.len(), policy.must.len()), (1, 1));
        assert!(imported.policy.contains("proof: {logged: true}"), "{}", imported.policy);
    }

    #[test]
    fn traps_of_the_original_are_told() {
        for (from, to, expected) in [
            (
                "acme/apps/**",
                "acme/app",
                "never matched, because names end with their digest there",
            ),
            ("acme/apps/**", "acme/app:v1*", "never matched, because tags are gone by then"),
            ("acme/apps/**", "acme/app*", "prefix-evil among them"),
            ("acme/apps/**", "acme**", "prefix-evil among them"),
            (
                "registry.example/acme/apps/**",
                "docker.io/acme/**",
                "Docker Hub is index.docker.io there",
            ),
            ("registry.example/acme/apps/**", "busybox*", "for want of a host"),
            ("'^https", "'https", "matched a part there"),
            (
                "'^https://github\\.com/acme/pipelines/\\.github/workflows/release\\.yml@refs/tags/v[0-9.]+$'",
                "'https://host/acme/*/x'",
                "slashes repeated",
            ),
        ] {
            let text = POLICY.replace(from, to);
            assert_ne!(text, POLICY);
            let changes = cluster_image_policies(&text, "acme").unwrap().changes;
            assert!(changes.iter().any(|change| change.contains(expected)), "{to}: {changes:#?}");
        }
    }

    #[test]
    fn what_has_no_equal_is_refused_with_its_place() {
        for (from, to, expected) in [
            (
                "trustRootRef: countersign\n        id",
                "ca-cert: {data: x}\n        id",
                "9:18: ca-cert: it never verified anything",
            ),
            (
                "      ctlog",
                "      source: [{oci: x}]\n      ctlog",
                "13:15: source: signatures that are kept elsewhere",
            ),
            (
                "issuer: https",
                "issuerRegExp: .*https",
                "issuerRegExp: an issuer is to the letter here",
            ),
            (
                "provenance/v1'}",
                "provenance/v1', policy: {type: cue, data: x}}",
                "CUE and Rego have no equal here",
            ),
            ("acme/apps/**", "**demo**", "** within a name has no equal here"),
            ("kind: ClusterImagePolicy", "kind: TrustRoot", "expected ClusterImagePolicy"),
            (
                "policy.sigstore.dev/v1beta1",
                "config.openshift.io/v1",
                "expected policy.sigstore.dev/v1beta1",
            ),
            ("keyless:", "key: {kms: 'gcpkms://x'}\n      nokey:", "one in a secret or KMS"),
        ] {
            let text = POLICY.replace(from, to);
            assert_ne!(text, POLICY);
            let mistakes = cluster_image_policies(&text, "acme").unwrap_err().to_string();
            assert!(mistakes.contains(expected), "{to}: {mistakes}");
        }
    }
}
