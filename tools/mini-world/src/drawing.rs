//! Scenes as images.

use adamllm_core::random::ChaCha8Rng;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Domain, Scene};

mod canvas;
mod general;
mod plates;
mod slides;

pub use canvas::{Canvas, SIDE};

/// Draws a scene. Where things lie varies a little from scene to scene; what they look like does not.
pub(super) fn draw(scene: &Scene) -> Canvas {
    let mut hand = Hand(scene.random("mini picture"));
    match scene.domain {
        Domain::General => general::draw(scene, &mut hand),
        Domain::Slides => slides::draw(scene, &mut hand),
        Domain::Plates => plates::draw(scene, &mut hand),
    }
}

/// The hand that draws: it trembles.
struct Hand(ChaCha8Rng);

impl Hand {
    /// A point near the given one: at most `reach` pixels off in each direction.
    fn near(&mut self, [x, y]: [f32; 2], reach: i32) -> [f32; 2] {
        let mut off = || self.0.random_range(-reach..=reach) as f32;
        [x + off(), y + off()]
    }

    /// `count` of the places, in random order, each a little off.
    fn places(&mut self, count: usize, mut places: [[f32; 2]; 4], reach: i32) -> Vec<[f32; 2]> {
        places.shuffle(&mut self.0);
        places[..count].iter().map(|place| self.near(*place, reach)).collect()
    }
}
