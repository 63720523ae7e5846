//! The learner and scorer: a sans-I/O engine and the loop that drives it.
#![forbid(unsafe_code)]
