//! `policy.json` of containers/image: what podman, skopeo and CRI-O ask of images.
//!
//! There only the most specific scope decides, here all rules that match: so a wider scope leaves the narrower
//! ones out. Not taken: scopes with a digest, names that are mapped to others. GPG signatures are not read
//! here: who signs by them becomes a role that nobody is in.

use super::{Imported, Out, first, identifier, inline_key, listed, quoted};
use crate::yaml::{Map, Mistakes, Node, Reader, documents};
use countersign_verify::encoding::from_base64;
use std::fmt::Write as _;

/// Writes the policy `text` as one policy called `name`.
///
/// # Errors
/// Every part that cannot be written, and every mistake, with its place.
pub fn containers_policy(text: &str, name: &str) -> Result<Imported, Mistakes> {
    let (nodes, mut reader, mut out) = (documents(text)?, Reader::default(), Out::default());
    let node = first(&mut reader, &nodes, "a policy");
    let unmatched = node.and_then(|node| document(&mut reader, node, &mut out));
    let unmatched = reader.finish(unmatched)?;
    out.finish(name, unmatched)
}

fn document(reader: &mut Reader, node: &Node, out: &mut Out) -> Option<&'static str> {
    let map = reader.map(node, "a policy", &["default", "transports"])?;
    let default = reader.need(map, "a policy", "default")?;
    let mut scopes: Vec<(String, &Node)> = Vec::new();
    let transports = map.get("transports").and_then(|node| reader.any_map(node, "transports"));
    for (transport, node) in transports.into_iter().flat_map(Map::entries) {
        if transport.text != "docker" {
            out.note(format!(
                "transport {:?}: only images of registries are decided about",
                transport.text
            ));
            continue;
        }
        let found = reader.any_map(node, "scopes")?;
        scopes.extend(found.entries().map(|(scope, node)| (scope.text.clone(), node)));
    }
    // The transport's default goes before that of all.
    let default = scopes
        .iter()
        .position(|(scope, _)| scope.is_empty())
        .map_or(default, |place| scopes.remove(place).1);
    let names: Vec<String> = scopes.iter().map(|(scope, _)| scope.clone()).collect();
    for (scope, node) in &scopes {
        let Some(images) = patterns(scope) else {
            let message = format!("scope {scope:?}: tags and digests have no equal here");
            return reader.suggest(node.place, message, "name the repository");
        };
        let narrower = names.iter().filter(|other| *other != scope && within(other, scope));
        let except: Vec<String> = narrower.filter_map(|other| patterns(other)).flatten().collect();
        rule(reader, node, &identifier(scope), &images, &except, out);
    }
    match lone(reader, default)? {
        "reject" => Some("refuse"),
        "insecureAcceptAnything" => {
            out.note("the default lets everything in that no scope names");
            Some("allow")
        }
        _ => {
            let except: Vec<String> =
                names.iter().filter_map(|name| patterns(name)).flatten().collect();
            rule(reader, default, "default", &["**".to_owned()], &except, out);
            Some("refuse")
        }
    }
}

/// The type of a list of one requirement; several must all be met, which is a rule of its own.
fn lone<'n>(reader: &mut Reader, node: &'n Node) -> Option<&'n str> {
    let [only] = reader.list(node, "requirements") else { return Some("several") };
    let map = reader.any_map(only, "a requirement")?;
    let kind = reader.need(map, "a requirement", "type")?;
    reader.text(kind, "a type")
}

/// A scope is a host, part of a name, or a name; it has all that is below it.
fn patterns(scope: &str) -> Option<Vec<String>> {
    let last = scope.rfind('/').map_or(0, |at| at + 1);
    if scope.contains('@') || (last > 0 && scope[last..].contains(':')) {
        return None;
    }
    let below = format!("{scope}/**");
    Some(if last == 0 { vec![below] } else { vec![scope.to_owned(), below] })
}

/// Whether the scope `inner` is below `outer`.
fn within(inner: &str, outer: &str) -> bool {
    match outer.strip_prefix("*.") {
        Some(domain) => {
            inner.split('/').next().is_some_and(|host| host.ends_with(&format!(".{domain}")))
        }
        None => inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/')),
    }
}

