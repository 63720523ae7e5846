//! End-to-end tests on real containers, network namespaces and kernels.
#![forbid(unsafe_code)]
