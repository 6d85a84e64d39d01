"""A fixture's folder in the layout that its family was published in. `worker.py` calls it inside the newest release's environment.

Folders that transformers 5 wrote are put in the words of the releases before it: the base of the angles beside `rope_scaling`, image
settings and chat template in files of their own, `vocab.json` and `merges.txt` beside `tokenizer.json`.
"""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer


def prepare(folder: str, to: str, variant: str | None) -> None:
    """The weights become one file that says who wrote it, which old releases insist on."""
    out = Path(to)
    shutil.copytree(folder, out)
    tensors: dict = {}
    for shard in sorted(out.glob("*.safetensors")):
        tensors.update(load_file(shard))
        shard.unlink()
    (out / "model.safetensors.index.json").unlink(missing_ok=True)
    save_file(tensors, str(out / "model.safetensors"), metadata={"format": "pt"})

    config = read(out / "config.json")
    text = config.get("text_config", config)
    if "rope_parameters" in text:
        earlier(config, text)
        earlier_tokenizer(out)
        change(out / "generation_config.json", transformers_version="4.57.0")
        if "text_config" in config:
            earlier_side_files(out)
        FAMILIES.get(config["model_type"], lambda *_: None)(config, out)
    VARIANTS.get(variant, lambda *_: None)(config, out)
    write(out / "config.json", config)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False))


def change(path: Path, **fields) -> None:
    write(path, read(path) | fields)


def earlier(config: dict, text: dict) -> None:
    """`config.json` before transformers 5, as far as all families had it."""
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    if rope != {"rope_type": "default"}:
        text["rope_scaling"] = rope
    text.pop("layer_types", None)
    config["transformers_version"] = "4.57.0"
    dtype = config.pop("dtype")
    config["torch_dtype"] = text["torch_dtype"] = dtype


def earlier_tokenizer(folder: Path) -> None:
    """The template and the added tokens in `tokenizer_config.json`, words and merges in files of their own."""
    settings = read(folder / "tokenizer_config.json")
    settings = {k: v for k, v in settings.items() if k not in ("extra_special_tokens", "backend")}
    if settings["tokenizer_class"] == "TokenizersBackend":
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    else:
        Tokenizer.from_file(str(folder / "tokenizer.json")).model.save(str(folder))
        settings["add_prefix_space"] = False
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    added = read(folder / "tokenizer.json")["added_tokens"]
    settings["added_tokens_decoder"] = {str(token["id"]): {flag: token[flag] for flag in flags} for token in added}
    named = {v for k, v in settings.items() if k.endswith("_token")}
    settings["additional_special_tokens"] = [token["content"] for token in added if token["content"] not in named]
    template = folder / "chat_template.jinja"
    settings["chat_template"] = template.read_text()
    template.unlink()
    write(folder / "tokenizer_config.json", settings)


def earlier_side_files(folder: Path) -> None:
    """Image settings and template in files of their own."""
    processor = read(folder / "processor_config.json")
    images = processor.pop("image_processor") | {"processor_class": processor["processor_class"]}
    processor.pop("video_processor", None)
    write(folder / "preprocessor_config.json", images)
    write(folder / "processor_config.json", processor)
    write(folder / "chat_template.json", {"chat_template": read(folder / "tokenizer_config.json")["chat_template"]})


def qwen3_vl(config: dict, folder: Path) -> None:
    """October 2025: no `processor_config.json`, settings for videos, the dtype in `text_config` alone."""
    text, vision = config["text_config"], config["vision_config"]
    config.pop("torch_dtype")
    text["dtype"] = text.pop("torch_dtype")
    vision.pop("rope_parameters")
    vision["model_type"] = "qwen3_vl"
    (folder / "processor_config.json").unlink()
    kept = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std", "processor_class")
    images = {k: v for k, v in read(folder / "preprocessor_config.json").items() if k in kept}
    write(folder / "preprocessor_config.json", images | {"image_processor_type": "Qwen2VLImageProcessorFast"})
    videos = images | {"size": {"longest_edge": 25165824, "shortest_edge": 4096}, "video_processor_type": "Qwen3VLVideoProcessor"}
    write(folder / "video_preprocessor_config.json", videos)


def smolvlm(config: dict, folder: Path) -> None:
    """SmolVLM2, February 2025: fields that no class knows, tokens by name in `tokenizer_config.json`."""
    idefics3(config, folder)
    config["vision_config"]["model_type"] = "smolvlm_vision"
    images = folder / "preprocessor_config.json"
    change(images, video_sampling={"fps": 1, "max_frames": 64, "video_size": read(images)["max_image_size"]})
    tokens = {
        "fake_image_token": "<fake_token_around_image>", "image_token": "<image>", "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    change(folder / "tokenizer_config.json", extra_special_tokens=tokens, **tokens)


def idefics3(config: dict, folder: Path) -> None:
    """August 2024: fields that no class knows."""
    text, vision, images = config["text_config"], config["vision_config"], read(folder / "preprocessor_config.json")
    config.pop("_pad_token_id", None)
    config |= {"pad_token_id": 128002, "vocab_size": text["vocab_size"]}
    text |= {"architectures": ["VLlama3ForCausalLM"], "neftune_noise_alpha": 0.0, "pixel_shuffle_factor": config["scale_factor"]}
    text |= {"is_llama_config": True, "qk_layer_norms": False, "rope_interleaved": False, "use_resampler": False}
    vision |= {"model_type": "idefics3", "size": images["size"], "max_image_size": images["max_image_size"]}
    vision |= {"tie_word_embeddings": False, "use_base_siglip": False}


def mistral(config: dict, _) -> None:
    text = config["text_config"]
    for field in ("attention_bias", "mlp_bias", "pretraining_tp"):
        text.pop(field)
    text |= {"model_type": "mistral", "sliding_window": None}


def smolvlm_as_idefics3(config: dict, folder: Path) -> None:
    """The first SmolVLMs, November 2024."""
    config |= {"model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"]}
    config["vision_config"]["model_type"] = "idefics3"
    name = {"processor_class": "Idefics3Processor"}
    for file in ("processor_config.json", "tokenizer_config.json"):
        change(folder / file, **name)
    change(folder / "preprocessor_config.json", image_processor_type="Idefics3ImageProcessor", **name)


FAMILIES = {"qwen3_vl": qwen3_vl, "smolvlm": smolvlm, "idefics3": idefics3}
VARIANTS = {"mistral": mistral, "smolvlm_as_idefics3": smolvlm_as_idefics3}
