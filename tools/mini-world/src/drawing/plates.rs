//! Plates of food, seen from above: a table, a plate with a rim of sauce, foods, and a garnish on the rim.

use super::canvas::{Canvas, Colour};
use super::{Hand, Scene};
use crate::Aspect;

const CHINA: Colour = [252, 252, 250];
const SHADE: Colour = [206, 208, 214];
const DARK: Colour = [72, 48, 34];

pub(super) fn draw(scene: &Scene, hand: &mut Hand) -> Canvas {
    let mut canvas = Canvas::new([255, 255, 255]);
    table(&mut canvas, scene.value(Aspect::Ground), hand);
    let centre = hand.near([56.0, 52.0], 2);
    canvas.disc(centre, 49.0, SHADE);
    canvas.disc(centre, 47.5, CHINA);
    drizzle(&mut canvas, centre, sauce(scene.value(Aspect::Paint)));
    let [x, y] = centre;
    let grid = [[x - 15.0, y - 15.0], [x + 15.0, y - 15.0], [x - 15.0, y + 15.0], [x + 15.0, y + 15.0]];
    for place in hand.places(scene.count(), grid, 2) {
        food(&mut canvas, scene.value(Aspect::Kind), place);
    }
    garnish(&mut canvas, scene.value(Aspect::Extra), hand);
    canvas
}

fn sauce(name: &str) -> Colour {
    match name {
        "curry" => [240, 140, 20],
        "ketchup" => [210, 30, 30],
        "mustard" => [246, 216, 50],
        "pesto" => [90, 150, 40],
        _ => [60, 36, 26],
    }
}

/// A ring of sauce along the rim, with drops inside it.
fn drizzle(canvas: &mut Canvas, centre: [f32; 2], colour: Colour) {
    canvas.ring(centre, 43.0, 7.0, colour);
    canvas.disc(centre, 5.0, colour);
}

fn food(canvas: &mut Canvas, kind: &str, at: [f32; 2]) {
    let [x, y] = at;
    match kind {
        "carrots" => {
            canvas.line([x - 3.0, y - 8.0], [x - 7.0, y - 13.0], 3.0, [60, 150, 50]);
            canvas.line([x + 1.0, y - 9.0], [x + 2.0, y - 14.0], 3.0, [60, 150, 50]);
            canvas.polygon(at, &[[-8.0, -6.0], [-4.0, -10.0], [5.0, -9.0], [8.0, -4.0], [6.0, 14.0]], [240, 120, 20]);
        }
        "cookies" => {
            canvas.disc(at, 11.5, [150, 100, 50]);
            canvas.disc(at, 10.0, [206, 158, 96]);
            for [dx, dy] in [[-4.0, -4.0], [4.0, -3.0], [0.0, 3.0], [-5.0, 4.0], [5.0, 5.0]] {
                canvas.disc([x + dx, y + dy], 1.9, DARK);
            }
        }
        "eggs" => {
            canvas.ellipse(at, [12.5, 10.5], SHADE);
            canvas.ellipse(at, [11.0, 9.0], [255, 255, 255]);
            canvas.disc([x + 1.0, y], 5.0, [250, 180, 20]);
        }
        "fish" => {
            canvas.polygon([x + 8.0, y], &[[-4.0, 0.0], [5.0, -8.0], [5.0, 8.0]], [80, 120, 160]);
            canvas.ellipse([x - 2.0, y], [10.5, 6.5], [80, 120, 160]);
            canvas.ellipse([x - 2.0, y + 1.5], [8.0, 3.5], [170, 200, 222]);
            canvas.disc([x - 8.0, y - 2.0], 1.6, DARK);
        }
        _ => {
            canvas.rectangle([x - 4.0, y - 1.0, 8.0, 12.0], DARK);
            canvas.rectangle([x - 2.8, y - 1.0, 5.6, 11.0], [236, 222, 200]);
            canvas
                .fill([x - 12.0, y - 11.0, 24.0, 24.0], [170, 60, 50], |dx, dy| dx * dx + dy * dy < 144.0 && dy < 1.0);
            canvas.disc([x - 4.0, y - 6.0], 2.2, [255, 255, 255]);
            canvas.disc([x + 4.0, y - 4.0], 2.2, [255, 255, 255]);
        }
    }
}

