//! Where the asynchronous work of a command runs.
//!
//! The runtime is given work without its type. Its loops would otherwise be compiled anew for each command, each
//! with the whole of the command's work in it, several times over.

use crate::failure::Failure;
use std::pin::{Pin, pin};
use tokio::runtime::{Builder, Runtime};

/// Runs a command's few requests on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    run(&start(&mut Builder::new_current_thread())?, work)
}

/// As [`block_on`], but a name that is still being looked up is not waited for.
pub(crate) fn within<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = start(&mut Builder::new_current_thread())?;
    let output = run(&runtime, work);
    runtime.shutdown_background();
    output
}

/// Runs a server, or work that is for all cores.
pub(crate) fn on_all_cores<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    run(&start(Builder::new_multi_thread().global_queue_interval(OWN_FIRST))?, work)
}

/// How many tasks of its own a busy thread polls before one from outside, such as an answer of a log's sequencer. By
/// its own measure the library takes two where polls are as long as it takes to check a signature: then requests that
/// are there wait for answers to go out, and batches of a log under load are small.
const OWN_FIRST: u32 = 31;

fn start(builder: &mut Builder) -> Result<Runtime, Failure> {
    let runtime = builder.enable_all().build();
    runtime.map_err(|error| Failure::unclear(format!("cannot start: {error}")))
}

fn run<T>(runtime: &Runtime, work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut output = None;
    {
        let mut work = pin!(async { output = Some(work.await) });
        let work: Pin<&mut dyn Future<Output = ()>> = work.as_mut();
        runtime.block_on(work);
    }
    output.ok_or_else(|| Failure::unclear("the work ended without an answer"))
}
