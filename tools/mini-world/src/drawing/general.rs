//! Landscapes: a sky with its weather, a row of objects, the ground.

use super::canvas::{Canvas, Colour};
use super::{Hand, Scene};
use crate::Aspect;

const SKY: Colour = [226, 240, 252];
const OUTLINE: Colour = [54, 54, 62];
const HORIZON: f32 = 86.0;

pub(super) fn draw(scene: &Scene, hand: &mut Hand) -> Canvas {
    let mut canvas = Canvas::new(SKY);
    ground(&mut canvas, scene.value(Aspect::Ground), hand);
    weather(&mut canvas, scene.value(Aspect::Extra), hand);
    let colour = paint(scene.value(Aspect::Paint));
    let row = [[15.0, 68.0], [42.0, 68.0], [70.0, 68.0], [97.0, 68.0]];
    for place in hand.places(scene.count(), row, 2) {
        object(&mut canvas, scene.value(Aspect::Kind), place, colour);
    }
    canvas
}

fn paint(name: &str) -> Colour {
    match name {
        "blue" => [40, 90, 220],
        "green" => [30, 150, 60],
        "purple" => [140, 50, 170],
        "red" => [220, 40, 40],
        _ => [250, 200, 20],
    }
}

fn object(canvas: &mut Canvas, kind: &str, at: [f32; 2], colour: Colour) {
    let [x, y] = at;
    match kind {
        "balls" => {
            canvas.disc(at, 12.0, OUTLINE);
            canvas.disc(at, 10.5, colour);
            canvas.disc([x - 4.0, y - 4.0], 2.5, [255, 255, 255]);
        }
        "boxes" => {
            canvas.rectangle([x - 11.0, y - 11.0, 22.0, 22.0], OUTLINE);
            canvas.rectangle([x - 9.5, y - 9.5, 19.0, 19.0], colour);
            canvas.line([x - 9.0, y - 9.0], [x + 9.0, y + 9.0], 2.0, OUTLINE);
            canvas.line([x - 9.0, y + 9.0], [x + 9.0, y - 9.0], 2.0, OUTLINE);
        }
        "hearts" => heart(canvas, at, colour),
        "stars" => {
            canvas.polygon(at, &STAR.map(|[x, y]| [13.0 * x, 13.0 * y]), OUTLINE);
            canvas.polygon(at, &STAR.map(|[x, y]| [10.0 * x, 10.0 * y]), colour);
        }
        _ => {
            canvas.rectangle([x - 2.5, y + 2.0, 5.0, 11.0], [120, 80, 40]);
            canvas.polygon(at, &[[0.0, -13.0], [11.0, 5.0], [-11.0, 5.0]], OUTLINE);
            canvas.polygon(at, &[[0.0, -10.0], [8.5, 3.5], [-8.5, 3.5]], colour);
        }
    }
}

/// A star with five points inside a circle of radius 1.
const STAR: [[f32; 2]; 10] = [
    [0.0, -1.0],
    [0.26, -0.36],
    [0.95, -0.31],
    [0.43, 0.14],
    [0.59, 0.81],
    [0.0, 0.45],
    [-0.59, 0.81],
    [-0.43, 0.14],
    [-0.95, -0.31],
    [-0.26, -0.36],
];

fn heart(canvas: &mut Canvas, [x, y]: [f32; 2], colour: Colour) {
    for (grown, colour) in [(1.5, OUTLINE), (0.0, colour)] {
        for side in [-5.2, 5.2] {
            canvas.disc([x + side, y - 4.0], 5.6 + grown, colour);
        }
        let (half, tip) = (10.4 + grown, 11.0 + 1.4 * grown);
        canvas.polygon([x, y], &[[-half, -2.0], [half, -2.0], [0.0, tip]], colour);
    }
}

