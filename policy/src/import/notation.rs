//! Notation's `trustpolicy.json`, version 1.0.
//!
//! Notation's signatures, by certificates of X.509 trust stores, are not read here. So who may sign what is
//! written with roles that nobody is in, one for each trusted identity, with what the original said beside it:
//! the policy refuses until they are filled in with who signs for us.

use super::{Imported, Out, first, identifier, listed};
use crate::yaml::{Mistakes, Node, Reader, documents};
use std::fmt::Write as _;

/// Writes the trust policy `text` as one policy called `name`.
///
/// # Errors
/// Every part that cannot be written, and every mistake, with its place.
pub fn trust_policy(text: &str, name: &str) -> Result<Imported, Mistakes> {
    let (nodes, mut reader, mut out) = (documents(text)?, Reader::default(), Out::default());
    let node = first(&mut reader, &nodes, "a trust policy");
    let read = node.and_then(|node| document(&mut reader, node, &mut out));
    reader.finish(read)?;
    out.note("Notation's signatures are not read here: sign with countersign, and say in each role that nobody is in yet who does");
    out.finish(name, "refuse")
}

fn document(reader: &mut Reader, node: &Node, out: &mut Out) -> Option<()> {
    let map = reader.map(node, "a trust policy", &["version", "trustPolicies"])?;
    let version = reader.need(map, "a trust policy", "version")?;
    if reader.text(version, "a version")? != "1.0" {
        return reader.wrong(version.place, "version: expected 1.0");
    }
    let policies = reader.need(map, "a trust policy", "trustPolicies")?;
    let policies = reader.list(policies, "trust policies");
    // The scope * is for what no other policy names.
    let named: Vec<String> =
        policies.iter().flat_map(|node| scopes(&mut Reader::default(), node)).collect();
    for node in policies {
        let _: Option<()> = statement(reader, node, &named, out);
    }
    Some(())
}

const KEYS: [&str; 6] = [
    "name",
    "registryScopes",
    "signatureVerification",
    "trustStores",
    "trustedIdentities",
    "globalPolicy",
];

fn scopes(reader: &mut Reader, node: &Node) -> Vec<String> {
    let Some(map) = reader.map(node, "a policy", &KEYS) else { return Vec::new() };
    let Some(node) = reader.need(map, "a policy", "registryScopes") else { return Vec::new() };
    let nodes = reader.list(node, "repositories").iter();
    nodes.filter_map(|node| Some(reader.text(node, "a repository")?.to_owned())).collect()
}

fn statement(reader: &mut Reader, node: &Node, named: &[String], out: &mut Out) -> Option<()> {
    let map = reader.map(node, "a policy", &KEYS)?;
    let name = reader.need(map, "a policy", "name")?;
    let name = identifier(reader.text(name, "a name")?);
    let scopes = scopes(reader, node);
    if scopes.iter().any(|scope| scope == "*") {
        let others: Vec<String> = named.iter().filter(|scope| *scope != "*").cloned().collect();
        let except = if others.is_empty() {
            String::new()
        } else {
            format!(", except: {}", listed(&others))
        };
        let _ = writeln!(out.what, "  {name}: {{images: '**'{except}}}");
    } else {
        let _ = writeln!(out.what, "  {name}: {{images: {}}}", listed(&scopes));
    }
    let verification = reader.need(map, "a policy", "signatureVerification")?;
    let keys = ["level", "override", "verifyTimestamp"];
    let verification = reader.map(verification, "signatureVerification", &keys)?;
    let level = reader.need(verification, "signatureVerification", "level")?;
    let known = ["strict", "permissive", "audit", "skip"];
    let otherwise = match reader.text(level, "a level")? {
        "strict" => "refuse",
        "permissive" => {
            out.note(format!("{name}: permissive let signatures by expired certificates in; here a signature counts by the time at which it was made"));
            "refuse"
        }
        "audit" => "warn",
        "skip" => "record",
        other => return reader.unknown(level.place, "the level", other, &known),
    };
    if verification.get("override").is_some() {
        out.note(format!(
            "{name}: override changed single checks of the level; here all of them are made"
        ));
    }
    let (mut roles, mut said) = (Vec::new(), Vec::new());
    for key in ["trustStores", "trustedIdentities"] {
        let Some(node) = map.get(key) else { continue };
        let nodes = reader.list(node, key).iter();
        let texts: Vec<&str> = nodes.filter_map(|node| reader.text(node, key)).collect();
        if key == "trustedIdentities" {
            for (place, text) in texts.iter().enumerate() {
                if *text == "*" {
                    out.note(format!("{name}: trusted identity * had everybody whom a trust store certifies; a role names them"));
                }
                roles.push(format!("{name}-{place}"));
                said.push(format!("{name}-{place} was {text}"));
            }
        } else {
            said.push(format!("{name} trusted {}", texts.join(", ")));
        }
    }
    if otherwise != "record" && roles.is_empty() {
        let message = "trustedIdentities: expected some, for only level skip asks for nobody";
        return reader.wrong(map.place(), message);
    }
    if otherwise == "record" {
        out.open(&name);
        out.note(format!("{name}: level skip lets images in that nobody signed"));
        return Some(());
    }
    roles.iter().for_each(|role| out.nobody(role));
    said.into_iter().for_each(|said| out.note(said));
    let who = roles.join(", ");
    let _ = writeln!(out.may, "  - {{who: [{who}], do: sign, to: {name}}}");
    let _ = writeln!(
        out.must,
        "  - name: {name}\n    every: {name}\n    needs: [signature: {{by: [{who}]}}]\n    otherwise: {otherwise}"
    );
    if otherwise == "warn" {
        out.must.push_str("    covers: true\n");
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Policy;

    const POLICY: &str = r#"{"version": "1.0", "trustPolicies": [
  {"name": "apps", "registryScopes": ["registry.example/acme/pay"],
   "signatureVerification": {"level": "strict"}, "trustStores": ["ca:acme"],
   "trustedIdentities": ["x509.subject: C=US, O=acme"]},
  {"name": "rest", "registryScopes": ["*"], "signatureVerification": {"level": "skip"}}]}"#;

    #[test]
    fn what_notation_trusted_is_nobody_until_somebody_says_who() {
        let Imported { policy, notes, .. } = trust_policy(POLICY, "acme").unwrap();
        let read = Policy::parse(&policy).unwrap();
        assert_eq!((read.roles.len(), read.must.len()), (1, 2));
        assert!(
            policy.contains("rest: {images: '**', except: ['registry.example/acme/pay']}"),
            "{policy}"
        );
        for expected in
            ["apps-0 was x509.subject: C=US, O=acme", "lets images in that nobody signed"]
        {
            assert!(notes.iter().any(|note| note.contains(expected)), "{notes:#?}");
        }
        let mistakes = trust_policy(&POLICY.replace("strict", "stric"), "acme").unwrap_err();
        assert!(mistakes.to_string().contains("did you mean \"strict\"?"), "{mistakes}");
        for level in ["strict", "permissive", "audit"] {
            let text = POLICY.replace("skip", level);
            let mistakes = trust_policy(&text, "acme").unwrap_err().to_string();
            assert!(mistakes.contains("5:3: trustedIdentities: expected some"), "{mistakes}");
        }
        assert!(trust_policy("", "acme").unwrap_err().to_string().contains("found nothing"));
    }
}
