"""Writes a folder with random weights, for measuring speed and memory. Run: `python make_model.py SIZE FOLDER [--dtype bf16] [--device cuda]`.

SIZE is `33m` (width 512, 8 layers, a vision encoder of 4), `100m` (width 768, 12 layers, a vision encoder of 6) or `2b` (the sizes of Qwen2-VL-2B-Instruct), all Qwen2-VL, or `8b`: LLaVA-NeXT
over Llama-3-8B, in bf16 and four gigabytes at a time, 16.7 in all. Tokenizer and template are made here; the answers mean nothing.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
SIZES = {
    "33m": {
        "text": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
                 "num_key_value_heads": 2, "vocab_size": 8192, "mrope_section": [8, 12, 12]},
        "vision": {"depth": 4, "embed_dim": 256, "num_heads": 4},
    },
    "100m": {
        "text": {"hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 12, "num_attention_heads": 12,
                 "num_key_value_heads": 2, "vocab_size": 8192, "mrope_section": [8, 12, 12]},
        "vision": {"depth": 6, "embed_dim": 384, "num_heads": 6},
    },
    "2b": {
        "text": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
                 "num_key_value_heads": 2, "vocab_size": 151936, "mrope_section": [16, 24, 24]},
        "vision": {"depth": 32, "embed_dim": 1280, "num_heads": 16},
    },
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{% if p.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ p.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, and the family's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    out = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    out.add_special_tokens({"additional_special_tokens": SPECIAL})
    out.chat_template = TEMPLATE
    return out


def write_8b(folder: Path) -> None:
    """LLaVA-NeXT with Llama-3-8B and CLIP ViT-L/14 at 336 pixels. The model is never in memory, only a part of its weights."""
    tokens = tokenizer()
    ids = tokens.get_vocab()
    grid = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    config = LlavaNextConfig(
        text_config=LlamaConfig(
            vocab_size=128320, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
            num_key_value_heads=8, max_position_embeddings=8192, rms_norm_eps=1e-5, eos_token_id=ids["<|im_end|>"],
            bos_token_id=ids["<|endoftext|>"], rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
            patch_size=14, projection_dim=768,
        ),
        image_token_index=ids["<|image_pad|>"], image_grid_pinpoints=grid, image_seq_length=576, tie_word_embeddings=False,
        dtype="bfloat16", architectures=["LlavaNextForConditionalGeneration"],
    )
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in LlavaNextForConditionalGeneration._from_config(config).state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    where, part, n_bytes, n = {}, {}, 0, 1

    def write() -> None:
        nonlocal part, n_bytes, n
        name = f"model-{n:05}.safetensors"
        save_file(part, folder / name, {"format": "pt"})
        where.update(dict.fromkeys(part, name))
        part, n_bytes, n = {}, 0, n + 1

    for name, shape in shapes.items():
        if n_bytes >= 4e9:
            write()
        part[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
        if len(shape) == 1:
            # Norms are one, biases nothing.
            part[name].fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        n_bytes += part[name].nbytes
    write()
    total = sum(2 * math.prod(shape) for shape in shapes.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
    config.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids["<|im_end|>"]}))
    tokens.chat_template = TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image_pad|>")
    tokens.save_pretrained(folder)
    processor = {
        "crop_size": {"height": 336, "width": 336}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_pad": True,
        "do_rescale": True, "do_resize": True, "image_grid_pinpoints": grid, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "LlavaNextImageProcessor", "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "LlavaNextProcessor", "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 336},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))
    print(f"{folder}: {total // 2:,} parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=[*SIZES, "8b"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--device", default="cpu", help="where the weights are drawn: cuda is faster, with other values")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.size == "8b":
        return write_8b(arguments.folder)
    tokens = tokenizer()
    ids = tokens.get_vocab()
    size = SIZES[arguments.size]
    text = dict(size["text"])
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": text.pop("mrope_section")}
    config = Qwen2VLConfig(
        text_config={**text, "rope_parameters": rope, "tie_word_embeddings": True, "max_position_embeddings": 32768},
        vision_config={**size["vision"], "hidden_size": text["hidden_size"]}, tie_word_embeddings=True,
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )
    dtype = torch.bfloat16 if arguments.dtype == "bf16" else torch.float32
    with torch.device(arguments.device):
        model = Qwen2VLForConditionalGeneration._from_config(config, dtype=dtype)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.save_pretrained(arguments.folder)
    tokens.save_pretrained(arguments.folder)
    processor = {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136, "max_pixels": 12845056, "merge_size": 2,
        "patch_size": 14, "temporal_patch_size": 2, "processor_class": "Qwen2VLProcessor", "resample": 3,
        "rescale_factor": 1 / 255,
    }
    (arguments.folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))
    print(f"{arguments.folder}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
