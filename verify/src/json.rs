//! JSON of strangers, which all readers must read alike.

mod objects;
mod unique;

pub use objects::{from_slice, from_str, values};
pub(crate) use unique::Distinct;
pub use unique::Unique;