fn weather(canvas: &mut Canvas, name: &str, hand: &mut Hand) {
    let at @ [x, y] = hand.near([56.0, 25.0], 4);
    match name {
        "sun" => {
            for [dx, dy] in [[1.0, 0.0], [0.71, 0.71], [0.0, 1.0], [-0.71, 0.71]] {
                let (dx, dy) = (21.0 * dx, 21.0 * dy);
                canvas.line([x - dx, y - dy], [x + dx, y + dy], 3.0, [245, 165, 30]);
            }
            canvas.disc(at, 14.0, SKY);
            canvas.disc(at, 12.0, [255, 215, 60]);
        }
        "cloud" => cloud(canvas, at, [255, 255, 255]),
        "rain" => {
            cloud(canvas, [x, y - 5.0], [120, 130, 150]);
            for column in [-15.0, -5.0, 5.0, 15.0] {
                canvas.line([x + column, y + 10.0], [x + column - 4.0, y + 20.0], 2.5, [50, 110, 220]);
            }
        }
        "storm" => {
            cloud(canvas, [x, y - 5.0], [90, 90, 105]);
            let bolt = [[3.0, 2.0], [-7.0, 14.0], [-1.0, 14.0], [-5.0, 24.0], [8.0, 10.0], [1.0, 10.0], [7.0, 2.0]];
            canvas.polygon(at, &bolt, [255, 205, 0]);
        }
        _ => {
            for row in 0..5 {
                let (top, indent) = (y - 18.0 + 8.0 * row as f32, if row % 2 == 0 { 0.0 } else { 14.0 });
                canvas.line([8.0 + indent, top], [90.0 + indent, top], 4.0, [176, 188, 196]);
            }
        }
    }
}

fn cloud(canvas: &mut Canvas, [x, y]: [f32; 2], colour: Colour) {
    for (grown, colour) in [(1.5, [150, 165, 185]), (0.0, colour)] {
        for (dx, dy, radius) in [(-14.0, 4.0, 7.0), (-5.0, -3.0, 10.0), (7.0, -1.0, 9.0), (15.0, 4.0, 7.0)] {
            canvas.disc([x + dx, y + dy], radius + grown, colour);
        }
        canvas.rectangle([x - 14.0, y + 2.0, 29.0, 9.0 + grown], colour);
    }
}

fn ground(canvas: &mut Canvas, name: &str, hand: &mut Hand) {
    let mut floor = |colour| canvas.rectangle([0.0, HORIZON - 4.0, 112.0, 30.0], colour);
    match name {
        "grass" => {
            floor([120, 190, 80]);
            for blade in 0..14 {
                let [x, y] = hand.near([4.0 + 8.0 * blade as f32, if blade % 2 == 0 { 94.0 } else { 105.0 }], 2);
                canvas.path(&[[x - 2.0, y - 4.0], [x, y + 2.0], [x + 2.0, y - 4.0]], 1.6, [50, 120, 40]);
            }
        }
        "sand" => {
            floor([240, 214, 150]);
            for grain in 0..20 {
                let at = hand.near([5.0 + 5.4 * grain as f32, 90.0 + 6.0 * (grain % 4) as f32], 2);
                canvas.disc(at, 1.4, [190, 150, 80]);
            }
        }
        "ice" => {
            floor([250, 253, 255]);
            for crack in 0..4 {
                let [x, y] = hand.near([14.0 + 28.0 * crack as f32, 97.0], 3);
                canvas.path(&[[x - 9.0, y - 8.0], [x, y], [x - 3.0, y + 9.0]], 1.6, [120, 190, 230]);
                canvas.line([x, y], [x + 10.0, y + 3.0], 1.6, [120, 190, 230]);
            }
        }
        "water" => {
            floor([70, 150, 225]);
            for wave in 0..8 {
                let [x, y] = hand.near([14.0 * wave as f32, if wave % 2 == 0 { 93.0 } else { 104.0 }], 2);
                canvas.path(&[[x, y], [x + 5.0, y - 3.0], [x + 10.0, y]], 2.2, [225, 242, 255]);
            }
        }
        _ => {
            floor([186, 84, 62]);
            for row in 0..4 {
                let top = HORIZON - 4.0 + 8.0 * row as f32;
                canvas.rectangle([0.0, top, 112.0, 1.6], [235, 205, 185]);
                for brick in 0..8 {
                    let left = 16.0 * brick as f32 - if row % 2 == 0 { 0.0 } else { 8.0 };
                    canvas.rectangle([left, top, 1.6, 8.0], [235, 205, 185]);
                }
            }
        }
    }
}
