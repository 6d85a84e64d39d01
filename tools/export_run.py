"""Writes a training run into an experiment tracker's own files, without a network.

    pip install trackio            # or wandb
    python tools/export_run.py RUN --to trackio --project slides [--name lr-1e-5] [--out FOLDER]
    python tools/export_run.py RUN --to wandb --project slides [--name lr-1e-5] [--out FOLDER]

RUN is the folder of a run, or its `training` folder (`metrics.jsonl`, `validation.jsonl`); `config.toml` above them becomes the run's
configuration. Several stages become several runs. trackio keeps a database in its home folder (`trackio show` reads it), or in FOLDER;
wandb writes `wandb/offline-run-*` below FOLDER or the working folder (`wandb sync` sends it).

TensorBoard needs no export: the training folder holds event files.
"""

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path

METRICS = "metrics.jsonl"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def training_folders(run: Path) -> list[Path]:
    """The folders with a stage's metrics, in order."""
    places = [run, run / "training", *sorted((run / "training").glob("stage-*")), *sorted(run.glob("stage-*"))]
    return [place for place in places if (place / METRICS).exists()]


def settings(training: Path) -> dict:
    for folder in [training, *training.parents][:4]:
        if (folder / "config.toml").exists():
            return tomllib.loads((folder / "config.toml").read_text())
    return {}


def steps(training: Path) -> list[tuple[int, dict[str, float]]]:
    """What is logged after each step, by name; the held-out loss stands at the step after which it was measured."""
    held_out = {entry["step"]: entry["loss"] for entry in lines(training / "validation.jsonl")}
    logged = []
    for metrics in lines(training / METRICS):
        values = {
            f"train/{name}": value
            for name, value in metrics.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "step"
        }
        for group, of_group in (metrics.get("losses") or {}).items():
            values[f"train/loss/{group}"] = of_group["loss"]
        if metrics["step"] in held_out:
            values["validation/loss"] = held_out[metrics["step"]]
        logged.append((metrics["step"], values))
    return logged


def to_trackio(arguments, name: str, config: dict, logged: list) -> None:
    if arguments.out:
        os.environ["TRACKIO_DIR"] = str(arguments.out)
    import trackio

    trackio.init(project=arguments.project, name=name, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False)
    for step, values in logged:
        trackio.log(values, step=step)
    trackio.finish()


def to_wandb(arguments, name: str, config: dict, logged: list) -> None:
    import wandb

    folder = str(arguments.out or Path.cwd())
    run = wandb.init(project=arguments.project, name=name, config=config, mode="offline", dir=folder)
    for step, values in logged:
        run.log(values, step=step)
    run.finish()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", choices=["trackio", "wandb"], required=True)
    parser.add_argument("--project", default="adamllm")
    parser.add_argument("--name", help="the run's name; the folder's otherwise")
    parser.add_argument("--out", type=Path, help="where the tracker's files go")
    arguments = parser.parse_args()

    folders = training_folders(arguments.run)
    if not folders:
        print(f"error: {arguments.run}: no {METRICS} in it or in its folder training", file=sys.stderr)
        return 1
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    name = arguments.name or arguments.run.resolve().name
    for folder in folders:
        of_stage = name if len(folders) == 1 else f"{name}, {folder.name}"
        logged = steps(folder)
        {"trackio": to_trackio, "wandb": to_wandb}[arguments.to](arguments, of_stage, settings(folder), logged)
        print(f"{of_stage}: {len(logged)} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
