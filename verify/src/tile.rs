//! Tiles and entry bundles of C2SP tlog-tiles: coordinates, paths and the bytes of a bundle.
//!
//! Refused in paths: leading zeros, unpadded groups, levels above 63, widths outside 1 to 255, so
//! each tile has one path only.

use crate::limits::MAX_ENTRY;
use std::fmt::Write as _;

/// Hashes in a full tile, entries in a full bundle.
pub const FULL: u16 = 256;

/// Up to 256 hashes of one level. Hash `i` of tile `(level, index)` is the root over the leaves
/// from `(256·index + i)·256^level`, `256^level` of them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tile {
    /// 0 holds leaf hashes; each level above stands for 8 levels of the tree.
    pub level: u8,
    /// Counted from the left, from 0.
    pub index: u64,
    /// Hashes in it, 1 to 256; 256 is a full tile.
    pub width: u16,
}

impl Tile {
    /// `tile/<L>/<N>[.p/<W>]`, relative to the log's prefix.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, numbered(self.index, self.width))
    }

    /// The inverse of [`path`](Self::path); `None` for any other text.
    #[must_use]
    pub fn parse_path(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = canonical_number(level)?;
        let (index, width) = parse_numbered(rest)?;
        (level <= 63).then_some(Self { level: u8::try_from(level).ok()?, index, width })
    }
}

/// The entries below one level-0 tile.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryBundle {
    /// That of the level-0 tile above it.
    pub index: u64,
    /// Entries in it, 1 to 256.
    pub width: u16,
}

impl EntryBundle {
    /// `tile/<name>/<N>[.p/<W>]`; tlog-tiles names them `entries`, static-ct-api `data`.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        format!("tile/{name}/{}", numbered(self.index, self.width))
    }

    /// The inverse of [`path`](Self::path); `None` for any other text.
    #[must_use]
    pub fn parse_path(name: &str, path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?.strip_prefix(name)?.strip_prefix('/')?;
        let (index, width) = parse_numbered(rest)?;
        Some(Self { index, width })
    }
}

/// The hashes that tile `(level, index)` holds in a tree of `size` leaves: 0 to 256.
#[must_use]
pub fn width(level: u8, index: u64, size: u64) -> u16 {
    let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    let before = index.saturating_mul(u64::from(FULL));
    u16::try_from(hashes.saturating_sub(before).min(u64::from(FULL))).expect("at most 256")
}

fn numbered(index: u64, width: u16) -> String {
    let mut groups = vec![index % 1000];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.push(rest % 1000);
        rest /= 1000;
    }
    let mut text = String::new();
    for group in groups[1..].iter().rev() {
        write!(text, "x{group:03}/").expect("a String takes it");
    }
    write!(text, "{:03}", groups[0]).expect("a String takes it");
    if width != FULL {
        write!(text, ".p/{width}").expect("a String takes it");
    }
    text
}

fn parse_numbered(text: &str) -> Option<(u64, u16)> {
    let (number, width) = match text.split_once(".p/") {
        Some((number, width)) => (number, u16::try_from(canonical_number(width)?).ok()?),
        None => (text, FULL),
    };
    let mut groups: Vec<&str> = number.split('/').collect();
    let last = groups.pop()?;
    let mut index: u64 = 0;
    for group in groups.iter().map(|group| group.strip_prefix('x')).chain([Some(last)]) {
        let digits = group.filter(|group| group.len() == 3 && digits(group))?;
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    let partial_fits = text.contains(".p/") == (width != FULL) && (1..=FULL).contains(&width);
    (partial_fits && groups.first() != Some(&"x000")).then_some((index, width))
}

fn canonical_number(text: &str) -> Option<u64> {
    (digits(text) && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The bytes of an entry bundle: each entry with its length before it, u16, big endian.
///
/// # Panics
/// When an entry is longer than [`MAX_ENTRY`]: a log must refuse such entries before it takes them.
#[must_use]
pub fn encode_entries<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).expect("a log takes no entry above 65535 bytes");
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    bytes
}

/// Splits the bytes of an entry bundle.
///
/// # Errors
/// When the last entry is cut short or there are more than 256.
pub fn decode_entries(mut bytes: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let expected = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(expected).ok_or(Error::Truncated {
            entry: entries.len(),
            expected,
            found: rest.len(),
        })?;
        if entries.len() == usize::from(FULL) {
            return Err(Error::TooMany);
        }
        entries.push(entry);
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(entries)
    } else {
        Err(Error::Truncated { entry: entries.len(), expected: 2, found: bytes.len() })
    }
}

/// The longest an entry bundle can be, in bytes.
pub const MAX_ENTRY_BUNDLE: usize = FULL as usize * (2 + MAX_ENTRY);

/// Why bytes are no entry bundle.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end inside an entry.
    #[error("entry {entry} of the bundle needs {expected} bytes, found {found}")]
    Truncated {
        /// Its place in the bundle, from 0.
        entry: usize,
        /// Bytes it announces.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// More than 256 entries.
    #[error("an entry bundle holds at most 256 entries, found more")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_the_specification_both_ways() {
        for (level, index, width, path) in [
            (0, 0, 256, "tile/0/000"),
            (0, 255, 256, "tile/0/255"),
            (1, 1000, 256, "tile/1/x001/000"),
            (0, 1_234_067, 256, "tile/0/x001/x234/067"),
            (2, 123_456_789, 17, "tile/2/x123/x456/789.p/17"),
            (63, 0, 1, "tile/63/000.p/1"),
        ] {
            let tile = Tile { level, index, width };
            assert_eq!(tile.path(), path);
            assert_eq!(Tile::parse_path(path), Some(tile));
        }
        assert_eq!(
            EntryBundle::parse_path("entries", "tile/entries/x001/000.p/112"),
            Some(EntryBundle { index: 1000, width: 112 })
        );
    }

    #[test]
    fn a_tile_has_one_path_only() {
        for near_miss in [
            "tile/00/000",
            "tile/64/000",
            "tile/0/0",
            "tile/0/x000/001",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/",
            "tile/0/000/",
            "tile/0/x001/+00",
            "/tile/0/000",
            "tile/-1/000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Tile::parse_path(near_miss), None, "{near_miss}");
        }
    }

    #[test]
    fn widths_follow_from_the_size() {
        for (size, level, index, expected) in [
            (1, 0, 0, 1),
            (255, 0, 0, 255),
            (256, 0, 0, 256),
            (256, 0, 1, 0),
            (256, 1, 0, 1),
            (257, 0, 1, 1),
            (70_000, 0, 273, 112),
            (70_000, 1, 0, 256),
            (70_000, 1, 1, 17),
            (70_000, 2, 0, 1),
            (70_000, 3, 0, 0),
            (u64::MAX, 8, 0, 0),
            (u64::MAX, 7, 0, 255),
            (0, 0, 0, 0),
            (1, 0, u64::MAX, 0),
        ] {
            assert_eq!(
                width(level, index, size),
                expected,
                "size {size} level {level} index {index}"
            );
        }
    }

    #[test]
    fn an_entry_bundle_cut_anywhere_is_refused_or_shorter() {
        let entries: [&[u8]; 3] = [b"", b"one", b"another"];
        let bytes = encode_entries(entries);
        assert_eq!(decode_entries(&bytes).unwrap(), entries);
        let whole = [0, 2, 7, 16];
        for cut in 0..bytes.len() {
            assert_eq!(decode_entries(&bytes[..cut]).is_ok(), whole.contains(&cut), "{cut}");
        }
        assert_eq!(decode_entries(&[0; 514]), Err(Error::TooMany));
    }
}