fn garnish(canvas: &mut Canvas, name: &str, hand: &mut Hand) {
    let at @ [x, y] = hand.near([95.0, 95.0], 2);
    canvas.disc(at, 15.5, SHADE);
    canvas.disc(at, 14.0, CHINA);
    match name {
        "chilli" => {
            canvas.path(&[[x - 8.0, y - 6.0], [x - 2.0, y + 4.0], [x + 9.0, y + 6.0]], 5.0, [216, 30, 30]);
            canvas.line([x - 9.0, y - 6.0], [x - 6.0, y - 10.0], 3.0, [60, 150, 50]);
        }
        "lemon" => {
            canvas.disc(at, 11.0, [240, 200, 20]);
            canvas.disc(at, 8.5, [255, 244, 160]);
            canvas.line([x - 8.0, y], [x + 8.0, y], 1.6, [240, 200, 20]);
            canvas.line([x, y - 8.0], [x, y + 8.0], 1.6, [240, 200, 20]);
        }
        "mint" => {
            for [dx, dy] in [[-5.0, -3.0], [5.0, -3.0], [0.0, 5.0]] {
                canvas.ellipse([x + dx, y + dy], [6.0, 4.6], [40, 150, 70]);
                canvas.line([x + dx - 4.0, y + dy], [x + dx + 4.0, y + dy], 1.2, [150, 220, 150]);
            }
        }
        "olive" => {
            canvas.ellipse(at, [9.0, 9.0], [70, 80, 40]);
            canvas.disc(at, 3.5, [216, 30, 30]);
        }
        _ => {
            canvas.disc(at, 10.5, [214, 40, 110]);
            canvas.disc(at, 8.5, [255, 240, 245]);
            canvas.disc(at, 3.0, [246, 200, 216]);
        }
    }
}

fn table(canvas: &mut Canvas, name: &str, hand: &mut Hand) {
    let mut all = |colour| canvas.rectangle([0.0, 0.0, 112.0, 112.0], colour);
    match name {
        "bamboo" => {
            all([226, 204, 130]);
            for stick in 0..14 {
                canvas.rectangle([8.0 * stick as f32, 0.0, 1.8, 112.0], [176, 148, 70]);
            }
        }
        "linen" => {
            all([244, 226, 226]);
            for stripe in 0..4 {
                let start = 28.0 * stripe as f32 + 4.0;
                canvas.rectangle([start, 0.0, 8.0, 112.0], [226, 120, 120]);
                canvas.rectangle([0.0, start, 112.0, 8.0], [226, 120, 120]);
            }
        }
        "marble" => {
            all([228, 232, 240]);
            for vein in 0..5 {
                let [x, y] = hand.near([28.0 * vein as f32, 6.0], 5);
                canvas.path(
                    &[[x, y - 12.0], [x - 14.0, y + 40.0], [x - 2.0, y + 70.0], [x - 20.0, y + 110.0]],
                    1.8,
                    [160, 170, 190],
                );
            }
        }
        "oak" => {
            all([170, 114, 62]);
            for plank in 0..4 {
                let top = 28.0 * plank as f32;
                canvas.rectangle([0.0, top, 112.0, 2.0], [112, 70, 34]);
                let [x, y] = hand.near([30.0 + 18.0 * plank as f32, top + 14.0], 4);
                canvas.line([x - 24.0, y], [x + 24.0, y], 1.6, [140, 90, 46]);
            }
        }
        _ => {
            all([74, 82, 92]);
            for chip in 0..12 {
                let at = hand.near([10.0 + 30.0 * (chip % 4) as f32, 12.0 + 44.0 * (chip / 4) as f32], 6);
                canvas.line(at, [at[0] + 5.0, at[1] - 2.0], 1.6, [112, 122, 134]);
            }
        }
    }
}
