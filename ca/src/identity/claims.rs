//! The JSON of tokens, read strictly: a member that stands twice could mean one thing to us and
//! another to whoever issued it.

use countersign_verify::json::Unique;
use serde::de::{Deserialize, Error};
use serde_json::{Map, Value};

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
        Self::read(Unique::deserialize(&mut serde_json::Deserializer::from_slice(json))?)
    }

    fn read(json: Unique) -> Result<Self, serde_json::Error> {
        match json.0 {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(serde_json::Error::custom("expected a JSON object")),
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
