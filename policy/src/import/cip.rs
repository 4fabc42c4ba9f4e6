//! ClusterImagePolicy of `policy.sigstore.dev`, v1alpha1 and v1beta1.
//!
//! Several documents are one policy: all of them apply to an image that they match, as there. Not taken, with
//! place and reason: CUE and Rego, resource filters, keys in secrets or KMS, CAs by PEM, signatures that are
//! kept elsewhere, globs that could never match or have `**` within a name. Closed, and told: an image that no
//! policy is about is refused; keyless signatures must be logged; jobs that may run foreign code count only
//! where a role names them.

use super::{Imported, Out, first, identifier, inline_key, listed, quoted};
use crate::yaml::{Map, Mistakes, Node, Reader, Value, documents};
use std::fmt::Write as _;

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

/// Why conditions in other languages are not taken.
const CONDITIONS: &str = "policy: conditions in CUE and Rego are not evaluated here";
const CONDITIONS_NEXT: &str =
    "import the rest with countersign policy import cip, and write the condition as check in CEL";

/// Whether `text` is no policy of ours but a Kubernetes object.
#[must_use]
pub fn is_cluster_image_policy(text: &str) -> bool {
    let nodes = documents(text).unwrap_or_default();
    let object = |node: &Node| match &node.value {
        Value::Map(entries) => entries.iter().any(|(key, _)| key.text == "apiVersion"),
        _ => false,
    };
    nodes.first().is_some_and(object)
}

/// Writes the ClusterImagePolicies of `text` as one policy called `name`.
///
/// # Errors
/// Every part that cannot be written, and every mistake, with its place.
pub fn cluster_image_policies(text: &str, name: &str) -> Result<Imported, Mistakes> {
    let (nodes, mut reader, mut out) = (documents(text)?, Reader::default(), Out::default());
    for node in &nodes {
        let _: Option<()> = object(&mut reader, node, &mut out);
    }
    let found = first(&mut reader, &nodes, "a ClusterImagePolicy").map(drop);
    reader.finish(found)?;
    out.note("an image that no policy is about is refused; the original followed no-match-policy, which refuses unless told otherwise");
    out.finish(name, "refuse")
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
        let _: Option<()> = reader.suggest(node.place, CONDITIONS, CONDITIONS_NEXT);
    }
    if let Some(node) = spec.get("match") {
        let _: Option<()> = reader.suggest(
            node.place,
            "match: policies here are about the images of all kinds of resources",
            "leave it away, or use where: for clusters and namespaces",
        );
    }
    images(reader, spec, &name, out);
    let mode = spec.get("mode").and_then(|node| match reader.text(node, "enforce or warn")? {
        mode @ ("enforce" | "warn") => Some(mode),
        mode => reader.unknown(node.place, "mode", mode, &["enforce", "warn"]),
    });
    let nodes = reader.need(spec, "spec", "authorities");
    let nodes = nodes.map(|node| reader.list(node, "authorities")).unwrap_or_default();
    let authorities = nodes.iter().enumerate();
    let authorities = authorities.map(|(place, node)| authority(reader, node, &name, place, out));
    let authorities: Vec<Authority> = authorities.collect::<Option<_>>()?;
    let timed = |authority: &&Authority| authority.timestamp;
    let timestamps = authorities.iter().filter(timed).count();
    if timestamps > 0 && timestamps < authorities.len() {
        let message = "rfc3161timestamp: some authorities demand timestamps and others do not, which one rule here cannot";
        return reader.suggest(spec.place(), message, "write one ClusterImagePolicy for each");
    }
    let needs: Vec<_> = authorities.iter().map(|authority| authority.need.as_str()).collect();
    let needs = match needs.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("{{any-of: [{}]}}", several.join(", ")),
    };
    // One authority that passes everything is enough, and a mode that warns lets everything in.
    let (otherwise, covers) = match (authorities.iter().any(|it| it.passes), mode) {
        (true, _) => ("record", true),
        (false, Some("warn")) => ("warn", true),
        (false, _) => ("refuse", false),
    };
    let _ = writeln!(out.must, "  - name: {name}\n    every: {name}\n    needs: [{needs}]");
    let logged = authorities.iter().all(|authority| authority.logged).then_some("logged: true");
    let proof = [logged, (timestamps > 0).then_some("timestamp: required")];
    let proof: Vec<_> = proof.into_iter().flatten().collect();
    if !proof.is_empty() {
        let _ = writeln!(out.must, "    proof: {{{}}}", proof.join(", "));
    }
    let _ = writeln!(out.must, "    otherwise: {otherwise}");
    if covers {
        out.must.push_str("    covers: true\n");
    }
    Some(())
}

