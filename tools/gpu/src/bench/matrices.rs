//! How fast the device multiplies large matrices through burn: what the model's operations are set beside.

use std::time::Instant;

use adamllm::burn::tensor::{Distribution, Tensor};
use adamllm::prelude::*;
use serde_json::{Value, json};

use super::Bench;
use crate::Answer;

/// Products in a timed run.
const PRODUCTS: usize = 10;

/// Operations per second of a product of square matrices.
pub(super) fn rate(bench: &Bench, dtype: DType) -> Answer<Value> {
    let n = bench.arguments.matrix;
    let random = |scale: f64| Tensor::<2>::random([n, n], Distribution::Normal(0.0, scale), &bench.device).cast(dtype);
    // Each product has values of the size of the last.
    let (a, mut c) = (random((n as f64).powf(-0.5)), random(1.0));
    let mut seconds = Vec::new();
    for run in 0..4 {
        let started = Instant::now();
        // The first run compiles and chooses kernels.
        for _ in 0..if run == 0 { 1 } else { PRODUCTS } {
            c = a.clone().matmul(c);
        }
        bench.device.sync()?;
        // Nothing is left undone where a device computes what is read only.
        let corner: f32 = c.clone().slice([0..1, 0..1]).cast(DType::F32).into_scalar();
        if !corner.is_finite() {
            return Err(format!("a product of finite matrices has {corner}").into());
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    let first = seconds.remove(0);
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min) / PRODUCTS as f64;
    let flops = 2.0 * (n as f64).powi(3) / best;
    Ok(json!({"rows": n, "first_s": first, "product_s": best, "flops_per_s": flops, "tflops": flops / 1e12}))
}
