//! Positions of Qwen2-VL (arXiv 2409.12191, section 2.1): time, height and width for image features, one number for text.

use adamllm_nn::ImageLayout;

/// The three positions of every token, and the position of the next one. Each run of `image_token` in `tokens` belongs to the
/// next image's grid of features.
///
/// # Panics
/// If the runs of placeholders and the grids do not match; the processor wrote both from the same layout.
pub(crate) fn multimodal_positions(tokens: &[u32], image_token: u32, images: &[&ImageLayout]) -> (Vec<[i32; 3]>, i32) {
    let mut positions = Vec::with_capacity(tokens.len());
    let mut images = images.iter();
    let mut next = 0;
    let mut index = 0;
    while index < tokens.len() {
        if tokens[index] != image_token {
            positions.push([next; 3]);
            next += 1;
            index += 1;
            continue;
        }
        let image = images.next().expect("an image for each run of placeholders");
        // Features without a grid, of another encoder, stand in a line as words do.
        let Some([frames, height, width]) = image.feature_grid else {
            let n = image.n_placeholders as i32;
            positions.extend((next..next + n).map(|p| [p; 3]));
            (next, index) = (next + n, index + image.n_placeholders);
            continue;
        };
        for frame in 0..frames as i32 {
            for row in 0..height as i32 {
                positions.extend((0..width as i32).map(|column| [next + frame, next + row, next + column]));
            }
        }
        index += frames * height * width;
        next += frames.max(height).max(width) as i32;
    }
    assert_eq!(positions.len(), tokens.len(), "placeholders and grids do not match");
    (positions, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of transformers' `get_rope_index` documentation, for one image of 2 x 2 features: text after an
    /// image goes on from its largest position.
    #[test]
    fn text_goes_on_after_the_largest_position() {
        let image = ImageLayout { feature_grid: Some([1, 2, 2]), ..ImageLayout::embedded(4, vec![]) };
        let (positions, next) = multimodal_positions(&[7, 9, 9, 9, 9, 7, 7], 9, &[&image]);
        let expected = [[0; 3], [1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2], [3; 3], [4; 3]];
        assert_eq!(positions, expected);
        assert_eq!(next, 5);
    }
}
