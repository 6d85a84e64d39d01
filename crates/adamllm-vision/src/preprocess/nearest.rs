use image::RgbImage;

use super::PreprocessError;

/// Scales an image as Pillow's `Image.resize` with `NEAREST` does: each pixel is that under its centre. The indices are
/// summed up step by step, as Pillow does, so that they are equal also where rounding decides.
///
/// # Errors
/// [`PreprocessError::Resize`] for a side of zero.
pub fn resize_nearest(image: &RgbImage, (width, height): (u32, u32)) -> Result<RgbImage, PreprocessError> {
    let (from, to) = (image.dimensions(), (width, height));
    if [from.0, from.1, width, height].contains(&0) {
        return Err(PreprocessError::Resize { from, to, detail: "a side is zero".into() });
    }
    let (columns, rows) = (indices(from.0, width), indices(from.1, height));
    Ok(RgbImage::from_fn(width, height, |x, y| *image.get_pixel(columns[x as usize], rows[y as usize])))
}

fn indices(from: u32, to: u32) -> Vec<u32> {
    let step = f64::from(from) / f64::from(to);
    let mut centre = step * 0.5;
    let next = |_| {
        let index = (centre as u32).min(from - 1);
        centre += step;
        index
    };
    (0..to).map(next).collect()
}
