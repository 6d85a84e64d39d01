"""Loads an adapter that adamllm wrote with PEFT and says how far its logits are from those that adamllm recorded.

    python tools/check_adapter.py ADAPTER [--base FOLDER] [--json]

ADAPTER holds `adapter_config.json`, `adapter_model.safetensors` and `logits.json`: `input_ids` (and `images`, paths, with `rendered`, the prompt's
text) and `logits_last`. The base is the one that the adapter names. Compared are the adapter beside the weights and merged into them. Every tensor
of the file must have found its place in the model.
Exit code: 0 all good, 1 trouble (each trouble on its own line on stderr), 2 wrong arguments.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from PIL import Image, ImageOps
from safetensors import safe_open
from transformers import AutoConfig, AutoImageProcessor, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

CLOSE = 2e-4


def load(base: str):
    kind = AutoModelForImageTextToText if hasattr(AutoConfig.from_pretrained(base), "vision_config") else AutoModelForCausalLM
    return kind.from_pretrained(base, attn_implementation="eager", dtype=torch.float32).eval()


def inputs_of(base: str, recorded: dict):
    if not recorded.get("images"):
        return {"input_ids": torch.tensor([recorded["input_ids"]])}
    processor = AutoProcessor.from_pretrained(base)
    # Pillow's resizing, which is adamllm's: torchvision's gives other pixels.
    processor.image_processor = AutoImageProcessor.from_pretrained(base, backend="pil")
    images = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in recorded["images"]]
    nested = type(processor).__name__ in ("SmolVLMProcessor", "Idefics3Processor", "MllamaProcessor")
    inputs = processor(text=[recorded["rendered"]], images=[images] if nested else images, return_tensors="pt", add_special_tokens=False)
    assert inputs["input_ids"][0].tolist() == recorded["input_ids"], "the processor gives other token ids"
    return inputs


def unused(model, adapter: Path) -> list[str]:
    """Tensors of the file that the model does not have with these values."""
    held = {}
    for name, parameter in model.named_parameters():
        held[name.replace(".modules_to_save.default.", ".").replace(".default.weight", ".weight")] = parameter
    trouble = []
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        for key in file.keys():
            if key not in held:
                trouble.append(f"{key}: no such tensor in the model")
            elif not torch.equal(held[key].float(), file.get_tensor(key).float()):
                trouble.append(f"{key}: other values in the model")
        adapted = {name for name in held if ".lora_A." in name or ".lora_B." in name}
        trouble += [f"{name}: in the model, not in the file" for name in sorted(adapted - set(file.keys()))]
    return trouble


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--base", help="in place of the base that the adapter names")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = json.loads((options.adapter / "adapter_config.json").read_text())
    recorded = json.loads((options.adapter / "logits.json").read_text())
    base = options.base or config["base_model_name_or_path"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(load(base), options.adapter).eval()
    trouble = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)] + unused(model, options.adapter)

    expected = torch.tensor(recorded["logits_last"])
    worst = {}
    for form in ("beside", "merged"):
        if form == "merged":
            model = model.merge_and_unload()
        with torch.inference_mode():
            logits = model(**inputs_of(base, recorded), use_cache=False).logits[0, -1]
        worst[form] = ((logits - expected).abs().max() / expected.abs().max()).item()
        if worst[form] > CLOSE:
            trouble.append(f"{form}: logits differ by {worst[form]:.2e}")
    print(json.dumps({"adapter": str(options.adapter), **worst}) if options.json else f"{options.adapter}: {worst}")
    print(*trouble, sep="\n", end="\n" if trouble else "", file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
