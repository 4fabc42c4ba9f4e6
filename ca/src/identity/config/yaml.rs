//! YAML 1.2, of which JSON is a part, as a tree that knows its lines.
//!
//! Refused: more than one document, tags, names that stand twice, anchors on anything but a scalar (what
//! an alias stands for is then no larger than itself), and what is too large or too deep.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::{BTreeMap, BTreeSet};

/// Largest document, in bytes. Sigstore's public instance has 14 KiB.
const MAX_DOCUMENT: usize = 1 << 20;
/// Deepest nesting; Fulcio's configuration has four levels.
const MAX_DEPTH: usize = 16;

/// A value, and the line it begins in.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Nothing,
    Text,
    List,
    Mapping,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Nothing,
    /// A scalar as it is written, whatever a schema would make of it.
    Text(String),
    /// Nothing that is read has one.
    List,
    Mapping(Vec<(String, Node)>),
}

impl Node {
    pub(super) const fn kind(&self) -> Kind {
        match self.value {
            Value::Nothing => Kind::Nothing,
            Value::Text(_) => Kind::Text,
            Value::List => Kind::List,
            Value::Mapping(_) => Kind::Mapping,
        }
    }
}

/// Reads one document; an empty one is [`Value::Nothing`].
pub(super) fn parse(text: &str) -> Result<Node, Error> {
    if text.len() > MAX_DOCUMENT {
        return Err(Error { line: 1, fault: Fault::Size { found: text.len() } });
    }
    let text = apart(text);
    let events = Parser::new_from_str(&text).map(|event| {
        event.map_err(|error| Error {
            line: error.marker().line(),
            fault: Fault::Syntax { reason: error.info().to_owned() },
        })
    });
    let mut reader = Reader { events, anchors: BTreeMap::new() };
    let mut document = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing,
                _,
            ) => {}
            (event, span) if document.is_none() => document = Some(reader.node(event, span, 0)?),
            (_, span) => return Err(at(span, Fault::SecondDocument)),
        }
    }
    Ok(document.unwrap_or(Node { line: 1, value: Value::Nothing }))
}

/// Before YAML 1.2 an alias ended at a colon, so that it could be a name as `*name: value`; Fulcio's parser
/// reads it so still. Now the colon is part of the alias unless a blank stands before it: here it is put in.
fn apart(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let alias = line.trim_start();
        let end = alias.strip_prefix('*').and_then(|name| {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')?;
            let after = name[end..].strip_prefix(':')?;
            after.starts_with([' ', '\n', '\r']).then_some(end + 1)
        });
        match end {
            Some(end) => {
                let place = line.len() - alias.len() + end;
                format!("{} {}", &line[..place], &line[place..])
            }
            None => line.to_owned(),
        }
    });
    lines.collect()
}

struct Reader<E> {
    events: E,
    anchors: BTreeMap<usize, Value>,
}

impl<'a, E: Iterator<Item = Result<(Event<'a>, Span), Error>>> Reader<E> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Error> {
        let end = Error {
            line: 1,
            fault: Fault::Syntax { reason: "the document is cut off".to_owned() },
        };
        self.events.next().unwrap_or(Err(end))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Error> {
        let fault = |fault| Err(at(span, fault));
        if depth > MAX_DEPTH {
            return fault(Fault::Depth);
        }
        let value = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return fault(Fault::Tag);
            }
            Event::SequenceStart(1.., None) | Event::MappingStart(1.., None) => {
                return fault(Fault::Anchor);
            }
            Event::Scalar(text, style, anchor, None) => {
                let plain = style == ScalarStyle::Plain;
                let value = match &text[..] {
                    "" | "~" | "null" if plain => Value::Nothing,
                    _ => Value::Text(text.into_owned()),
                };
                if anchor > 0 {
                    self.anchors.insert(anchor, value.clone());
                }
                value
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(value) => value.clone(),
                None => return fault(Fault::Anchor),
            },
            Event::SequenceStart(0, None) => {
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => drop(self.node(event, span, depth + 1)?),
                    }
                }
                Value::List
            }
            Event::MappingStart(0, None) => {
                let (mut members, mut names) = (Vec::new(), BTreeSet::new());
                loop {
                    let (event, span) = match self.next()? {
                        (Event::MappingEnd, _) => break,
                        next => next,
                    };
                    let Value::Text(name) = self.node(event, span, depth + 1)?.value else {
                        return Err(at(span, Fault::Name));
                    };
                    if !names.insert(name.clone()) {
                        return Err(at(span, Fault::Twice { name }));
                    }
                    let (event, span) = self.next()?;
                    members.push((name, self.node(event, span, depth + 1)?));
                }
                Value::Mapping(members)
            }
            _ => return fault(Fault::Syntax { reason: "expected a value".to_owned() }),
        };
        Ok(Node { line: span.start.line(), value })
    }
}

