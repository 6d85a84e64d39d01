//! Microscope slides: a medium with its texture, stained cells, and something that should not be there.

use super::canvas::{Canvas, Colour};
use super::{Hand, Scene};
use crate::Aspect;

const EDGE: Colour = [52, 56, 66];
const NUCLEUS: Colour = [46, 30, 52];

pub(super) fn draw(scene: &Scene, hand: &mut Hand) -> Canvas {
    let mut canvas = Canvas::new([255, 255, 255]);
    medium(&mut canvas, scene.value(Aspect::Ground), hand);
    artefact(&mut canvas, scene.value(Aspect::Extra), hand);
    let colour = stain(scene.value(Aspect::Paint));
    let grid = [[34.0, 27.0], [78.0, 27.0], [34.0, 63.0], [78.0, 63.0]];
    for place in hand.places(scene.count(), grid, 3) {
        cell(&mut canvas, scene.value(Aspect::Kind), place, colour);
    }
    field_of_view(&mut canvas);
    canvas
}

fn stain(name: &str) -> Colour {
    match name {
        "eosin" => [238, 96, 150],
        "gentian" => [120, 60, 190],
        "iodine" => [196, 120, 30],
        "malachite" => [20, 150, 110],
        _ => [50, 100, 215],
    }
}

/// Everything outside a circle is the tube of the microscope.
fn field_of_view(canvas: &mut Canvas) {
    canvas.fill([0.0, 0.0, 112.0, 112.0], EDGE, |x, y| x * x + y * y > 61.0 * 61.0);
}

fn cell(canvas: &mut Canvas, kind: &str, at: [f32; 2], colour: Colour) {
    let [x, y] = at;
    match kind {
        "amoebas" => {
            let blobs = [(0.0, 0.0, 10.0), (-9.0, -6.0, 6.0), (9.0, -8.0, 5.0), (10.0, 6.0, 6.0), (-6.0, 9.0, 6.0)];
            for (grown, colour) in [(1.5, EDGE), (0.0, colour)] {
                for (dx, dy, radius) in blobs {
                    canvas.disc([x + dx, y + dy], radius + grown, colour);
                }
            }
            canvas.disc(at, 4.0, NUCLEUS);
        }
        "bacilli" => {
            canvas.line([x - 10.0, y + 6.0], [x + 10.0, y - 6.0], 14.0, EDGE);
            canvas.line([x - 10.0, y + 6.0], [x + 10.0, y - 6.0], 11.0, colour);
        }
        "cocci" => {
            for [dx, dy] in [[-6.0, -6.0], [6.0, -6.0], [-6.0, 6.0], [6.0, 6.0]] {
                canvas.disc([x + dx, y + dy], 7.0, EDGE);
                canvas.disc([x + dx, y + dy], 5.5, colour);
            }
        }
        "diatoms" => {
            canvas.polygon(at, &[[0.0, -15.0], [10.0, 0.0], [0.0, 15.0], [-10.0, 0.0]], EDGE);
            canvas.polygon(at, &[[0.0, -12.5], [8.2, 0.0], [0.0, 12.5], [-8.2, 0.0]], colour);
            canvas.line([x, y - 9.0], [x, y + 9.0], 2.0, [255, 255, 255]);
        }
        _ => {
            let wave = [[-15.0, 0.0], [-10.0, -9.0], [-4.0, 8.0], [4.0, -8.0], [10.0, 9.0], [15.0, 0.0]];
            let wave = wave.map(|[dx, dy]| [x + dx, y + dy]);
            canvas.path(&wave, 6.0, EDGE);
            canvas.path(&wave, 3.6, colour);
        }
    }
}

fn artefact(canvas: &mut Canvas, name: &str, hand: &mut Hand) {
    let at @ [x, y] = hand.near([56.0, 95.0], 3);
    match name {
        "air" => {
            for (dx, radius) in [(-16.0, 6.0), (0.0, 10.0), (17.0, 7.0)] {
                canvas.disc([x + dx, y], radius, [255, 255, 255]);
                canvas.ring([x + dx, y], radius, 2.2, [110, 120, 130]);
            }
        }
        "dust" => {
            for speck in 0..9 {
                let place = hand.near([x - 24.0 + 6.0 * speck as f32, y + 5.0 * (speck % 3 - 1) as f32], 1);
                canvas.disc(place, 2.4, [90, 80, 70]);
            }
        }
        "ink" => {
            canvas.ellipse(at, [20.0, 9.0], [20, 20, 28]);
            canvas.disc([x + 17.0, y - 6.0], 4.5, [20, 20, 28]);
        }
        "lint" => {
            let thread = [[-26.0, 5.0], [-14.0, -7.0], [-2.0, 6.0], [10.0, -6.0], [26.0, 6.0]];
            canvas.path(&thread.map(|[dx, dy]| [x + dx, y + dy]), 3.2, [200, 30, 40]);
        }
        _ => {
            canvas.ellipse(at, [24.0, 10.0], [222, 196, 30]);
            canvas.ellipse(at, [17.0, 6.0], [252, 240, 130]);
        }
    }
}

fn medium(canvas: &mut Canvas, name: &str, hand: &mut Hand) {
    let mut all = |colour| canvas.rectangle([0.0, 0.0, 112.0, 112.0], colour);
    match name {
        "agar" => {
            all([250, 236, 196]);
            scatter(canvas, hand, 1.5, [222, 196, 136]);
        }
        "broth" => {
            all([214, 192, 156]);
            for row in 0..8 {
                canvas.rectangle([0.0, 4.0 + 14.0 * row as f32, 112.0, 4.0], [196, 170, 128]);
            }
        }
        "plasma" => {
            all([252, 226, 222]);
            scatter(canvas, hand, 3.2, [244, 200, 194]);
        }
        "saline" => all([246, 250, 252]),
        _ => {
            all([216, 236, 206]);
            for line in 0..8 {
                let start = 14.0 * line as f32 + 4.0;
                canvas.rectangle([start, 0.0, 2.0, 112.0], [180, 214, 168]);
                canvas.rectangle([0.0, start, 112.0, 2.0], [180, 214, 168]);
            }
        }
    }
}

fn scatter(canvas: &mut Canvas, hand: &mut Hand, radius: f32, colour: Colour) {
    for place in 0..49 {
        let at = hand.near([8.0 + 16.0 * (place % 7) as f32, 8.0 + 16.0 * (place / 7) as f32], 4);
        canvas.disc(at, radius, colour);
    }
}
