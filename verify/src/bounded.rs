//! Lists of hostile JSON: what is beyond the limit is counted and passed over, never kept. A list of `"",""` takes
//! eight times its text in memory, and all that is read here is read before any signature.

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// The first `N` elements of a list, and how many there are.
#[derive(Debug)]
pub(crate) struct Bounded<T, const N: usize> {
    pub(crate) first: Vec<T>,
    pub(crate) found: usize,
}

impl<T, const N: usize> Bounded<T, N> {
    /// All of them; or how many there are, where that is above the limit.
    pub(crate) fn all(self) -> Result<Vec<T>, usize> {
        if self.found > N { Err(self.found) } else { Ok(self.first) }
    }
}

impl<T, const N: usize> Default for Bounded<T, N> {
    fn default() -> Self {
        Self { first: Vec::new(), found: 0 }
    }
}

impl<T, const N: usize> FromIterator<T> for Bounded<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let first: Vec<_> = elements.into_iter().collect();
        Self { found: first.len(), first }
    }
}

impl<T: Serialize, const N: usize> Serialize for Bounded<T, N> {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        self.first.serialize(target)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Elements<T, N> {
    type Value = Bounded<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < N {
            match list.next_element()? {
                Some(element) => first.push(element),
                None => break,
            }
        }
        let mut found = first.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            found += 1;
        }
        Ok(Bounded { first, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_counted_and_not_kept() {
        let read = |text: &str| serde_json::from_str::<Bounded<String, 3>>(text);
        for (text, found) in [("[]", 0), (r#"["",""]"#, 2), (r#"["","",""]"#, 3)] {
            assert_eq!(read(text).unwrap().all().unwrap().len(), found);
        }
        // The rest may be anything, but it is JSON.
        assert_eq!(read(r#"["","","",{"a":[1]}]"#).unwrap().all(), Err(4));
        assert!(read(r#"["","","",}]"#).is_err() && read(r#"["",1]"#).is_err());
        let many = read(&format!("[\"\"{}]", ",\"\"".repeat(1 << 20))).unwrap();
        assert!(many.first.capacity() < 10, "{}", many.first.capacity());
        assert_eq!(many.all(), Err((1 << 20) + 1));
    }
}
