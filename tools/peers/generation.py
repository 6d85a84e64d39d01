"""Times `generate` and transformers on the same folder, image and prompt, one after the other in turns.

    python generation.py --binary target/release/examples/generate --model FOLDER --image FILE [--tokens 64] [--prompt-bytes 256]
                         [--rounds 5] [--dtype f32|bf16] [--processor-only]

Each side is a process of its own: load, image processing and prefill, then greedy decoding of exactly `--tokens` tokens. Prints a
table of medians and their ratios (transformers' time divided by ours), and the peak memory of both processes. The ids of
the prompt and of the answer are compared, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def theirs(arguments) -> None:
    """One run of transformers, as a JSON line on stdout."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    started = time.perf_counter()
    dtype = torch.bfloat16 if arguments.dtype == "bf16" else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(arguments.model, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    images = Qwen2VLImageProcessor.from_pretrained(arguments.model)
    load = time.perf_counter() - started

    started = time.perf_counter()
    pixels = images(images=Image.open(arguments.image).convert("RGB"), return_tensors="pt")
    image_s = time.perf_counter() - started
    rows = int(pixels["image_grid_thw"].prod()) // images.merge_size**2
    content = [{"type": "image"}, {"type": "text", "text": prompt(arguments)}]
    text = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * rows), return_tensors="pt", add_special_tokens=False)
    kinds = (ids["input_ids"] == model.config.image_token_id).int()
    inputs = {**ids, **pixels, "mm_token_type_ids": kinds}
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    with torch.inference_mode():
        started = time.perf_counter()
        model(**inputs, logits_to_keep=1)
        prefill = time.perf_counter() - started
        started = time.perf_counter()
        n = arguments.tokens
        out = model.generate(**inputs, do_sample=False, max_new_tokens=n, min_new_tokens=n)
        decode = time.perf_counter() - started - prefill
    import resource

    print(json.dumps({
        "load_s": load, "encode_s": image_s, "prefill_s": prefill, "decode_s": decode, "ids": ids["input_ids"][0].tolist(),
        "answer": out[0, ids["input_ids"].shape[1]:].tolist(), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


def prompt(arguments) -> str:
    return ("What is in this picture? " * arguments.prompt_bytes)[: arguments.prompt_bytes]


def ours(arguments) -> dict:
    command = [
        arguments.binary, "--model", arguments.model, "--image", arguments.image, "--prompt",
        prompt(arguments), "--max-new-tokens", str(arguments.tokens), "--min-new-tokens", str(arguments.tokens),
        "--dtype", arguments.dtype, "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    answer = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed")
    timing = answer["timing"]
    return {**timing, "ids": answer["input_ids"], "answer": answer["output_ids"], "peak": usage.ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/examples/generate")
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt-bytes", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--theirs", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.theirs:
        theirs(arguments)
        return
    runs = {"adamllm": [], "transformers": []}
    for _ in range(arguments.rounds):
        runs["adamllm"].append(ours(arguments))
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--theirs"], capture_output=True, text=True, check=True)
        runs["transformers"].append(json.loads(done.stdout.splitlines()[-1]))
    a, b = runs["adamllm"], runs["transformers"]
    n_prompt = len(a[0]["ids"])
    print(f"prompt ids equal: {a[0]['ids'] == b[0]['ids']}; answers equal: {a[0]['answer'] == b[0]['answer']}; {n_prompt} prompt tokens")
    print(f"| {'median of ' + str(arguments.rounds):<24} | adamllm | transformers | ratio |")
    median = lambda side, key: statistics.median(run[key] for run in side)
    for title, key, amount in (("load, s", "load_s", None), ("image, ms", "encode_s", None), ("prefill, tokens/s", "prefill_s", n_prompt), ("decode, tokens/s", "decode_s", arguments.tokens)):
        x, y = median(a, key), median(b, key)
        show = (lambda s: f"{amount / s:.1f}") if amount else (lambda s: f"{s * 1000:.1f}" if key == "encode_s" else f"{s:.2f}")
        print(f"| {title:<24} | {show(x)} | {show(y)} | {y / x:.2f} |")
    x, y = median(a, "peak"), median(b, "peak")
    print(f"| {'peak memory, MiB':<24} | {x / 2**20:.0f} | {y / 2**20:.0f} | {y / x:.2f} |")


if __name__ == "__main__":
    main()
