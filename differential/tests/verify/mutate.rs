//! Alterations of a bundle's JSON, member by member, and of what its members hold.

use countersign_verify::encoding::{base64, from_base64};
use serde_json::Value;

/// SplitMix64: enough to choose places and values.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

/// Every member by its JSON pointer, the whole excepted.
pub(crate) fn members(value: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        let mut each = |name: String, value: &Value| {
            found.push(format!("{path}/{name}"));
            walk(value, &format!("{path}/{name}"), found);
        };
        match value {
            Value::Object(object) => {
                object.iter().for_each(|(name, value)| each(name.clone(), value));
            }
            Value::Array(array) => {
                array.iter().enumerate().for_each(|(place, value)| each(place.to_string(), value));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

/// The other values that one member gets, each with the name of its kind.
pub(crate) fn values(value: &Value, random: &mut Random) -> Vec<(&'static str, Value)> {
    let mut altered: Vec<(&'static str, Value)> = vec![
        ("null", Value::Null),
        ("boolean", true.into()),
        ("list", Value::Array(vec![])),
        ("object", serde_json::json!({})),
        ("empty text", "".into()),
        ("number", 1.into()),
        ("zero", 0.into()),
        ("fraction", 1.5.into()),
    ];
    match value {
        Value::String(text) => texts(text, random, &mut altered),
        Value::Array(list) => {
            let doubled = list.iter().flat_map(|value| [value.clone(), value.clone()]);
            altered.push(("doubled", doubled.collect()));
            altered.push(("reversed", list.iter().rev().cloned().collect()));
            altered.push(("first removed", list.iter().skip(1).cloned().collect()));
            altered.push(("first for all", list.first().cloned().unwrap_or_default()));
            let many = list.iter().cycle().take(list.len() * 70).cloned();
            altered.push(("seventyfold", many.collect()));
        }
        Value::Object(object) => {
            let mut surplus = object.clone();
            surplus.insert("surplus".into(), Value::Null);
            altered.push(("surplus member", surplus.into()));
            altered.push(("in a list", vec![value.clone()].into()));
        }
        _ => {}
    }
    altered.retain(|(_, altered)| altered != value);
    altered
}

fn texts(text: &str, random: &mut Random, altered: &mut Vec<(&'static str, Value)>) {
    altered.push(("letter added", format!("{text}x").into()));
    altered.push(("space added", format!("{text} ").into()));
    altered.push(("line break added", format!("{text}\n").into()));
    altered.push(("capitals", text.to_uppercase().into()));
    altered.push(("zero byte", format!("{text}\0").into()));
    if let Ok(bytes) = from_base64(text) {
        for _ in 0..4 {
            let mut flipped = bytes.clone();
            let place = random.below(bytes.len());
            if let Some(byte) = flipped.get_mut(place) {
                *byte ^= 1 << random.below(8);
            }
            altered.push(("bit", base64(&flipped).into()));
        }
        altered.push(("cut", base64(&bytes[..bytes.len().saturating_sub(1)]).into()));
        altered.push(("cut at random", base64(&bytes[..random.below(bytes.len())]).into()));
        altered.push(("byte added", base64(&[&bytes[..], &[0]].concat()).into()));
        altered.push(("unpadded", text.trim_end_matches('=').into()));
        altered.push(("padded more", format!("{text}====").into()));
        altered.push(("URL alphabet", text.replace('+', "-").replace('/', "_").into()));
    }
    if let Ok(number) = text.parse::<i64>() {
        for (name, other) in
            [("one more", number.saturating_add(1)), ("one less", number.saturating_sub(1))]
        {
            altered.push((name, other.to_string().into()));
        }
        altered.push(("as a number", number.into()));
        altered.push(("one more as a number", number.saturating_add(1).into()));
        altered.push(("leading zero", format!("0{number}").into()));
        altered.push(("plus sign", format!("+{number}").into()));
        altered.push(("exponent", format!("{number}e0").into()));
        altered.push(("with a fraction", format!("{number}.0").into()));
        for other in ["-1", "9223372036854775807", "9223372036854775808", "18446744073709551616"] {
            altered.push(("out of range", other.into()));
        }
    }
    if text.contains('\n') {
        lines(text, random, altered);
    }
    for other in [
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "application/vnd.dev.sigstore.bundle.v0.4+json",
    ] {
        if text.starts_with("application/vnd.dev.sigstore") {
            altered.push(("other generation", other.into()));
        }
    }
    if ["SHA2_256", "hashedrekord", "dsse", "intoto", "0.0.1", "0.0.2"].contains(&text) {
        for other in
            ["SHA2_384", "SHA2_512", "sha256", "hashedrekord", "dsse", "intoto", "0.0.1", "0.0.2"]
        {
            altered.push(("other word", other.into()));
        }
        for other in 2..5 {
            altered.push(("other number", other.into()));
        }
    }
}

/// A signed note, line by line.
fn lines(text: &str, random: &mut Random, altered: &mut Vec<(&'static str, Value)>) {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for place in 0..lines.len() {
        let without = [&lines[..place], &lines[place + 1..]].concat().concat();
        let twice = [&lines[..=place], &lines[place..]].concat().concat();
        altered.push(("note: line removed", without.into()));
        altered.push(("note: line twice", twice.into()));
    }
    let signature = lines.last().copied().unwrap_or_default();
    let blank = text.find("\n\n").map_or(0, |place| place + 2);
    let witness = format!("\u{2014} witness.example.test {}\n", base64(&[7; 68]));
    altered.push(("note: line of a witness after", format!("{text}{witness}").into()));
    let before = format!("{}{witness}{}", &text[..blank], &text[blank..]);
    altered.push(("note: line of a witness before", before.into()));
    let broken = signature.rsplit_once(' ').and_then(|(name, encoded)| {
        let mut bytes = from_base64(encoded.trim_end()).ok()?;
        *bytes.last_mut()? ^= 1;
        Some(format!("{name} {}\n", base64(&bytes)))
    });
    if let Some(broken) = broken {
        altered.push((
            "note: broken line before",
            format!("{}{broken}{}", &text[..blank], &text[blank..]).into(),
        ));
        altered.push(("note: broken line after", format!("{text}{broken}").into()));
    }
    altered.push(("note: signatures only", text[blank..].into()));
    altered.push(("note: no signature", text[..blank].into()));
    altered.push(("note: carriage returns", text.replace('\n', "\r\n").into()));
    altered.push(("note: last line break removed", text.trim_end().into()));
    altered.push(("note: hyphen for the dash", text.replace('\u{2014}', "-").into()));
    for _ in 0..4 {
        let mut bytes = text.as_bytes().to_vec();
        let place = random.below(bytes.len());
        bytes[place] ^= 1 << random.below(7);
        if let Ok(flipped) = String::from_utf8(bytes) {
            altered.push(("note: bit", flipped.into()));
        }
    }
}

/// The bundle's text with the member at `path` written twice; `None` for elements of lists.
pub(crate) fn twice(bundle: &Value, path: &str, second: &Value) -> Option<String> {
    const MARK: &str = "@@ the member @@";
    let (parent, name) = path.rsplit_once('/')?;
    bundle.pointer(parent)?.as_object()?;
    let mut marked = bundle.clone();
    let value = std::mem::replace(marked.pointer_mut(path)?, MARK.into());
    let members = format!("{}:{value},{}:{second}", Value::from(name), Value::from(name));
    let marked_member = format!("{}:{}", Value::from(name), Value::from(MARK));
    Some(marked.to_string().replace(&marked_member, &members))
}

/// The bundle without the member or element at `path`.
pub(crate) fn without(bundle: &Value, path: &str) -> Option<Value> {
    let (parent, name) = path.rsplit_once('/')?;
    let mut bundle = bundle.clone();
    match bundle.pointer_mut(parent)? {
        Value::Object(object) => drop(object.remove(name)),
        Value::Array(list) => drop(list.remove(name.parse().ok()?)),
        _ => return None,
    }
    Some(bundle)
}

/// The bundle with `value` at `path`.
pub(crate) fn with(bundle: &Value, path: &str, value: Value) -> Value {
    let mut bundle = bundle.clone();
    *bundle.pointer_mut(path).unwrap() = value;
    bundle
}
