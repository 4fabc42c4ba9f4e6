//! What conditions speak of, as values of CEL.
//!
//! Facts are read where they lie: nothing is copied that an expression does not ask for, and what a loop goes
//! through is a reference. So a scan of thousands of findings costs what is looked at of it. A list is made each
//! time that it is asked for, and is paid for before it is made.

use super::Bounds;
use crate::claims::{Claim, Claims};
use crate::facts::{Artifact, Content, Context, Evidence, Facts};
use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator as Items, Sizer, Zeroer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp,
    CelUInt, Kind, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

/// The value of one of the inputs, for one piece of evidence by somebody in `role`. `whole` copies maps
/// into maps of the interpreter's.
pub(super) fn value<'f>(
    name: &str,
    facts: &'f Facts,
    evidence: &'f Evidence,
    role: &'f str,
    whole: bool,
    bounds: &'f Bounds,
) -> Box<dyn Val + 'f> {
    let of = match (name, &evidence.content) {
        ("artifact", _) => Of::Artifact(facts.artifact.as_ref()),
        ("signer", _) => Of::Signer(evidence, role),
        ("predicate", Content::Attestation { statement, .. }) => {
            let predicate = statement.json().get("predicate");
            return json(predicate.unwrap_or(&Json::Null), whole, bounds);
        }
        ("statement", Content::Attestation { statement, .. }) => {
            return json(statement.json(), whole, bounds);
        }
        ("predicate" | "statement", _) => return Box::new(CelNull),
        ("time", _) => Of::Times(facts.now, evidence.signed),
        _ => Of::Context(&facts.context),
    };
    object(of, whole, bounds)
}

/// JSON as CEL has it: whole numbers are integers, all others are doubles. Null where it is not paid for: there is
/// no answer then.
fn json<'f>(value: &'f Json, whole: bool, bounds: &'f Bounds) -> Box<dyn Val + 'f> {
    match value {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(value) if bounds.pays_parts(Bounds::of_text(value)) => text(value),
        Json::Array(values) if bounds.pays_parts(values.len()) => {
            list(values.iter().map(|value| json(value, whole, bounds)))
        }
        Json::String(_) | Json::Array(_) => Box::new(CelNull),
        Json::Object(members) => object(Of::Json(members), whole, bounds),
    }
}

fn text(text: &str) -> Box<dyn Val + '_> {
    Box::new(CelString::from(text))
}

fn list<'f>(items: impl Iterator<Item = Box<dyn Val + 'f>>) -> Box<dyn Val + 'f> {
    Box::new(CelList::from(items.collect::<Vec<_>>()))
}

fn time(time: Timestamp) -> Box<dyn Val + 'static> {
    let nanoseconds = u32::try_from(time.subsec_nanosecond()).unwrap_or_default();
    let time = chrono::DateTime::from_timestamp(time.as_second(), nanoseconds).unwrap_or_default();
    Box::new(CelTimestamp::from(time.fixed_offset()))
}

fn object<'f>(of: Of<'f>, whole: bool, bounds: &'f Bounds) -> Box<dyn Val + 'f> {
    let object = Object { of, bounds, keys: OnceLock::new() };
    if !whole {
        return Box::new(object);
    }
    if !bounds.pays_parts(object.count()) {
        return Box::new(CelNull);
    }
    let members = object.names().into_iter().filter_map(|name| {
        let value = object.member(&name, whole)?;
        Some((CelMapKey::from(name.into_owned()), value))
    });
    Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
}

/// A map that is read where it lies.
#[derive(Debug)]
struct Object<'f> {
    of: Of<'f>,
    bounds: &'f Bounds,
    /// The names, for whoever goes through them.
    keys: OnceLock<Vec<CelString<'f>>>,
}

