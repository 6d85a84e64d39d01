//! What this machine can do at the most: products, reading, fresh pages. The figures of other measurements mean something beside these.
//!
//!     cargo bench --bench limits [-- --json]
//!
//! - `f32` and `bf16`: multiplications and additions in registers, on one core and on all (`vdpbf16ps` where there is AVX512-BF16).
//! - `read`: a sum over an array far larger than the caches, on all cores: what a decoder that reads all of its weights for each token
//!   is bound by.
//! - `fresh`: the first write to memory that the system has just given: it clears a page at a time.
//!
//! The best of several rounds each: other work only makes them worse.
#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

/// Values of the array that is read, 1 GiB.
const N_READ: usize = 1 << 28;
/// Bytes of fresh memory.
const N_FRESH: usize = 1 << 29;
const ROUNDS: usize = 5;
/// Independent sums, so that no addition waits for the one before.
const SUMS: usize = 12;
const LANES: usize = 16;
/// Multiplications and additions of each lane of each sum.
const TIMES: usize = 4_000_000;

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rate = |threads: usize, of: fn() -> f64| best(|| on_each(threads, of));
    let bf16 = bf16_products().map(|of| [rate(1, of), rate(threads, of)]);
    let f32 = [rate(1, f32_products), rate(threads, f32_products)];
    let read = read_rate(threads);
    let fresh = best(|| on_each(threads, fresh_pages));

    if std::env::args().any(|argument| argument == "--json") {
        let limits = serde_json::json!({
            "threads": threads, "f32_gflops": f32, "bf16_gflops": bf16, "read_gb_s": read, "fresh_gb_s": fresh,
        });
        println!("{limits}");
        return;
    }
    println!("| limit of this machine ({threads} threads) | one core | all cores |");
    println!("|---|--:|--:|");
    println!("| f32, GFLOP/s | {:.0} | {:.0} |", f32[0], f32[1]);
    match bf16 {
        Some([one, all]) => println!("| bf16 products added up in f32, GFLOP/s | {one:.0} | {all:.0} |"),
        None => println!("| bf16 products | none | none |"),
    }
    println!("| reading memory, GB/s | | {read:.1} |");
    println!("| first writes to fresh memory, GB/s | | {fresh:.1} |");
}

fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| measure()).fold(0.0, f64::max)
}

/// The rates of `threads` threads that do the same at once, added up.
fn on_each(threads: usize, of: fn() -> f64) -> f64 {
    std::thread::scope(|scope| {
        let each: Vec<_> = (0..threads).map(|_| scope.spawn(of)).collect();
        each.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

/// GFLOP/s of `TIMES` passes over `SUMS` registers with so many operations in each.
fn timed(operations: usize, products: impl FnOnce() -> f32) -> f64 {
    let started = Instant::now();
    black_box(products());
    (operations * TIMES * SUMS) as f64 / started.elapsed().as_secs_f64() / 1e9
}

/// GFLOP/s of f32 on this core, in the widest registers that it has.
fn f32_products() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: asked for just now.
            return timed(32, || unsafe { x86::f32_avx512() });
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return timed(16, || unsafe { x86::f32_avx2() });
        }
    }
    timed(2 * LANES, || {
        let (mut sums, by) = ([[1.0f32; LANES]; SUMS], black_box([0.5; LANES]));
        for _ in 0..TIMES {
            sums.iter_mut().for_each(|sum| sum.iter_mut().zip(&by).for_each(|(sum, by)| *sum = *sum * by + by));
        }
        sums.iter().flatten().sum()
    })
}

/// The same of bf16, where the processor multiplies them.
fn bf16_products() -> Option<fn() -> f64> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
        // SAFETY: asked for just now.
        return Some(|| timed(64, || unsafe { x86::bf16_avx512() }));
    }
    None
}

/// Numbers that stay where they are: finite, and not tiny.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512bh, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps,
        _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
    };
    use std::hint::black_box;

    use super::{SUMS, TIMES};

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_avx512() -> f32 {
        let by = _mm512_set1_ps(black_box(0.5));
        let mut sums = [_mm512_set1_ps(1.0); SUMS];
        for _ in 0..TIMES {
            sums.iter_mut().for_each(|sum| *sum = _mm512_fmadd_ps(*sum, by, by));
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_avx2() -> f32 {
        let by = _mm256_set1_ps(black_box(0.5));
        let mut sums = [_mm256_set1_ps(1.0); SUMS];
        for _ in 0..TIMES {
            sums.iter_mut().for_each(|sum| *sum = _mm256_fmadd_ps(*sum, by, by));
        }
        let mut lanes = [[0.0; 8]; SUMS];
        for (lanes, sum) in lanes.iter_mut().zip(sums) {
            // SAFETY: room for eight values.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
        }
        lanes.iter().flatten().sum()
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_avx512() -> f32 {
        let half = _mm512_set1_ps(black_box(0.5));
        let by: __m512bh = _mm512_cvtne2ps_pbh(half, half);
        let mut sums = [_mm512_set1_ps(1.0); SUMS];
        for _ in 0..TIMES {
            sums.iter_mut().for_each(|sum| *sum = _mm512_dpbf16_ps(*sum, by, by));
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }
}

/// GB/s of a sum over 1 GiB.
fn read_rate(threads: usize) -> f64 {
    fn sum(values: &[f32]) -> f32 {
        let mut sums = [0.0; 4 * LANES];
        for values in values.chunks_exact(4 * LANES) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        sums.iter().sum()
    }
    let values = vec![1.0f32; N_READ];
    best(|| {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for part in values.chunks(N_READ.div_ceil(threads)) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        (4 * N_READ) as f64 / started.elapsed().as_secs_f64() / 1e9
    })
}

/// GB/s of a byte written to each page of memory that was just asked for.
fn fresh_pages() -> f64 {
    const PAGE: usize = 4096;
    let started = Instant::now();
    let mut memory: Vec<u8> = Vec::with_capacity(N_FRESH);
    for page in memory.spare_capacity_mut().chunks_mut(PAGE) {
        page[0].write(1);
    }
    black_box(memory.as_ptr());
    let rate = N_FRESH as f64 / started.elapsed().as_secs_f64() / 1e9;
    drop(memory);
    rate
}
