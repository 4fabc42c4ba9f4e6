//! YAML as policies are written in it: texts, lists and maps, each with its place in the file.
//!
//! YAML 1.2 by `saphyr-parser`. Refused, because two readers could take them for two things: a key twice,
//! anchors, aliases, tags, keys that are no text. Refused, because a policy needs none of it: more than
//! [`MAX_TEXT`] bytes, [`MAX_NODES`] values, [`MAX_DEPTH`] levels. What a text means is for whoever reads
//! it: `7714` is not made a number here, and `no` no falsehood.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::fmt;

/// Largest file that is read, in bytes. Ours: policies have some kilobytes.
pub const MAX_TEXT: usize = 1 << 20;

/// Most values in a file. Ours: a policy of a thousand rules has a fifth of it.
pub const MAX_NODES: usize = 1 << 16;

/// Deepest nesting. Ours: the grammar needs a dozen levels.
pub const MAX_DEPTH: usize = 32;

/// Most mistakes that are told of at once.
const MAX_MISTAKES: usize = 100;

/// A place in a file, both counted from 1, in characters.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub place: Place,
    /// What.
    pub value: Value,
    /// It stands in quotes, so it is a text whatever it looks like.
    pub quoted: bool,
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text; nothing at all is the empty text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where.
    pub place: Place,
    /// Its text.
    pub text: String,
}

/// One mistake in a file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What was expected, and what was found.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.line, self.place.column, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// All mistakes of a file, in its order.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<Mistake>);

impl Node {
    /// What kind of value it is, for a refusal.
    #[must_use]
    pub fn kind(&self) -> String {
        match &self.value {
            Value::Text(text) if text.is_empty() => "nothing".to_owned(),
            Value::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// Reads the documents of a file; one that has only comments is left out.
///
/// # Errors
/// All mistakes, see the module's list of refusals. After one of syntax there can be no more.
pub fn documents(text: &str) -> Result<Vec<Node>, Mistakes> {
    if text.len() > MAX_TEXT {
        let message = format!("expected at most {MAX_TEXT} bytes, found {}", text.len());
        let place = Place { line: 1, column: 1 };
        return Err(Mistakes(vec![Mistake { place, message, suggestion: None }]));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let result = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let marker = error.marker();
                let place = Place { line: marker.line(), column: marker.col() + 1 };
                Err(mistake(place, format!("this is not YAML: {}", error.info())))
            }
        };
        if let Err(fatal) = result {
            builder.mistakes.push(fatal);
            break;
        }
    }
    if builder.mistakes.is_empty() {
        return Ok(builder.documents);
    }
    builder.mistakes.truncate(MAX_MISTAKES);
    builder.mistakes.sort();
    Err(Mistakes(builder.mistakes))
}

/// Puts nodes together as events come; without recursion.
#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    nodes: usize,
    mistakes: Vec<Mistake>,
}

