//! Entries as they lie in bundles, and the Merkle leaves in them.
//!
//! - `entries` (C2SP tlog-tiles): u16 length ‖ entry; the leaf is the entry.
//! - `data` (C2SP static-ct-api), one TileLeaf after the other:
//!
//! ```text
//! timestamp u64 | entry_type u16 | x509: u24 certificate; precert: issuer_key_hash[32], u24 TBS
//! | u16 extensions | precert only: u24 precertificate | u16 fingerprints, 32 bytes each
//! ```
//!   the leaf is `00 00` followed by the part up to and with the extensions (RFC 6962, section 3.4).
//!
//! - `timed` (ours, for Rekor v1): u64 time of integration, seconds ‖ u16 length ‖ entry; the leaf is the
//!   entry, for the time stands in the log's promise only.
//!
//! Refused: records cut short, other entry types, more than 256 records.

use bytes::Bytes;
use countersign_verify::merkle::{Hash, leaf_hash};
use countersign_verify::tile::FULL;

/// How entries lie in bundles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Those of tlog-tiles.
    Entries,
    /// The data tiles of static-ct-api.
    Data,
    /// Entries with the time of their integration.
    Timed,
}

/// One entry of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// As it lies in the bundle, its framing included.
    pub bytes: &'a [u8],
    /// When it was integrated, seconds since the epoch; of timed entries alone. It is not in the tree.
    pub time: Option<u64>,
    /// What is hashed into the tree follows this.
    leaf_start: &'static [u8],
    leaf_end: &'a [u8],
    /// What makes two submissions the same; none where it is the leaf hash.
    identifying: Option<&'a [u8]>,
}

impl Record<'_> {
    /// What is hashed into the tree, without the 0x00 before it.
    #[must_use]
    pub fn leaf(&self) -> Vec<u8> {
        [self.leaf_start, self.leaf_end].concat()
    }

    /// SHA-256(0x00 ‖ leaf).
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&self.leaf())
    }

    /// SHA-256 of what makes two submissions the same: the body; for certificates the entry type and
    /// the entry, without timestamp and extensions. For timed entries the leaf hash, by which Rekor v1
    /// names them.
    #[must_use]
    pub fn identity(&self) -> Hash {
        self.identifying.map_or_else(|| self.leaf_hash(), Hash::of)
    }
}

impl Format {
    /// The name in paths: `tile/<name>/<N>`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Data => "data",
            Self::Timed => "timed",
        }
    }

    /// Splits a bundle.
    ///
    /// # Errors
    /// When a record is cut short or malformed, or there are more than 256.
    pub fn records(self, mut bundle: &[u8]) -> Result<Vec<Record<'_>>, Error> {
        let mut records = Vec::new();
        while !bundle.is_empty() {
            let number = records.len();
            if number == usize::from(FULL) {
                return Err(Error::TooMany);
            }
            let record = self.first(bundle);
            let record = record.ok_or(Error::Malformed { record: number, format: self.name() })?;
            bundle = &bundle[record.bytes.len()..];
            records.push(record);
        }
        Ok(records)
    }

    /// The first `width` records of bytes that may go on; all of the bytes when those are not so many
    /// whole records.
    #[must_use]
    pub fn cut(self, bytes: &Bytes, width: u16) -> Bytes {
        let mut rest = &bytes[..];
        for _ in 0..width {
            match self.first(rest) {
                Some(record) => rest = &rest[record.bytes.len()..],
                None => return bytes.clone(),
            }
        }
        bytes.slice(..bytes.len() - rest.len())
    }

    fn first(self, bytes: &[u8]) -> Option<Record<'_>> {
        match self {
            Self::Entries => entry(bytes),
            Self::Data => tile_leaf(bytes),
            Self::Timed => timed(bytes),
        }
    }
}

fn entry(bundle: &[u8]) -> Option<Record<'_>> {
    let mut rest = bundle;
    let body = prefixed::<2>(&mut rest)?;
    let bytes = &bundle[..bundle.len() - rest.len()];
    Some(Record { bytes, time: None, leaf_start: &[], leaf_end: body, identifying: Some(body) })
}

fn timed(bundle: &[u8]) -> Option<Record<'_>> {
    let mut rest = bundle;
    let time = take(&mut rest, 8)?.first_chunk().copied().map(u64::from_be_bytes);
    let body = prefixed::<2>(&mut rest)?;
    let bytes = &bundle[..bundle.len() - rest.len()];
    Some(Record { bytes, time, leaf_start: &[], leaf_end: body, identifying: None })
}

