//! The engine against a simulated shop: what must raise nothing, what must be found and how it is explained, and what a
//! log must always give again.

mod attacks;
mod benign;
mod log;
mod shop;
