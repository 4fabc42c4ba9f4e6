//! Dated exceptions to demands.

use super::places;
use crate::artifact::read_digest;
use crate::decide::MAX_EXCEPTION;
use crate::facts::{Artifact, Kind};
use crate::role::read_date;
use crate::yaml::{Node, Place, Reader};
use jiff::Timestamp;

/// A dated exception to some rules, for one artifact.
#[derive(Clone, Debug)]
pub(crate) struct Exception {
    pub(crate) place: Place,
    /// The artifact's digest, or its kind and exact name.
    pub(crate) digest: Option<String>,
    pub(crate) named: Option<Artifact>,
    /// Names of the rules that it skips.
    pub(crate) skips: Vec<String>,
    pub(crate) until: Timestamp,
    pub(crate) because: String,
}

impl Exception {
    /// Whether it is for this artifact, by its digest or its name. That something is a Git repository or a model its
    /// name does not say.
    pub(crate) fn is_about(&self, artifact: &Artifact) -> bool {
        let alike =
            |kind: Kind| kind == artifact.kind || matches!(artifact.kind, Kind::Git | Kind::Model);
        self.digest.as_ref() == Some(&artifact.digest)
            || self.named.as_ref().is_some_and(|named| {
                named.name == artifact.name && !named.name.is_empty() && alike(named.kind)
            })
    }

    /// Why it lets nothing through at `now`; `None` if it does.
    pub(crate) fn state(&self, now: Timestamp) -> Option<String> {
        match self.until.duration_since(now) {
            runs if !runs.is_positive() => Some(format!("it has ended at {}", self.until)),
            runs if runs > MAX_EXCEPTION => {
                Some(format!("it ends at {}, which is more than 90 days ahead", self.until))
            }
            _ => None,
        }
    }

    /// Reads one; `musts` are the names of rules, `owners` those of the owners' roles.
    pub(crate) fn read(
        reader: &mut Reader,
        node: &Node,
        musts: &[String],
        owners: &[String],
    ) -> Option<Self> {
        const KEYS: [&str; 6] = ["digest", "name", "skips", "until", "because", "approved-by"];
        let map = reader.map(node, "an exception", &KEYS)?;
        let digest = map.get("digest").and_then(|node| read_digest(reader, node));
        let named = map.get("name").and_then(|node| {
            let text = reader.text(node, "a name")?;
            let named = Artifact::named(text);
            if text.contains('*') || named.version.is_some() || !named.digest.is_empty() {
                return reader.suggest(
                    node.place,
                    "an exception is for one artifact: expected its exact name",
                    "leave patterns, tags and versions away; one version alone goes by its digest",
                );
            }
            Some(named)
        });
        if map.get("digest").is_some() == map.get("name").is_some() {
            return reader.wrong(node.place, "an exception needs a digest or a name, one of them");
        }
        let skips =
            reader.need(map, "an exception", "skips").map(|node| reader.list(node, "rules"));
        let skips = places(reader, skips.unwrap_or_default(), "the rule", musts);
        let skips = skips.into_iter().map(|place| musts[place].clone()).collect();
        let until = reader.need(map, "an exception", "until");
        let until = until.and_then(|node| read_date(reader, node, "until"));
        let because = reader.need(map, "an exception", "because");
        let because = because.and_then(|node| reader.text(node, "a reason"));
        let approved = reader.need(map, "an exception", "approved-by");
        if let Some(node) = approved
            && let Some(text) = reader.text(node, "a role")
            && !owners.iter().any(|owner| owner == text)
        {
            let known: Vec<&str> = owners.iter().map(String::as_str).collect();
            let _: Option<()> =
                reader.unknown(node.place, "among the owners the role", text, &known);
        }
        let (place, because) = (node.place, because?.to_owned());
        Some(Self { place, digest, named, skips, until: until?, because })
    }
}
