//! What is counted.

/// What became of the requests.
#[derive(Default)]
pub(super) struct Tally {
    /// New entries that were acknowledged with a proof that holds.
    pub(super) accepted: u64,
    /// Repeats answered with the entry's first place.
    pub(super) repeats: u64,
    /// Repeats answered with another place.
    pub(super) doubled: u64,
    /// Flawed requests that were refused.
    pub(super) refused: u64,
    /// Flawed requests that were taken.
    pub(super) wrongly_accepted: u64,
    /// Entries without a flaw that were refused.
    pub(super) wrongly_refused: u64,
    /// Requests without an answer after all patience.
    pub(super) failed: u64,
    /// Entries proven from tiles.
    pub(super) reads: u64,
    /// Acknowledged, and not in the tree.
    pub(super) lost: u64,
    /// Answers that do not hold, checkpoints that contradict each other.
    pub(super) broken: u64,
    /// Milliseconds until a new entry was acknowledged, and until a repeat was.
    pub(super) waits: Waits,
    pub(super) repeat_waits: Waits,
    /// The first thing that went wrong.
    pub(super) problem: Option<String>,
}

impl Tally {
    pub(super) fn lost(&mut self, problem: String) {
        self.lost += 1;
        self.problem.get_or_insert(problem);
    }

    pub(super) fn broken(&mut self, problem: String) {
        self.broken += 1;
        self.problem.get_or_insert(problem);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.repeats += other.repeats;
        self.doubled += other.doubled;
        self.refused += other.refused;
        self.wrongly_accepted += other.wrongly_accepted;
        self.wrongly_refused += other.wrongly_refused;
        self.failed += other.failed;
        self.reads += other.reads;
        self.lost += other.lost;
        self.broken += other.broken;
        self.waits.add(&other.waits);
        self.repeat_waits.add(&other.repeat_waits);
        if self.problem.is_none() {
            self.problem = other.problem;
        }
    }
}

/// Waits, in bounded memory: counted in buckets of microseconds, each at most 1/32 as wide as it is high.
pub(super) struct Waits(Vec<u64>);

/// One bucket a microsecond up to 64, then 32 for each doubling, up to 2^40 us, twelve days.
const BUCKETS: usize = 35 * 32 + 64;

impl Default for Waits {
    fn default() -> Self {
        Self(vec![0; BUCKETS])
    }
}

impl Waits {
    pub(super) fn note(&mut self, wait: std::time::Duration) {
        let us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(us).min(BUCKETS - 1)] += 1;
    }

    fn add(&mut self, other: &Self) {
        for (count, other) in self.0.iter_mut().zip(&other.0) {
            *count += other;
        }
    }

    /// The wait in milliseconds that `permille` of them did not exceed; none without any.
    pub(super) fn quantile_ms(&self, permille: u64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let rank = (all * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket.map(|bucket| end(bucket) as f64 / 1000.0)
    }
}

fn bucket(us: u64) -> usize {
    let shift = us.max(32).ilog2() - 5;
    usize::try_from((u64::from(shift) << 5) + (us >> shift)).expect("at most 59 * 32 + 63")
}

/// The last microsecond of a bucket.
fn end(bucket: usize) -> u64 {
    let shift = (bucket / 32).saturating_sub(1);
    let first = ((bucket - shift * 32) as u64) << shift;
    first + (1 << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_off_by_a_thirtysecond_at_most() {
        for us in (0..70).chain([127, 128, 129, 1000, 999_999, 1 << 33, (1 << 40) - 1]) {
            let (bucket, end) = (bucket(us), end(bucket(us)));
            assert!(bucket < BUCKETS && us <= end && end - us <= us / 32, "{us} {bucket} {end}");
        }
        let mut waits = Waits::default();
        assert_eq!(waits.quantile_ms(500), None);
        for ms in 1..=100 {
            waits.note(std::time::Duration::from_millis(ms));
        }
        let near = |permille, expected: f64| {
            let found = waits.quantile_ms(permille).unwrap();
            assert!((expected..expected * 1.04).contains(&found), "{permille} {found}");
        };
        near(500, 50.0);
        near(990, 99.0);
        near(1000, 100.0);
    }
}
