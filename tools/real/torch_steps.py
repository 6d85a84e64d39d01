"""The first steps of the same training in torch: the same first weights and examples (`real-run start`), the same rates.

    torch_steps.py DATA START RUN STEPS

Prints the mean loss of ranges of steps beside that of the run in RUN, and the largest difference of a single step.
"""

import json
import math
import pathlib
import sys
import time
import tomllib

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

RANGE = 20
PATCH = 2


class Lora(nn.Module):
    def __init__(self, base: nn.Linear, a: torch.Tensor, b: torch.Tensor, scale: float):
        super().__init__()
        self.base, self.a, self.b, self.scale = base, nn.Parameter(a), nn.Parameter(b), scale

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T * self.scale


class Encoder(nn.Module):
    """`src/encoder.rs`, by the names of its parameters."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        super().__init__()
        self.names = {name: name.replace(".", "_") for name in weights}
        for name, tensor in weights.items():
            self.register_parameter(self.names[name], nn.Parameter(tensor))
        self.n_stages = len({name.split(".")[2] for name in weights if name.startswith("encoder.stages.")})

    def weight(self, name: str):
        return getattr(self, self.names[name])

    def linear(self, x, name: str):
        return functional.linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def norm(self, x, name: str):
        return functional.layer_norm(x, x.shape[-1:], self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), 1e-6)

    def conv(self, x, side: int, name: str):
        batch, n, d = x.shape
        x = functional.pad(x.reshape(batch, side, side, d), (0, 0, 1, 1, 1, 1))
        neighbours = [x[:, i // 3 : i // 3 + side, i % 3 : i % 3 + side] for i in range(9)]
        return self.linear(torch.cat(neighbours, 3).reshape(batch, n, 9 * d), f"{name}.linear")

    def forward(self, patches):
        def act(x):
            return functional.gelu(x, approximate="tanh")

        side = math.isqrt(patches.shape[1])
        x = self.conv(patches, side, "encoder.stem")
        for i in range(self.n_stages):
            stage = f"encoder.stages.{i}"
            x = x + self.conv(act(self.norm(x, f"{stage}.norm")), side, f"{stage}.conv")
            batch, _, d = x.shape
            side //= 2
            x = x.reshape(batch, side, 2, side, 2, d).permute(0, 1, 3, 2, 4, 5).reshape(batch, side * side, 4 * d)
            x = self.linear(act(self.norm(x, f"{stage}.merge_norm")), f"{stage}.merge")
        x = act(self.conv(act(self.norm(x, "encoder.last_norm")), side, "encoder.last"))
        x = self.norm(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 2), "encoder.norm")
        return self.linear(functional.gelu(self.linear(x, "connector.fc1")), "connector.fc2")


def read_image(path: pathlib.Path) -> torch.Tensor:
    pixels = torch.from_numpy(numpy.asarray(Image.open(path).convert("RGB")).copy()).float()
    pixels = (pixels - pixels.flatten(0, 1).median(0).values) / 127.5
    grid = pixels.shape[0] // PATCH
    return pixels.reshape(grid, PATCH, grid, PATCH, 3).permute(0, 2, 1, 3, 4).reshape(grid * grid, -1)


def build(data: pathlib.Path, start: dict[str, torch.Tensor], scale: float):
    model = AutoModelForCausalLM.from_pretrained(data / "model", dtype=torch.float32, attn_implementation="eager")
    model.requires_grad_(False)
    layers = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
              "output": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
    for name in [name for name in start if name.endswith(".lora.a")]:
        parts = name.split(".")  # language.layers.N.attention.query.lora.a
        owner, leaf = layers[parts[4]].split(".")
        block = getattr(model.model.layers[int(parts[2])], owner)
        b = start[name[:-1] + "b"]
        setattr(block, leaf, Lora(getattr(block, leaf), start[name], b, scale))
    vision = {name.removeprefix("vision."): tensor for name, tensor in start.items() if name.startswith("vision.")}
    return model, Encoder(vision)


def loss_of(model, encoder: Encoder, examples: list[dict], placeholder: int, images: pathlib.Path):
    longest = max(len(example["tokens"]) for example in examples)
    tokens = torch.zeros(len(examples), longest, dtype=torch.long)
    for i, example in enumerate(examples):
        tokens[i, : len(example["tokens"])] = torch.tensor(example["tokens"])
    embeddings = model.get_input_embeddings()(tokens)
    features = encoder(torch.stack([read_image(images / example["image"]) for example in examples]))
    embeddings = embeddings.masked_scatter((tokens == placeholder)[..., None], features)
    # Padding stands on the right, where a causal mask keeps it from every target.
    hidden = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    at = [(i, place, token) for i, example in enumerate(examples) for place, token in example["targets"]]
    example, place, token = (torch.tensor(column) for column in zip(*at))
    return functional.cross_entropy(model.lm_head(hidden[example, place]), token)


def groups_of(model, encoder: Encoder, settings: dict) -> list[dict]:
    """Matrices decay, vectors do not; the encoder and the connector have rates of their own."""
    train, parts = settings["train"], settings["parts"]
    groups: dict[tuple[float, float], list] = {}

    def add(parameter, rate):
        decay = train["weight_decay"] if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)

    for name, place in encoder.names.items():
        add(getattr(encoder, place), parts["vision" if name.startswith("encoder.") else "connector"]["learning_rate"])
    for parameter in model.parameters():
        if parameter.requires_grad:
            add(parameter, train["learning_rate"])
    return [{"params": held, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), held in groups.items()]


def factor(step: int, total: int, warmup: float) -> float:
    steps = math.ceil(warmup * total)
    if step < steps:
        return step / max(steps, 1)
    return 0.5 * (1 + math.cos(math.pi * (step - steps) / max(total - steps, 1)))


def main() -> None:
    data, start, run = (pathlib.Path(argument) for argument in sys.argv[1:4])
    settings = tomllib.loads((run / "config.toml").read_text())
    steps = [json.loads(line) for line in (start / "steps.jsonl").open()][: int(sys.argv[4])]
    tensors = load_file(start / "start.safetensors")
    adapter = settings["adapter"]
    model, encoder = build(data, tensors, adapter["alpha"] / adapter["rank"])
    tokenizer = json.loads((data / "model" / "tokenizer.json").read_text())
    placeholder = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == "<filename>")

    groups = groups_of(model, encoder, settings)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    trained = [parameter for group in groups for parameter in group["params"]]
    first = run / "training" / "stage-1"  # where there are several stages
    metrics = (first if first.exists() else first.parent) / "metrics.jsonl"
    ours = [json.loads(line) for line in metrics.open()]
    total, warmup = json.loads((start / "total.json").read_text()), settings["train"]["schedule"]["warmup"]

    losses, began = [], time.time()
    for step, examples in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor(step, total, warmup)
        loss = loss_of(model, encoder, examples, placeholder, data / "train")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % RANGE == 0:
            first = step + 1 - RANGE
            mine = [ours[i]["loss"] for i in range(first, step + 1)]
            theirs = losses[first:]
            apart = max(abs(a - b) for a, b in zip(mine, theirs))
            print(f"| {first + 1}-{step + 1} | {numpy.mean(mine):.4f} | {numpy.mean(theirs):.4f} | {apart:.4f} |", flush=True)
    print(f"{len(losses)} steps of torch in {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
