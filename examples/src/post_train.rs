//! The parts of the job `post_train`: its settings file, its rows, and the stages that it trains.

mod config;
mod rows;
mod stage;

pub use config::{
    DataConfig, ExportConfig, ExportKind, JobConfig, ModelConfig, PartConfig, PartsConfig, PictureCheck, SourceConfig,
    ValidationConfig,
};
pub use rows::{RowCounts, RowReader, RowSet};
pub use stage::{Stage, StageReport, Steering};
