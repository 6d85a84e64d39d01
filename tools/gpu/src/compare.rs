//! How far two results lie apart. NaN is never close to anything.

use std::collections::BTreeMap;

use adamllm::burn::tensor::TensorData;

/// The largest of some errors; NaN where one is NaN.
pub(crate) fn worst(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().fold(0.0, |most, error| if error.is_nan() || most.is_nan() { f64::NAN } else { most.max(error) })
}

/// The largest magnitude; NaN where a value is NaN.
pub(crate) fn largest(values: &[f32]) -> f64 {
    worst(values.iter().map(|&v| f64::from(v).abs()))
}

/// The largest difference of two lists; infinite where their lengths differ.
pub(crate) fn apart(got: &[f32], expected: &[f32]) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    worst(got.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()))
}

/// The largest difference, relative to the largest expected value.
pub(crate) fn relative(got: &[f32], expected: &[f32]) -> f64 {
    apart(got, expected) / largest(expected).max(f64::MIN_POSITIVE)
}

/// The difference of two numbers, relative to the expected one.
pub(crate) fn relative_number(got: f64, expected: f64) -> f64 {
    (got - expected).abs() / expected.abs().max(f64::MIN_POSITIVE)
}

/// Tensors by name, on the host, in f32.
pub(crate) type Named = BTreeMap<String, Vec<f32>>;

/// Values of tensors by name, whatever their dtype.
pub(crate) fn in_f32(tensors: BTreeMap<String, TensorData>) -> Named {
    tensors.into_iter().map(|(name, data)| (name, data.iter::<f32>().collect())).collect()
}

/// The worst of a set of tensors, and its name.
#[derive(Debug)]
pub(crate) struct Worst {
    pub(crate) error: f64,
    pub(crate) name: String,
}

/// Each tensor's largest difference, relative to the tensor's largest expected value. Gradients that are zero by mathematics
/// hold rounding noise of the others' size: a thousandth of the largest value of all tensors is added to each tensor's own.
pub(crate) fn sets(got: &Named, expected: &Named) -> Worst {
    let mut found = Worst { error: 0.0, name: String::new() };
    let other = got.keys().find(|name| !expected.contains_key(*name));
    if let Some(name) = other.or_else(|| expected.keys().find(|name| !got.contains_key(*name))) {
        return Worst { error: f64::INFINITY, name: format!("{name} is in one of the two alone") };
    }
    let overall = worst(expected.values().map(|values| largest(values)));
    for (name, expected) in expected {
        let error = apart(&got[name], expected) / (largest(expected) + 1e-3 * overall);
        if error.is_nan() || error > found.error {
            found = Worst { error, name: name.clone() };
        }
        if error.is_nan() {
            break;
        }
    }
    found
}

/// The length of the difference of two sets as one vector, relative to the expected one's.
pub(crate) fn distance(got: &Named, expected: &Named) -> f64 {
    if got.keys().ne(expected.keys()) {
        return f64::INFINITY;
    }
    let square = |v: f64| v * v;
    let (mut difference, mut length) = (0.0, 0.0);
    for (name, expected) in expected {
        if got[name].len() != expected.len() {
            return f64::INFINITY;
        }
        for (&a, &b) in got[name].iter().zip(expected) {
            difference += square(f64::from(a) - f64::from(b));
            length += square(f64::from(b));
        }
    }
    (difference / f64::max(length, f64::MIN_POSITIVE)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_far_from_everything() {
        for (got, expected) in [([f32::NAN, 0.0], [0.0, 0.0]), ([1.0, 2.0], [1.0, f32::NAN])] {
            assert!(relative(&got, &expected).is_nan());
            let set = |values: [f32; 2]| Named::from([("a".to_owned(), values.to_vec())]);
            assert!(sets(&set(got), &set(expected)).error.is_nan());
            assert!(distance(&set(got), &set(expected)).is_nan());
        }
        assert!(apart(&[1.0], &[1.0, 2.0]).is_infinite());
        assert_eq!(relative(&[1.0, 4.0], &[2.0, 4.0]), 0.25);
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let set = |name: &str| Named::from([(name.to_owned(), vec![1.0])]);
        let found = sets(&set("a"), &set("b"));
        assert!(found.error.is_infinite() && found.name.starts_with("a "), "{found:?}");
        assert!(distance(&set("a"), &set("b")).is_infinite());
    }
}
