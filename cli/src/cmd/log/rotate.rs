//! `countersign log rotate` and `log freeze`: orders to a running instance.

use crate::args::Format;
use crate::args::log::{Freeze, Rotate};
use crate::control::{self, Done, Order};
use crate::failure::Failure;
use crate::instance::{LogName, Shards};
use crate::output;
use serde_json::json;
use std::process::ExitCode;

pub(super) fn run(args: &Rotate) -> Result<ExitCode, Failure> {
    let (log, host) = (args.log, args.host.clone());
    let (order, what) = if args.announce {
        (Order::Announce { log, host }, "announced")
    } else {
        let shard = Shards::next(&args.dir, log)?;
        (Order::Rotate { log, host, shard }, "begun")
    };
    let done = control::give(&args.dir, &order)?;
    print(&done, log, what, args.output)
}

pub(super) fn freeze(args: &Freeze) -> Result<ExitCode, Failure> {
    let order = Order::Freeze { log: args.log, shard: args.shard };
    let done = control::give(&args.dir, &order)?;
    print(&done, args.log, "frozen", args.output)
}

fn print(done: &Done, log: LogName, what: &str, output: Format) -> Result<ExitCode, Failure> {
    let Done { shard, url, entries, log_id } = done;
    output::print(&match output {
        Format::Json => format!(
            "{}\n",
            json!({ "schema": "countersign.shard/1", "log": log, "shard": shard, "state": what,
                "url": url, "entries": entries, "logId": log_id })
        ),
        Format::Text => {
            let next = match what {
                "announced" => {
                    "its key is in the trusted root; when clients have refreshed that, run the same without --announce"
                }
                "begun" => {
                    "entries come to be in it from now on; the signing config names it; the one before is read where it was"
                }
                _ if log == LogName::LogV1 => "its last checkpoint says so",
                _ => {
                    "its last checkpoint says so; whoever writes to its URL gets 405, and needs the newer signing config"
                }
            };
            format!(
                "{what}: shard {shard} at {url}, {entries} entries, log ID {log_id}\n  {next}\n"
            )
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
