//! Policies of others, written as ours.
//!
//! What has an equal here is written so that it means the same, traps included, and the traps are told. What
//! would be weaker here, or something else, is a mistake with its place. So a ClusterImagePolicy can be taken
//! as it is, wherever a policy is: [`Policy::parse_any`](crate::Policy::parse_any).

mod cip;
mod containers;
mod notation;

pub use cip::{cluster_image_policies, is_cluster_image_policy};
pub use containers::containers_policy;
pub use notation::trust_policy;

use crate::document::Policy;
use crate::yaml::{Mistake, Mistakes, Node, Place, Reader};
use std::fmt::Write as _;

/// A policy of ours, made of somebody else's.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The policy, YAML.
    pub policy: String,
    /// The same, read.
    pub(crate) parsed: Policy,
    /// What it may mean that nobody thought of, and where it is stricter than the original: each a sentence.
    pub notes: Vec<String>,
}

/// What is written, section by section.
#[derive(Default)]
struct Out {
    trust: String,
    who: String,
    what: String,
    may: String,
    must: String,
    notes: Vec<String>,
}

impl Out {
    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A role that only `key`, PEM, is in. Whether its signatures need be in a log.
    fn key(&mut self, role: &str, key: &str, logged: bool) {
        let logged = if logged { "" } else { ", logged: false" };
        let _ = writeln!(self.trust, "  {role}: {{{key}{logged}}}");
        let _ = writeln!(self.who, "  {role}: {{trust: {role}}}");
    }

    /// A rule that lets everything of the class `name` in.
    fn open(&mut self, name: &str) {
        let _ = writeln!(
            self.must,
            "  - name: {name}\n    every: {name}\n    needs: [signature: {{by: anyone}}]\n    otherwise: record\n    covers: true"
        );
    }

    /// A role that nobody is in.
    fn nobody(&mut self, role: &str) {
        let _ =
            writeln!(self.who, "  {role}: {{issuer: 'https://nobody.invalid', subject: nobody}}");
    }

    /// The policy, which loads.
    fn finish(self, name: &str, unmatched: &str) -> Result<Imported, Mistakes> {
        let mut policy = format!("policy: {}\nserial: 1\n", quoted(name));
        for (key, section) in [
            ("trust", &self.trust),
            ("who", &self.who),
            ("what", &self.what),
            ("may", &self.may),
            ("must", &self.must),
        ] {
            if !section.is_empty() {
                let _ = write!(policy, "{key}:\n{section}");
            }
        }
        let _ = writeln!(policy, "unmatched: {unmatched}");
        let parsed = Policy::parse(&policy).map_err(|mistakes| as_written(&mistakes, &policy))?;
        Ok(Imported { policy, parsed, notes: self.notes })
    }
}

/// Mistakes of what was written: their places are not those of the original, so each tells its line.
fn as_written(mistakes: &Mistakes, policy: &str) -> Mistakes {
    let told = |mistake: &Mistake| {
        let line = policy.lines().nth(mistake.place.line.saturating_sub(1)).unwrap_or_default();
        let line: String = line.trim().chars().take(200).collect();
        let message = format!("written as ours, {line:?}: {}", mistake.message);
        Mistake { place: Place { line: 1, column: 1 }, message, ..mistake.clone() }
    };
    Mistakes(mistakes.0.iter().map(told).collect())
}

/// The first document; that there is none is a mistake.
fn first<'n>(reader: &mut Reader, nodes: &'n [Node], what: &str) -> Option<&'n Node> {
    let place = Place { line: 1, column: 1 };
    nodes.first().or_else(|| reader.wrong(place, format!("expected {what}, found nothing")))
}

/// `key: "PEM"`, in one line.
fn inline_key(pem: &str) -> String {
    format!("key: {}", serde_json::Value::from(format!("{}\n", pem.trim())))
}

/// A name as ours are.
fn identifier(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    text.to_ascii_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Texts as a list in one line.
fn listed(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}
