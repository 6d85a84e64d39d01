use std::path::{Path, PathBuf};
use std::sync::Arc;

use adamllm_core::{ImageRef, RgbImage};
use adamllm_vision::preprocess::{LlavaNextImageConfig, MllamaImageConfig, PreprocessError, Qwen2VlImageConfig};

use serde_json::Value;

use crate::text::read_json;
use crate::{EncodedImage, ModelConfig, ModelError, TileLayout, VisionConfig};

const FILES: &[&str] = &["processor_config.json", "preprocessor_config.json"];

/// A family's image processing with a folder's settings.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageProcessor {
    /// Qwen2-VL and Qwen2.5-VL.
    Qwen2Vl(Qwen2VlImageConfig),
    /// LLaVA-NeXT.
    LlavaNext {
        /// The settings.
        config: LlavaNextImageConfig,
        /// Pixels along the side of the encoder's patches.
        patch: u32,
    },
    /// Llama 3.2 Vision.
    Mllama {
        /// The settings.
        config: MllamaImageConfig,
        /// Rows of a tile.
        rows_per_tile: usize,
    },
}

impl ImageProcessor {
    /// Reads the member `image_processor` of `processor_config.json` (transformers 5), or else `preprocessor_config.json`
    /// (2024): the order of transformers 5.23. LLaVA's first layout has neither: its settings stand in `config.json`.
    /// Settings that the vision encoder contradicts are errors.
    pub(crate) fn read(folder: &Path, config: &ModelConfig, vision: &VisionConfig) -> Result<Self, ModelError> {
        match vision {
            VisionConfig::Qwen2Vl(_) | VisionConfig::Qwen2_5Vl(_) => {
                let (path, read) = settings(folder, Qwen2VlImageConfig::from_json)?;
                let [patch, merge, frames] = match vision {
                    VisionConfig::Qwen2Vl(c) => [c.patch_size, c.merge_size, c.temporal_patch_size],
                    VisionConfig::Qwen2_5Vl(c) => [c.patch_size, c.merge_size, c.temporal_patch_size],
                    VisionConfig::LlavaNext(_) | VisionConfig::Mllama(_) => unreachable!("matched above"),
                };
                agrees(&path, "patch_size", read.patch_size, patch as u32)?;
                agrees(&path, "merge_size", read.merge_size, merge as u32)?;
                agrees(&path, "temporal_patch_size", read.temporal_patch_size, frames as u32)?;
                Ok(Self::Qwen2Vl(read))
            }
            VisionConfig::LlavaNext(llava) => {
                let tile = llava.encoder.tile as u32;
                let (path, mut read) = if config.first_layout {
                    (folder.join("config.json"), LlavaNextImageConfig { tile, ..Default::default() })
                } else {
                    settings(folder, LlavaNextImageConfig::from_json)?
                };
                if let Some(pinpoints) = llava.pinpoints.as_ref().filter(|_| config.first_layout) {
                    read.pinpoints.clone_from(pinpoints);
                    read.validate().map_err(|e| invalid(&path, e))?;
                }
                agrees(&path, "crop_size", read.tile, tile)?;
                Ok(Self::LlavaNext { config: read, patch: llava.encoder.patch_size as u32 })
            }
            VisionConfig::Mllama(mllama) => {
                let (path, read) = settings(folder, MllamaImageConfig::from_json)?;
                agrees(&path, "size", read.tile, mllama.encoder.tile as u32)?;
                agrees(&path, "max_image_tiles", read.max_tiles, mllama.encoder.max_tiles as u32)?;
                Ok(Self::Mllama { config: read, rows_per_tile: mllama.encoder.rows_per_tile() })
            }
        }
    }

