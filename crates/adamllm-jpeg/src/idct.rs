//! The inverse cosine transform: Loeffler, Ligtenberg and Moschytz 1989 with 12 multiplications, in 13-bit fixed point with 2
//! more bits between the passes, rounded where libjpeg's accurate integer transform ("islow") rounds.

/// Transforms one row of blocks into 8 rows of samples.
pub(super) type Transform = fn(&[[i16; 64]], &[i32; 64], &mut [u8], usize);

/// Eight numbers that are transformed side by side.
type Lane = [i32; 8];

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Blocks in natural order times their quantisation table, to samples; `stride` bytes from a row to the next.
pub(super) fn transform_row(blocks: &[[i16; 64]], quantisation: &[i32; 64], samples: &mut [u8], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the function asks for nothing but AVX2, which was just found.
        return unsafe { transform_row_avx2(blocks, quantisation, samples, stride) };
    }
    transform_each(blocks, quantisation, samples, stride);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transform_row_avx2(blocks: &[[i16; 64]], quantisation: &[i32; 64], samples: &mut [u8], stride: usize) {
    transform_each(blocks, quantisation, samples, stride);
}

#[inline(always)]
fn transform_each(blocks: &[[i16; 64]], quantisation: &[i32; 64], samples: &mut [u8], stride: usize) {
    for (i, block) in blocks.iter().enumerate() {
        let corner = &mut samples[i * 8..];

        // Without AC values the passes only scale and round the mean: the same result at once.
        if block[1..].iter().all(|&coefficient| coefficient == 0) {
            let flat = sample((i32::from(block[0]) * quantisation[0]) << PASS1_BITS, PASS1_BITS + 3);
            for row in 0..8 {
                corner[row * stride..][..8].fill(flat);
            }
            continue;
        }

        let rows: [Lane; 8] = std::array::from_fn(|y| {
            std::array::from_fn(|x| i32::from(block[y * 8 + x]).wrapping_mul(quantisation[y * 8 + x]))
        });

        // A pass transforms eight columns side by side; for the rows the block is transposed.
        let columns_done = pass(rows, CONST_BITS - PASS1_BITS);
        let rows_done = transposed(pass(transposed(columns_done), CONST_BITS + PASS1_BITS + 3));

        for (y, row) in rows_done.iter().enumerate() {
            let bytes: [u8; 8] = std::array::from_fn(|x| (row[x] + 128).clamp(0, 255) as u8);
            corner[y * stride..][..8].copy_from_slice(&bytes);
        }
    }
}

#[inline(always)]
fn sample(value: i32, shift: u32) -> u8 {
    (((value + (1 << (shift - 1))) >> shift) + 128).clamp(0, 255) as u8
}

#[inline(always)]
fn transposed(rows: [Lane; 8]) -> [Lane; 8] {
    std::array::from_fn(|x| std::array::from_fn(|y| rows[y][x]))
}

#[inline(always)]
fn lanes(operation: impl Fn(usize) -> i32) -> Lane {
    std::array::from_fn(operation)
}

#[inline(always)]
fn plus(a: Lane, b: Lane) -> Lane {
    lanes(|i| a[i].wrapping_add(b[i]))
}

#[inline(always)]
fn minus(a: Lane, b: Lane) -> Lane {
    lanes(|i| a[i].wrapping_sub(b[i]))
}

#[inline(always)]
fn times(a: Lane, factor: i32) -> Lane {
    lanes(|i| a[i].wrapping_mul(factor))
}

/// One pass over eight numbers, for eight of them at once. Factors are the named cosines times 2^13.
#[inline(always)]
fn pass(input: [Lane; 8], shift: u32) -> [Lane; 8] {
    let [i0, i1, i2, i3, i4, i5, i6, i7] = input;
    // Even part: a rotation by 6 pi / 16.
    let turned = times(plus(i2, i6), 4433); // sqrt(2) c6
    let even2 = plus(turned, times(i6, -15137)); // sqrt(2) (-c2 - c6)
    let even3 = plus(turned, times(i2, 6270)); // sqrt(2) (c2 - c6)
    let even0 = times(plus(i0, i4), 1 << CONST_BITS);
    let even1 = times(minus(i0, i4), 1 << CONST_BITS);
    let (e0, e3) = (plus(even0, even3), minus(even0, even3));
    let (e1, e2) = (plus(even1, even2), minus(even1, even2));
    // Odd part.
    let (s71, s53, s73, s51) = (plus(i7, i1), plus(i5, i3), plus(i7, i3), plus(i5, i1));
    let all = times(plus(s73, s51), 9633); // sqrt(2) c3
    let s73 = plus(times(s73, -16069), all); // sqrt(2) (-c3 - c5)
    let s51 = plus(times(s51, -3196), all); // sqrt(2) (c5 - c3)
    let s71 = times(s71, -7373); // sqrt(2) (c7 - c3)
    let s53 = times(s53, -20995); // sqrt(2) (-c1 - c3)
    let o0 = plus(times(i7, 2446), plus(s71, s73)); // sqrt(2) (-c1 + c3 + c5 - c7)
    let o1 = plus(times(i5, 16819), plus(s53, s51)); // sqrt(2) (c1 + c3 - c5 + c7)
    let o2 = plus(times(i3, 25172), plus(s53, s73)); // sqrt(2) (c1 + c3 + c5 - c7)
    let o3 = plus(times(i1, 12299), plus(s71, s51)); // sqrt(2) (c1 + c3 - c5 - c7)
    let rounded = |a: Lane| lanes(|i| a[i].wrapping_add(1 << (shift - 1)) >> shift);
    [
        rounded(plus(e0, o3)),
        rounded(plus(e1, o2)),
        rounded(plus(e2, o1)),
        rounded(plus(e3, o0)),
        rounded(minus(e3, o0)),
        rounded(minus(e2, o1)),
        rounded(minus(e1, o2)),
        rounded(minus(e0, o3)),
    ]
}
