//! The parts of the job `post_train`: its settings file, its rows, and the stages that it trains.

mod config;
mod rows;
mod stage;

pub use config::{
    DataConfig, ExportConfig, ExportKind, ImageCheck, JobConfig, ModelConfig, PartConfig, PartsConfig, SourceConfig,
    ValidationConfig,
};
pub use rows::{RowCounts, RowReader, RowSet};
pub use stage::{Stage, StageReport, Steering};
