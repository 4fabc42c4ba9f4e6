//! What writers and readers do.

use super::entry::{Entry, FLAWS};
use super::tally::Tally;
use super::target::Target;
use super::wire::Wire;
use crate::failure::Failure;
use countersign_client::http::Error;
use countersign_log::read::Reader;
use countersign_log::store::Source;
use countersign_log::{Format, OpenError, proof};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// Acknowledged entries that a writer remembers, to send again.
const REMEMBERED: usize = 64;

/// Bytes of answers that all writers together keep to check when the time is over. Whoever has its part
/// checks what it has meanwhile.
const KEPT: u64 = 256 << 20;

/// What is to be done, and until when.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) writers: u64,
    /// Time between two submissions, over all writers; none when they come as fast as answers do.
    pub(super) every: Option<Duration>,
    pub(super) repeats: f64,
    pub(super) invalid: f64,
    pub(super) start: Instant,
    pub(super) stop: Instant,
}

impl Load {
    /// When writer `number` sends its submission `count`.
    fn due(&self, number: u64, count: u64) -> Instant {
        let Some(every) = self.every else { return Instant::now() };
        let place = count * self.writers + number;
        self.start + Duration::from_secs_f64(every.as_secs_f64() * place as f64)
    }
}

/// Whether the submission with this number is one of a part of all: as evenly spread as can be.
fn belongs(number: u64, part: f64) -> bool {
    ((number + 1) as f64 * part).floor() > (number as f64 * part).floor()
}

/// Any number, always the same for the same one.
fn scatter(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 // Knuth: the golden ratio spreads evenly
}

/// An entry that was sent, with its place once an answer has been checked: the log's ID and the index.
struct Sent {
    entry: Entry,
    place: OnceLock<([u8; 32], u64)>,
}

/// An answer that is to be checked.
struct Answer {
    to: Arc<Sent>,
    repeated: bool,
    wait: Duration,
    json: Vec<u8>,
}

/// Answers that are to be checked, in the order in which they came.
#[derive(Default)]
pub(super) struct Answers(Vec<Answer>);

impl Answers {
    /// Holds the log to them.
    pub(super) async fn check(self, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        for Answer { to, repeated, wait, json } in self.0 {
            let body = target.signers.body(&to.entry);
            let Some(place) = target.check(&json, &body, tally).await? else { continue };
            let first = *to.place.get_or_init(|| place);
            if !repeated {
                tally.accepted += 1;
                tally.waits.note(wait);
                continue;
            }
            tally.repeats += 1;
            tally.repeat_waits.note(wait);
            if first != place {
                tally.doubled += 1;
                let problem = || format!("entry {} came again as {}", first.1, place.1);
                tally.problem.get_or_insert_with(problem);
            }
        }
        Ok(())
    }
}

/// Writes until the time is over; what is under way then is finished. Of what comes, as much as there is room
/// for is left to be checked.
pub(super) async fn write(
    target: Arc<Target>,
    load: Load,
    number: u64,
) -> Result<(Tally, Answers), Failure> {
    let mut tally = Tally::default();
    let (mut wire, mut answers, mut kept) = (Wire::new(&target.url), Answers::default(), 0);
    let mut acknowledged: Vec<Arc<Sent>> = Vec::new();
    let mut fresh = (number..).step_by(usize::try_from(load.writers).expect("few"));
    let mut fresh = || target.signers.entry(fresh.next().expect("numbers do not end"));
    for count in 0.. {
        let due = load.due(number, count);
        if due >= load.stop || target.ended.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep_until(due).await;
        // Two writers are never at the same point of the pattern.
        let phase = count + scatter(number) % 1000;
        if belongs(phase, load.invalid) {
            let entry = fresh();
            let flaw = FLAWS[usize::try_from(scatter(phase) % 4).expect("below 4")];
            let request = target.signers.flawed(&entry, flaw);
            match wire.post(&target, &request).await {
                Ok(_) => {
                    tally.wrongly_accepted += 1;
                    tally.problem.get_or_insert(format!("taken in spite of its flaw: {flaw:?}"));
                }
                Err(error) if error.is_refusal() => tally.refused += 1,
                Err(error) => failed(&mut tally, &error),
            }
            continue;
        }
        let repeated = belongs(phase, load.repeats) && !acknowledged.is_empty();
        let place = usize::try_from(scatter(phase)).unwrap_or_default() % acknowledged.len().max(1);
        let sent = match repeated {
            true => Arc::clone(&acknowledged[place]),
            false => Arc::new(Sent { entry: fresh(), place: OnceLock::new() }),
        };
        let request = target.signers.request(&sent.entry);
        let due = if load.every.is_some() { due } else { Instant::now() };
        let reply = wire.post(&target, &request).await;
        let wait = due.elapsed();
        let json = match reply {
            Ok(json) => json,
            Err(error) => {
                if error.is_refusal() {
                    tally.wrongly_refused += 1;
                    tally.problem.get_or_insert(error.to_string());
                } else {
                    failed(&mut tally, &error);
                }
                continue;
            }
        };
        kept += json.len() as u64;
        answers.0.push(Answer { to: Arc::clone(&sent), repeated, wait, json });
        if !repeated && acknowledged.len() < REMEMBERED {
            acknowledged.push(sent);
        } else if !repeated {
            let place = usize::try_from(scatter(count)).unwrap_or_default() % REMEMBERED;
            acknowledged[place] = sent; // some stay long, some not
        }
        if kept > KEPT / load.writers {
            std::mem::take(&mut answers).check(&target, &mut tally).await?;
            kept = 0;
        }
    }
    Ok((tally, answers))
}

fn failed(tally: &mut Tally, error: &Error) {
    tally.failed += 1;
    tally.problem.get_or_insert(error.to_string());
}

/// Reads until the time is over: a checkpoint with its right edge, and one entry with its proof.
pub(super) async fn read(
    target: Arc<Target>,
    stop: Instant,
    number: u64,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for count in 0.. {
        let shards = target.shards();
        if Instant::now() >= stop || target.ended.load(Ordering::Relaxed) {
            break;
        }
        let shard = &shards[usize::try_from(count).unwrap_or_default() % shards.len()];
        let source = Arc::clone(&shard.remote) as Arc<dyn Source>;
        let reader = match Reader::open(source, &shard.key, Format::Entries).await {
            Ok(reader) => reader,
            Err(OpenError::Store(error)) => {
                tally.failed += 1;
                tally.problem.get_or_insert(error.to_string());
                continue;
            }
            Err(error) => {
                tally.broken(error.to_string());
                continue;
            }
        };
        if let Err(problem) = shard.checkpoint(reader.head().note())? {
            tally.broken(problem);
            continue;
        }
        let size = reader.head().checkpoint().size.max(1);
        match reader.prove_inclusion(scatter(count + number) % size).await {
            Ok(_) => tally.reads += 1,
            Err(proof::Error::Store(error)) => {
                tally.failed += 1;
                tally.problem.get_or_insert(error.to_string());
            }
            Err(error) => tally.broken(error.to_string()),
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_all_is_as_many_as_it_says() {
        for (part, expected) in [(0.0, 0), (0.01, 10), (0.1, 100), (0.5, 500), (1.0, 1000)] {
            let found = (0..1000).filter(|number| belongs(*number, part)).count();
            assert!(expected - found.min(expected) <= 1, "{part}: {found}");
        }
    }
}
