//! Keys with their certificates, and how one takes over from another.
//!
//! An authority has one credential or several. All are published at once; the one that signs is the last
//! whose time has begun. So a rotation needs no switch: the next credential is published with a time in
//! the future, verifiers learn of it, and then its time comes, everywhere at the same moment.

use crate::signer::Signer;
use jiff::Timestamp;
use std::sync::Arc;

/// A key, its certificates, and when its time begins. Clones share the key.
#[derive(Clone)]
pub struct Credential {
    /// The key.
    pub signer: Arc<dyn Signer>,
    /// Certificates, DER: the key's own first, the root last.
    pub chain: Vec<Vec<u8>>,
    /// It signs from then on, until the next one's time begins; the first one from ever.
    pub from: Timestamp,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Things that take over from one another: at least one, each with the time when it begins, in that order.
#[derive(Clone, Debug)]
pub struct Succession<T>(Vec<(Timestamp, T)>);

impl<T> Succession<T> {
    /// Puts `all` in the order of their times; `None` when there is none.
    #[must_use]
    pub fn new(mut all: Vec<(Timestamp, T)>) -> Option<Self> {
        all.sort_by_key(|&(from, _)| from);
        if all.is_empty() { None } else { Some(Self(all)) }
    }

    /// The one whose time it is: the last that has begun, and the first while none has.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> &T {
        let begun = self.0.partition_point(|&(from, _)| from <= now);
        &self.0[begun.saturating_sub(1)].1
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().map(|(_, each)| each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_over_when_its_time_begins() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let all = Succession::new(vec![(time(20), 'b'), (time(10), 'a')]).unwrap();
        for (now, expected) in [(0, 'a'), (10, 'a'), (19, 'a'), (20, 'b'), (99, 'b')] {
            assert_eq!(*all.at(time(now)), expected, "at {now}");
        }
        assert_eq!(all.all().collect::<String>(), "ab");
        assert!(Succession::<char>::new(vec![]).is_none());
    }
}