    /// How an image of this size is cut.
    pub(crate) fn layout(&self, image: &ImageRef, (width, height): (u32, u32)) -> Result<TileLayout, ModelError> {
        let layout = match self {
            Self::Qwen2Vl(config) => config.grid_from_size(width, height).map(|grid| TileLayout::Patches {
                patches: [grid.t, grid.h, grid.w].map(|n| n as usize),
                merge: config.merge_size as usize,
            }),
            Self::LlavaNext { config, patch } => config.layout(width, height, *patch).map(TileLayout::Anyres),
            Self::Mllama { config, rows_per_tile } => {
                let tiled = |grid| TileLayout::Tiled {
                    grid,
                    rows_per_tile: *rows_per_tile,
                    max_tiles: config.max_tiles as usize,
                };
                config.grid_from_size(width, height).map(tiled)
            }
        };
        layout.map_err(|e| failed(image, &e))
    }

    /// Resizes, normalises and cuts a decoded image.
    pub(crate) fn encode(&self, image: &ImageRef, picture: &RgbImage) -> Result<EncodedImage, ModelError> {
        let layout = self.layout(image, picture.dimensions())?;
        let pixels = match self {
            Self::Qwen2Vl(config) => config.patches(picture).map(|patches| patches.pixels),
            Self::LlavaNext { config, .. } => config.tiles(picture).map(|tiles| tiles.pixels),
            Self::Mllama { config, .. } => config.tiles(picture).map(|(tiles, _)| tiles.pixels),
        };
        let pixels = pixels.map_err(|e| failed(image, &e))?;
        Ok(EncodedImage { image: image.clone(), layout, pixels: Arc::new(pixels) })
    }

    /// The shape of an encoded image's values: patches and their width, or tiles, channels, height and width.
    pub fn pixel_shape(&self, layout: &TileLayout) -> Vec<usize> {
        let tiles = |n: usize, side: u32| vec![n, 3, side as usize, side as usize];
        match (self, layout) {
            (Self::LlavaNext { config, .. }, TileLayout::Anyres(layout)) => tiles(layout.n_tiles(), config.tile),
            (Self::Mllama { config, .. }, TileLayout::Tiled { grid, .. }) => tiles(grid.n_tiles(), config.tile),
            (Self::Qwen2Vl(config), layout) => {
                let d_patch = 3 * config.temporal_patch_size * config.patch_size * config.patch_size;
                vec![layout.n_patches(), d_patch as usize]
            }
            (_, layout) => vec![layout.n_patches()],
        }
    }
}

fn failed(image: &ImageRef, error: &PreprocessError) -> ModelError {
    ModelError::Image { image: image.to_string(), detail: error.to_string() }
}

fn invalid(path: &Path, error: PreprocessError) -> ModelError {
    match error {
        PreprocessError::Config { field, expected, got } => ModelError::config(path, field, expected, got),
        error => ModelError::config(path, "image processor", "settings of the model's family", error),
    }
}

fn agrees(path: &Path, field: &str, found: u32, encoder: u32) -> Result<(), ModelError> {
    if found == encoder {
        return Ok(());
    }
    Err(ModelError::config(path, field, format!("the vision encoder's {encoder} (config.json)"), found))
}

/// The settings and the file that they come from. Where a second file says something else, that is a warning.
fn settings<T: PartialEq>(
    folder: &Path,
    parse: fn(&str) -> Result<T, PreprocessError>,
) -> Result<(PathBuf, T), ModelError> {
    let mut found: Vec<(PathBuf, Value)> = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        let mut json = read_json(&path)?.unwrap_or(Value::Null);
        if *name == "processor_config.json" {
            json = json.get_mut("image_processor").map(Value::take).unwrap_or_default();
        }
        if !json.is_null() {
            found.push((path, json));
        }
    }
    let Some(((path, json), others)) = found.split_first() else {
        return Err(ModelError::FileMissing { folder: folder.into(), expected: FILES });
    };
    let taken = parse(&json.to_string()).map_err(|e| invalid(path, e))?;
    for (other, json) in others {
        if parse(&json.to_string()).ok().as_ref() != Some(&taken) {
            tracing::warn!(
                taken = %path.display(),
                passed_over = %other.display(),
                "the folder has two image processors that differ; the first is taken, as transformers does"
            );
        }
    }
    Ok((path.clone(), taken))
}
