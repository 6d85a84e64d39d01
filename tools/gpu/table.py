"""Sums up what `check`, `bench` and `bench_transformers.py` wrote to a folder: failures, and a Markdown table of both sides.

    python table.py FOLDER
"""

import json
import sys
from pathlib import Path


def read(path: Path) -> dict | None:
    """A JSON file; nothing where it is missing or was cut off."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def checks(folder: Path) -> None:
    for name in ("check-f32", "check-bf16"):
        if (report := read(folder / f"{name}.json")) is None:
            continue
        cases = report.get("cases", [])
        count = lambda verdict: sum(case["verdict"] == verdict for case in cases)
        print(f"{name}: {count('pass')} passed, {count('fail')} failed, {count('skip')} skipped, {sum(c.get('seconds', 0) for c in cases):.0f} s")
        for case in cases:
            if case["verdict"] == "fail":
                print(f"  FAIL {case['name']}: {case['error']} of {case['limit']}: {case['note'][:200]}")


# What of a part is shown: its member, a name with its unit, how it is written.
ROWS = [
    ("tflops", "TFLOP/s", "{:.0f}"), ("prefill_tokens_per_s", "prefill, tokens/s", "{:.0f}"),
    ("decode_tokens_per_s", "decode, tokens/s", "{:.1f}"), ("step_s", "step, s", "{:.3f}"), ("tokens_per_s", "tokens/s", "{:.0f}"),
    ("micro_batch", "examples in a pass", "{}"), ("utilisation", "model FLOPs utilisation", "{:.3f}"),
    ("peak_device_mib", "peak device memory, MiB", "{}"), ("first_s", "first run, s", "{:.1f}"), ("error", "error", "{:.80}"),
]


def table(folder: Path) -> None:
    ours, theirs = (read(folder / name) or {"parts": []} for name in ("bench.json", "transformers.json"))
    sides = [{part["name"]: part for part in side.get("parts", [])} for side in (ours, theirs)]
    names = list(sides[0]) + [name for name in sides[1] if name not in sides[0]]
    if not names:
        return
    print("| part | what | adamllm | transformers |\n|---|---|---:|---:|")
    for name in names:
        parts = [side.get(name, {}) for side in sides]
        for member, what, text in ROWS:
            values = [part.get(member) for part in parts]
            if any(value is not None for value in values):
                cells = ["" if value is None else text.format(value) for value in values]
                print(f"| {name} | {what} | {cells[0]} | {cells[1]} |")
        losses = [part.get("losses") for part in parts]
        if all(losses):
            apart = max(abs(a - b) for a, b in zip(*losses))
            print(f"| {name} | losses, first and last | {losses[0][0]:.4f} {losses[0][-1]:.4f} | {losses[1][0]:.4f} {losses[1][-1]:.4f} (at most {apart:.1e} apart) |")
        tokens = [part.get("tokens") for part in parts]
        if all(isinstance(one, list) and one for one in tokens):
            same = next((i for i, (a, b) in enumerate(zip(*tokens)) if a != b), min(map(len, tokens)))
            print(f"| {name} | first answer: equal tokens | {same} of {len(tokens[0])} | |")


if __name__ == "__main__":
    checks(Path(sys.argv[1]))
    table(Path(sys.argv[1]))
