//! Numbers as a person reads them in an explanation.

/// A value with its unit: bytes in binary multiples, others with as many digits as they deserve.
pub fn quantity(value: f64, unit: &str) -> String {
    let number = |v: f64| {
        if v >= 100.0 || (v - v.round()).abs() < 1e-9 {
            format!("{v:.0}")
        } else {
            format!("{v:.1}")
        }
    };
    if unit == "bytes" {
        let mut v = value;
        for prefix in ["", "Ki", "Mi", "Gi"] {
            if v < 1024.0 || prefix == "Gi" {
                return if prefix.is_empty() {
                    format!("{} bytes", number(v))
                } else {
                    format!("{v:.1} {prefix}B")
                };
            }
            v /= 1024.0;
        }
    }
    format!("{} {unit}", number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_well_at_every_size() {
        for (value, unit, expect) in [
            (12.0, "bytes", "12 bytes"),
            (50.0 * 1024.0 * 1024.0, "bytes", "50.0 MiB"),
            (3.25, "bits per character", "3.2 bits per character"),
            (1234.4, "calls", "1234 calls"),
        ] {
            assert_eq!(quantity(value, unit), expect);
        }
    }
}
