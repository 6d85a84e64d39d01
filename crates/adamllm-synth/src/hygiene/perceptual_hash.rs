use std::collections::HashMap;
use std::f64::consts::PI;

use adamllm_core::RgbImage;

/// A 64-bit perceptual hash: small changes of size, brightness or compression flip few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PerceptualHash(pub u64);

impl PerceptualHash {
    /// The number of bits that differ, 0 to 64.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

const SIDE: usize = 32;
const LOW: usize = 8;

/// The hash of an image: which of its 63 lowest spatial frequencies (a discrete cosine transform of the 32 x 32 grey
/// image, without the mean, whose bit stays 0) lie above their median (Zauner, "Implementation and benchmarking of perceptual image hash
/// functions", 2010). `None` for an image of one colour, which has no structure to compare.
pub fn perceptual_hash(image: &RgbImage) -> Option<PerceptualHash> {
    let grey = small_grey(image)?;
    let frequencies = low_frequencies(&grey);
    let strongest = frequencies[1..].iter().fold(0.0, |strongest: f64, f| strongest.max(f.abs()));
    if strongest < 1.0 {
        return None;
    }
    let mut sorted = frequencies;
    sorted[1..].sort_by(f64::total_cmp);
    let median = sorted[32];
    let bits = frequencies.iter().enumerate().filter(|(_, f)| **f > median);
    Some(PerceptualHash(bits.fold(0, |hash, (bit, _)| hash | 1 << bit)))
}

/// 32 x 32 grey values, each the mean over its part of the image. Images smaller than that repeat pixels.
fn small_grey(image: &RgbImage) -> Option<[[f64; SIDE]; SIDE]> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return None;
    }

    // At least one pixel, which smaller images repeat.
    let part = |i: usize, length: usize| {
        let start = i * length / SIDE;
        start..((i + 1) * length / SIDE).max(start + 1)
    };

    let raw = image.as_raw();
    let mut small = [[0.0; SIDE]; SIDE];
    for (y, row) in small.iter_mut().enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            let (columns, rows) = (part(x, width), part(y, height));
            let n_pixels = (columns.len() * rows.len()) as f64;
            let line = |y: usize| &raw[(y * width + columns.start) * 3..(y * width + columns.end) * 3];
            let sum: f64 = rows.map(|y| line(y).chunks_exact(3).map(luma).sum::<f64>()).sum();
            *value = sum / n_pixels;
        }
    }
    Some(small)
}

/// ITU-R BT.601.
fn luma(pixel: &[u8]) -> f64 {
    0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])
}

/// The coefficients 0 to 7 of both axes of a two-dimensional DCT-II, row by row, the mean as minus infinity.
fn low_frequencies(grey: &[[f64; SIDE]; SIDE]) -> [f64; LOW * LOW] {
    let wave = |k: usize, x: usize| (PI * k as f64 * (2 * x + 1) as f64 / (2 * SIDE) as f64).cos();
    let waves: [[f64; SIDE]; LOW] = std::array::from_fn(|k| std::array::from_fn(|x| wave(k, x)));
    let of_rows: [[f64; LOW]; SIDE] =
        std::array::from_fn(|y| std::array::from_fn(|k| (0..SIDE).map(|x| grey[y][x] * waves[k][x]).sum()));
    let norm = 2.0 / SIDE as f64;
    std::array::from_fn(|i| {
        let (v, u) = (i / LOW, i % LOW);
        if i == 0 {
            return f64::NEG_INFINITY;
        }
        (0..SIDE).map(|y| of_rows[y][u] * waves[v][y]).sum::<f64>() * norm
    })
}

/// Images so far, to be found again by nearly the same hash.
#[derive(Clone, Debug)]
pub struct ImageIndex<T> {
    max_distance: u32,
    parts: HashMap<(u32, u64), Vec<u32>>,
    kept: Vec<(PerceptualHash, T)>,
}

impl<T> ImageIndex<T> {
    /// An empty index. Hashes of at most `max_distance` different bits (up to 15) count as the same image.
    pub fn new(max_distance: u32) -> Self {
        Self { max_distance: max_distance.min(15), parts: HashMap::new(), kept: Vec::new() }
    }

