/// A grid of merged squares cut into square windows, smaller ones at the right and at the bottom. Windows of equal shape
/// stand together, so that they can go through an attention as one batch.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    order: Vec<usize>,
    groups: Vec<WindowGroup>,
}

/// Windows of equal shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowGroup {
    pub(crate) n_windows: usize,
    /// Merged squares in each.
    pub(crate) n_squares: usize,
}

impl Windows {
    /// Cuts a grid of `[height, width]` merged squares into windows of `side` x `side`.
    pub(crate) fn cut([height, width]: [usize; 2], side: usize) -> Self {
        let mut shapes: Vec<([usize; 2], Vec<usize>)> = Vec::new();
        for top in (0..height).step_by(side) {
            for left in (0..width).step_by(side) {
                let shape = [side.min(height - top), side.min(width - left)];
                let squares =
                    (top..top + shape[0]).flat_map(|row| (left..left + shape[1]).map(move |c| row * width + c));
                match shapes.iter_mut().find(|(known, _)| *known == shape) {
                    Some((_, group)) => group.extend(squares),
                    None => shapes.push((shape, squares.collect())),
                }
            }
        }
        let group = |(shape, squares): &([usize; 2], Vec<usize>)| {
            let n_squares = shape[0] * shape[1];
            WindowGroup { n_windows: squares.len() / n_squares, n_squares }
        };
        let groups = shapes.iter().map(group).collect();
        Self { order: shapes.into_iter().flat_map(|(_, squares)| squares).collect(), groups }
    }

    /// In the order of their features.
    pub(crate) fn groups(&self) -> &[WindowGroup] {
        &self.groups
    }

    /// For each index in window order, the patch that goes there; a merged square's `per_square` patches stay together.
    pub(crate) fn patch_order(&self, per_square: usize) -> Vec<usize> {
        self.order.iter().flat_map(|square| square * per_square..(square + 1) * per_square).collect()
    }

    /// For each merged square in reading order, its index in window order.
    pub(crate) fn inverse(&self) -> Vec<usize> {
        let mut inverse = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(index, &square)| inverse[square] = index);
        inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_windows_at_the_borders() {
        let windows = Windows::cut([3, 3], 2);
        assert_eq!(windows.order, [0, 1, 3, 4, 2, 5, 6, 7, 8]);
        let sizes: Vec<_> = windows.groups().iter().map(|g| (g.n_windows, g.n_squares)).collect();
        assert_eq!(sizes, [(1, 4), (1, 2), (1, 2), (1, 1)]);
        assert_eq!(windows.inverse(), [0, 1, 4, 2, 3, 5, 6, 7, 8]);
        assert_eq!(windows.patch_order(4)[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
