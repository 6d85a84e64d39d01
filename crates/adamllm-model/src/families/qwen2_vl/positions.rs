//! Positions of Qwen2-VL (arXiv 2409.12191, section 2.1): time, height and width for image rows, one number for text.

/// The three positions of every token, and the position of the next one.
///
/// `grids` are the images' grids of **merged** rows (frames, height, width), in order; each run of `image_token` in
/// `tokens` belongs to the next grid.
///
/// # Panics
/// If the runs of placeholders and the grids do not match; the processor wrote both from the same layout.
pub fn multimodal_positions(tokens: &[u32], image_token: u32, grids: &[[usize; 3]]) -> (Vec<[i32; 3]>, i32) {
    let mut positions = Vec::with_capacity(tokens.len());
    let mut grids = grids.iter();
    let mut next = 0;
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] != image_token {
            positions.push([next; 3]);
            next += 1;
            at += 1;
            continue;
        }
        let &[frames, height, width] = grids.next().expect("a grid for each image");
        for frame in 0..frames as i32 {
            for row in 0..height as i32 {
                positions.extend((0..width as i32).map(|column| [next + frame, next + row, next + column]));
            }
        }
        at += frames * height * width;
        next += frames.max(height).max(width) as i32;
    }
    assert_eq!(positions.len(), tokens.len(), "placeholders and grids do not match");
    (positions, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of transformers' `get_rope_index` documentation, for one image of 2 x 2 rows: text behind a
    /// image goes on from its largest position.
    #[test]
    fn text_goes_on_behind_the_largest_position() {
        let (positions, next) = multimodal_positions(&[7, 9, 9, 9, 9, 7, 7], 9, &[[1, 2, 2]]);
        let expected = [[0; 3], [1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2], [3; 3], [4; 3]];
        assert_eq!(positions, expected);
        assert_eq!(next, 5);
    }
}
