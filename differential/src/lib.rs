//! Nothing: what stands here is in `tests/`.