/// Where a map lies.
#[derive(Clone, Copy, Debug)]
enum Of<'f> {
    Json(&'f Map<String, Json>),
    Claims(&'f Claims),
    Labels(&'f BTreeMap<String, String>),
    Artifact(Option<&'f Artifact>),
    Signer(&'f Evidence, &'f str),
    Times(Timestamp, Option<Timestamp>),
    Context(&'f Context),
}

impl<'f> Object<'f> {
    /// The names of all members.
    fn names(&self) -> Vec<Cow<'f, str>> {
        let fixed: &[&str] = match self.of {
            Of::Json(members) => return members.keys().map(Cow::from).collect(),
            Of::Labels(labels) => return labels.keys().map(Cow::from).collect(),
            Of::Claims(claims) => {
                return claims.keys().map(|name| name.replace('-', "_").into()).collect();
            }
            Of::Artifact(_) => {
                &["name", "repository", "digest", "kind", "version", "tag", "mediaType"]
            }
            Of::Signer(..) => &["role", "issuer", "subject", "claims"],
            Of::Times(..) => &["now", "signed"],
            Of::Context(_) => &["name", "cluster", "namespace", "labels"],
        };
        let there = fixed.iter().filter(|name| self.has(name));
        there.map(|name| Cow::from(*name)).collect()
    }

    fn has(&self, name: &str) -> bool {
        match self.of {
            Of::Json(members) => members.contains_key(name),
            _ => self.member(name, false).is_some(),
        }
    }

    fn member(&self, name: &str, whole: bool) -> Option<Box<dyn Val + 'f>> {
        let value = match self.of {
            Of::Json(members) => json(members.get(name)?, whole, self.bounds),
            Of::Labels(labels) => text(labels.get(name)?),
            Of::Claims(claims) => match claims.iter().find(|(claim, _)| is_called(claim, name))? {
                (_, Claim::One(one)) => text(one),
                (_, Claim::Many(texts)) => list(texts.iter().map(|one| text(one))),
            },
            Of::Artifact(artifact) => {
                let artifact = artifact?;
                match name {
                    "name" | "repository" => text(&artifact.name),
                    "digest" => text(&artifact.digest),
                    "kind" => text(artifact.kind.name()),
                    "version" | "tag" => text(artifact.version.as_deref()?),
                    "mediaType" => text(artifact.media_type.as_deref()?),
                    _ => return None,
                }
            }
            Of::Signer(evidence, role) => match name {
                "role" => text(role),
                "issuer" => text(&evidence.signer.issuer),
                "subject" => {
                    let subject = evidence.signer.claims.get("subject");
                    text(subject.and_then(|claim| claim.texts().first()).map_or("", String::as_str))
                }
                "claims" => object(Of::Claims(&evidence.signer.claims), whole, self.bounds),
                _ => return None,
            },
            Of::Times(now, signed) => match name {
                "now" => time(now),
                "signed" => time(signed?),
                _ => return None,
            },
            Of::Context(context) => match name {
                "name" => text(context.name.as_deref()?),
                "cluster" => text(context.cluster.as_deref()?),
                "namespace" => text(context.namespace.as_deref()?),
                "labels" => object(Of::Labels(&context.labels), whole, self.bounds),
                _ => return None,
            },
        };
        Some(value)
    }

    /// How many members there are.
    fn count(&self) -> usize {
        match self.of {
            Of::Json(members) => members.len(),
            Of::Labels(labels) => labels.len(),
            Of::Claims(claims) => claims.len(),
            _ => self.names().len(),
        }
    }
}

/// Whether an expression means `claim` by `name`: a minus would subtract there.
fn is_called(claim: &str, name: &str) -> bool {
    let spelled = claim.bytes().map(|byte| if byte == b'-' { b'_' } else { byte });
    spelled.eq(name.bytes())
}

impl Val for Object<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let (Some(size), Some(members)) = (other.as_sizer(), other.as_indexer()) else {
            return false;
        };
        *other.get_type() == MAP_TYPE
            && size.size() == self.size()
            && self.bounds.pays_parts(self.count())
            && self.names().iter().all(|name| {
                let theirs = members.get(&CelString::from(&**name));
                let ours = self.member(name, false);
                theirs.ok().zip(ours).is_some_and(|(theirs, ours)| ours.equals(theirs.as_ref()))
            })
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Self { of: self.of, bounds: self.bounds, keys: OnceLock::new() })
    }
}

impl Container for Object<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        if let Some(name) = key.downcast_ref::<CelString>() {
            return Ok(self.has(name.inner()));
        }
        match self.get(key) {
            Ok(_) => Ok(true),
            Err(ExecutionError::NoSuchKey(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Indexer for Object<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let missing = |name: &str| ExecutionError::no_such_key(name);
        match (key.downcast_ref::<CelString>().map(CelString::inner), key.get_type().kind()) {
            (Some(name), _) => {
                let value = self.member(name, false);
                value.map(CowVal::Owned).ok_or_else(|| missing(name))
            }
            // What may be a key of a map, and is none of one that came out of JSON.
            (None, Kind::Boolean | Kind::Int | Kind::UInt | Kind::Double) => {
                Err(missing(&format!("{key:?}")))
            }
            (None, _) => {
                let got = key.get_type().name().to_owned();
                Err(ExecutionError::UnexpectedType { got, want: "map key".to_owned() })
            }
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl<'f> Iterable for Object<'f> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        let keys = || self.names().into_iter().map(CelString::from).collect();
        Box::new(Keys(self.keys.get_or_init(keys).iter()))
    }
}

struct Keys<'b, 'f>(std::slice::Iter<'b, CelString<'f>>);

impl<'b, 'v, 'f: 'v> Items<'b, 'v> for Keys<'b, 'f> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|key| key as &(dyn Val + 'v))
    }
}

impl Sizer for Object<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.count()).unwrap_or(i64::MAX))
    }
}

impl Zeroer for Object<'_> {
    fn is_zero_value(&self) -> bool {
        self.count() == 0
    }
}
