//! SmolVLM (arXiv 2504.05299; model card HuggingFaceTB/SmolVLM-Instruct) and Idefics3 (arXiv 2408.12637; model card
//! HuggingFaceM4/Idefics3-8B-Llama3), which have one architecture: tiles in SigLIP, a pixel shuffle, a Llama.

use std::path::Path;
use std::sync::Arc;

use adamllm_core::json::shown;
use adamllm_language::{DecoderConfig, RopeConfig};
use adamllm_nn::{Activation, ExampleSize, ImageLayout, MlpShape, PassSegment, TrainedParameters};
use adamllm_vision::preprocess::{ImageProcessor, SmolVlmImageConfig, SmolVlmImageProcessor, SplitGrid};
use adamllm_vision::{SiglipEncoderConfig, SmolVlmVisionConfig};
use burn::tensor::Device;
use serde_json::Value;

use super::{Family, ModelFamily, text};
use crate::flops::matrix;
use crate::hf::config::{ConfigFile, ModelConfig};
use crate::hf::fields::Fields;
use crate::hf::keys::{PartKeys, Renames};
use crate::hf::{defaults, vision as encoder};
use crate::image_processor::settings;
use crate::memory::{Attention, EncoderShape, linear_connector};
use crate::text::read_json;
use crate::{AutoVisionEncoder, ImagePiece, ImagePrompt, ModelError, TemplateTokens, VisionConfig};

/// The family.
#[derive(Debug)]
pub(super) struct SmolVlm;

const FAMILY: Family = Family::new(&SmolVlm);

/// The `model_type` of the older of the two, whose class has the same defaults.
const IDEFICS3: &str = "idefics3";

/// Stands before every tile's features and after the last one's.
const FAKE_TOKEN: &str = "<fake_token_around_image>";

/// Stands before the whole image's features.
const GLOBAL_IMAGE: &str = "<global-img>";

/// Features of a tile where `processor_config.json` names no number: the default of transformers' processors.
const DEFAULT_IMAGE_SEQ_LEN: usize = 169;

const KEYS: &[PartKeys] = &[
    PartKeys::language("model.text_model.", "model.text_model.", &["text_model.", "model.model.text_model."]),
    PartKeys::head("lm_head.", &["model.lm_head."]),
    PartKeys {
        starts: &[("layers.", "encoder.layers.")],
        names: SIGLIP,
        ..PartKeys::plain(
            "vision.encoder.",
            "model.vision_model.",
            "model.vision_model.",
            &["vision_model.", "model.model.vision_model."],
        )
    },
    PartKeys::plain(
        "vision.projector.",
        "model.connector.modality_projection.proj.",
        "model.connector.modality_projection.proj.",
        &["connector.modality_projection.proj.", "model.model.connector.modality_projection.proj."],
    ),
];

const SIGLIP: Renames = &[
    ("patch_embedding.", "embeddings.patch_embedding."),
    ("position_embedding", "embeddings.position_embedding.weight"),
    ("post_norm.", "post_layernorm."),
    ("norm1.", "layer_norm1."),
    ("norm2.", "layer_norm2."),
    ("attention.query.", "self_attn.q_proj."),
    ("attention.key.", "self_attn.k_proj."),
    ("attention.value.", "self_attn.v_proj."),
    ("attention.output.", "self_attn.out_proj."),
];

impl ModelFamily for SmolVlm {
    fn model_types(&self) -> &'static [&'static str] {
        &["smolvlm", IDEFICS3]
    }

    fn refused_types(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("idefics2", "idefics3 or smolvlm: the perceiver of Idefics2 is not supported"),
            ("idefics", "idefics3 or smolvlm: the cross-attention of the first Idefics is not supported"),
        ]
    }

    fn config(&self, file: &ConfigFile) -> Result<ModelConfig, ModelError> {
        let class = match file.root.get("model_type").and_then(Value::as_str) {
            Some(IDEFICS3) => IDEFICS3,
            _ => "smolvlm",
        };
        let root = file.root_fields(class);
        let image_token = file.image_token(&root)?;
        let scale_factor = root.count(&["scale_factor"], 1..=64)?;
        root.finish(&["tie_word_embeddings", "_pad_token_id"])?;

        let (mut decoder, max_context) = decoder(file, class)?;
        decoder.tied_head = file.tied()?;
        let vision_fields = file.vision_fields(class)?;
        let encoder = siglip(&vision_fields)?;
        vision_fields.finish(&[])?;
        let vision = Arc::new(SmolVlmVisionConfig { encoder, scale_factor, d_model: decoder.d_model });
        Ok(ModelConfig { vision: Some(vision), image_token, ..ModelConfig::text_only(FAMILY, decoder, max_context) })
    }

    fn keys(&self) -> &'static [PartKeys] {
        KEYS
    }
}