/// All requirements of a scope must be met.
fn rule(
    reader: &mut Reader,
    node: &Node,
    name: &str,
    images: &[String],
    except: &[String],
    out: &mut Out,
) {
    let except =
        if except.is_empty() { String::new() } else { format!(", except: {}", listed(except)) };
    let _ = writeln!(out.what, "  {name}: {{images: {}{except}}}", listed(images));
    let (mut needs, mut roles) = (Vec::new(), Vec::new());
    for (place, node) in reader.list(node, "requirements").iter().enumerate() {
        let role = format!("{name}-{place}");
        match requirement(reader, node, &role, out) {
            Some(Asks::Somebody) => {
                needs.push(format!("{{signature: {{by: {role}}}}}"));
                roles.push(role);
            }
            Some(Asks::Nobody) => {
                out.nobody(&role);
                needs.push(format!("{{signature: {{by: {role}}}}}"));
            }
            Some(Asks::Nothing) | None => {}
        }
    }
    if needs.is_empty() {
        out.note(format!("{name}: insecureAcceptAnything lets images in that nobody signed"));
        out.open(name);
        return;
    }
    if !roles.is_empty() {
        let _ = writeln!(out.may, "  - {{who: [{}], do: sign, to: {name}}}", roles.join(", "));
    }
    let needs = needs.join(", ");
    let _ = writeln!(
        out.must,
        "  - name: {name}\n    every: {name}\n    needs: [{needs}]\n    otherwise: refuse"
    );
}

/// Whose signature a requirement asks for.
enum Asks {
    /// That of its role.
    Somebody,
    /// That of nobody: it refuses.
    Nobody,
    Nothing,
}

fn requirement(reader: &mut Reader, node: &Node, role: &str, out: &mut Out) -> Option<Asks> {
    let map = reader.any_map(node, "a requirement")?;
    let kind = reader.need(map, "a requirement", "type")?;
    match reader.text(kind, "a type")? {
        "insecureAcceptAnything" => Some(Asks::Nothing),
        "reject" => Some(Asks::Nobody),
        "signedBy" => {
            out.note(format!(
                "{role}: GPG signatures are not read here: say in the role who signs now"
            ));
            out.nobody(role);
            Some(Asks::Somebody)
        }
        "sigstoreSigned" => sigstore(reader, node, role, out),
        other => reader.unknown(
            kind.place,
            "the type",
            other,
            &["insecureAcceptAnything", "reject", "signedBy", "sigstoreSigned"],
        ),
    }
}