enum Open {
    List(Place, Vec<Node>),
    /// The last key waits for its value.
    Map(Place, Vec<(Key, Node)>, Option<Key>),
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Mistake> {
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            Event::Alias(anchor) => (*anchor, false),
            _ => (0, false),
        };
        if anchor != 0 {
            return Err(mistake(place, "anchors and aliases are not taken: write the value out"));
        }
        if tag {
            return Err(mistake(place, "tags are not taken: leave the !… away"));
        }
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                let nothing = plain && matches!(&*text, "~" | "null");
                let text = if nothing { String::new() } else { text.into_owned() };
                self.add(Node { place, value: Value::Text(text), quoted: !plain })
            }
            Event::SequenceStart(..) => self.begin(Open::List(place, Vec::new())),
            Event::MappingStart(..) => self.begin(Open::Map(place, Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(place, list)) => {
                    self.add(Node { place, value: Value::List(list), quoted: false })
                }
                Some(Open::Map(place, map, _)) => {
                    self.add(Node { place, value: Value::Map(map), quoted: false })
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), Mistake> {
        let (Open::List(place, _) | Open::Map(place, ..)) = &open;
        if self.open.len() == MAX_DEPTH {
            return Err(mistake(*place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(Open::Map(_, _, None)) = self.open.last() {
            return Err(mistake(*place, "expected a text as key, found a list or map"));
        }
        self.open.push(open);
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), Mistake> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(mistake(node.place, format!("more than {MAX_NODES} values")));
        }
        match self.open.last_mut() {
            None => {
                if !matches!(&node.value, Value::Text(text) if text.is_empty()) {
                    self.documents.push(node);
                }
            }
            Some(Open::List(_, list)) => list.push(node),
            Some(Open::Map(_, map, waiting)) => match (waiting.take(), node) {
                (Some(key), node) => map.push((key, node)),
                (None, Node { place, value: Value::Text(text), .. }) => {
                    if let Some((first, _)) = map.iter().find(|(key, _)| key.text == text) {
                        let line = first.place.line;
                        let message =
                            format!("the key {text:?} stands here again, first in line {line}");
                        self.mistakes.push(mistake(place, message));
                    }
                    *waiting = Some(Key { place, text });
                }
                (None, node) => return Err(mistake(node.place, "expected a text as key")),
            },
        }
        Ok(())
    }
}

fn mistake(place: Place, message: impl Into<String>) -> Mistake {
    Mistake { place, message: message.into(), suggestion: None }
}

/// Reads a document's maps and texts, and collects its mistakes.
#[derive(Default)]
pub struct Reader {
    mistakes: Vec<Mistake>,
}

/// A map whose keys are known ones.
#[derive(Clone, Copy)]
pub struct Map<'n> {
    place: Place,
    entries: &'n [(Key, Node)],
}

impl<'n> Map<'n> {
    /// Where it begins.
    #[must_use]
    pub const fn place(self) -> Place {
        self.place
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(other, _)| other.text == key).map(|(_, node)| node)
    }

    /// All of it, in the order of the file.
    pub fn entries(self) -> impl Iterator<Item = (&'n Key, &'n Node)> {
        self.entries.iter().map(|(key, node)| (key, node))
    }
}

impl Reader {
    /// Nothing, or all mistakes in the order of the file.
    ///
    /// # Errors
    /// When there is a mistake.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Mistakes> {
        self.mistakes.sort();
        self.mistakes.dedup();
        self.mistakes.truncate(MAX_MISTAKES);
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => Err(Mistakes(self.mistakes)),
        }
    }

    /// Notes a mistake, and gives `None`.
    pub fn wrong<T>(&mut self, place: Place, message: impl Into<String>) -> Option<T> {
        self.mistakes.push(mistake(place, message));
        None
    }

    /// Notes a mistake with what to write instead.
    pub fn suggest<T>(
        &mut self,
        place: Place,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Option<T> {
        let suggestion = Some(suggestion.into());
        self.mistakes.push(Mistake { place, message: message.into(), suggestion });
        None
    }

    /// A word that is none of those known; suggests the one that is nearest.
    pub fn unknown<T>(
        &mut self,
        place: Place,
        what: &str,
        found: &str,
        known: &[&str],
    ) -> Option<T> {
        let message = format!("{what} {found:?} is not known");
        if known.is_empty() {
            return self.suggest(place, message, "there are none");
        }
        match nearest(found, known) {
            Some(near) => self.suggest(place, message, format!("did you mean {near:?}?")),
            None => self.suggest(place, message, format!("known are {}", known.join(", "))),
        }
    }

    /// A map with any keys.
    pub fn any_map<'n>(&mut self, node: &'n Node, what: &str) -> Option<Map<'n>> {
        match &node.value {
            Value::Map(entries) => Some(Map { place: node.place, entries }),
            _ => self.wrong(node.place, format!("expected {what} as a map, found {}", node.kind())),
        }
    }

    /// A map with `known` keys; every other one is a mistake.
    pub fn map<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Map<'n>> {
        let map = self.any_map(node, what)?;
        for (key, _) in map.entries() {
            if !known.contains(&key.text.as_str()) {
                let _: Option<()> =
                    self.unknown(key.place, &format!("in {what} the key"), &key.text, known);
            }
        }
        Some(map)
    }

    /// The value of a key that must be there.
    pub fn need<'n>(&mut self, map: Map<'n>, what: &str, key: &str) -> Option<&'n Node> {
        match map.get(key) {
            Some(node) => Some(node),
            None => self.wrong(map.place, format!("{what} needs the key {key:?}")),
        }
    }

    /// A text that is not empty.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => self.wrong(node.place, format!("expected {what}, found {}", node.kind())),
        }
    }

    /// A list, or one value in place of a list of one. An empty list is a mistake: it would be met by
    /// nothing, or by everything, and nobody remembers which.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::List(list) if list.is_empty() => {
                let _: Option<()> = self.suggest(
                    node.place,
                    format!("expected {what}, found an empty list"),
                    "leave the key away, or name something",
                );
                &[]
            }
            Value::List(list) => list,
            _ => std::slice::from_ref(node),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.value {
            Value::Text(text) if text == "true" => Some(true),
            Value::Text(text) if text == "false" => Some(false),
            _ => self.wrong(
                node.place,
                format!("expected {what} as true or false, found {}", node.kind()),
            ),
        }
    }

    /// A number of at least 1. Of `"1"` and `010` other readers of YAML make a text and an 8.
    pub fn number(&mut self, node: &Node, what: &str) -> Option<u64> {
        let number = match &node.value {
            Value::Text(text)
                if !node.quoted
                    && !text.starts_with('0')
                    && text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                text.parse().ok()
            }
            _ => None,
        };
        match number {
            Some(number) if number > 0 => Some(number),
            _ => self.wrong(
                node.place,
                format!("expected {what} as a number from 1, found {}", node.kind()),
            ),
        }
    }
}

