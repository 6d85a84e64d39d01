//! The metrics, as plain functions: text in, a score from 0 to 100 out. Each states its source, and whether it is the
//! reference's formula (`paper`) or what the score should mean (`strict`).

mod bleu;
mod choice;
mod closed;
mod cues;
mod declared;
mod fold;
mod names;
mod normalise;
mod open;
mod option;
mod reasoning;
mod rouge;
mod words;

pub use bleu::corpus_bleu;
pub use choice::{ChoiceParse, choice_paper, choice_strict, name_strict};
pub use closed::{YesNo, closed_paper, closed_strict, yes_no};
pub(crate) use closed::{closed_in_words, closed_normalised, yes_no_in_words};
pub use declared::declared_answer;
pub use names::{NameSet, set_f1, set_recall};
pub use normalise::{answer_words, normalise_answer};
pub(crate) use open::open_recall_normalised;
pub use open::{open_recall_paper, open_recall_strict};
pub use reasoning::without_reasoning;
pub use rouge::{Rouge, rouge_l, rouge_l_package, rouge_n, rouge_n_package};
