//! JSON in which no member stands twice, which RFC 8259, section 4, leaves to its readers: one might take the
//! first, another the last, and both would have read the same signed bytes.
//!
//! Refused: a name twice in one object, at whatever depth and however it is escaped; what [`serde_json`] refuses,
//! among it more than 128 levels. Numbers that fit neither `i64` nor `u64` are read as `f64`. How long the text
//! may be is for the caller to say.

use crate::limits::MAX_MEMBERS;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A value without a member that stands twice.
///
/// ```
/// use countersign_verify::json::Unique;
///
/// assert!(serde_json::from_str::<Unique>(r#"{"a": 1, "b": {"a": 2}}"#).is_ok());
/// assert!(serde_json::from_str::<Unique>(r#"{"b": [{"a": 1, "\u0061": 2}]}"#).is_err());
/// ```
#[derive(Debug, Default)]
pub struct Unique(pub Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which no member stands twice")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unique(value))) = members.next_entry::<String, _>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member {name:?} stands twice")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

/// Passes over a value in which no member stands twice, of which nothing is kept: it may be large. It has the hashes
/// of the names in the objects that it is in, which take less room than many short names; [`MAX_MEMBERS`] at most.
pub(crate) struct Distinct<'a>(pub(crate) &'a mut Vec<u64>);

impl<'de> DeserializeSeed<'de> for Distinct<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Distinct<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Distinct(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        #[derive(serde::Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let outside = self.0.len();
        while let Some(Name(name)) = members.next_key()? {
            if self.0.len() == MAX_MEMBERS {
                let many =
                    format_args!("more than {MAX_MEMBERS} members in objects within another");
                return Err(A::Error::custom(many));
            }
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            self.0.push(hasher.finish());
            members.next_value_seed(Distinct(self.0))?;
        }
        let names = &mut self.0[outside..];
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return Err(A::Error::custom("a member stands twice in one object"));
        }
        self.0.truncate(outside);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_value_that_is_passed_over_the_names_around_are_kept_alone() {
        let pass = |json: &str| {
            let mut names = Vec::new();
            let read =
                Distinct(&mut names).deserialize(&mut serde_json::Deserializer::from_str(json));
            (read.map_err(|error| error.to_string()), names.len())
        };
        assert_eq!(pass(r#"{"a":{"b":[{"b":1},{"b":2}],"a":null},"b":"c"}"#), (Ok(()), 0));
        let object = |count: usize| {
            let members: Vec<_> = (0..count).map(|number| format!("\"{number}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(pass(&object(MAX_MEMBERS)).0.is_ok());
        let half = object(MAX_MEMBERS / 2 + 1);
        assert!(pass(&format!("[{half},{half}]")).0.is_ok(), "one after the other");
        let within = format!("{}{half}}}", half.strip_suffix("0}").unwrap());
        for many in [object(MAX_MEMBERS + 1), within] {
            let refused = pass(&many).0.unwrap_err();
            assert!(refused.starts_with("more than 1048576 members"), "{refused}");
        }
    }
}
