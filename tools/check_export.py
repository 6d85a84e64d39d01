"""Loads an exported model folder with Hugging Face transformers and says what is wrong with it.

    python tools/check_export.py FOLDER [--base FOLDER] [--prompt TEXT] [--json]

Checks: every key of the weights is used and none is missing, all values are finite, the tokenizer and (for a vision model)
the processor and its chat template load, eight greedy tokens come out, with an image too where the model takes one.
With `--base`: the same key set, dtypes and shapes as the base folder, and the same side files byte for byte.
Exit code: 0 all good, 1 trouble (each trouble on its own line on stderr), 2 wrong arguments.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

N_NEW_TOKENS = 8


def tensors_of(folder: Path) -> dict[str, tuple]:
    """Key -> (dtype, shape), over all shards; a shard named by the index must exist and hold what the index says."""
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as shard:
            for key in shard.keys():
                part = shard.get_slice(key)
                out[key] = (part.get_dtype(), tuple(part.get_shape()), path.name)
    return out


def check_index(folder: Path, found: dict) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return []
    named = json.loads(index.read_text())["weight_map"]
    trouble = [f"index: {key} is in no shard" for key in named.keys() - found.keys()]
    trouble += [f"index: {key} is not listed" for key in found.keys() - named.keys()]
    return trouble + [f"index: {k} is in {found[k][2]}, not in {named[k]}" for k in named.keys() & found.keys() if named[k] != found[k][2]]


def compare(folder: Path, base: Path) -> list[str]:
    """Differences in keys, dtypes and shapes, and in every side file that the base has."""
    ours, theirs = tensors_of(folder), tensors_of(base)
    trouble = [f"missing against the base: {key}" for key in sorted(theirs.keys() - ours.keys())]
    trouble += [f"not in the base: {key}" for key in sorted(ours.keys() - theirs.keys())]
    trouble += [
        f"{key}: {ours[key][:2]}, the base has {theirs[key][:2]}"
        for key in sorted(ours.keys() & theirs.keys()) if ours[key][:2] != theirs[key][:2]
    ]
    for path in sorted(p for p in base.rglob("*") if p.is_file() and p.suffix in (".json", ".jinja", ".txt", ".model")):
        name = path.relative_to(base)
        if path.name == "model.safetensors.index.json":
            continue
        if not (folder / name).exists():
            trouble.append(f"side file missing: {name}")
        elif (folder / name).read_bytes() != path.read_bytes():
            trouble.append(f"side file differs: {name}")
    return trouble


def load(folder: Path):
    """The model in f32, whether it takes images, and what transformers' loading report complains about."""
    config = AutoConfig.from_pretrained(folder)
    visual = hasattr(config, "vision_config")
    loader = AutoModelForImageTextToText if visual else AutoModelForCausalLM
    model, report = loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    trouble = [f"{kind}: {sorted(map(str, keys))}" for kind, keys in report.items() if keys]
    trouble += [f"not finite: {key}" for key, value in model.state_dict().items() if not torch.isfinite(value).all()]
    return model.eval(), visual, trouble


def generate(model, inputs, tokenizer) -> dict:
    with torch.no_grad():
        out = model.generate(
            **inputs, do_sample=False, max_new_tokens=N_NEW_TOKENS, min_new_tokens=N_NEW_TOKENS,
            pad_token_id=tokenizer.pad_token_id or 0,
        )
    ids = out[0, inputs["input_ids"].shape[1] :].tolist()
    return {"n_prompt_tokens": inputs["input_ids"].shape[1], "output_ids": ids, "text": tokenizer.decode(ids)}


def answers(folder: Path, model, visual: bool, prompt: str) -> dict:
    """Eight greedy tokens for the text alone and, for a vision model, for an image in front of it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    out = {"text_only": generate(model, tokenizer(prompt, return_tensors="pt", return_token_type_ids=False), tokenizer)}
    if visual:
        processor = AutoProcessor.from_pretrained(folder)
        parts = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True)
        bare = {"add_special_tokens": False} if tokenizer.bos_token and text.startswith(tokenizer.bos_token) else {}
        inputs = processor(text=[text], images=[[Image.new("RGB", (96, 64), (200, 40, 40))]], return_tensors="pt", **bare)
        out["with_image"] = generate(model, inputs, tokenizer)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--prompt", default="What is shown in the picture?")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trouble, result, found = [], {}, {}
    try:
        found = tensors_of(options.folder)
        trouble += check_index(options.folder, found)
        trouble += compare(options.folder, options.base) if options.base else []
        model, visual, complaints = load(options.folder)
        trouble += complaints
        result = answers(options.folder, model, visual, options.prompt)
    except Exception as error:  # whatever transformers raises is the answer
        trouble.append(f"{type(error).__name__}: {error}")
    result |= {"folder": str(options.folder), "n_tensors": len(found), "trouble": trouble}
    print(json.dumps(result, ensure_ascii=False) if options.json else f"{len(found)} tensors, {len(trouble)} troubles")
    for line in trouble:
        print(line, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