impl VisionConfig for SmolVlmVisionConfig {
    fn image_processor(&self, folder: &Path) -> Result<Arc<dyn ImageProcessor>, ModelError> {
        let (path, config) = settings(folder, SmolVlmImageConfig::from_json)?;
        let side = config.tile as usize / self.encoder.patch_size;
        if side == 0 || !side.is_multiple_of(self.scale_factor) {
            let (patch, scale) = (self.encoder.patch_size, self.scale_factor);
            let expected =
                format!("so many patches of {patch} pixels on a side that scale_factor = {scale} divides them");
            return Err(ModelError::config(&path, "max_image_size.longest_edge", expected, config.tile));
        }
        let (patch_size, scale_factor) = (self.encoder.patch_size as u32, self.scale_factor as u32);
        let processor = SmolVlmImageProcessor { config, patch_size, scale_factor };
        placeholders_agree(folder, processor.features_per_tile())?;
        tokens_agree(folder)?;
        Ok(Arc::new(processor))
    }

    fn n_blocks(&self) -> usize {
        self.encoder.n_layers
    }

    fn forward_flops(&self, size: &ExampleSize) -> f64 {
        let (patches, pairs, encoder) = (size.patches as f64, size.attention_pairs as f64, &self.encoder);
        let d = encoder.d_vision;
        let block = patches * (matrix(d, 4 * d) + matrix(d, 2 * encoder.d_hidden)) + 4.0 * d as f64 * pairs;
        let projector = size.image_features as f64 * matrix(self.d_square(), self.d_model);
        patches * matrix(encoder.d_patch(), d) + encoder.n_layers as f64 * block + projector
    }

    fn pass_segments(&self, size: &ExampleSize, trained: &TrainedParameters) -> Option<Vec<PassSegment>> {
        let config = &self.encoder;
        let encoder = EncoderShape {
            name: "vision.encoder",
            positions: size.patches,
            d_vision: config.d_vision,
            n_heads: config.n_heads,
            d_hidden: config.d_hidden,
            mlp: MlpShape::Plain,
        };
        let mut segments = vec![encoder.patch_embedding(config.d_patch(), trained)];
        let block = |i| encoder.block(&format!("vision.encoder.layers.{i}"), Attention::Separate, trained);
        segments.extend((0..config.n_layers).map(block));
        segments.push(encoder.norm("post_norm", trained));
        let projector = [self.d_square(), self.d_model];
        segments.push(linear_connector("vision.projector", size.image_features, projector, trained));
        Some(segments)
    }

    fn init(&self, device: &Device) -> Option<AutoVisionEncoder> {
        Some(SmolVlmVisionConfig::init(self, device).into())
    }

    fn image_prompt(&self) -> ImagePrompt {
        ImagePrompt { needs: &[FAKE_TOKEN], ..ImagePrompt::default() }
    }

    /// Each tile after its place in the grid, each row of tiles on a line of its own, the whole image after an empty line.
    fn image_pieces(&self, layout: &ImageLayout) -> Vec<ImagePiece> {
        let grid = SplitGrid::of(layout);
        let tile = ImagePiece::Placeholders(layout.n_placeholders / grid.n_tiles());
        let mut pieces = Vec::with_capacity(2 * grid.n_tiles() + 1);
        for row in 1..=grid.rows {
            for column in 1..=grid.columns {
                let line = if row > 1 && column == 1 { "\n" } else { "" };
                pieces.push(ImagePiece::Text(format!("{line}{FAKE_TOKEN}<row_{row}_col_{column}>")));
                pieces.push(tile.clone());
            }
        }
        let lines = if grid.rows > 0 { "\n\n" } else { "" };
        pieces.push(ImagePiece::Text(format!("{lines}{FAKE_TOKEN}{GLOBAL_IMAGE}")));
        pieces.extend([tile, ImagePiece::Text(FAKE_TOKEN.into())]);
        pieces
    }

    fn patch_kernel(&self) -> Vec<usize> {
        vec![self.encoder.n_channels, self.encoder.patch_size, self.encoder.patch_size]
    }
}

