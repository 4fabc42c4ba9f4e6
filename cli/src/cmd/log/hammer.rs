//! `countersign log hammer`: writes to a Rekor v2 log as many clients would, and holds it to every answer.
//!
//! The writers share the cores with the log, so they do little while the clock runs: what they send is signed
//! before, and answers are kept, and checked when the time is over or there is no more room for them: body,
//! proof, the checkpoint's signature. What was acknowledged and signed is kept in a [`ledger`], and in the
//! end compared with the tree of the newest checkpoint, read from tiles. Servers that go away are waited for,
//! and the same entry is sent again. Ctrl-C ends the writing early.

mod entry;
mod ledger;
mod tally;
mod target;
mod wire;
mod work;

use crate::args::Format;
use crate::args::log::Hammer as Args;
use crate::failure::{Failure, NO};
use crate::runtime::on_all_cores;
use crate::{output, trust};
use countersign_client::http::{self, Http};
use countersign_client::token::{IdentityToken, Source};
use countersign_log::read::Reader;
use countersign_log::{Format as Records, OpenError, store};
use countersign_verify::TrustedRoot;
use entry::Signers;
use jiff::Timestamp;
use ledger::Settled;
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tally::Tally;
use target::Target;
use tokio::time::Instant;
use url::Url;
use work::Load;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (root, signing) = trust::load(&args.trust)?.root()?;
    let issuer = match &args.identity_token {
        None => None,
        Some(token) => {
            let signing = signing.ok_or_else(|| {
                Failure::unclear("a trusted root does not say who issues certificates")
                    .hint("give --instance URL or --trust-config FILE")
            })?;
            let services = signing.select(Timestamp::now());
            let services = services.map_err(|error| Failure::unclear(error.to_string()))?;
            let source = Source::find(Some(token), |_| None);
            let source = source.map_err(|error| Failure::unclear(error.to_string()))?;
            Some((services.certificate_authority, source))
        }
    };
    let report = on_all_cores(hammer(args, &root, issuer))??;
    output::print(&match args.output {
        Format::Json => report.json(),
        Format::Text => report.text(),
    })?;
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// Requests that were sent again.
static RETRIES: AtomicU64 = AtomicU64::new(0);

fn retried(_: &http::Error) {
    RETRIES.fetch_add(1, Ordering::Relaxed);
}

/// Entries that are signed before the clock starts, at most: two seconds' work. A run that writes more than that
/// signs the rest as it goes.
const PREPARED: f64 = 131_072.0;

