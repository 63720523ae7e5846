//! The API of the service on its socket.
#![forbid(unsafe_code)]
