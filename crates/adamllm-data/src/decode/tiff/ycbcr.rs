//! YCbCr outside JPEG. Pillow converts uncompressed pixels by tables of its own, with 6 fractional bits; compressed
//! ones are converted by libtiff, with 16.

/// Which of the two conversions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    Pillow,
    Libtiff,
}

impl Conversion {
    pub(super) fn rgb(self, [y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        let (red, green, blue) = match self {
            Self::Pillow => {
                let scaled = |factor: f64, value: i32| (factor * 64.0 * f64::from(value) + 0.5) as i32;
                let green = scaled(-0.34414, cb) + scaled(-0.71414, cr);
                (scaled(1.402, cr) >> 6, green >> 6, scaled(1.772, cb) >> 6)
            }
            Self::Libtiff => {
                const HALF: i32 = 1 << 15;
                let red = (91881 * cr + HALF) >> 16; // 1.402
                let green = (-22553 * cb - 46802 * cr + HALF) >> 16; // 0.34413, 0.71414
                (red, green, (116_130 * cb + HALF) >> 16) // 1.772
            }
        };
        [y + red, y + green, y + blue].map(|value| value.clamp(0, 255) as u8)
    }
}