fn at(span: Span, fault: Fault) -> Error {
    Error { line: span.start.line(), fault }
}

/// Where a document ceases to be one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Error {
    pub(super) line: usize,
    pub(super) fault: Fault,
}

/// Why a document cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Too large.
    #[error("expected at most {MAX_DOCUMENT} bytes, found {found}")]
    Size {
        /// Bytes found.
        found: usize,
    },
    /// Neither YAML nor JSON.
    #[error("this is neither YAML nor JSON: {reason}")]
    Syntax {
        /// The parser's words.
        reason: String,
    },
    /// More than one document.
    #[error("expected one document, found a second")]
    SecondDocument,
    /// A tag.
    #[error("tags such as !!binary are not accepted")]
    Tag,
    /// An anchor on a list or a mapping, or an alias of one.
    #[error("expected anchors and aliases of scalars only")]
    Anchor,
    /// A name that is no text.
    #[error("expected a text as the name of a member")]
    Name,
    /// A name twice in a mapping.
    #[error("{name:?} stands twice in one mapping")]
    Twice {
        /// The name.
        name: String,
    },
    /// Too deep.
    #[error("expected at most {MAX_DEPTH} levels")]
    Depth,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (usize, Fault) {
        let error = parse(text).unwrap_err();
        (error.line, error.fault)
    }

    #[test]
    fn aliases_stand_for_scalars_in_values_and_names_and_for_nothing_larger() {
        for text in ["define: [&a name]\n*a : *a\n", "define: [&a name]\n*a: *a\n"] {
            let Value::Mapping(members) = parse(text).unwrap().value else { panic!("a mapping") };
            let (name, node) = &members[1];
            assert!(matches!(&node.value, Value::Text(text) if text == "name" && name == "name"));
            assert_eq!(node.line, 2);
        }
        for near_miss in ["a: &a [1]\nb: *a", "a: &a {b: c}", "- &a [x]\n- [*a, *a]", "&a a: *b"] {
            let (_, fault) = fault(near_miss);
            assert!(
                matches!(fault, Fault::Anchor | Fault::Syntax { .. }),
                "{near_miss}: {fault:?}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_with_its_line() {
        assert_eq!(fault("a: 1\nb: 2\na: 3"), (3, Fault::Twice { name: "a".to_owned() }));
        assert_eq!(fault("{\"a\":1,\"a\":1}"), (1, Fault::Twice { name: "a".to_owned() }));
        assert_eq!(fault("a: 1\n---\nb: 2").1, Fault::SecondDocument);
        assert_eq!(fault("a: !!binary aGk=").1, Fault::Tag);
        assert_eq!(fault("[a]: b").1, Fault::Name);
        assert_eq!(fault(&"[".repeat(100)).1, Fault::Depth);
        assert_eq!(fault(&" ".repeat(MAX_DOCUMENT + 1)).1, Fault::Size { found: MAX_DOCUMENT + 1 });
        assert!(matches!(fault("a: 1\n b: 2"), (2, Fault::Syntax { .. })));
    }
}
