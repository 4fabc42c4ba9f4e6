//! Policies that take in others, each for what it may speak for.

use super::{Policy, Trust};
use crate::artifact::{Class, Selector, read_image};
use crate::facts::{Artifact, Kind};
use crate::yaml::{Node, Reader};

/// Another policy that is taken in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Include {
    /// Its name.
    pub policy: String,
    /// Its lowest serial number.
    pub min_serial: u64,
    /// What it may speak of: everything below this, without the `/**`.
    pub(crate) prefix: String,
}

impl Include {
    pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Self> {
        let map = reader.map(node, "include", &["policy", "min-serial", "speaks-for"])?;
        let policy =
            reader.need(map, "include", "policy").and_then(|node| reader.text(node, "a name"));
        let serial = reader.need(map, "include", "min-serial");
        let min_serial = serial.and_then(|node| reader.number(node, "min-serial"));
        let node = reader.need(map, "include", "speaks-for")?;
        let (images, tag) = read_image(reader, node, "speaks-for")?;
        let prefix = images.as_str().strip_suffix("/**");
        let Some(prefix) = prefix.filter(|prefix| !prefix.contains('*') && tag.is_none()) else {
            return reader.wrong(node.place, "speaks-for: expected a host and path with /** behind it, such as registry.example/acme/**");
        };
        let (policy, prefix) = (policy?.to_owned(), prefix.to_owned());
        Some(Self { policy, min_serial: min_serial?, prefix })
    }

    /// Whether it may speak for this artifact.
    pub(crate) fn speaks_for(&self, artifact: Option<&Artifact>) -> bool {
        artifact.is_some_and(|artifact| {
            let rest = artifact.name.strip_prefix(&self.prefix);
            artifact.kind == Kind::Image && rest.is_some_and(|rest| rest.starts_with('/'))
        })
    }
}

impl Policy {
    /// The policy together with those that it includes. What is left out stays missing: what it would
    /// speak of is then undecided.
    ///
    /// # Errors
    /// When one is too old, speaks of what it may not, or names a trust root that this one does not.
    pub fn with_included(mut self, policies: Vec<Self>) -> Result<Self, IncludeError> {
        for policy in policies {
            let Some(include) = self.include.iter().find(|include| include.policy == policy.name)
            else {
                return Err(IncludeError::NotIncluded { policy: policy.name });
            };
            if policy.serial < include.min_serial {
                let (expected, found) = (include.min_serial, policy.serial);
                return Err(IncludeError::Serial { policy: policy.name, expected, found });
            }
            let own = |(name, trust): &(&String, &Trust)| self.trust.get(*name) != Some(trust);
            if let Some((trust, _)) = policy.trust.iter().find(own) {
                return Err(IncludeError::Trust { trust: trust.clone(), policy: policy.name });
            }
            let beyond = |class: &&Class| {
                class.selectors.iter().any(|selector| match selector {
                    Selector::Image(glob, _) => {
                        let rest = glob.as_str().strip_prefix(&include.prefix);
                        !rest.is_some_and(|rest| rest.starts_with('/'))
                    }
                    _ => true,
                })
            };
            if let Some(class) = policy.classes.iter().find(beyond) {
                let (class, prefix) = (class.name.clone(), include.prefix.clone());
                return Err(IncludeError::Beyond { policy: policy.name, class, prefix });
            }
            self.included.push(policy);
        }
        Ok(self)
    }
}

/// Why a policy cannot be included.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IncludeError {
    /// Nobody asked for it.
    #[error("policy {policy:?} is not included")]
    NotIncluded {
        /// Its name.
        policy: String,
    },
    /// Too old.
    #[error("policy {policy:?}: expected serial {expected} or later, found {found}")]
    Serial {
        /// Its name.
        policy: String,
        /// The lowest that is included.
        expected: u64,
        /// Its own.
        found: u64,
    },
    /// It names a trust root of its own: its roles would be compared with what the including policy calls so.
    #[error(
        "policy {policy:?} is included, and its trust root {trust:?} is not in the policy that includes it: write the same under trust there"
    )]
    Trust {
        /// Its name.
        policy: String,
        /// The trust root.
        trust: String,
    },
    /// It speaks of what is not its own.
    #[error(
        "policy {policy:?} may speak for {prefix}/** only, and its class {class:?} goes beyond"
    )]
    Beyond {
        /// Its name.
        policy: String,
        /// The class.
        class: String,
        /// What it may speak for.
        prefix: String,
    },
}
