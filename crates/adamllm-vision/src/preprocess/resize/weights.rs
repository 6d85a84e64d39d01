use super::Resampling;

/// Fractional bits of a weight: 32 less 8 for the value and 2 for sums of weights outside 0 to 1.
pub(super) const PRECISION_BITS: u32 = 22;

/// For every output position of one axis: where its inputs begin, and their weights.
pub(super) struct FilterWeights {
    starts: Vec<u32>,
    ends: Vec<u32>,
    taps: Vec<i32>,
}

impl FilterWeights {
    /// Samples the filter at the inputs' centres, stretched by the reduction, and normalises it to a sum of one.
    pub(super) fn new(n_inputs: u32, n_outputs: u32, resampling: Resampling) -> Self {
        let scale = f64::from(n_inputs) / f64::from(n_outputs);
        let stretch = scale.max(1.0);

        let (filter, support): (fn(f64) -> f64, f64) = match resampling {
            Resampling::Bilinear => (triangle, 1.0),
            Resampling::Bicubic => (cubic, 2.0),
            Resampling::Lanczos => (lanczos, 3.0),
        };

        let reach = support * stretch;
        let mut weights = Self { starts: Vec::new(), ends: Vec::new(), taps: Vec::new() };

        // Pillow's `precompute_coeffs`, operation by operation: in another order, some weights would round otherwise.
        for output in 0..n_outputs {
            let center = (f64::from(output) + 0.5) * scale;
            let start = (center - reach + 0.5).max(0.0) as u32; // `as` truncates
            let end = ((center + reach + 0.5) as u32).min(n_inputs);

            let inverse = 1.0 / stretch;
            let taps = (0..end - start).map(|i| filter((f64::from(i) + f64::from(start) - center + 0.5) * inverse));
            let taps: Vec<_> = taps.collect();

            let sum = taps.iter().fold(0.0, |sum, tap| sum + tap);
            weights.taps.extend(taps.iter().map(|tap| fixed_point(if sum == 0.0 { *tap } else { tap / sum })));
            weights.starts.push(start);
            weights.ends.push(weights.taps.len() as u32);
        }

        weights
    }

    pub(super) fn n_outputs(&self) -> usize {
        self.starts.len()
    }

    /// First input and weights of every output, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let begins = std::iter::once(&0).chain(&self.ends);
        let spans = begins.zip(&self.ends).map(|(&begin, &end)| &self.taps[begin as usize..end as usize]);
        self.starts.iter().map(|&start| start as usize).zip(spans)
    }
}

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys 1981, "Cubic convolution interpolation for digital image processing", with a = -1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Lanczos' kernel with three lobes (Duchon 1979, "Lanczos filtering in one and two dimensions"): `sinc(x) sinc(x / 3)`.
fn lanczos(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    let angle = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { angle.sin() / angle }
}
