//! Objects that are objects. What serde derives for a struct takes a list as well, its members by their places, which
//! no other reader of such JSON does: a list would pass for a bundle here, and be nothing to everybody else.
//!
//! Here structs are asked for as maps, at whatever depth. Not below an enumeration whose variants hold structs, nor
//! below what serde reads twice (`untagged`, `flatten`); none that is read here has those.

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor,
};
use serde_path_to_error::Track;
use std::fmt;

/// Reads a value, and that nothing comes after it.
///
/// # Errors
/// As of [`serde_json::from_slice`], and for a list where an object must be; with the member that it is about.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Kind {
///     name: String,
/// }
///
/// use countersign_verify::json;
/// assert_eq!(json::from_slice::<Kind>(br#"{"name":"dsse"}"#).unwrap().name, "dsse");
/// assert!(json::from_slice::<Kind>(br#"["dsse"]"#).is_err());
///
/// let error = json::from_slice::<Kind>(br#"{"name":7}"#).err().unwrap();
/// assert_eq!(error.to_string(), "name: invalid type: integer `7`, expected a string at line 1 column 9");
/// ```
pub fn from_slice<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Objects(&mut reader)).map_err(|error| placed::<T>(json, error))?;
    reader.end().map(|()| value)
}

/// The longest place that is told of, in bytes: a stranger may have chosen the names in it.
const PLACE: usize = 200;

/// The error with the member that it is about. Members are followed only here, for that takes time.
fn placed<'de, T: Deserialize<'de>>(
    json: &'de [u8],
    error: serde_json::Error,
) -> serde_json::Error {
    let (mut reader, mut track) = (serde_json::Deserializer::from_slice(json), Track::new());
    let followed = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let _ = T::deserialize(Objects(followed)); // fails where it failed before
    let path = track.path().to_string(); // `.` for the whole, and `.?` at its end where a name should stand
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let told = !path.is_empty() && path.len() <= PLACE;
    match told && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Error::custom(format_args!("{path}: {error}")), // serde_json finds line and column at its end
        false => error,
    }
}

/// The same of a text.
///
/// # Errors
/// As of [`from_slice`].
pub fn from_str<'de, T: Deserialize<'de>>(json: &'de str) -> serde_json::Result<T> {
    from_slice(json.as_bytes())
}

/// Reads one value after the other; white space may stand between. Errors are as of [`from_slice`].
pub fn values<'de, T: Deserialize<'de>>(
    json: &'de [u8],
) -> impl Iterator<Item = serde_json::Result<T>> {
    struct Value<T>(T);

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Value<T> {
        fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
            T::deserialize(Objects(source)).map(Self)
        }
    }

    let mut values = serde_json::Deserializer::from_slice(json).into_iter();
    std::iter::from_fn(move || {
        let rest = &json[values.byte_offset()..];
        let value = values.next()?;
        Some(value.map(|Value(value)| value).map_err(|error| placed::<T>(rest, error)))
    })
}

/// Each of serde's parts that has others in it, with those as well.
struct Objects<T>(T);

macro_rules! asked_for {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(
            self,
            $($name: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* Objects(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Members(visitor))
    }

    asked_for! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32()
        deserialize_i64() deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32()
        deserialize_u64() deserialize_u128() deserialize_f32() deserialize_f64() deserialize_char()
        deserialize_str() deserialize_string() deserialize_bytes() deserialize_byte_buf()
        deserialize_option() deserialize_unit() deserialize_seq() deserialize_map()
        deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(length: usize)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }
}

/// What serde derives for a struct, asked for as a map.
struct Members<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Members<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Objects(members))
    }
}

