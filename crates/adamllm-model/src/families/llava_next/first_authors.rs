//! The layout of LLaVA-NeXT's first authors (`model_type` is `llava_llama`): no processor files, no placeholder, no template for
//! images.

use super::*;

/// The encoder that folders name by its Hub id.
const CLIP_LARGE_336: &str = "clip-vit-large-patch14-336";

/// A reserved token stands in for images.
pub(super) const PROMPT: ImagePrompt = ImagePrompt {
    template: Some(TEMPLATE),
    placeholder: Some("<|reserved_special_token_4|>"),
    begin_after: None,
    needs: &[],
};

/// The first authors' layout: the encoder's own configuration stands in the folder that `mm_vision_tower` names (relative to
/// the model), or is known by the encoder's Hub id.
pub(super) fn config(file: &ConfigFile) -> Result<ModelConfig, ModelError> {
    let fields = file.root_fields(FIRST_AUTHORS);
    let (mut decoder, max_context) = text::decoder(&fields, text::LLAMA)?;
    decoder.tied_head = file.tied()?;

    // The names of what is supported are not the class's defaults: a file that leaves one out has no images of this kind.
    let given = |name: &str, wanted: &str| match fields.word(name)? {
        Some(other) if fields.has(name) && other != wanted => Err(fields.fault(name, wanted, other)),
        _ => Ok(()),
    };
    given("mm_vision_select_feature", "patch")?;
    given("mm_projector_type", "mlp2x_gelu")?;
    given("mm_patch_merge_type", "spatial_unpad")?;
    given("image_aspect_ratio", "anyres")?;
    let name = fields.word("mm_vision_tower")?.unwrap_or("");
    let select = feature_layer(&fields, "mm_vision_select_layer", -2)?;
    // `(width, height)` here, the other way round than everywhere else.
    let turned = |points: Vec<(u32, u32)>| points.into_iter().map(|(width, height)| (height, width)).collect();
    let pinpoints = pinpoints(&fields)?.map(turned);
    fields.only("mm_use_im_start_end", false.into())?;
    fields.finish(&["mm_hidden_size", "mm_use_im_patch_token"])?;

    let (path, section) = encoder_config(&file.path, name)?;
    let encoder_fields = Fields::new(&path, "", &section, defaults::of("llava_next", "vision_config"));
    let encoder = clip(&encoder_fields, select)?;
    encoder_fields.finish(&[])?;
    let vision = LlavaNextVisionConfig { encoder, d_model: decoder.d_model, activation: Activation::Gelu };
    let vision = Arc::new(LlavaNextFolder { vision, pinpoints, first_authors: true });
    Ok(ModelConfig { vision: Some(vision), ..ModelConfig::text_only(FAMILY, decoder, max_context) })
}

/// The encoder's own `config.json`, and where it stands.
fn encoder_config(path: &Path, name: &str) -> Result<(std::path::PathBuf, Map<String, Value>), ModelError> {
    let beside = path.parent().unwrap_or(Path::new(".")).join(name).join("config.json");
    let found = if name.is_empty() { None } else { read_json(&beside)? };
    match found {
        Some(json) => {
            let section = json.get("vision_config").cloned().unwrap_or(json);
            let wrong = |other: &Value| ModelError::config(&beside, "(root)", "an object", shown(other));
            let section = section.as_object().ok_or_else(|| wrong(&section))?.clone();
            Ok((beside, section))
        }
        None if name.ends_with(CLIP_LARGE_336) => {
            Ok((path.into(), defaults::absent("llava_next", "vision_config").clone()))
        }
        None => {
            let expected = format!("a folder beside config.json, or a name that ends with {CLIP_LARGE_336}");
            Err(ModelError::config(path, "mm_vision_tower", expected, name))
        }
    }
}

/// The conversation format of LLaVA-NeXT on Llama 3 (`llava_llama_3`), with its system line: folders of this layout bring a
/// template without images, or none.
const TEMPLATE: &str = r#"{{- bos_token -}}
{%- if not messages or messages[0]['role'] != 'system' -%}
    {{- '<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.<|eot_id|>' -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}{{- '<|reserved_special_token_4|>' -}}
            {%- else -%}{{- part['text'] -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
"#;
