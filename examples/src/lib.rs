//! What the examples share: the command line ([`cli`]), benchmarks named on it ([`benchmarks`]), models by name (`models`),
//! settings files ([`settings`]), the parts of the training job (`post_train`) and its members (`replicas`), and the mini world (`mini`).
//!
//! ```
//! use adamllm_examples::mini::{CaptionPlan, Domain, Form, Scene, Task};
//! use adamllm_core::random::named_stream;
//!
//! let scene = Scene::new(7, Domain::Slides, 0);
//! let mut random = named_stream(7, "example", "0");
//! let caption = CaptionPlan::draw(&mut random).write(&scene);
//! let task = Task::draw(&scene, Form::Open, &mut random);
//! assert!(caption.contains(&task.precise()));
//! assert!(task.informative(&scene, &mut random).contains(&task.precise()));
//! assert_eq!(scene.picture().dimensions(), (112, 112));
//! ```

pub mod benchmarks;
pub mod cli;
#[cfg(feature = "models")]
pub mod mini;
#[cfg(feature = "models")]
pub mod models;
#[cfg(feature = "models")]
pub mod post_train;
#[cfg(feature = "models")]
pub mod replicas;
pub mod settings;

/// The root README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
