"""Runs inside one release's environment: `worker.py JOBS.json RESULTS.json`.

Jobs are `{"do": "prepare" | "save" | "answer", "from": FOLDER, "to": FOLDER, "image": FILE, "prompt": TEXT}`. A result is the
answers with and without the image, or `{"refused": why}`. The code must run under every release in `releases.txt`.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")

import torch  # noqa: E402
import transformers  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402
from transformers import AutoConfig, AutoImageProcessor, AutoModelForCausalLM, AutoProcessor, AutoTokenizer  # noqa: E402

MAJOR, MINOR = (int(part) for part in transformers.__version__.split(".")[:2])
N_NEW_TOKENS = 4


def visual(folder: str) -> bool:
    return hasattr(AutoConfig.from_pretrained(folder), "vision_config")


def load(folder: str):
    """The model in f32; keys that are missing would be random numbers."""
    if not visual(folder):
        kind = AutoModelForCausalLM
    else:
        kind = getattr(transformers, "AutoModelForImageTextToText", None) or transformers.AutoModelForVision2Seq
    options = {"dtype" if MAJOR >= 5 else "torch_dtype": torch.float32}
    model, report = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True, **options)
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise ValueError(f"{len(lost)} keys would be random: {', '.join(lost[:3])}")
    return model.eval()


def processor_of(folder: str):
    """With the image processor that works with Pillow, as adamllm does; the other one differs by a few levels."""
    processor = AutoProcessor.from_pretrained(folder)
    name = type(processor.image_processor).__name__
    if MAJOR >= 5 and hasattr(transformers, name + "Pil"):
        options = {k: v for k, v in processor.image_processor.to_dict().items() if v is not None}
        for key in ("image_processor_type", "processor_class", "data_format", "device", "disable_grouping"):
            options.pop(key, None)
        processor.image_processor = getattr(transformers, name + "Pil")(**options)
    elif (MAJOR, MINOR) >= (4, 48):
        size = processor.image_processor.size
        processor.image_processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
        if name.startswith("Qwen2VL") and "longest_edge" in size:  # which the one that works with Pillow does not read
            processor.image_processor.size = dict(size)
            processor.image_processor.min_pixels, processor.image_processor.max_pixels = size["shortest_edge"], size["longest_edge"]
    return processor


def encode_with_processor(folder: str, prompt: str, picture):
    processor = processor_of(folder)
    parts = [{"type": "image"}] if picture else []
    parts.append({"type": "text", "text": prompt})
    text = processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True)
    begin = processor.tokenizer.bos_token
    bare = {"add_special_tokens": False} if begin and text.startswith(begin) else {}
    if not picture:
        return processor(text=[text], return_tensors="pt", **bare)
    nested = type(processor).__name__ == "MllamaProcessor"
    return processor(text=[text], images=[[picture]] if nested else [picture], return_tensors="pt", **bare)


def encode_with_tokenizer(folder: str, prompt: str):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    return tokenizer(text, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)


@torch.no_grad()
def answer(model, inputs) -> dict:
    out = model.generate(**inputs, do_sample=False, max_new_tokens=N_NEW_TOKENS, return_dict_in_generate=True, output_logits=True)
    n = inputs["input_ids"].shape[1]
    return {
        "input_ids": inputs["input_ids"][0].tolist(), "output_ids": out.sequences[0, n:].tolist(),
        "logits_last": out.logits[0][0].tolist(),
    }


def answers(folder: str, job: dict) -> dict:
    model = load(folder)
    if not visual(folder):
        return {"text": answer(model, encode_with_tokenizer(folder, job["prompt"]))}
    picture = ImageOps.exif_transpose(Image.open(job["image"])).convert("RGB")
    return {
        "picture": answer(model, encode_with_processor(folder, job["prompt"], picture)),
        "text": answer(model, encode_with_processor(folder, job["prompt"], None)),
    }


def save(folder: str, to: str) -> None:
    """What a training script ends with."""
    load(folder).to(torch.bfloat16).save_pretrained(to)
    (AutoProcessor if visual(folder) else AutoTokenizer).from_pretrained(folder).save_pretrained(to)


def run(job: dict) -> dict:
    try:
        if job["do"] == "prepare":
            from published import prepare

            prepare(job["from"], job["to"], job["variant"])
            return {}
        if job["do"] == "save":
            save(job["from"], job["to"])
            return answers(job["to"], job)
        return answers(job["from"], job)
    except Exception as error:  # whatever a release raises is its answer
        return {"refused": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    results = [run(job) for job in json.loads(Path(sys.argv[1]).read_text())]
    Path(sys.argv[2]).write_text(json.dumps(results))
