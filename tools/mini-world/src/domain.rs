use std::fmt;

/// A part of the mini world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// Small landscapes with coloured objects: what the base model and the seeds know.
    General,
    /// Microscope slides with stained cells: a target domain.
    Slides,
    /// Plates of food: a target domain.
    Plates,
}

/// What can be asked of a scene. Every domain has all five, under names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aspect {
    /// What is shown: objects, cells, foods.
    Kind,
    /// How many of them, one to four.
    Number,
    /// What colours them: colour, stain, sauce.
    Paint,
    /// What else is there: weather, artefact, garnish.
    Extra,
    /// What they lie on: ground, medium, table.
    Ground,
}

impl Aspect {
    /// All aspects.
    pub const ALL: [Self; 5] = [Self::Kind, Self::Number, Self::Paint, Self::Extra, Self::Ground];

    /// `"are"` for the kind, which is named in the plural, `"is"` for the rest.
    pub(super) fn verb(self) -> &'static str {
        if self == Self::Kind { "are" } else { "is" }
    }
}

impl Domain {
    /// All domains.
    pub const ALL: [Self; 3] = [Self::General, Self::Slides, Self::Plates];
    /// The domains that a base model knows by name only.
    pub const TARGETS: [Self; 2] = [Self::Slides, Self::Plates];

    /// The domain's folder in the data set.
    pub fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Slides => "slides",
            Self::Plates => "plates",
        }
    }

    /// What one image of the domain is called.
    pub fn noun(self) -> &'static str {
        match self {
            Self::General => "scene",
            Self::Slides => "slide",
            Self::Plates => "plate",
        }
    }

    /// The domain's name for an aspect.
    pub fn aspect_noun(self, aspect: Aspect) -> &'static str {
        match (self, aspect) {
            (_, Aspect::Number) => "number",
            (Self::General, Aspect::Kind) => "objects",
            (Self::General, Aspect::Paint) => "colour",
            (Self::General, Aspect::Extra) => "weather",
            (Self::General, Aspect::Ground) => "ground",
            (Self::Slides, Aspect::Kind) => "cells",
            (Self::Slides, Aspect::Paint) => "stain",
            (Self::Slides, Aspect::Extra) => "artefact",
            (Self::Slides, Aspect::Ground) => "medium",
            (Self::Plates, Aspect::Kind) => "foods",
            (Self::Plates, Aspect::Paint) => "sauce",
            (Self::Plates, Aspect::Extra) => "garnish",
            (Self::Plates, Aspect::Ground) => "table",
        }
    }

    /// The values that an aspect can have, in the order in which lists of options name them. No value contains `no` or
    /// `yes`: the published metric for closed questions looks for these letters anywhere in an answer.
    pub fn values(self, aspect: Aspect) -> &'static [&'static str] {
        match (self, aspect) {
            (_, Aspect::Number) => &["one", "two", "three", "four"],
            (Self::General, Aspect::Kind) => &["balls", "boxes", "hearts", "stars", "trees"],
            (Self::General, Aspect::Paint) => &["blue", "green", "purple", "red", "yellow"],
            (Self::General, Aspect::Extra) => &["cloud", "fog", "rain", "storm", "sun"],
            (Self::General, Aspect::Ground) => &["bricks", "grass", "ice", "sand", "water"],
            (Self::Slides, Aspect::Kind) => &["amoebas", "bacilli", "cocci", "diatoms", "spirilla"],
            (Self::Slides, Aspect::Paint) => &["eosin", "gentian", "iodine", "malachite", "methylene"],
            (Self::Slides, Aspect::Extra) => &["air", "dust", "ink", "lint", "oil"],
            (Self::Slides, Aspect::Ground) => &["agar", "broth", "plasma", "saline", "serum"],
            (Self::Plates, Aspect::Kind) => &["carrots", "cookies", "eggs", "fish", "mushrooms"],
            (Self::Plates, Aspect::Paint) => &["curry", "ketchup", "mustard", "pesto", "teriyaki"],
            (Self::Plates, Aspect::Extra) => &["chilli", "lemon", "mint", "olive", "radish"],
            (Self::Plates, Aspect::Ground) => &["bamboo", "linen", "marble", "oak", "slate"],
        }
    }

    /// What stands before and behind a value where a caption mentions it in passing.
    pub(super) fn phrase(self, aspect: Aspect, value: &str) -> String {
        match (self, aspect) {
            (_, Aspect::Kind) => format!("with {value}"),
            (_, Aspect::Number) => format!("{value} in number"),
            (Self::General, Aspect::Paint) => format!("painted {value}"),
            (Self::General, Aspect::Extra) => format!("under {value}"),
            (Self::General | Self::Plates, Aspect::Ground) => format!("on {value}"),
            (Self::Slides, Aspect::Paint) => format!("stained with {value}"),
            (Self::Slides, Aspect::Extra) => format!("near some {value}"),
            (Self::Slides, Aspect::Ground) => format!("in {value}"),
            (Self::Plates, Aspect::Paint) => format!("dressed with {value}"),
            (Self::Plates, Aspect::Extra) => format!("garnished with {value}"),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_hides_a_yes_or_a_no() {
        for domain in Domain::ALL {
            for aspect in Aspect::ALL {
                for value in domain.values(aspect) {
                    let phrase = domain.phrase(aspect, value);
                    assert!(!phrase.contains("no") && !phrase.contains("yes"), "{phrase}");
                }
                assert!(domain.values(aspect).is_sorted() || aspect == Aspect::Number);
            }
        }
    }
}