macro_rules! found {
    ($($method:ident: $type:ty)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Objects<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    found! {
        visit_bool: bool visit_i64: i64 visit_i128: i128 visit_u64: u64 visit_u128: u128 visit_f64: f64
        visit_str: &str visit_borrowed_str: &'de str visit_string: String
        visit_bytes: &[u8] visit_borrowed_bytes: &'de [u8] visit_byte_buf: Vec<u8>
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Objects(value))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Objects(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Objects(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Objects(members))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(variant)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Objects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Objects(value))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Objects(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{from_str, values};
    use crate::bounded::Bounded;
    use serde::Deserialize;
    use serde_json::value::RawValue;
    use std::borrow::Cow;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner<'a> {
        #[serde(borrow)]
        text: Cow<'a, str>,
        number: Option<u64>,
    }

    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        inner: Inner<'a>,
        #[serde(borrow)]
        perhaps: Option<Inner<'a>>,
        #[serde(borrow, default)]
        some: Vec<Inner<'a>>,
        #[serde(default)]
        few: Bounded<Kind, 2>,
        #[serde(borrow)]
        raw: Option<&'a RawValue>,
        pair: Option<(u8, f64)>,
        flag: Option<bool>,
    }

    #[derive(Deserialize)]
    struct Kind {
        #[expect(dead_code, reason = "that it is read is enough")]
        name: String,
    }

    #[test]
    fn all_else_is_read_as_by_serde() {
        let json = r#"{"inner": {"text": "a", "number": 7}, "perhaps": {"text": "\u0062"}, "raw": [ 1],
            "some": [{"text": "", "number": null}], "few": [{"name": "c"}, {"name": "d"}, 3], "pair": [1, -2.5],
            "flag": true, "unknown": {"a": [null]}}"#;
        let read: Outer<'_> = from_str(json).unwrap();
        assert!(matches!(read.inner, Inner { text: Cow::Borrowed("a"), number: Some(7) }));
        assert_eq!(read.perhaps, Some(Inner { text: "b".into(), number: None }));
        assert_eq!((read.some.len(), read.few.found, read.flag), (1, 3, Some(true)));
        assert_eq!((read.raw.unwrap().get(), read.pair), ("[ 1]", Some((1, -2.5))));
        assert!(from_str::<Inner<'_>>(r#"{"text": "a"} "#).is_ok());
        for refused in
            [r#"{"text": "a"}]"#, r#"{"text": "a", "text": "a"}"#, r#"{"text": "a", "b": 1}"#]
        {
            assert!(from_str::<Inner<'_>>(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_list_is_no_object_wherever_it_stands() {
        let inner = r#"{"text": "a"}"#;
        for (place, json) in [
            ("", r#"[["a", 7], null, [], [], null, null, null]"#.to_owned()),
            ("inner: ", r#"{"inner": ["a", 7]}"#.to_owned()),
            ("perhaps: ", format!(r#"{{"inner": {inner}, "perhaps": ["a", null]}}"#)),
            ("some[1]: ", format!(r#"{{"inner": {inner}, "some": [{inner}, ["a", null]]}}"#)),
            ("few[0]: ", format!(r#"{{"inner": {inner}, "few": [["c"]]}}"#)),
        ] {
            assert!(serde_json::from_str::<Outer<'_>>(&json).is_ok(), "serde takes {json}");
            let error = from_str::<Outer<'_>>(&json).err().expect(&json).to_string();
            let expected =
                format!("{place}invalid type: sequence, expected an object at line 1 column ");
            assert!(error.starts_with(&expected), "{error}");
        }
        let several = [inner, inner, r#"["a", 7]"#].join("\n");
        let read: Vec<_> = values::<Inner<'_>>(several.as_bytes()).collect();
        assert!(matches!(read.as_slice(), [Ok(_), Ok(_), Err(_)]), "{read:?}");
        let outer = |inner: &str| format!(r#"{{"inner": {inner}}}"#);
        let several = [outer(inner), outer("[]")].join("\n");
        let second = values::<Outer<'_>>(several.as_bytes()).nth(1).unwrap();
        let error = second.err().unwrap().to_string();
        assert_eq!(error, "inner: invalid type: sequence, expected an object at line 2 column 10");
    }

    #[test]
    fn an_error_names_its_member_unless_that_is_long_or_unprintable() {
        let inner = |name: &str, value: &str| format!(r#"{{"inner": {{"{name}": {value}}}}}"#);
        let long = "a".repeat(500);
        for (json, expected) in [
            (
                inner("text", "1"),
                "inner.text: invalid type: integer `1`, expected a string at line 1 column 20",
            ),
            (
                inner("number", "-1"),
                "inner.number: invalid value: integer `-1`, expected u64 at line 1 column 23",
            ),
            (
                r#"{"some": [{"text": "a"}, {}]}"#.into(),
                "some[1]: missing field `text` at line 1 column 27",
            ),
            (
                r#"{"inner": {"text": "a"}"#.into(),
                "EOF while parsing an object at line 1 column 23",
            ),
            (
                r#"{"some": [{"text": "a""#.into(),
                "some[0]: EOF while parsing an object at line 1 column 22",
            ),
            (r#"{"x": {"y": nul}}"#.into(), "x: expected ident at line 1 column 16"),
            (format!(r#"{{"{long}": nul}}"#), "expected ident at line 1 column 509"),
            (r#"{"\u001b[2J": nul}"#.into(), "expected ident at line 1 column 18"),
        ] {
            let error = from_str::<Outer<'_>>(&json).err().expect(&json);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.line(), 1, "{error}");
        }
    }
}