fn tile_leaf(bundle: &[u8]) -> Option<Record<'_>> {
    let mut rest = bundle;
    take(&mut rest, 8)?;
    let entry_start = bundle.len() - rest.len();
    let precertificate = match take(&mut rest, 2)? {
        [0, 0] => false,
        [0, 1] => true,
        _ => return None,
    };
    if precertificate {
        take(&mut rest, 32)?;
    }
    prefixed::<3>(&mut rest)?;
    let identifying = &bundle[entry_start..bundle.len() - rest.len()];
    prefixed::<2>(&mut rest)?;
    let leaf_end = &bundle[..bundle.len() - rest.len()];
    if precertificate {
        prefixed::<3>(&mut rest)?;
    }
    let fingerprints = prefixed::<2>(&mut rest)?;
    let bytes = &bundle[..bundle.len() - rest.len()];
    let leaf_start = &[0, 0]; // version 1, timestamped_entry
    let identifying = Some(identifying);
    let record = Record { bytes, time: None, leaf_start, leaf_end, identifying };
    (fingerprints.len() % 32 == 0).then_some(record)
}

/// What an entry of a certificate log is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Certified<'a> {
    /// A precertificate, DER, and SHA-256 of its issuer's SubjectPublicKeyInfo.
    Precertificate(&'a [u8], &'a [u8; 32]),
    /// A certificate, DER, and SHA-256 of its issuer's certificate; none above a root.
    Certificate(&'a [u8], Option<&'a [u8; 32]>),
}

/// Reads a record of format [`Data`](Format::Data); `None` when it is none.
#[must_use]
pub fn certified(record: &[u8]) -> Option<Certified<'_>> {
    let mut rest = record;
    take(&mut rest, 8)?;
    match take(&mut rest, 2)? {
        [0, 0] => {
            let certificate = prefixed::<3>(&mut rest)?;
            prefixed::<2>(&mut rest)?;
            let fingerprints = prefixed::<2>(&mut rest)?;
            Some(Certified::Certificate(certificate, fingerprints.first_chunk()))
        }
        [0, 1] => {
            let issuer = take(&mut rest, 32)?.first_chunk()?;
            prefixed::<3>(&mut rest)?;
            prefixed::<2>(&mut rest)?;
            Some(Certified::Precertificate(prefixed::<3>(&mut rest)?, issuer))
        }
        _ => None,
    }
}

/// Takes a field whose length stands before it in `N` bytes, big endian.
fn prefixed<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(rest, N)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

/// Why bytes are no bundle.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record departs from the grammar or is cut short.
    #[error("record {record} of the bundle is not a whole record of format `{format}`")]
    Malformed {
        /// Its place in the bundle, from 0.
        record: usize,
        /// The format's name in paths.
        format: &'static str,
    },
    /// More than 256 records.
    #[error("a bundle holds at most 256 records, found more")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_split_where_they_end_and_nowhere_else() {
        let entries = [0, 1, 7, 0, 0, 0, 2, 8, 9];
        let precert = [
            &[0; 7][..],
            &[5, 0, 1],
            &[3; 32],
            &[0, 0, 2, 0x30, 0, 0, 1, 9],
            &[0, 0, 1, 4],
            &[0, 32],
            &[6; 32],
        ]
        .concat();
        let certificate = [&[0; 8][..], &[0, 0, 0, 0, 1, 7, 0, 0, 0, 0]].concat();
        let data = [&precert[..], &certificate].concat();
        for (format, bundle, ends) in [
            (Format::Entries, &entries[..], &[3, 5, 9][..]),
            (Format::Data, &data, &[precert.len(), data.len()]),
        ] {
            for cut in 1..=bundle.len() {
                let whole = format.records(&bundle[..cut]).is_ok();
                assert_eq!(whole, ends.contains(&cut), "{format:?} {cut}");
            }
        }
        let records = Format::Data.records(&data).unwrap();
        assert_eq!(records[0].leaf()[..2], [0, 0]);
        assert_eq!(records[0].leaf()[2..], precert[..8 + 2 + 32 + 5 + 3]);
        assert_eq!(records[0].identity(), Hash::of(&precert[8..8 + 2 + 32 + 5]));
        assert_eq!(Format::Entries.records(&[0; 514]).unwrap_err(), Error::TooMany);
        let cut = Format::Entries.cut(&Bytes::from([&entries[..], &[9, 9, 9]].concat()), 2);
        assert_eq!(cut[..], entries[..5]);
        assert_eq!(Format::Entries.cut(&cut, 3), cut);
    }
}
