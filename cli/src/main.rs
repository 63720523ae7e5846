//! The one binary, `bulkhead`.
#![forbid(unsafe_code)]
fn main() {}