async fn hammer(
    args: &Args,
    root: &TrustedRoot,
    issuer: Option<(Url, Source)>,
) -> Result<Report, Failure> {
    let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
    let token: Option<(Url, IdentityToken)> = match issuer {
        None => None,
        Some((url, source)) => Some((url, source.fetch().await.map_err(|error| unclear(&error))?)),
    };
    let mut signers = Signers::make(token.as_ref().map(|(url, token)| (url, token))).await?;
    let floor = signers.floor();
    let rate = args.rate.map_or(floor / 2.0, f64::from);
    let fresh = rate * args.duration.as_secs_f64() * (1.0 - args.repeats);
    signers.prepare(fresh.min(PREPARED) as u64);

    let http = Http::new(&urls(root)).map_err(|error| unclear(&error))?;
    let patience = args.duration + args.timeout.timeout;
    let (http, deadline) = (http.within(patience, retried).insisting(), Instant::now() + patience);
    let target = Target::new(&args.trust, root, http, signers, deadline.into_std())?;
    let (target, start, cpu) = (Arc::new(target), Instant::now(), process_cpu());
    let load = Load {
        writers: u64::from(args.writers),
        every: args.rate.map(|rate| Duration::from_secs(1) / rate),
        repeats: args.repeats,
        invalid: args.invalid,
        start,
        stop: start + args.duration,
    };
    let writers = (0..load.writers).map(|number| {
        let target = Arc::clone(&target);
        tokio::spawn(work::write(target, load, number))
    });
    let readers = (0..u64::from(args.readers)).map(|number| {
        let target = Arc::clone(&target);
        tokio::spawn(work::read(target, load.stop, number))
    });
    let (writers, readers): (Vec<_>, Vec<_>) = (writers.collect(), readers.collect());
    // Ctrl-C ends the writing, not the reckoning; a second one ends all.
    let ended = Arc::clone(&target);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            ended.ended.store(true, Ordering::Relaxed);
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    let (mut tally, mut checks) = (Tally::default(), Vec::new());
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.map_err(|error| unclear(&error))??);
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_since(cpu);
    // A machine may be faster or slower by then.
    let floor = f64::midpoint(floor, target.signers.floor());
    for (found, answers) in written {
        tally.add(found);
        let target = Arc::clone(&target);
        checks.push(tokio::spawn(async move {
            let mut tally = Tally::default();
            answers.check(&target, &mut tally).await.map(|()| tally)
        }));
    }
    for check in readers.into_iter().chain(checks) {
        tally.add(check.await.map_err(|error| unclear(&error))??);
    }
    if tally.accepted + tally.broken + tally.wrongly_accepted == 0 {
        let problem = tally.problem.unwrap_or_else(|| "there was no time for one".to_owned());
        return Err(Failure::unclear(format!("no entry was accepted: {problem}")));
    }
    let settled = settle(&target, &mut tally).await?;
    let log = target.url.as_str().trim_end_matches("/api/v2/log/entries").to_owned();
    Ok(Report { log, writers: args.writers, seconds, cpu, floor, tally, settled })
}

/// User and system time of this process so far, where the system tells; its unit is 1/100 s.
fn process_cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may have spaces.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    Some(Duration::from_millis(10 * ticks.sum::<Option<u64>>()?))
}

/// What this process has taken since `before`.
fn cpu_since(before: Option<Duration>) -> Option<Duration> {
    process_cpu().zip(before).map(|(after, before)| after.saturating_sub(before))
}

fn urls(root: &TrustedRoot) -> Vec<Url> {
    root.logs().iter().filter_map(|log| Url::parse(log.base_url()).ok()).collect()
}

/// Holds every log that has answered to what it said.
async fn settle(target: &Target, tally: &mut Tally) -> Result<Settled, Failure> {
    let mut all = Settled { size: 0, leaves: 0, checkpoints: 0 };
    for shard in target.shards() {
        let source = Arc::clone(&shard.remote) as Arc<dyn store::Source>;
        let reader = match Reader::open(source, &shard.key, Records::Entries).await {
            Ok(reader) => reader,
            Err(OpenError::Store(error)) => return Err(Failure::unclear(error.to_string())),
            Err(error) => {
                tally.broken(error.to_string());
                continue;
            }
        };
        if let Err(problem) = shard.checkpoint(reader.head().note())? {
            tally.broken(problem);
        }
        let settled = shard.ledger.settle(&reader, &*shard.remote, tally).await?;
        all.size += settled.size;
        all.leaves += settled.leaves;
        all.checkpoints += settled.checkpoints;
    }
    Ok(all)
}

struct Report {
    log: String,
    writers: u16,
    seconds: f64,
    /// Of this process while it wrote.
    cpu: Option<Duration>,
    /// Entries a second that the cores could verify and hash alone.
    floor: f64,
    tally: Tally,
    settled: Settled,
}

impl Report {
    fn holds(&self) -> bool {
        self.tally.lost + self.tally.broken + self.tally.wrongly_accepted == 0
    }

    fn per_second(&self, count: u64) -> f64 {
        (count as f64 / self.seconds * 10.0).round() / 10.0
    }

