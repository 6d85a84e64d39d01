"""Times conversations to batches: ours, and what LLaMA-Factory does with transformers' tokenizer and image processor.

    python encoding.py --binary target/release/deps/encoding_peer-* --model FOLDER --conversations FILE --images DIR
                       [--batch 8] [--rounds 5]

LLaMA-Factory opens each image and runs the whole image processor twice: when it maps the data set, to learn how many
placeholders an image needs, and again in the collator, for the pixels. So does this script, with the format of its `qwen2_vl`
(since January 2025), a string at a time; M-RoPE positions, which ours computes, are left out here. Both image processors of
transformers are timed: the one on torchvision, and the older one on Pillow. Every side runs on one thread, as a worker of a
data loader does. Each run is a process of its own, which makes all batches once to warm up and is timed over the second pass;
the sides take turns. Prints a table of medians, and their ratios (theirs divided by ours), by the clock and by the time on a core,
which other work on the machine disturbs less. Tokens, ids and labels are compared, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


def theirs(arguments) -> None:
    import torch
    from PIL import Image
    from transformers import AutoTokenizer

    if arguments.side == "torchvision":
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor as Processor
    else:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil as Processor
    torch.set_num_threads(1)
    images = Processor.from_pretrained(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    with open(arguments.conversations) as file:
        rows = json.load(file)

    def processed(row):
        pictures = [Image.open(os.path.join(arguments.images, path)).convert("RGB") for path in row["images"]]
        return images(images=pictures, return_tensors="pt")

    def mapped(row):
        grids = processed(row)["image_grid_thw"] if row["images"] else []
        counts = iter([int(grid.prod()) // images.merge_size**2 for grid in grids])
        ids, labels = [], []
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
        for i in range(0, len(row["messages"]), 2):
            user, reply = (message["content"] for message in row["messages"][i : i + 2])
            while "<image>" in user:
                user = user.replace("<image>", "<|vision_start|>" + "<|image_pad|>" * next(counts) + "<|vision_end|>", 1)
            source = encode(SYSTEM) if i == 0 else []
            source = source + encode(f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n")
            target = encode(f"{reply}<|im_end|>\n")
            ids += source + target
            labels += [-100] * len(source) + target
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}

    def collated(features, rows):
        longest = -(-max(len(feature["input_ids"]) for feature in features) // 8) * 8
        fill = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
        batch = {
            key: torch.tensor([feature[key] + [value] * (longest - len(feature[key])) for feature in features])
            for key, value in fill.items()
        }
        pictures = [processed(row) for row in rows if row["images"]]
        batch["pixel_values"] = torch.cat([picture["pixel_values"] for picture in pictures])
        batch["image_grid_thw"] = torch.cat([picture["image_grid_thw"] for picture in pictures])
        return batch

    for _ in range(2):
        started, on_core = time.perf_counter(), time.process_time()
        features = [mapped(row) for row in rows]
        for at in range(0, len(rows), arguments.batch):
            collated(features[at : at + arguments.batch], rows[at : at + arguments.batch])
        taken = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - on_core}
    totals = {
        "tokens": sum(len(feature["input_ids"]) for feature in features),
        "sum_of_ids": sum(sum(feature["input_ids"]) for feature in features),
        "targets": sum(label != -100 for feature in features for label in feature["labels"]),
    }
    print(json.dumps({"encode": taken, "examples": len(rows), "totals": totals}))


def run(command: list[str]) -> dict:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary")
    parser.add_argument("--model", required=True)
    parser.add_argument("--conversations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=["torchvision", "pillow"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        theirs(arguments)
        return
    data = [arguments.model, arguments.conversations, arguments.images]
    again = [sys.executable, __file__, "--model", data[0], "--conversations", data[1], "--images", data[2], "--batch", str(arguments.batch)]
    sides = {
        "ours": [arguments.binary, *data, str(arguments.batch)],
        "torchvision": [*again, "--side", "torchvision"],
        "pillow": [*again, "--side", "pillow"],
    }
    taken = {side: {"wall_s": [], "cpu_s": []} for side in sides}
    measured = []
    for round in range(arguments.rounds):
        answers = {side: run(command) for side, command in sides.items()}
        for side, answer in answers.items():
            for clock, seconds in answer["encode"].items():
                taken[side][clock].append(seconds)
            if answer["totals"] != answers["ours"]["totals"]:
                raise SystemExit(f"{side} makes other tokens: {answer['totals']}, ours {answers['ours']['totals']}")
        measured.append(answers["ours"]["measure"]["cpu_s"])
        print(f"round {round + 1}: " + ", ".join(f"{side} {answer['encode']}" for side, answer in answers.items()), file=sys.stderr)
    rows = answers["ours"]["examples"]
    print(f"{rows} examples, {answers['ours']['totals']}, load {os.getloadavg()[0]:.1f}")
    for clock in ("wall_s", "cpu_s"):
        ours = statistics.median(taken["ours"][clock])
        for side in sides:
            seconds = taken[side][clock]
            median = statistics.median(seconds)
            spread = f"({min(seconds):.3f} to {max(seconds):.3f})"
            print(f"{clock} {side:12} {median:8.3f}  {rows / median:9.1f} examples/s  ratio {median / ours:6.2f}  {spread}")
    print(f"measured from headers: {rows / statistics.median(measured):.0f} examples per second of a core")


if __name__ == "__main__":
    main()