    /// The nearest image within the distance, with its distance; the earliest of equally near ones.
    pub fn find(&self, hash: PerceptualHash) -> Option<(&T, u32)> {
        let candidates = self.part_keys(hash).filter_map(|key| self.parts.get(&key)).flatten();
        let near = candidates.map(|&position| (self.kept[position as usize].0.distance(hash), position));
        let (distance, position) = near.filter(|(distance, _)| *distance <= self.max_distance).min()?;
        Some((&self.kept[position as usize].1, distance))
    }

    /// Adds an image.
    pub fn insert(&mut self, hash: PerceptualHash, name: T) {
        let position = self.kept.len() as u32;
        let keys: Vec<_> = self.part_keys(hash).collect();
        for key in keys {
            self.parts.entry(key).or_default().push(position);
        }
        self.kept.push((hash, name));
    }

    /// The hash cut into one part more than bits may differ: two near hashes agree in at least one part.
    fn part_keys(&self, hash: PerceptualHash) -> impl Iterator<Item = (u32, u64)> + use<T> {
        let n_parts = self.max_distance + 1;
        (0..n_parts).map(move |part| {
            let (start, end) = (part * 64 / n_parts, (part + 1) * 64 / n_parts);
            let mask = if end - start == 64 { u64::MAX } else { (1 << (end - start)) - 1 };
            (part, hash.0 >> start & mask)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Discs of several greys at positions that `seed` chooses.
    fn discs(width: u32, height: u32, seed: u32, brightness: f64) -> RgbImage {
        let mut raw = Vec::new();
        let centre = |i: u32, factor: u32| f64::from((seed + 1) * (i + 3) * factor % 17) / 17.0;
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
                let covers = |i: &u32| (u - centre(*i, 5)).hypot(v - centre(*i, 7)) < 0.08 + 0.04 * f64::from(*i);
                let grey = (0..5).rev().find(covers).map_or(230.0, |i| 40.0 * f64::from(i));
                raw.extend([(grey * brightness) as u8, (grey * brightness) as u8, 90]);
            }
        }
        RgbImage::from_raw(width, height, raw).expect("three bytes a pixel")
    }

    #[test]
    fn a_scaled_and_darker_image_keeps_its_hash() {
        let mut index = ImageIndex::new(6);
        for seed in 0..10 {
            index.insert(perceptual_hash(&discs(200, 150, seed, 1.0)).expect("structure"), seed);
        }
        for seed in 0..10 {
            let changed = perceptual_hash(&discs(130, 97, seed, 0.8)).expect("structure");
            assert_eq!(index.find(changed).map(|(found, _)| *found), Some(seed));
        }
        assert_eq!(index.find(perceptual_hash(&discs(200, 150, 12, 1.0)).expect("structure")), None);
    }

    #[test]
    fn a_flat_image_has_no_hash() {
        let flat = RgbImage::from_raw(40, 40, vec![90; 40 * 40 * 3]).expect("three bytes a pixel");
        assert_eq!(perceptual_hash(&flat), None);
    }

    #[test]
    fn every_near_hash_is_found() {
        for max_distance in [0, 3, 7] {
            let mut index = ImageIndex::new(max_distance);
            let hash = PerceptualHash(0x0123_4567_89ab_cdef);
            index.insert(hash, ());
            let flipped = |n: u32| PerceptualHash((0..n).fold(hash.0, |h, i| h ^ 1 << (i * 63 / n.max(1))));
            assert!((0..=max_distance).all(|n| index.find(flipped(n)) == Some((&(), n))));
            assert_eq!(index.find(flipped(max_distance + 1)), None);
        }
    }
    /// The same transform in twenty lines of Python, of an image larger than 32 x 32 whose parts are uneven, and of a smaller one.
    #[test]
    fn the_bits_are_those_of_the_transform() {
        let pattern = |x: u32, y: u32| image::Rgb([x * x + 3 * y, y * y + 5 * x, x * y * 7].map(|v| (v % 256) as u8));
        let hash = |width, height| perceptual_hash(&RgbImage::from_fn(width, height, pattern)).map(|hash| hash.0);
        assert_eq!(hash(75, 50), Some(0xfad8_d8da_d8d2_9050));
        assert_eq!(hash(20, 12), Some(0x9a12_26c6_2e5f_fc48));
        assert_eq!([hash(0, 5), hash(5, 0)], [None, None]);
    }
}
