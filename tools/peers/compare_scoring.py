"""Times `score` beside Python's scoring on the same files, alternately, and prints medians and their ratio.

    python -m venv venv && venv/bin/pip install rouge==1.0.1
    cargo build --release -p adamllm-examples --example score
    venv/bin/python compare_scoring.py [--score PROGRAM] [--rows FOLDER] [--runs N]

Whole processes are timed, from start to end, files read and sums printed. Every task has as many examples as the published test set; they are those
of `FOLDER/TASK.jsonl` (the committed fixtures, or examples of your own) over and over, with numbers of their own. Both must print the same scores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SIZES = {"SLAKE": 1061, "VQA_RAD": 451, "PathVQA": 6719, "PMC_VQA": 2000, "Recipe1M": 1000, "Nutrition5K": 507, "Food101": 25250, "FoodSeg103": 2135}


def enlarge(source, size, out):
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    kept = {"label", "pred", "answer_type", "A", "B", "C", "D"}
    with open(out, "w") as file:
        for i in range(size):
            row = {key: value for key, value in rows[i % len(rows)].items() if key in kept}
            file.write(json.dumps({"syn_id": i, **row}) + "\n")


def timed(command):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return seconds, json.loads(done.stdout)


def main():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--score", type=Path, default=target / "release/examples/score")
    parser.add_argument("--rows", type=Path, default=ROOT / "crates/adamllm-eval/tests/fixtures")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    print(f"| task | examples | score, ms | Python, ms | ratio of medians |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for task, size in SIZES.items():
            source = options.rows / f"{task}.jsonl"
            if not source.exists():
                source = options.rows / "SLAKE.jsonl"
            file = Path(folder) / f"{task}.jsonl"
            enlarge(source, size, file)
            ours, theirs = [], []
            for _ in range(options.runs):
                seconds, rust = timed([options.score, "--task", task, "--predictions", file, "--json"])
                ours.append(seconds)
                seconds, python = timed([sys.executable, HERE / "scoring.py", task, file])
                theirs.append(seconds)
            if rust["paper"].keys() != python["paper"].keys() or any(abs(rust["paper"][k] - v) > 1e-6 for k, v in python["paper"].items()):
                sys.exit(f"{task}: {rust} is not {python}")
            a, b = statistics.median(ours), statistics.median(theirs)
            print(f"| {task} | {size} | {a * 1000:.0f} | {b * 1000:.0f} | {b / a:.0f} |", flush=True)


if __name__ == "__main__":
    main()
