use crate::hygiene::normalise;

/// What kind of task an instruction asks for, by its wording: a rough measure of diversity for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TaskType {
    /// Options are given to choose from.
    Choice,
    /// How many, how much.
    Count,
    /// A description, caption or story.
    Description,
    /// Why, what for.
    Cause,
    /// Where, on which side.
    Place,
    /// When, which season or time of day.
    Time,
    /// Which colour.
    Colour,
    /// What is written in the image.
    Text,
    /// What is more, larger, different.
    Comparison,
    /// Who, what kind of person.
    Person,
    /// How something is done or looks.
    Manner,
    /// Answered with yes or no.
    YesNo,
    /// What, which: naming something.
    Naming,
    /// None of these.
    Other,
}

impl TaskType {
    /// All types.
    pub const ALL: [Self; 14] = [
        Self::Choice,
        Self::Count,
        Self::Description,
        Self::Cause,
        Self::Place,
        Self::Time,
        Self::Colour,
        Self::Text,
        Self::Comparison,
        Self::Person,
        Self::Manner,
        Self::YesNo,
        Self::Naming,
        Self::Other,
    ];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Choice => "choice",
            Self::Count => "count",
            Self::Description => "description",
            Self::Cause => "cause",
            Self::Place => "place",
            Self::Time => "time",
            Self::Colour => "colour",
            Self::Text => "text in the image",
            Self::Comparison => "comparison",
            Self::Person => "person",
            Self::Manner => "manner",
            Self::YesNo => "yes or no",
            Self::Naming => "naming",
            Self::Other => "other",
        }
    }

    /// The first type whose words the instruction contains.
    pub fn of(instruction: &str) -> Self {
        let text = format!(" {} ", normalise(instruction));
        let found = WORDS.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
        found.map_or_else(|| Self::by_opening(text.trim_start()), |(kind, _)| *kind)
    }

    fn by_opening(text: &str) -> Self {
        let opening = text.split(' ').next().unwrap_or_default();
        match opening {
            "is" | "are" | "was" | "were" | "do" | "does" | "did" | "can" | "could" | "has" | "have" | "will" => {
                Self::YesNo
            }
            "what" | "which" | "name" | "identify" => Self::Naming,
            "how" => Self::Manner,
            _ => Self::Other,
        }
    }
}

/// Words with a space on each side, in the order in which they are looked for.
const WORDS: [(TaskType, &[&str]); 10] = [
    (TaskType::Choice, &[" options ", " choices ", " choose ", " select ", " a b c "]),
    (TaskType::Count, &[" how many ", " number of ", " how much ", " count "]),
    (TaskType::Description, &[" describe ", " description ", " caption ", " summarise ", " summarize ", " write "]),
    (TaskType::Cause, &[" why ", " reason ", " what for ", " purpose ", " cause "]),
    (TaskType::Place, &[" where ", " location ", " located ", " which side ", " position "]),
    (TaskType::Time, &[" when ", " season ", " time of day ", " what time ", " which year "]),
    (TaskType::Colour, &[" colour ", " color ", " colours ", " colors ", " colored ", " coloured "]),
    (TaskType::Text, &[" written ", " text ", " word ", " says ", " read "]),
    (TaskType::Comparison, &[" compare ", " compared ", " difference ", " larger ", " smaller ", " more ", " than "]),
    (TaskType::Person, &[" who ", " whose ", " person "]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kind_of_question() {
        let cases = [
            ("How many nuclei does the cell have?", TaskType::Count),
            ("Is the border sharp?", TaskType::YesNo),
            ("Is it raw?\nOptions: yes, no", TaskType::Choice),
            ("Why is the plate warm?", TaskType::Cause),
            ("What colour is the sauce?", TaskType::Colour),
            ("What dish is this?", TaskType::Naming),
            ("How was it cooked?", TaskType::Manner),
            ("Proceed.", TaskType::Other),
        ];
        assert_eq!(cases.map(|(text, _)| TaskType::of(text)), cases.map(|(_, kind)| kind));
    }
}
