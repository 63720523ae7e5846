//! A number that may be without bound, in formats that know no infinity.
//!
//! JSON writes infinity as `null` and then refuses to read it as a number. A bound that is not known yet *is* infinite, so
//! the two are the same here: `null` reads back as infinity.

use serde::{Deserialize as _, Deserializer, Serializer};

/// Writes a finite number as it is, and nothing where there is no bound.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde decides how it is called")]
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_some(value) } else { serializer.serialize_none() }
}

/// Reads a number, or its absence as infinity.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bound(#[serde(with = "super")] f64);

    #[test]
    fn what_is_without_bound_survives_json() {
        for value in [0.0, 2.5, f64::INFINITY] {
            let text = serde_json::to_string(&Bound(value)).unwrap();
            assert_eq!(serde_json::from_str::<Bound>(&text).unwrap(), Bound(value), "{text}");
        }
    }
}
