//! Pure detectors, calibration, maturity and explanation.
#![forbid(unsafe_code)]