fn sigstore(reader: &mut Reader, node: &Node, role: &str, out: &mut Out) -> Option<Asks> {
    const KEYS: [&str; 8] = [
        "type",
        "keyPath",
        "keyData",
        "fulcio",
        "rekorPublicKeyPath",
        "rekorPublicKeyData",
        "signedIdentity",
        "pki",
    ];
    let map = reader.map(node, "sigstoreSigned", &KEYS)?;
    if let Some(node) = map.get("signedIdentity") {
        let inner = reader.any_map(node, "signedIdentity")?;
        let kind = reader.need(inner, "signedIdentity", "type")?;
        match reader.text(kind, "a type")? {
            "matchRepository" | "matchRepoDigestOrExact" => {}
            other => {
                let message = format!(
                    "signedIdentity {other:?}: a signature here is for a digest, under whatever name"
                );
                return reader.suggest(kind.place, message, "name mirrors under also-at");
            }
        }
    }
    let rekor = map.get("rekorPublicKeyPath").or_else(|| map.get("rekorPublicKeyData")).is_some();
    match (map.get("keyPath"), map.get("keyData"), map.get("fulcio")) {
        (Some(node), None, None) => {
            let path = reader.text(node, "a path")?;
            out.key(role, &format!("key-file: {}", quoted(path)), rekor);
        }
        (None, Some(node), None) => {
            let text = reader.text(node, "a key, base64")?;
            let pem = from_base64(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(pem) = pem else {
                return reader.wrong(node.place, "keyData: expected base64 of a public key, PEM");
            };
            out.key(role, &inline_key(&pem), rekor);
        }
        (None, None, Some(node)) => {
            let inner =
                reader.map(node, "fulcio", &["caPath", "caData", "oidcIssuer", "subjectEmail"])?;
            let issuer = reader.need(inner, "fulcio", "oidcIssuer")?;
            let issuer = quoted(reader.text(issuer, "an issuer")?);
            let email = reader.need(inner, "fulcio", "subjectEmail")?;
            let email = quoted(reader.text(email, "an e-mail address")?);
            let _ = writeln!(out.who, "  {role}: {{issuer: {issuer}, email: {email}}}");
            out.note(format!(
                "{role}: its CA is our own here: what verification is given as trusted root"
            ));
        }
        _ => {
            let message = "sigstoreSigned: expected keyPath, keyData or fulcio, one of them";
            return reader.suggest(map.place(), message, "several keys are several policies here");
        }
    }
    if !rekor && map.get("fulcio").is_none() {
        out.note(format!("{role}: a key without a log's key: its signatures need be in no log"));
    }
    Some(Asks::Somebody)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Policy;

    const POLICY: &str = r#"{"default": [{"type": "reject"}], "transports": {
  "docker": {
    "registry.example/acme": [{"type": "sigstoreSigned", "keyData": "LS0tLS1QRU0=", "signedIdentity": {"type": "matchRepository"}}],
    "registry.example/acme/base": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k.gpg"}],
    "mirror.example": [{"type": "sigstoreSigned", "rekorPublicKeyPath": "/r.pub", "fulcio":
      {"caPath": "/ca.pem", "oidcIssuer": "https://login.example", "subjectEmail": "ana@acme.example"}}],
    "open.example": [{"type": "insecureAcceptAnything"}]},
  "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}}}"#;

    #[test]
    fn the_most_specific_scope_alone_decides() {
        let Imported { policy, notes, .. } = containers_policy(POLICY, "acme").unwrap();
        let read = Policy::parse(&policy).unwrap();
        assert_eq!((read.roles.len(), read.must.len()), (3, 4), "{policy}");
        for expected in [
            "images: ['registry.example/acme', 'registry.example/acme/**'], except: ['registry.example/acme/base', 'registry.example/acme/base/**']",
            "images: ['mirror.example/**']",
            "{key: \"-----PEM\\n\", logged: false}",
            "{issuer: 'https://login.example', email: 'ana@acme.example'}",
            "unmatched: refuse",
        ] {
            assert!(policy.contains(expected), "{expected}\n{policy}");
        }
        for expected in
            ["GPG signatures are not read", "\"docker-daemon\"", "open.example: insecure"]
        {
            assert!(notes.iter().any(|note| note.contains(expected)), "{expected} {notes:#?}");
        }
    }

    #[test]
    fn of_several_requirements_of_the_default_all_must_be_met() {
        let (accept, reject) =
            (r#"{"type": "insecureAcceptAnything"}"#, r#"[{"type": "reject"}], "tr"#);
        let signed = r#"{"type": "sigstoreSigned", "keyData": "LS0tLS1QRU0="}"#;
        let text = POLICY.replace(reject, &format!(r#"[{accept}, {signed}], "tr"#));
        let policy = containers_policy(&text, "acme").unwrap().policy;
        for expected in ["unmatched: refuse", "default: {images: ['**']", "{by: default-1}"] {
            assert!(policy.contains(expected), "{expected}\n{policy}");
        }
        assert!(containers_policy("", "acme").unwrap_err().to_string().contains("found nothing"));
    }

    #[test]
    fn what_would_mean_something_else_is_refused_with_its_place() {
        for (from, to, expected) in [
            ("matchRepository", "remapIdentity", "3:112: signedIdentity \"remapIdentity\""),
            ("acme/base\"", "acme/base:v1\"", "tags and digests have no equal here"),
            ("\"signedBy\"", "\"signdBy\"", "did you mean \"signedBy\"?"),
            ("\"default\"", "\"defaults\"", "in a policy the key \"defaults\""),
            ("LS0tLS1QRU0=", "*", "keyData: expected base64"),
        ] {
            let text = POLICY.replace(from, to);
            assert_ne!(text, POLICY);
            let mistakes = containers_policy(&text, "acme").unwrap_err().to_string();
            assert!(mistakes.contains(expected), "{to}: {mistakes}");
        }
    }
}
