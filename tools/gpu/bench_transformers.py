"""Times transformers with SDPA on the batch that `bench --write-batch` wrote, on the same folder and device.

    python bench_transformers.py --model FOLDER --batch batch.json [--examples 8] [--micro-batch 8] [--steps 4] [--new-tokens 32]
                                 [--device cuda] [--part-limit 60] [--only TEXT] [--json FILE]

Parts: the product of large matrices, answers to 1 and to 8 prompts, training steps of a LoRA adapter and of all weights. As in adamllm,
weights and activations are in bf16 and the updates of trained weights are made in f32 (autocast over f32 weights; `--pure` keeps the
trained weights and AdamW's moments in bf16, which takes less memory and loses small updates). Activations inside blocks are computed again
unless `--no-checkpointing` says otherwise. Each part prints a line as it ends, and has its own time limit.
"""

import argparse
import gc
import json
import math
import time
import traceback

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor


def picture(side: int, seed: int) -> np.ndarray:
    """The same noise as the program's."""
    y, x, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    value = ((x * 31 + y * 17 + c * 7 + seed * 13).astype(np.uint64) * 2_654_435_761) % 2**32 >> 24
    return value.astype(np.uint8)


class Bench:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = torch.device(arguments.device)
        with open(arguments.batch) as file:
            self.batch = json.load(file)
        self.processor = Qwen2VLImageProcessor.from_pretrained(arguments.model)

    def sync(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def load(self, dtype: torch.dtype):
        return AutoModelForImageTextToText.from_pretrained(
            self.arguments.model, dtype=dtype, attn_implementation="sdpa"
        ).to(self.device)

    def inputs(self, kind: str, rows: list[int], image_token: int) -> dict:
        ids = [self.batch[kind][row] for row in rows]
        longest = max(map(len, ids))
        left = kind == "prompts"
        pad = lambda row, value: [value] * (longest - len(row)) + row if left else row + [value] * (longest - len(row))
        tokens = torch.tensor([pad(row, 0) for row in ids])
        mask = torch.tensor([pad([1] * len(row), 0) for row in ids])
        pixels = self.processor(images=[Image.fromarray(picture(self.batch["side"], row)) for row in rows], return_tensors="pt")
        found = {"input_ids": tokens, "attention_mask": mask, "mm_token_type_ids": (tokens == image_token).int(), **pixels}
        if kind == "ids":
            found["labels"] = torch.tensor([pad(self.batch["labels"][row], -100) for row in rows])
        return {name: value.to(self.device) for name, value in found.items()}

    def matrices(self, dtype: torch.dtype) -> dict:
        n = self.arguments.matrix
        a = (torch.randn(n, n, device=self.device) * n**-0.5).to(dtype)
        c = torch.randn(n, n, device=self.device).to(dtype)
        best = math.inf
        for _ in range(4):
            started = self.sync()
            for _ in range(10):
                c = a @ c
            best = min(best, (self.sync() - started) / 10)
        return {"rows": n, "product_s": best, "tflops": 2 * n**3 / best / 1e12}

    def answers(self, n: int) -> dict:
        model = self.load(torch.bfloat16).eval()
        new = self.arguments.new_tokens
        inputs = self.inputs("prompts", list(range(n)), model.config.image_token_id)
        prompt = int(inputs["attention_mask"].sum())
        seconds = {}
        with torch.inference_mode():
            for tokens in (2, 1, new, 1, new):
                started = self.sync()
                given = model.generate(**inputs, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens)
                seconds[tokens] = min(self.sync() - started, seconds.get(tokens, math.inf))
        decode = (seconds[new] - seconds[1]) / (new - 1)
        return {
            "prompt_tokens": prompt, "prefill_s": seconds[1], "prefill_tokens_per_s": prompt / seconds[1],
            "decode_s_per_step": decode, "decode_tokens_per_s": n / decode,
            "tokens": given[0, inputs["input_ids"].shape[1]:].tolist(),
        }

    def training(self, lora: bool) -> dict:
        arguments = self.arguments
        pure = arguments.pure
        # Beside an adapter, the frozen weights are in bf16 on both sides.
        model = self.load(torch.bfloat16 if pure or lora else torch.float32).train()
        model.config.use_cache = False
        image_token = model.config.image_token_id
        if not arguments.no_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if lora:
            from peft import LoraConfig, get_peft_model

            names = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
            model.enable_input_require_grads()
            config = LoraConfig(r=16, lora_alpha=32, target_modules=rf".*language_model\.layers\.\d+\.(?:self_attn|mlp)\.(?:{names})")
            model = get_peft_model(model, config)
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1e-4, eps=1e-8, fused=self.device.type == "cuda")
        n, micro = arguments.examples, arguments.micro_batch or arguments.examples
        passes = [self.inputs("ids", list(range(first, min(first + micro, n))), image_token) for first in range(0, n, micro)]
        # The first token of a row is no target: nothing stands before it.
        n_targets = sum(int((one["labels"][:, 1:] != -100).sum()) for one in passes)
        tokens = sum(int(one["attention_mask"].sum()) for one in passes)
        run_started, steps, losses = time.perf_counter(), [], []
        for step in range(arguments.steps):
            started = self.sync()
            rate = 1e-4 * max(0.0, 0.5 * (1 + math.cos(math.pi * step / arguments.steps)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            total = 0.0
            for one in passes:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=not pure):
                    loss = model(**one, num_items_in_batch=n_targets).loss
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            steps.append(self.sync() - started)
            losses.append(total)
            print(f"    step {step + 1}: {steps[-1]:.3f} s, loss {total:.4f}", flush=True)
            if time.perf_counter() - run_started > arguments.part_limit:
                break
        rest = sorted(steps[1:])
        step_s = rest[len(rest) // 2] if rest else None
        return {
            "micro_batch": micro, "checkpointing": not arguments.no_checkpointing, "steps_s": steps, "step_s": step_s,
            "losses": losses, "tokens": tokens, "tokens_per_s": tokens / step_s if step_s else None,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--matrix", type=int, default=8192)
    parser.add_argument("--part-limit", type=float, default=60)
    parser.add_argument("--time-limit", type=float, help="seconds after which no part begins")
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("--pure", action="store_true", help="trained weights and moments in bf16")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--json")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    parts = {
        "product of matrices, BF16": lambda: bench.matrices(torch.bfloat16),
        "product of matrices, F32": lambda: bench.matrices(torch.float32),
        "answers, batch 1, BF16": lambda: bench.answers(1),
        "answers, batch 8, BF16": lambda: bench.answers(8),
        "training, LoRA, BF16": lambda: bench.training(True),
        "training, full, BF16": lambda: bench.training(False),
    }
    run_started, lines = time.perf_counter(), []
    for name, part in parts.items():
        if arguments.only and not any(only in name for only in arguments.only):
            continue
        if arguments.time_limit and time.perf_counter() - run_started >= arguments.time_limit:
            print(f"{name}: no time left", flush=True)
            continue
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        try:
            line = part()
        except Exception as error:  # one part's failure is a line, not the end
            traceback.print_exc()
            line = {"error": f"{type(error).__name__}: {error}"[:500]}
        line["part_s"] = time.perf_counter() - started
        if bench.device.type == "cuda":
            line["peak_device_mib"] = torch.cuda.max_memory_reserved() // 2**20
        print(f"{name}: {json.dumps(line)}", flush=True)
        lines.append({"name": name, **line})
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump({"versions": {"torch": torch.__version__}, "parts": lines}, file, indent=1)


if __name__ == "__main__":
    main()
