/// Why an image or a processor's config file cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// The image has no pixels.
    #[error("image of {width}x{height}: expected at least one pixel")]
    NoPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The image is too long for its breadth.
    #[error("image of {width}x{height}: expected an aspect ratio of at most {limit}, got {}", ratio(*width, *height))]
    AspectRatio {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The largest ratio of the longer to the shorter side.
        limit: f64,
    },
    /// Resizing from or to such a size is impossible.
    #[error("cannot resize {from:?} to {to:?}: {detail}")]
    Resize {
        /// Width and height before.
        from: (u32, u32),
        /// Width and height after.
        to: (u32, u32),
        /// What the resizer said.
        detail: String,
    },
    /// A processor's config file says something that cannot be followed.
    #[error("image processor config: field `{field}`: expected {expected}, got {got}")]
    Config {
        /// The field's name in the file.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
}

fn ratio(width: u32, height: u32) -> f64 {
    f64::from(width.max(height)) / f64::from(width.min(height))
}