    /// Microseconds of CPU that this process took for each entry that was answered.
    fn cpu_us(&self) -> Option<f64> {
        let answered = (self.tally.accepted + self.tally.repeats) as f64;
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / answered)
    }

    /// The floor beside the writers: what the cores could take if the log cost no more, with what the writers cost.
    fn shared_floor(&self) -> Option<f64> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        self.cpu_us().map(|us| 1.0 / (1.0 / self.floor + us / (cores * 1e6)))
    }

    fn json(&self) -> String {
        let Self { tally, settled, .. } = self;
        let json = json!({
            "schema": "countersign.hammer/1",
            "log": self.log,
            "writers": self.writers,
            "seconds": self.seconds,
            "accepted": tally.accepted,
            "accepted_per_s": self.per_second(tally.accepted),
            "floor_per_s": self.floor.round(),
            "shared_floor_per_s": self.shared_floor().map(f64::round),
            "writers_cpu_us": self.cpu_us().map(f64::round),
            "p50_ms": tally.waits.quantile_ms(500),
            "p99_ms": tally.waits.quantile_ms(990),
            "repeats": tally.repeats,
            "repeats_per_s": self.per_second(tally.repeats),
            "repeat_p50_ms": tally.repeat_waits.quantile_ms(500),
            "repeat_p99_ms": tally.repeat_waits.quantile_ms(990),
            "doubled": tally.doubled,
            "reads": tally.reads,
            "refused": tally.refused,
            "wrongly_refused": tally.wrongly_refused,
            "wrongly_accepted": tally.wrongly_accepted,
            "retries": RETRIES.load(Ordering::Relaxed),
            "failed": tally.failed,
            "size": settled.size,
            "checked": settled.leaves,
            "checkpoints": settled.checkpoints,
            "lost": tally.lost,
            "broken_proofs": tally.broken,
            "problem": tally.problem,
        });
        format!("{json}\n")
    }

    fn text(&self) -> String {
        let Self { tally, settled, floor, .. } = self;
        let ms = |wait: Option<f64>| wait.map_or("none".to_owned(), |ms| format!("{ms:.1} ms"));
        let accepted = tally.accepted as f64 / self.seconds;
        let mut text = format!(
            "{}, {} writers, {:.1} s\n\
             accepted  {} entries, {accepted:.0}/s, p50 {}, p99 {}\n\
             floor     {floor:.0}/s to verify and hash alone, on all cores; accepted {:.2} of it\n\
             shared    {} beside the writers\n\
             writers   {} of CPU an entry\n\
             repeats   {}, {:.0}/s, p50 {}, p99 {}; {} got another place\n\
             refused   {} with a flaw, {} without; {} with a flaw accepted\n\
             retries   {}; {} requests without an answer\n",
            self.log,
            self.writers,
            self.seconds,
            tally.accepted,
            ms(tally.waits.quantile_ms(500)),
            ms(tally.waits.quantile_ms(990)),
            accepted / floor,
            self.shared_floor().map_or("unknown".to_owned(), |shared| {
                format!("{shared:.0}/s of that; accepted {:.2} of it", accepted / shared)
            }),
            self.cpu_us().map_or("unknown".to_owned(), |us| format!("{us:.0} us")),
            tally.repeats,
            tally.repeats as f64 / self.seconds,
            ms(tally.repeat_waits.quantile_ms(500)),
            ms(tally.repeat_waits.quantile_ms(990)),
            tally.doubled,
            tally.refused,
            tally.wrongly_refused,
            tally.wrongly_accepted,
            RETRIES.load(Ordering::Relaxed),
            tally.failed,
        );
        if tally.reads > 0 {
            text += &format!("reads     {} proofs from tiles\n", tally.reads);
        }
        text += &format!(
            "checked   {} acknowledged entries and {} checkpoints in a tree of {}: {} lost, {} broken proofs\n",
            settled.leaves, settled.checkpoints, settled.size, tally.lost, tally.broken,
        );
        if let Some(problem) = &tally.problem {
            text += &format!("first problem: {}\n", output::visible(problem));
        }
        text
    }
}