/// transformers' processor writes as many placeholders for a tile as `processor_config.json` says; where the encoder gives another
/// number of features, its model stops.
fn placeholders_agree(folder: &Path, features_per_tile: usize) -> Result<(), ModelError> {
    let path = folder.join("processor_config.json");
    let file = read_json(&path)?.unwrap_or(Value::Null);
    let found = match &file["image_seq_len"] {
        Value::Null => DEFAULT_IMAGE_SEQ_LEN.into(),
        found => found.clone(),
    };
    if found.as_u64() == Some(features_per_tile as u64) {
        return Ok(());
    }
    let expected = format!("the features of a tile of max_image_size pixels, {features_per_tile}");
    Err(ModelError::config(&path, "image_seq_len", expected, shown(&found)))
}

/// A tokenizer may name other tokens for transformers' processor to write than all published ones do.
fn tokens_agree(folder: &Path) -> Result<(), ModelError> {
    let path = folder.join("tokenizer_config.json");
    let config = read_json(&path)?.unwrap_or(Value::Null);
    let named = TemplateTokens::from_config(&config, &Value::Null);
    for (name, token) in
        [("fake_image_token", FAKE_TOKEN), ("global_image_token", GLOBAL_IMAGE), ("image_token", "<image>")]
    {
        if let Some(other) = named.get(name).filter(|&other| other != token) {
            return Err(ModelError::config(&path, name, format!("{token}: no other is supported"), other));
        }
    }
    Ok(())
}

/// The decoder: a Llama.
fn decoder(file: &ConfigFile, class: &str) -> Result<(DecoderConfig, usize), ModelError> {
    let section = file.section("text_config")?.unwrap_or_else(|| defaults::absent(class, "text_config"));
    match section.get("model_type").and_then(Value::as_str) {
        None | Some("llama") => {}
        Some(other) => {
            let expected = "llama: no other decoder is supported";
            return Err(ModelError::config(&file.path, "text_config.model_type", expected, other));
        }
    }
    let fields = Fields::new(&file.path, "text_config", section, defaults::of(class, "text_config"));
    let decoder = text::decoder(&fields, text::LLAMA)?;
    fields.finish(&[])?;
    Ok(decoder)
}

fn siglip(fields: &Fields) -> Result<SiglipEncoderConfig, ModelError> {
    let (d_vision, n_layers) = (fields.size("hidden_size")?, encoder::n_layers(fields, &["num_hidden_layers"])?);
    let patch_size = encoder::patch_size(fields)?;
    Ok(SiglipEncoderConfig {
        n_layers,
        d_vision,
        n_heads: encoder::n_heads(fields, &["num_attention_heads"], d_vision, 1)?,
        d_hidden: fields.size("intermediate_size")?,
        image_size: fields.count(&["image_size"], patch_size..=1 << 14)?,
        patch_size,
        n_channels: encoder::n_channels(fields, &["num_channels"])?,
        activation: encoder::activation(fields, "hidden_act", Activation::GeluPytorchTanh)?,
        epsilon: fields.positive("layer_norm_eps")?,
    })
}

/// A SmolVLM of an encoder, a scale factor and a decoder whose head is a matrix of its own.
fn smolvlm(
    encoder: SiglipEncoderConfig,
    scale_factor: usize,
    decoder: DecoderConfig,
    image_token: u32,
    max_context: usize,
) -> ModelConfig {
    let vision = Arc::new(SmolVlmVisionConfig { encoder, scale_factor, d_model: decoder.d_model });
    let text = ModelConfig::text_only(FAMILY, decoder.with_rms_epsilon(1e-5), max_context);
    ModelConfig { vision: Some(vision), image_token: Some(image_token), ..text }
}

impl ModelConfig {
    /// HuggingFaceTB/SmolVLM-256M-Instruct.
    pub fn smolvlm_256m() -> Self {
        let decoder = DecoderConfig::new(576, 30, 9, 3, 64, 1536, 49_280, RopeConfig::plain(100_000.0));
        smolvlm(SiglipEncoderConfig::base_512(), 4, decoder, 49_190, 8192)
    }

    /// HuggingFaceTB/SmolVLM-500M-Instruct.
    pub fn smolvlm_500m() -> Self {
        let decoder = DecoderConfig::new(960, 32, 15, 5, 64, 2560, 49_280, RopeConfig::plain(100_000.0));
        smolvlm(SiglipEncoderConfig::base_512(), 4, decoder, 49_190, 8192)
    }

    /// HuggingFaceTB/SmolVLM-Instruct, of 2.2 billion parameters.
    pub fn smolvlm_2_2b() -> Self {
        let decoder = DecoderConfig::new(2048, 24, 32, 32, 64, 8192, 49_155, RopeConfig::plain(273_768.0));
        smolvlm(SiglipEncoderConfig::so400m_384(), 3, decoder, 49_153, 16_384)
    }
}