/// The known word that is a few edits away, at most half of it.
fn nearest<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let found = found.to_ascii_lowercase().replace('_', "-");
    let measured = known.iter().map(|&word| (distance(&found, word), word));
    let (edits, word) = measured.min_by_key(|&(edits, _)| edits)?;
    (edits <= (word.len() / 2).clamp(1, 3)).then_some(word)
}

/// Levenshtein's, over the first 64 bytes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<u8>, Vec<u8>) = (a.bytes().take(64).collect(), b.bytes().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Vec<String> {
        documents(text).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_two_readers_could_take_for_two_things_is_refused() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3\nb: 4\n", "3:1: the key \"a\" stands here again, first in line 1"),
            ("a: &x 1\n", "1:4: anchors and aliases are not taken: write the value out"),
            ("a: !!str 1\n", "1:4: tags are not taken: leave the !… away"),
            ("a: !mine 1\n", "1:4: tags are not taken: leave the !… away"),
            ("[a]: 1\n", "1:1: expected a text as key, found a list or map"),
            ("a: [1\n", "2:1: this is not YAML:"),
        ] {
            let found = refused(text);
            assert!(found[0].starts_with(expected), "{text:?}: {found:?}");
        }
        assert_eq!(refused("a: 1\nb: 2\na: 3\nb: 4\n").len(), 2, "all at once");
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let nested = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        let many = format!("[{}]", "1,".repeat(MAX_NODES + 1));
        for (text, expected) in [
            (nested, "nested deeper than 32 levels"),
            (many, "more than 65536 values"),
            ("#".repeat(MAX_TEXT + 1), "expected at most 1048576 bytes"),
        ] {
            assert!(refused(&text)[0].contains(expected), "{:?}", refused(&text));
        }
    }

    #[test]
    fn a_word_that_is_nearly_right_is_suggested() {
        let known = ["issuer", "repository", "repository-id", "environment"];
        for (found, expected) in [
            ("isuer", Some("issuer")),
            ("repository_id", Some("repository-id")),
            ("Repository", Some("repository")),
            ("enviroment", Some("environment")),
            ("tenant", None),
        ] {
            assert_eq!(nearest(found, &known), expected);
        }
    }

    #[test]
    fn places_are_those_that_editors_show() {
        let read = documents("# a comment\na:\n  b: [x, yy]\n").unwrap();
        let Value::Map(map) = &read[0].value else { panic!("{read:?}") };
        let Value::Map(inner) = &map[0].1.value else { panic!("{read:?}") };
        assert_eq!(inner[0].0.place, Place { line: 3, column: 3 });
        let Value::List(list) = &inner[0].1.value else { panic!("{read:?}") };
        assert_eq!(list[1].place, Place { line: 3, column: 10 });
    }
}
