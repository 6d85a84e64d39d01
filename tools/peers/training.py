"""Times whole training steps of adamllm and of transformers on the same folder and batch, in processes that take turns.

    python training.py --binary target/release/deps/training_step-HASH --model FOLDER [--examples 4] [--tokens 256] [--side 224]
                       [--steps 6] [--rounds 5] [--checkpointing] [--lora RANK] [--frozen stored|int8|nf4] [--dtype f32|bf16]

The binary is built by `cargo bench --bench training_step --no-run`. Both sides run AdamW with a global gradient norm of 1 on the same token
ids and images, in full or with adapters beside the decoder's linear layers (peft's on the other side); ours in f32 over weights in the form
of --frozen, theirs in --dtype. One step alone is timed as it is; the first step of each process is left out. Prints medians, their ratios (transformers' time or memory divided by
ours), and the losses of both sides, which must agree.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def picture(side: int, seed: int):
    """The same noise as the binary's."""
    import numpy as np

    y, x, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    value = ((x * 31 + y * 17 + c * 7 + seed * 13).astype(np.uint64) * 2_654_435_761) % 2**32 >> 24
    return value.astype(np.uint8)


def theirs(arguments) -> None:
    """Steps of transformers and torch, as a JSON line on stdout."""
    import math
    import resource

    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    dtype = torch.bfloat16 if arguments.dtype == "bf16" else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(arguments.model, dtype=dtype).train()
    if arguments.lora:
        from peft import LoraConfig, get_peft_model

        layers = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        model = get_peft_model(model, LoraConfig(r=arguments.lora, lora_alpha=2 * arguments.lora, target_modules=layers))
        # Checkpointed blocks need an input with a gradient.
        model.enable_input_require_grads()
    if arguments.checkpointing:
        model.gradient_checkpointing_enable()
    processor = Qwen2VLImageProcessor.from_pretrained(arguments.model)
    with open(arguments.batch) as file:
        batch = json.load(file)
    ids, labels = torch.tensor(batch["ids"]), torch.tensor(batch["labels"])
    pictures = [Image.fromarray(picture(arguments.side, row)) for row in range(arguments.examples)]
    pixels = processor(images=pictures, return_tensors="pt")
    kinds = (ids == model.config.image_token_id).int()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds, "labels": labels, **pixels}
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, eps=1e-8)
    steps, losses = [], []
    for step in range(arguments.steps):
        started = time.perf_counter()
        rate = 1e-4 * max(0.0, 0.5 * (1 + math.cos(math.pi * step / arguments.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        steps.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"step_s": steps, "losses": losses, "peak": peak}))


def ours(arguments) -> dict:
    command = [arguments.binary, arguments.model]
    for name in ("examples", "tokens", "side", "steps"):
        command += [f"--{name}", str(getattr(arguments, name))]
    if arguments.checkpointing:
        command.append("--checkpointing")
    for name in ("lora", "frozen"):
        if getattr(arguments, name):
            command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    answer = json.loads(done.stdout.read())
    _, status, usage = os.wait4(done.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed")
    return {**answer, "peak": usage.ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--examples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpointing", action="store_true", help="activation checkpointing on both sides")
    parser.add_argument("--lora", type=int, help="adapters of this rank are trained alone")
    parser.add_argument("--frozen", choices=["stored", "int8", "nf4"], help="the form of our weights beside them")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of transformers' model")
    parser.add_argument("--batch", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch:
        theirs(arguments)
        return
    import tempfile

    runs = {"adamllm": [], "transformers": []}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        for _ in range(arguments.rounds):
            answer = ours(arguments)
            runs["adamllm"].append(answer)
            file.seek(0)
            file.truncate()
            json.dump({"ids": answer["ids"], "labels": answer["labels"]}, file)
            file.flush()
            command = [sys.executable, __file__, *sys.argv[1:], "--batch", file.name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs["transformers"].append(json.loads(done.stdout.splitlines()[-1]))
    a, b = runs["adamllm"], runs["transformers"]
    apart = max(abs(x - y) for x, y in zip(a[0]["losses"], b[0]["losses"]))
    print(f"largest difference of a loss over {arguments.steps} steps: {apart:.1e}; {a[0]['tokens']} tokens a step")
    print(f"| {'median of ' + str(arguments.rounds):<22} | adamllm | transformers | ratio |")
    step = lambda side: statistics.median(statistics.median(run["step_s"][1:] or run["step_s"]) for run in side)
    x, y = step(a), step(b)
    tokens = a[0]["tokens"]
    print(f"| {'step, s':<22} | {x:.3f} | {y:.3f} | {y / x:.2f} |")
    print(f"| {'tokens/s':<22} | {tokens / x:.0f} | {tokens / y:.0f} | {y / x:.2f} |")
    peak = lambda side: statistics.median(run["peak"] for run in side)
    x, y = peak(a), peak(b)
    print(f"| {'peak memory, MiB':<22} | {x / 2**20:.0f} | {y / 2**20:.0f} | {y / x:.2f} |")


if __name__ == "__main__":
    main()
