//! Charts as SVG: a part of a page with [`STYLE`](crate::STYLE), and nothing that needs a script.

mod bars;
mod curves;
mod lines;

pub use bars::{Bar, bars};
pub use curves::{Curve, curves};
pub use lines::{COLOURS, Series, Size, bounds, lines, standalone};
