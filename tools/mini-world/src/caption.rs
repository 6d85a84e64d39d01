use rand::RngExt;

use super::{Aspect, Scene};

/// How a caption is put: its opening, and the aspect with which it begins; the others follow in a fixed order, so that
/// a caption's course can be learnt from few examples.
///
/// The seeds' questions follow their captions: a question asks for what its caption ends with, in a form that the opening
/// decides. So greedy decoding, which the published protocol asks for, still gives a different question for each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptionPlan {
    opening: Opening,
    order: [Aspect; 5],
}

/// A caption's first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Opening {
    /// "A slide ...": phrases.
    Plain,
    /// "Here is a slide ...": phrases.
    Here,
    /// "On this slide the ... is ...": facts.
    On,
    /// "Facts about this slide: the ... is ...".
    Facts,
}

impl Opening {
    pub(super) const ALL: [Self; 4] = [Self::Plain, Self::Here, Self::On, Self::Facts];
}

impl CaptionPlan {
    /// A plan drawn at random.
    pub fn draw(random: &mut impl rand::Rng) -> Self {
        let opening = Opening::ALL[random.random_range(0..Opening::ALL.len())];
        let mut order = Aspect::ALL;
        let first = random.random_range(0..order.len());
        order.rotate_left(first);
        Self { opening, order }
    }

    /// The aspect that the caption ends with.
    pub fn last(&self) -> Aspect {
        self.order[4]
    }

    pub(super) fn opening(&self) -> Opening {
        self.opening
    }

    /// The caption of a scene: 15 to 30 words that name all five aspects.
    pub fn write(&self, scene: &Scene) -> String {
        let noun = scene.domain.noun();
        let phrases = || self.order.map(|aspect| scene.domain.phrase(aspect, scene.value(aspect))).join(", ");
        let facts = || {
            let [first @ .., last] = self.order.map(|aspect| format!("the {}", fact(scene, aspect)));
            format!("{} and {last}", first.join(", "))
        };
        match self.opening {
            Opening::Plain => format!("A {noun} {}.", phrases()),
            Opening::Here => format!("Here is a {noun} {}.", phrases()),
            Opening::On => format!("On this {noun} {}.", facts()),
            Opening::Facts => format!("Facts about this {noun}: {}.", facts()),
        }
    }
}

/// "stain is eosin", "cells are cocci".
pub(super) fn fact(scene: &Scene, aspect: Aspect) -> String {
    format!("{} {} {}", scene.domain.aspect_noun(aspect), aspect.verb(), scene.value(aspect))
}

#[cfg(test)]
mod tests {
    use adamllm_core::random::named_stream;

    use super::*;
    use crate::Domain;

    #[test]
    fn captions_name_every_aspect() {
        let mut random = named_stream(1, "test", "captions");
        for domain in Domain::ALL {
            for index in 0..50 {
                let scene = Scene::new(7, domain, index);
                let plan = CaptionPlan::draw(&mut random);
                let caption = plan.write(&scene);
                assert!(Aspect::ALL.iter().all(|aspect| caption.contains(scene.value(*aspect))), "{caption}");
                let (end, last) = (caption.len() / 2, scene.value(plan.last()));
                assert!(caption[end..].contains(last), "{caption}");
                assert!((12..=30).contains(&caption.split(' ').count()), "{caption}");
            }
        }
    }
}
