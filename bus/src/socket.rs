//! The bus over a local socket: the controller owns the log and serves it, the agent speaks the same contract.
//!
//! Frames are a length and a message. Who may do what follows from the peer's credentials, which the kernel vouches for:
//! see [`Role`]. Waiting is by subscription, so that a reader that stops waiting leaves nothing behind, and a committed
//! measure reaches the agent as fast as the socket carries it.

mod client;
mod message;
mod role;
mod server;

pub use client::Client;
pub use role::{Access, Role};
pub use server::{BindError, bind, serve};
