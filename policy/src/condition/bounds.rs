//! How much one evaluation may do, whatever is in the attestation that it is about.

use cel::common::types::{CelList, CelMap, CelString};
use cel::common::value::{CowVal, Val};
use cel::{ExecutionError, FunctionContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Most items that the loops of one evaluation go through. Ours: an SBOM of that many packages; some
/// tens of milliseconds at most.
const MAX_ITEMS: usize = 100_000;

/// Most items of lists, and pieces of text of [`PIECE`] bytes, that one evaluation reads, each as often as it is read. Ours:
/// ten times what loops go through; some tens of milliseconds, too.
const MAX_PARTS: usize = 2_000_000;

/// Bytes of a text that cost as much as an item of a list.
const PIECE: usize = 16;

/// Most bytes of a text that another is searched for, or that stands for it afterwards, or between pieces. Ours.
const MAX_SHORT: usize = 64;

/// What a loop goes through is paid for by this, which no expression can write.
pub(super) const LOOP: &str = "@loop";
/// And by this what a loop looks at that was not paid for when it was read.
pub(super) const LOOK: &str = "@look";
/// And by this a text of which more is made, byte by byte.
pub(super) const MAKE: &str = "@make";
/// Lets short texts through, and all that is no text.
pub(super) const SHORT: &str = "@short";

/// What is left to one evaluation. Once too much was asked for it has no answer.
#[derive(Debug)]
pub(super) struct Bounds {
    items: AtomicUsize,
    parts: AtomicUsize,
    exceeded: AtomicBool,
}

impl Default for Bounds {
    fn default() -> Self {
        let (items, parts) = (AtomicUsize::new(MAX_ITEMS), AtomicUsize::new(MAX_PARTS));
        Self { items, parts, exceeded: AtomicBool::new(false) }
    }
}

impl Bounds {
    /// What a text costs.
    pub(super) const fn of_text(text: &str) -> usize {
        text.len() / PIECE
    }

    /// Whether so much may still be read.
    pub(super) fn pays_parts(&self, parts: usize) -> bool {
        self.pays(&self.parts, parts)
    }

    fn pays(&self, left: &AtomicUsize, cost: usize) -> bool {
        let taken = |left: usize| left.checked_sub(cost);
        let paid = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok();
        if !paid {
            left.store(0, Ordering::Relaxed);
            self.exceeded.store(true, Ordering::Relaxed);
        }
        paid
    }

    /// Whether the evaluation stayed within them.
    pub(super) fn hold(&self) -> Result<(), String> {
        match self.exceeded.load(Ordering::Relaxed) {
            true => Err(too_much()),
            false => Ok(()),
        }
    }

    fn pays_for(&self, value: &dyn Val, function: &str) -> Result<(), String> {
        let text = value.downcast_ref::<CelString>().map(|text| text.inner().len());
        let left = self.parts.load(Ordering::Relaxed);
        let items = match value.as_sizer() {
            Some(sizer) => usize::try_from(*sizer.size().inner()).unwrap_or(usize::MAX),
            None => 0,
        };
        let paid = match function {
            SHORT if text.is_some_and(|length| length > MAX_SHORT) => {
                return Err(format!("what is looked for in a text has at most {MAX_SHORT} bytes"));
            }
            SHORT => true,
            MAKE => self.pays_parts(text.unwrap_or(0)),
            LOOP => self.pays(&self.items, items) && self.pays_parts(cost(value, left)),
            _ => self.pays_parts(cost(value, left)),
        };
        if paid { Ok(()) } else { Err(too_much()) }
    }
}

/// What copying or comparing a value takes; no more than just above `most`.
fn cost(value: &dyn Val, most: usize) -> usize {
    let mut parts = 0;
    let mut add = |value: &dyn Val| {
        parts += 1 + cost(value, most.saturating_sub(parts));
        parts <= most
    };
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Bounds::of_text(text.inner());
    }
    if let Some(list) = value.downcast_ref::<CelList>() {
        let _ = list.inner().iter().all(|value| add(value.as_ref()));
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let _ = map.inner().values().all(|value| add(value.as_ref()));
    }
    parts
}

fn too_much() -> String {
    format!("more than {MAX_ITEMS} items in all loops, or {MAX_PARTS} that are read")
}

type Function = Box<
    dyn for<'c, 'k> Fn(&mut FunctionContext<'c, 'k>) -> Result<CowVal<'c, 'k>, ExecutionError>
        + Send
        + Sync,
>;

/// What gives its argument back, once it is paid for as the function of this name wants it.
pub(super) fn function(bounds: Arc<Bounds>, name: &'static str) -> Function {
    Box::new(move |call| {
        let value = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        match bounds.pays_for(value.as_ref(), name) {
            Ok(()) => Ok(value),
            Err(reason) => Err(ExecutionError::function_error(name, reason)),
        }
    })
}