fn images(reader: &mut Reader, spec: Map<'_>, name: &str, out: &mut Out) {
    let nodes = reader.need(spec, "spec", "images").map(|node| reader.list(node, "images"));
    let mut patterns = Vec::new();
    for node in nodes.unwrap_or_default() {
        let Some(map) = reader.map(node, "an image", &["glob"]) else { continue };
        let Some(node) = reader.need(map, "an image", "glob") else { continue };
        let Some(text) = reader.text(node, "a glob") else { continue };
        match glob(text, name, out) {
            Ok(found) => patterns.extend(found),
            Err((what, next)) => {
                let _: Option<()> =
                    reader.suggest(node.place, format!("glob {text:?}: {what}"), next);
            }
        }
    }
    let _ = writeln!(out.what, "  {name}: {{images: {}}}", listed(&patterns));
}

/// A glob over canonical names, which end in `@sha256:…`, as patterns over repositories; or why there is none,
/// and what to write.
fn glob(text: &str, name: &str, out: &mut Out) -> Result<Vec<String>, (&'static str, String)> {
    let text = match text {
        "*" => "index.docker.io/library/*",
        "*/*" => "index.docker.io/*/*",
        text => text,
    };
    let (base, digest) = match text.split_once('@') {
        Some((base, "*" | "**" | "sha256:*")) => (base, true),
        Some(_) => {
            return Err(("a digest in a glob has no equal here", "name the repository".into()));
        }
        None => (text, false),
    };
    let last = base.rfind('/').map_or(0, |at| at + 1);
    if last > 0 && base[last..].contains(':') {
        let (repository, _) = base.rsplit_once(':').unwrap_or((base, ""));
        let never = "it never matches, because tags are gone when it is compared";
        return Err((never, format!("write {repository}@*")));
    }
    let (host, rest) = base.split_once('/').unwrap_or((base, ""));
    let wild = base == "**" || (host.contains('*') && base.contains('/'));
    if !(wild || host.contains(['.', ':']) || host == "localhost") {
        let library = if rest.is_empty() { "library/" } else { "" };
        let never = "it never matches, because names have their host by then";
        return Err((never, format!("write index.docker.io/{library}{base}")));
    }
    if matches!(host, "docker.io" | "registry-1.docker.io") {
        let never = "it never matches, because Docker Hub is index.docker.io there";
        return Err((never, format!("write index.docker.io/{rest}")));
    }
    if !base.ends_with('*') && !digest {
        let never = "it never matches, because names end with their digest there";
        return Err((never, format!("write {base}@*")));
    }
    let stem = base.strip_suffix("**").unwrap_or(base);
    if stem.contains("**") {
        let next = "name hosts and repositories, with /** for what is below";
        return Err(("** within a name has no equal here", next.into()));
    }
    let trap = |out: &mut Out| {
        out.note(format!("{name}: glob {text:?} has every name that begins so, prefix-evil among them: it still does; write NAME@* and NAME/**"));
    };
    let word = stem.chars().next_back().is_some_and(|c| c != '/' && c != '*');
    if base.ends_with("**") && word {
        trap(out);
        return Ok(vec![format!("{stem}*"), format!("{stem}*/**")]);
    }
    if base.ends_with('*') && !base.ends_with("/*") && !base.ends_with("**") && !digest {
        trap(out);
    }
    Ok(vec![base.to_owned()])
}

/// What one authority comes to.
struct Authority {
    /// An item of `needs`.
    need: String,
    /// Each of its signatures must be in a log.
    logged: bool,
    /// Each must have a timestamp.
    timestamp: bool,
    /// It lets everything in.
    passes: bool,
}

