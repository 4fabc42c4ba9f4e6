//! Reads tables key by key and keeps what is wrong with them.

use std::cell::RefCell;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest number that makes sense anywhere in a configuration.
const MOST: u32 = 1_000_000;

/// Something wrong in a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mistake {
    /// From 1.
    pub(crate) line: usize,
    /// What was expected and what was found.
    pub(crate) text: String,
    /// What to do.
    pub(crate) next: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)?;
        match &self.next {
            Some(next) => write!(f, "; {next}"),
            None => Ok(()),
        }
    }
}

/// What a value should have been.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    what: String,
}

impl Expected {
    pub(crate) fn new(what: &str) -> Self {
        Self { what: what.to_owned() }
    }

    /// What was expected.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

/// A document, and what is wrong with it.
pub(super) struct Reader<'t> {
    text: &'t str,
    document: Spanned<DeTable<'t>>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let reader = Self { text, document, mistakes: RefCell::default() };
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            reader.mistake(at, format!("not TOML: {}", error.message()), None);
        }
        reader
    }

    pub(super) const fn text(&self) -> &'t str {
        self.text
    }

    /// The document's keys; `None` when it is not TOML, because what would be found then misleads.
    pub(super) fn root(&self) -> Option<Section<'_, 't>> {
        let table = self.document.get_ref();
        let whole = self.mistakes.borrow().is_empty();
        whole.then(|| Section { reader: self, name: String::new(), table, at: 0, known: vec![] })
    }

    /// What was found, by line.
    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.borrow().clone();
        mistakes.sort_by_key(|mistake| mistake.line);
        mistakes
    }

    fn mistake(&self, at: usize, text: String, next: Option<String>) {
        let line = self.text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
        self.mistakes.borrow_mut().push(Mistake { line, text, next });
    }
}

