use adamllm_core::RgbImage;
use image::Rgb;

/// Width and height of every image, in pixels: four by four image tokens of Qwen2-VL.
pub const SIDE: u32 = 112;

/// A colour: red, green, blue.
pub(super) type Colour = [u8; 3];

/// An image of [`SIDE`] by [`SIDE`] pixels with a palette, drawn with flat shapes: small on disk, the same everywhere
/// (no trigonometry, no blending).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    palette: Vec<Colour>,
    /// Row by row, the colour's place in the palette.
    pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(background: Colour) -> Self {
        Self { palette: vec![background], pixels: vec![0; (SIDE * SIDE) as usize] }
    }

    /// Colours every pixel of the box (x, y, width, height) whose centre, relative to the box's own centre, is inside.
    pub(super) fn fill(&mut self, [x, y, w, h]: [f32; 4], colour: Colour, inside: impl Fn(f32, f32) -> bool) {
        let index = self.palette.iter().position(|c| *c == colour).unwrap_or_else(|| {
            self.palette.push(colour);
            self.palette.len() - 1
        });
        let range =
            |from: f32, size: f32| from.floor().max(0.0) as u32..(from + size).ceil().clamp(0.0, SIDE as f32) as u32;
        for row in range(y, h) {
            for column in range(x, w) {
                let (dx, dy) = (column as f32 + 0.5 - x - w / 2.0, row as f32 + 0.5 - y - h / 2.0);
                if inside(dx, dy) {
                    self.pixels[(row * SIDE + column) as usize] = index as u8;
                }
            }
        }
    }

    /// A rectangle: left, top, width, height.
    pub(super) fn rectangle(&mut self, area: [f32; 4], colour: Colour) {
        let [_, _, w, h] = area;
        self.fill(area, colour, |x, y| x.abs() < w / 2.0 && y.abs() < h / 2.0);
    }

    /// An upright ellipse: centre and half axes.
    pub(super) fn ellipse(&mut self, [cx, cy]: [f32; 2], [rx, ry]: [f32; 2], colour: Colour) {
        let area = [cx - rx, cy - ry, 2.0 * rx, 2.0 * ry];
        self.fill(area, colour, |x, y| (x / rx).powi(2) + (y / ry).powi(2) < 1.0);
    }

    /// A filled circle.
    pub(super) fn disc(&mut self, centre: [f32; 2], radius: f32, colour: Colour) {
        self.ellipse(centre, [radius, radius], colour);
    }

    /// A circle's line, inwards from the radius.
    pub(super) fn ring(&mut self, [cx, cy]: [f32; 2], radius: f32, width: f32, colour: Colour) {
        let (outer, inner) = (radius * radius, (radius - width) * (radius - width));
        self.fill([cx - radius, cy - radius, 2.0 * radius, 2.0 * radius], colour, |x, y| {
            (inner..outer).contains(&(x * x + y * y))
        });
    }

    /// A polygon around a centre, its corners relative to it.
    pub(super) fn polygon(&mut self, [cx, cy]: [f32; 2], corners: &[[f32; 2]], colour: Colour) {
        let reach = corners.iter().flatten().fold(0.0_f32, |most, c| most.max(c.abs()));
        self.fill([cx - reach, cy - reach, 2.0 * reach, 2.0 * reach], colour, |x, y| {
            let edges = corners.iter().zip(corners.iter().cycle().skip(1));
            let crossed = edges
                .filter(|([ax, ay], [bx, by])| (*ay > y) != (*by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax));
            crossed.count() % 2 == 1
        });
    }

    /// A line with round ends.
    pub(super) fn line(&mut self, a: [f32; 2], b: [f32; 2], width: f32, colour: Colour) {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = (dx * dx + dy * dy).max(1e-6);
        let (left, top) = (a[0].min(b[0]) - width, a[1].min(b[1]) - width);
        let area = [left, top, dx.abs() + 2.0 * width, dy.abs() + 2.0 * width];
        let centre = [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
        self.fill(area, colour, |x, y| {
            let (px, py) = (x + centre[0] - a[0], y + centre[1] - a[1]);
            let along = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
            (px - along * dx).powi(2) + (py - along * dy).powi(2) < width * width / 4.0
        });
    }

    /// Lines from point to point.
    pub(super) fn path(&mut self, points: &[[f32; 2]], width: f32, colour: Colour) {
        for pair in points.windows(2) {
            self.line(pair[0], pair[1], width, colour);
        }
    }

    /// The image in full colour.
    pub fn to_rgb(&self) -> RgbImage {
        RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb(self.palette[self.pixels[(y * SIDE + x) as usize] as usize]))
    }

    /// The image as a PNG file with a palette of 4 bits, which most often takes less than a kilobyte.
    pub fn to_png(&self) -> Vec<u8> {
        debug_assert!(self.palette.len() <= 16, "a palette of {} colours", self.palette.len());
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, SIDE, SIDE);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Four);
        encoder.set_palette(self.palette.concat());
        encoder.set_compression(png::Compression::High);
        encoder.set_filter(png::Filter::NoFilter);
        let packed: Vec<u8> = self.pixels.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let written = encoder.write_header().and_then(|mut header| header.write_image_data(&packed));
        written.expect("memory takes every byte");
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_the_image() {
        let mut canvas = Canvas::new([255, 255, 255]);
        canvas.disc([40.0, 40.0], 20.0, [200, 10, 10]);
        canvas.line([0.0, 0.0], [111.0, 90.0], 3.0, [10, 10, 200]);
        let read = image::load_from_memory(&canvas.to_png()).expect("decodes").to_rgb8();
        assert_eq!(read, canvas.to_rgb());
        assert_eq!(read.get_pixel(30, 50).0, [200, 10, 10]);
    }
}