fn authority(
    reader: &mut Reader,
    node: &Node,
    policy: &str,
    place: usize,
    out: &mut Out,
) -> Option<Authority> {
    const KEYS: [&str; 9] = [
        "name",
        "key",
        "keyless",
        "static",
        "source",
        "ctlog",
        "rfc3161timestamp",
        "attestations",
        "signatureFormat",
    ];
    let map = reader.map(node, "an authority", &KEYS)?;
    let own = map.get("name").and_then(|node| reader.text(node, "a name"));
    let own = own.map_or_else(|| format!("authority-{place}"), identifier);
    let role = format!("{policy}-{own}");
    if let Some(node) = map.get("source") {
        let _: Option<()> = reader.suggest(
            node.place,
            "source: signatures that are kept elsewhere are not looked for",
            "copy them beside the image with countersign copy",
        );
    }
    let logged = map.get("ctlog").is_some();
    let roles = match (map.get("key"), map.get("keyless"), map.get("static")) {
        (Some(node), None, None) => key(reader, node, &role, logged, out),
        (None, Some(node), None) => keyless(reader, node, &role, out),
        (None, None, Some(node)) => return fixed(reader, node, &role, out),
        _ => return reader.wrong(map.place(), "expected key, keyless or static, one of them"),
    }?;
    let kinds = kinds(reader, map);
    let who = format!("[{}]", roles.join(", "));
    let (actions, need) = if kinds.is_empty() {
        ("sign".to_owned(), format!("{{signature: {{by: {who}}}}}"))
    } else {
        let actions: Vec<_> = kinds.iter().map(|uri| quoted(&format!("attest {uri}"))).collect();
        let need = |uri: &String| format!("{{attestation: {{kind: {}, by: {who}}}}}", quoted(uri));
        let needs: Vec<_> = kinds.iter().map(need).collect();
        (actions.join(", "), format!("{{all-of: [{}]}}", needs.join(", ")))
    };
    let _ = writeln!(out.may, "  - {{who: {who}, do: [{actions}], to: {policy}}}");
    let (timestamp, keyless) =
        (map.get("rfc3161timestamp").is_some(), map.get("keyless").is_some());
    if keyless && (timestamp || map.get("ctlog").is_some_and(is_empty)) {
        out.note(format!("{role}: the original asked for no log here; keyless signatures must be logged all the same"));
    }
    Some(Authority { need, logged: keyless || logged, timestamp, passes: false })
}

fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.is_empty())
}

/// The predicate types that must be attested.
fn kinds(reader: &mut Reader, map: Map<'_>) -> Vec<String> {
    let nodes = map.get("attestations").map(|node| reader.list(node, "attestations"));
    let mut kinds = Vec::new();
    for node in nodes.unwrap_or_default() {
        let keys = ["name", "predicateType", "policy"];
        let Some(inner) = reader.map(node, "an attestation", &keys) else { continue };
        if let Some(node) = inner.get("policy") {
            let _: Option<()> = reader.suggest(node.place, CONDITIONS, CONDITIONS_NEXT);
        }
        let Some(node) = reader.need(inner, "an attestation", "predicateType") else { continue };
        let Some(text) = reader.text(node, "a predicate type") else { continue };
        let uri = ALIASES.iter().find(|(alias, _)| *alias == text).map_or(text, |(_, uri)| *uri);
        kinds.push(uri.to_owned());
    }
    kinds
}

/// Always yes or always no.
fn fixed(reader: &mut Reader, node: &Node, role: &str, out: &mut Out) -> Option<Authority> {
    let map = reader.map(node, "static", &["action", "message"])?;
    let action = reader.need(map, "static", "action")?;
    let passes = match reader.text(action, "pass or fail")? {
        "pass" => true,
        "fail" => false,
        other => return reader.unknown(action.place, "action", other, &["pass", "fail"]),
    };
    let need = if passes {
        out.note(format!("{role}: static pass lets images in that nobody signed"));
        "{signature: {by: anyone}}".to_owned()
    } else {
        out.nobody(role);
        format!("{{signature: {{by: {role}}}}}")
    };
    Some(Authority { need, logged: false, timestamp: false, passes })
}

fn key(
    reader: &mut Reader,
    node: &Node,
    role: &str,
    logged: bool,
    out: &mut Out,
) -> Option<Vec<String>> {
    let map = reader.map(node, "key", &["data", "secretRef", "kms", "hashAlgorithm"])?;
    if let Some(node) = map.get("secretRef").or_else(|| map.get("kms")) {
        return reader.suggest(
            node.place,
            "key: one in a secret or KMS cannot be read here",
            "write its public key as data",
        );
    }
    if let Some(node) = map.get("hashAlgorithm")
        && !reader.text(node, "a hash")?.trim().eq_ignore_ascii_case("sha256")
    {
        return reader
            .wrong(node.place, "hashAlgorithm: a key signs over the hash of its own kind");
    }
    let data = reader.need(map, "key", "data")?;
    let pem = reader.text(data, "a public key, PEM")?;
    out.key(role, &inline_key(pem), logged);
    if !logged {
        out.note(format!("{role}: a key without ctlog: its signatures need be in no log"));
    }
    Some(vec![role.to_owned()])
}