/// A table that is read key by key.
pub(super) struct Section<'r, 't> {
    reader: &'r Reader<'t>,
    name: String,
    table: &'r DeTable<'t>,
    at: usize,
    known: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    /// A text that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&str) -> Result<T, Expected>,
    ) -> Option<T> {
        self.demand(key);
        self.optional(key, convert)
    }

    /// Something, of whatever kind, must be there.
    pub(super) fn demand(&mut self, key: &'static str) {
        if self.find(key).is_none() {
            let text = format!("{} is missing", self.full(key));
            self.reader.mistake(self.at, text, None);
        }
    }

    /// A text that may be there.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&str) -> Result<T, Expected>,
    ) -> Option<T> {
        let (span, value) = self.find(key)?;
        let Some(text) = value.as_str() else {
            self.wrong_kind(key, span, "a text in quotes", value);
            return None;
        };
        match convert(text) {
            Ok(value) => Some(value),
            Err(Expected { what }) => {
                let text = format!("{}: expected {what}, found {text:?}", self.full(key));
                self.reader.mistake(span.start, text, None);
                None
            }
        }
    }

    /// A list of texts that may be there; one at least.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(&str) -> Result<T, Expected>,
    ) -> Option<Vec<T>> {
        let (span, value) = self.find(key)?;
        if value.as_array().is_some_and(|values| values.is_empty()) {
            self.wrong_kind(key, span, "a list of texts, [\"...\"], with one at least", value);
            return None;
        }
        self.texts(key, convert)
    }

    /// A yes or no that may be there.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let (span, value) = self.find(key)?;
        if value.as_bool().is_none() {
            self.wrong_kind(key, span, "true or false", value);
        }
        value.as_bool()
    }

    /// A whole number that may be there, of things at a time or in a time.
    pub(super) fn number(&mut self, key: &'static str) -> Option<NonZeroU32> {
        let (span, value) = self.find(key)?;
        let Some(integer) = value.as_integer() else {
            self.wrong_kind(key, span, "a whole number", value);
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| *number <= MOST).and_then(NonZeroU32::new);
        if number.is_none() {
            let text = format!(
                "{}: expected a whole number from 1 to {MOST}, found {integer}",
                self.full(key)
            );
            self.reader.mistake(span.start, text, None);
        }
        number
    }

    /// A list of texts that may be there.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(&str) -> Result<T, Expected>,
    ) -> Option<Vec<T>> {
        let (span, value) = self.find(key)?;
        let Some(values) = value.as_array() else {
            self.wrong_kind(key, span, "a list of texts", value);
            return None;
        };
        let mut all = Vec::new();
        for value in values {
            let (span, value) = (value.span(), value.get_ref());
            match value.as_str().map(|text| (text, convert(text))) {
                None => self.wrong_kind(key, span, "texts in quotes", value),
                Some((_, Ok(value))) => all.push(value),
                Some((text, Err(Expected { what }))) => {
                    let text = format!("{}: expected {what}, found {text:?}", self.full(key));
                    self.reader.mistake(span.start, text, None);
                }
            }
        }
        Some(all)
    }

    /// A table that may be there.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Section<'r, 't>> {
        let (span, value) = self.find(key)?;
        match value.as_table() {
            Some(table) => Some(self.section(key, span.start, table)),
            None => {
                self.wrong_kind(key, span, &format!("a table, [{key}]"), value);
                None
            }
        }
    }

    /// Tables of that name, `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'r, 't>> {
        let Some((span, value)) = self.find(key) else { return vec![] };
        let expected = format!("tables, [[{key}]]");
        let Some(values) = value.as_array() else {
            self.wrong_kind(key, span, &expected, value);
            return vec![];
        };
        let section = |value: &'r Spanned<DeValue<'t>>| match value.get_ref().as_table() {
            Some(table) => Some(self.section(key, value.span().start, table)),
            None => {
                self.wrong_kind(key, value.span(), &expected, value.get_ref());
                None
            }
        };
        values.iter().filter_map(section).collect()
    }

    /// Something wrong that several values make together.
    pub(super) fn mistake(&self, key: &'static str, expected: &str, found: &str, next: &str) {
        let at = self.peek(key).map_or(self.at, |(span, _)| span.start);
        let text = format!("{}: {expected}; found {found:?}", self.full(key));
        self.reader.mistake(at, text, Some(next.to_owned()));
    }

    /// Ends the reading: a key that nobody asked for is a mistake.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name = key.get_ref();
            if !self.known.iter().any(|known| known == name) {
                let text = format!("{} is unknown", self.full(name));
                let next = nearest(name, &self.known).map(|word| format!("did you mean {word:?}?"));
                self.reader.mistake(key.span().start, text, next);
            }
        }
    }

    fn section(&self, key: &str, at: usize, table: &'r DeTable<'t>) -> Section<'r, 't> {
        let (reader, name) = (self.reader, self.full(key));
        Section { reader, name, table, at, known: vec![] }
    }

    fn find(&mut self, key: &'static str) -> Option<(Range<usize>, &'r DeValue<'t>)> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.peek(key)
    }

    fn peek(&self, key: &str) -> Option<(Range<usize>, &'r DeValue<'t>)> {
        self.table.get(key).map(|value| (value.span(), value.get_ref()))
    }

    fn wrong_kind(&self, key: &str, span: Range<usize>, expected: &str, value: &DeValue<'_>) {
        let found = value.type_str();
        let text = format!("{}: expected {expected}, found {found}", self.full(key));
        self.reader.mistake(span.start, text, None);
    }

    fn full(&self, key: &str) -> String {
        match &self.name[..] {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}

/// The word of `words` that `found` was meant to be, if one is near.
fn nearest<'w>(found: &str, words: &[&'w str]) -> Option<&'w str> {
    let near = |word: &&&str| distance(found, word) <= 1 + word.len() / 3;
    words.iter().filter(near).min_by_key(|word| distance(found, word)).copied()
}

/// Letters to change, add or take away (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, c) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (place, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(c != *other);
            diagonal = row[place + 1];
            row[place + 1] = change.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
