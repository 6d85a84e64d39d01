use crate::preprocess::PreprocessError;

/// Images longer than this for their breadth are refused (Qwen2-VL's image processor).
pub const MAX_ASPECT_RATIO: f64 = 200.0;

/// The height and width to which the Qwen2-VL families scale an image: both multiples of `factor`, the area between
/// `min_pixels` and `max_pixels`, the aspect ratio nearly kept. Returns `(height, width)`.
///
/// `factor` is the patch size times the merge size (28). Halves are rounded to even, as Python's `round` does.
///
/// # Errors
/// [`PreprocessError::NoPixels`] and [`PreprocessError::AspectRatio`].
pub fn smart_resize(
    height: u32,
    width: u32,
    factor: u32,
    min_pixels: u64,
    max_pixels: u64,
) -> Result<(u32, u32), PreprocessError> {
    if height == 0 || width == 0 {
        return Err(PreprocessError::NoPixels { width, height });
    }

    let (h, w, step) = (f64::from(height), f64::from(width), f64::from(factor));
    if h.max(w) / h.min(w) > MAX_ASPECT_RATIO {
        return Err(PreprocessError::AspectRatio { width, height, limit: MAX_ASPECT_RATIO });
    }

    let to_step = |side: f64| (side / step).round_ties_even() * step;
    let (rows, columns) = (to_step(h), to_step(w));

    // Scaled by the image's own area, not by that of the rounded sides, as in transformers.
    let area = h * w;
    let (rows, columns) = if rows * columns > max_pixels as f64 {
        let shrink = (area / max_pixels as f64).sqrt();
        let down = |side: f64| ((side / shrink / step).floor() * step).max(step);
        (down(h), down(w))
    } else if rows * columns < min_pixels as f64 {
        let grow = (min_pixels as f64 / area).sqrt();
        let up = |side: f64| (side * grow / step).ceil() * step;
        (up(h), up(w))
    } else {
        (rows, columns)
    };

    Ok((rows as u32, columns as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Placeholder tokens of an image with the published config (`max_pixels` 12845056): a token is 28 x 28 pixels.
    fn n_tokens(width: u32, height: u32) -> u32 {
        let (h, w) = smart_resize(height, width, 28, 56 * 56, 12_845_056).expect("in range");
        h * w / (28 * 28)
    }

    #[test]
    fn known_token_counts() {
        assert_eq!(n_tokens(410, 273), 150);
        assert_eq!(n_tokens(512, 512), 324);
        assert_eq!(n_tokens(1024, 768), 999);
        assert_eq!(n_tokens(70, 70), 4);
        assert_eq!(n_tokens(4000, 3000), 15301);
    }

    #[test]
    fn halves_go_to_even() {
        assert_eq!(smart_resize(70, 98, 28, 1, 1 << 40), Ok((56, 112)));
    }

    #[test]
    fn impossible_images_are_named() {
        assert!(matches!(smart_resize(1, 201, 28, 1, 1), Err(PreprocessError::AspectRatio { width: 201, .. })));
        assert!(smart_resize(1, 200, 28, 3136, 12_845_056).is_ok());
        assert_eq!(smart_resize(0, 5, 28, 1, 1), Err(PreprocessError::NoPixels { width: 5, height: 0 }));
    }
}
