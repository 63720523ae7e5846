//! Turns measures into leases in kernel maps, reconciles them and keeps the audit log.
#![forbid(unsafe_code)]
