use std::path::Path;
use std::sync::Arc;

use adamllm_core::{ImageRef, RgbImage};
use adamllm_vision::preprocess::{LlavaNextImageConfig, MllamaImageConfig, PreprocessError, Qwen2VlImageConfig};

use crate::text::read_json;
use crate::{EncodedImage, ModelConfig, ModelError, TileLayout, VisionConfig};

const FILES: &[&str] = &["preprocessor_config.json", "processor_config.json"];

/// A family's image processing with a folder's settings.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageProcessor {
    /// Qwen2-VL and Qwen2.5-VL.
    Qwen2Vl(Qwen2VlImageConfig),
    /// LLaVA-NeXT.
    LlavaNext {
        /// The settings.
        config: LlavaNextImageConfig,
        /// Pixels along the side of the tower's patches.
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
    /// Reads `preprocessor_config.json` (2024) or `processor_config.json` (transformers 5). LLaVA's first layout has
    /// neither: its settings stand in `config.json`.
    pub(crate) fn read(folder: &Path, config: &ModelConfig, vision: &VisionConfig) -> Result<Self, ModelError> {
        match vision {
            VisionConfig::Qwen2Vl(_) | VisionConfig::Qwen2_5Vl(_) => {
                let (path, text) = settings(folder)?;
                let read = Qwen2VlImageConfig::from_json(&text);
                read.map(Self::Qwen2Vl).map_err(|e| invalid(&path, e))
            }
            VisionConfig::LlavaNext(llava) => {
                let tile = llava.tower.tile as u32;
                let (path, mut read) = if config.first_layout {
                    (folder.join("config.json"), LlavaNextImageConfig { tile, ..Default::default() })
                } else {
                    let (path, text) = settings(folder)?;
                    let read = LlavaNextImageConfig::from_json(&text).map_err(|e| invalid(&path, e))?;
                    (path, read)
                };
                if let Some(pinpoints) = llava.pinpoints.as_ref().filter(|_| config.first_layout) {
                    read.pinpoints.clone_from(pinpoints);
                }
                agrees(&path, "crop_size", read.tile, tile)?;
                Ok(Self::LlavaNext { config: read, patch: llava.tower.patch_size as u32 })
            }
            VisionConfig::Mllama(mllama) => {
                let (path, text) = settings(folder)?;
                let read = MllamaImageConfig::from_json(&text).map_err(|e| invalid(&path, e))?;
                agrees(&path, "size", read.tile, mllama.tower.tile as u32)?;
                agrees(&path, "max_image_tiles", read.max_tiles, mllama.tower.max_tiles as u32)?;
                Ok(Self::Mllama { config: read, rows_per_tile: mllama.tower.rows_per_tile() })
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

    /// Resizes, normalises and cuts a decoded picture.
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
    ModelError::config(path, "image processor", "settings of the model's family", error)
}

fn agrees(path: &Path, field: &str, found: u32, tower: u32) -> Result<(), ModelError> {
    if found == tower {
        return Ok(());
    }
    Err(ModelError::config(path, field, format!("the tower's {tower}"), found))
}

fn settings(folder: &Path) -> Result<(std::path::PathBuf, String), ModelError> {
    for name in FILES {
        let path = folder.join(name);
        if let Some(json) = read_json(&path)? {
            return Ok((path, json.to_string()));
        }
    }
    Err(ModelError::FileMissing { folder: folder.into(), expected: FILES })
}
