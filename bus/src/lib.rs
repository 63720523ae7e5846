//! Topics, envelope and wire format, and the embedded log behind one contract.
#![forbid(unsafe_code)]
