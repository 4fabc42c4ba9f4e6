//! The JSON of tokens, read strictly: a member that stands twice could mean one thing to us and
//! another to whoever issued it.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The members of one JSON object, each name once, also within.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// When it is something else, or a name stands twice in it.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        Self::read(serde_json::from_slice(json)?)
    }

    /// Reads the JSON object that `json` begins with.
    ///
    /// # Errors
    /// When it begins with something else, or a name stands twice in the object.
    pub fn parse_first(json: &[u8]) -> Result<Self, serde_json::Error> {
        Self::read(Strict::deserialize(&mut serde_json::Deserializer::from_slice(json))?)
    }

    fn read(json: Strict) -> Result<Self, serde_json::Error> {
        match json.0 {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(de::Error::custom("expected a JSON object")),
        }
    }

    /// The object as JSON.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// The member `name` as it is.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The member `name`, if it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The text at the end of `path`, member names from the outside in.
    #[must_use]
    pub fn text_at(&self, path: &[impl AsRef<str>]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        let first = self.0.get(first.as_ref())?;
        rest.iter().try_fold(first, |value, name| value.get(name.as_ref()))?.as_str()
    }

    /// The member `name` as text: texts, whole numbers and booleans. Lists and objects have no one text
    /// and count as absent.
    #[must_use]
    pub fn scalar(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
            _ => None,
        }
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which no name stands twice")
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

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number =
            Number::from_f64(value).ok_or_else(|| E::custom("expected a finite number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a name stands twice"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        assert!(Claims::parse(br#"{"a":1,"b":{"a":[{"a":true}]}}"#).is_ok());
        for near_miss in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[{"a":1,"a":2}]}"#,
            "[]",
            "{}{}",
            "",
        ] {
            assert!(Claims::parse(near_miss.as_bytes()).is_err(), "{near_miss}");
        }
    }

    #[test]
    fn scalars_have_one_text_and_others_none() {
        let claims =
            Claims::parse(br#"{"s":"x","n":12345678901,"t":true,"f":1.5,"l":[],"o":{}}"#).unwrap();
        let texts = ["s", "n", "t", "f", "l", "o", "absent"].map(|name| claims.scalar(name));
        let expected = [Some("x"), Some("12345678901"), Some("true"), None, None, None, None];
        assert_eq!(
            texts.map(|text| text.unwrap_or_default()),
            expected.map(|text| text.unwrap_or_default().to_owned())
        );
    }
}