fn keyless(reader: &mut Reader, node: &Node, role: &str, out: &mut Out) -> Option<Vec<String>> {
    const KEYS: [&str; 5] = ["url", "identities", "ca-cert", "trustRootRef", "insecureIgnoreSCT"];
    let map = reader.map(node, "keyless", &KEYS)?;
    if let Some(node) = map.get("ca-cert") {
        return reader.wrong(node.place, "ca-cert: it never verified anything; name a trust root");
    }
    let root = map.get("trustRootRef").and_then(|node| reader.text(node, "a trust root's name"));
    let root = root.unwrap_or("of the public good instance");
    out.note(format!("{role}: trust root {root:?} is our own here: what verification is given"));
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
            (Some(node), None) => reader.text(node, "a subject").map(escaped),
            (None, Some(node)) => reader.text(node, "a regular expression").map(|text| {
                traps(text, role, out);
                // There it may match a part.
                if anchored(text) { text.to_owned() } else { format!(".*(?:{text}).*") }
            }),
            _ => reader.wrong(node.place, "expected subject or subjectRegExp, one of them"),
        };
        let (Some(issuer), Some(subject)) = (issuer, subject) else { continue };
        let name = if nodes.len() == 1 { role.to_owned() } else { format!("{role}-{place}") };
        let (issuer, subject) = (quoted(&issuer), quoted(&subject));
        let _ =
            writeln!(out.who, "  {name}: {{issuer: {issuer}, subject: {{matches: {subject}}}}}");
        roles.push(name);
    }
    out.note(format!("{role}: jobs by triggers that may run foreign code, and self-hosted runners, are in no role here that does not name them"));
    (!roles.is_empty()).then_some(roles)
}

/// Whether it can only match the whole: from `^` to `$`, without an alternative beside these.
fn anchored(text: &str) -> bool {
    let (mut depth, mut class, mut chars) = (0_i32, false, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth -= 1,
            '|' if !class && depth == 0 => return false,
            _ => {}
        }
    }
    text.starts_with('^') && text.ends_with('$') && !text.ends_with("\\$")
}

/// What a regular expression means that nobody thought of.
fn traps(text: &str, role: &str, out: &mut Out) {
    if !anchored(text) {
        out.note(format!("{role}: the regular expression {text:?} matches a part: anything may stand around it; write ^ and $"));
    }
    if text.contains("/*") {
        out.note(format!("{role}: the regular expression {text:?} looks like a glob: /* are slashes repeated, and it may never match"));
    }
    if text.contains('.') && !text.contains("\\.") {
        out.note(format!("{role}: in {text:?} each . stands for any character; write \\."));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Policy;

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
        assert!(is_cluster_image_policy(POLICY) && !is_cluster_image_policy(&imported.policy));
    }

    #[test]
    fn traps_of_the_original_are_kept_and_told() {
        for (from, to, expected, written) in [
            ("acme/apps/**", "acme/app*", "prefix-evil among them", "'registry.example/acme/app*'"),
            ("acme/apps/**", "acme**", "prefix-evil among them", "'registry.example/acme*/**'"),
            ("'^https", "'https", "matches a part", "{matches: '.*(?:https:"),
            (
                "'^https://github\\.com/acme/pipelines/\\.github/workflows/release\\.yml@refs/tags/v[0-9.]+$'",
                "'https://host/acme/*/x'",
                "slashes repeated",
                ".*(?:https://host/acme/*/x).*",
            ),
            (
                "ctlog: {trustRootRef: countersign}",
                "ctlog: {}",
                "must be logged all the same",
                "proof: {logged: true}",
            ),
            (
                "ctlog: {trustRootRef: countersign}",
                "rfc3161timestamp: {trustRootRef: countersign}",
                "must be logged all the same",
                "proof: {logged: true, timestamp: required}",
            ),
        ] {
            let text = POLICY.replace(from, to);
            assert_ne!(text, POLICY);
            let Imported { notes, policy, .. } = cluster_image_policies(&text, "acme").unwrap();
            assert!(notes.iter().any(|note| note.contains(expected)), "{to}: {notes:#?}");
            assert!(policy.contains(written), "{policy}");
        }
    }

    #[test]
    fn what_would_mean_something_else_is_refused_with_its_place_and_what_to_write() {
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
                "15:81: policy: conditions in CUE and Rego are not evaluated here",
            ),
            ("  authorities", "  policy: {type: rego, data: x}\n  authorities", "CUE and Rego"),
            ("  authorities", "  match: [{resource: pods}]\n  authorities", "6:10: match: "),
            ("acme/apps/**", "**demo**", "** within a name has no equal here"),
            ("acme/apps/**", "acme/app", "it never matches, because names end with their digest"),
            (
                "acme/apps/**",
                "acme/app:v1*",
                "tags are gone when it is compared; write registry.example/acme/app@*",
            ),
            ("registry.example/acme/apps/**", "docker.io/acme/**", "write index.docker.io/acme/**"),
            ("registry.example/acme/apps/**", "busybox*", "write index.docker.io/library/busybox*"),
            ("acme/apps/**", "acme/app@sha256:aa", "a digest in a glob has no equal here"),
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
