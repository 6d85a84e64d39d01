use image::RgbImage;

/// An image as equal square tiles, ready for a vision encoder.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tiles {
    /// `[n_tiles, channel, y, x]`, row-major; channels are red, green, blue.
    pub pixels: Vec<f32>,
    /// How many tiles.
    pub n_tiles: usize,
    /// Side of a tile in pixels.
    pub side: u32,
}

impl Tiles {
    pub(crate) fn new(side: u32) -> Self {
        Self { pixels: Vec::new(), n_tiles: 0, side }
    }

    /// Appends the square whose upper left corner is `(x, y)`.
    pub(crate) fn push(&mut self, image: &RgbImage, (x, y): (u32, u32), table: &[[f32; 256]; 3]) {
        let (side, stride) = (self.side as usize, image.width() as usize * 3);
        let bytes = &image.as_raw()[y as usize * stride + x as usize * 3..];
        for (channel, floats) in table.iter().enumerate() {
            for row in 0..side {
                let row = &bytes[row * stride..][..side * 3];
                self.pixels.extend(row.chunks_exact(3).map(|pixel| floats[usize::from(pixel[channel])]));
            }
        }
        self.n_tiles += 1;
    }

    /// Appends all tiles of an image whose sides are multiples of the tile's, row by row.
    pub(crate) fn push_grid(&mut self, image: &RgbImage, table: &[[f32; 256]; 3]) {
        for y in (0..image.height()).step_by(self.side as usize) {
            for x in (0..image.width()).step_by(self.side as usize) {
                self.push(image, (x, y), table);
            }
        }
    }
}

/// The image on a black canvas, its upper left corner at `(x, y)`.
pub(crate) fn on_canvas(image: &RgbImage, (width, height): (u32, u32), (x, y): (u32, u32)) -> RgbImage {
    let mut canvas = RgbImage::new(width, height);
    let (stride, length) = (width as usize * 3, image.width() as usize * 3);
    let corner = y as usize * stride + x as usize * 3;
    for (i, row) in image.as_raw().chunks_exact(length).enumerate() {
        let start = corner + i * stride;
        canvas.as_flat_samples_mut().samples[start..start + length].copy_from_slice(row);
    }
    canvas
}
