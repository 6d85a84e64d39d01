"""Which releases of transformers and adamllm read each other's folders. Writes `docs/compatibility.md`.

    cargo build --release --examples
    python tools/compatibility/compatibility.py --venvs DIR --work DIR [--binaries DIR] [--release X]... [--family NAME]... [--out FILE]

`--venvs` gets one virtual environment for each release in `releases.txt` (about 6 GB, made once); `--work` gets the model folders,
`--binaries` is where `generate` and `post_train` lie (`target/release/examples`). For each family and release X:

1. X loads a small folder in the layout that the family was published in (from the fixtures) and saves it again, with `save_pretrained`,
2. X answers a question from what it saved, with an image and without; `generate` must give the same token ids and logits,
3. `post_train` trains one step at a rate that changes nothing and exports; X loads the export and must answer as before,
4. the same export of the published folder itself.

Where X's own answer is another than the newest release's on the same folder, adamllm is compared with the newest and the table says so.
With `--family`, the tables of the other families stay as they are in the file; so does what `serve.py` wrote.
Exit code: 0 all equal, 1 some are not, 2 wrong arguments.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import venvs

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "crates/adamllm-model/tests/fixtures"
IMAGE = FIXTURES / "images/photo.jpg"
PROMPT = "What is shown in the picture?"
TOLERANCE = 2e-3
# The section that `serve.py` writes.
SERVED = "Served by vLLM"
# Name -> the fixture, and a variant of its published layout (`published.py`).
FAMILIES = {
    "Qwen2-VL": ("qwen2_vl/hub2024", None),
    "Qwen2-VL, tied head": ("qwen2_vl/tied", None),
    "Qwen2.5-VL": ("qwen2_5_vl/hub2024", None),
    "Qwen3-VL": ("qwen3_vl/model", None),
    "LLaVA-NeXT, Llama": ("llava_next/hub2024", None),
    "LLaVA-NeXT, Mistral": ("llava_next/hub2024", "mistral"),
    "Llama 3.2 Vision": ("mllama/hub2024", None),
    "Idefics3": ("idefics3/model", None),
    "SmolVLM, as Idefics3": ("smolvlm/model", "smolvlm_as_idefics3"),
    "SmolVLM": ("smolvlm/model", None),
    "Llama 3": ("llama/model", None),
    "Qwen2": ("qwen2/model", None),
    "Qwen3": ("qwen3/model", None),
}
SETTINGS = """\
[model]
folder = "{model}"

[[data.sources]]
name = "one"
{data} = "{rows}"
images = ["{images}"]

[train]
epochs = 1.0
batch_size = 1
micro_batch_size = 1
learning_rate = 1e-30
weight_decay = 0.0
"""


def work(python: Path, jobs: list[dict], scratch: Path) -> list[dict]:
    """The jobs' results, by one process of one release."""
    scratch.mkdir(parents=True, exist_ok=True)
    asked, told = scratch / "jobs.json", scratch / "results.json"
    asked.write_text(json.dumps([{"image": str(IMAGE), "prompt": PROMPT} | job for job in jobs]))
    with (scratch / "log").open("w") as log:
        subprocess.run([python, Path(__file__).with_name("worker.py"), asked, told], check=True, stdout=log, stderr=log)
    return json.loads(told.read_text())


def ours(binaries: Path, folder: Path, picture: bool) -> dict:
    """What `generate` says, or `{"refused": why}`."""
    command = [binaries / "generate", "--model", folder, "--prompt", PROMPT, "--max-new-tokens", "4", "--json", "--logits"]
    command += ["--image", IMAGE] if picture else []
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return json.loads(done.stdout)
    return {"refused": cause(done.stderr, folder)}


def cause(stderr: str, folder: Path) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    line = next((line for line in lines if "error" in line), lines[-1] if lines else "no word")
    return line.replace(f"{folder}/", "").removeprefix("error: ")[:160]


def export(binaries: Path, folder: Path, visual: bool, out: Path) -> str | None:
    """The folder that `post_train` writes in `out/model`; or why there is none."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    turns = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "A red square."}]
    if visual:
        row = {"images": [IMAGE.name], "messages": [turns[0] | {"content": f"<image>{PROMPT}"}, turns[1]]}
    else:
        row = {"messages": turns}
    (out / "rows.json").write_text(json.dumps([row]))
    settings = SETTINGS.format(model=folder, data="conversations", rows=out / "rows.json", images=IMAGE.parent)
    (out / "settings.toml").write_text(settings)
    done = subprocess.run([binaries / "post_train", "--config", out / "settings.toml", "--out", out / "run"], capture_output=True, text=True)
    if done.returncode != 0:
        return cause(done.stderr, folder)
    (out / "run/model").rename(out / "model")
    return None


def differs(got: dict, wanted: dict) -> str | None:
    if got["input_ids"] != wanted["input_ids"]:
        return f"{len(got['input_ids'])} prompt tokens, not {len(wanted['input_ids'])}, or other ones"
    if len(got["logits_last"]) != len(wanted["logits_last"]):
        return "another number of logits"
    largest = max(abs(a - b) for a, b in zip(got["logits_last"], wanted["logits_last"]))
    if not largest <= TOLERANCE:
        return f"logits differ by {largest:.2g}"
    return None if got["output_ids"] == wanted["output_ids"] else "other tokens"


def compared(got: dict, wanted: dict, newest: dict, name: str) -> str:
    """The cell of one comparison: `got` against what the release says itself, else against the newest."""
    if "refused" in got:
        return f"refused: {got['refused']}"
    if "refused" not in wanted:
        found = [(kind, differs(got[kind], wanted[kind])) for kind in wanted]
        if not any(why for _, why in found):
            return "equal"
    if "refused" not in newest and not any(differs(got[kind], newest[kind]) for kind in newest):
        return f"equal to {name}" + (f" (the release itself: {wanted['refused']})" if "refused" in wanted else " (the release itself differs)")
    if "refused" in wanted:
        return f"answered; the release itself: {wanted['refused']}"
    return "DIFFERENT: " + "; ".join(f"{kind}: {why}" for kind, why in found if why)


def prepare(python: Path, folder: Path, families: list[str]) -> dict[str, Path]:
    """The published folders, family by family."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    out = {name: folder / name.lower().replace(",", "").replace(" ", "-") for name in families}
    jobs = [{"do": "prepare", "from": str(FIXTURES / FAMILIES[n][0]), "to": str(out[n]), "variant": FAMILIES[n][1]} for n in families]
    refused = work(python, jobs, folder / ".work")
    assert not any(refused), refused
    return out


class Release:
    """One release's part of the work: what it saved, and what it said of which folder."""

    def __init__(self, options, name: str, published: dict[str, Path], plain: dict[str, Path]):
        self.name, self.base = name, options.work / name
        self.python = venvs.python_of(options.venvs, name)
        shutil.rmtree(self.base, ignore_errors=True)
        self.saved = {family: self.base / "saved" / path.name for family, path in published.items()}
        self.exported = {family: self.base / "exported" / path.name for family, path in published.items()}
        jobs = [{"do": "save", "from": str(published[family]), "to": str(folder)} for family, folder in self.saved.items()]
        jobs += asked(published.values()) + asked(plain.values())
        told = work(self.python, jobs, self.base / "first")
        n = len(published)
        self.own, self.of_published, self.of_plain = (dict(zip(published, told[i * n : (i + 1) * n])) for i in range(3))
        self.there = [family for family, folder in self.saved.items() if (folder / "config.json").exists()]

    def read_again(self) -> None:
        """What it says of the exports of what it saved."""
        found = [self.exported[family] / "model" for family in self.there]
        self.of_exported = dict(zip(self.there, work(self.python, asked(found), self.base / "again")))


def asked(folders) -> list[dict]:
    return [{"do": "answer", "from": str(folder)} for folder in folders]


def row(options, release: Release, newest: dict[str, dict], name: str, unexported: dict[str, str | None]) -> dict[str, tuple[str, str, str]]:
    """Family -> the three cells of one release. `newest`: what the newest release, `name`, says of the same folders."""
    out, reading, unwritten = {}, {}, {}
    for family in release.there:
        own, reference = release.own[family], newest[family]
        kinds = reference.keys() - {"refused"} or own.keys() - {"refused"} or {"text"}
        got = {kind: ours(options.binaries, release.saved[family], kind == "picture") for kind in kinds}
        refused = next((one for one in got.values() if "refused" in one), None)
        reading[family] = compared(refused or got, own, reference, name)
        unwritten[family] = export(options.binaries, release.saved[family], "picture" in kinds, release.exported[family])
    release.read_again()
    for family, own in release.own.items():
        if family not in release.there:
            absent = "not in this release" if "does not recognize" in own["refused"] else f"the release: {own['refused']}"
            out[family] = (absent,) * 3
            continue
        third = second(unexported[family], release.of_plain[family], release.of_published[family])
        out[family] = (reading[family], second(unwritten[family], release.of_exported[family], own), third)
    return out


def second(refused: str | None, got: dict, wanted: dict) -> str:
    """The export, loaded by the release, against what it loaded before the export."""
    if refused:
        return f"not exported: {refused}"
    if "refused" in wanted:
        return "equal (both refused)" if got.get("refused") == wanted["refused"] else f"the release on its own folder: {wanted['refused']}"
    return compared(got, wanted, {"refused": ""}, "")


def table(rows: dict[str, dict[str, tuple[str, str, str]]], family: str) -> str:
    out = ["| transformers | saved by it, read by adamllm | that, exported by adamllm, read by it | the published layout, exported by adamllm, read by it |", "|---|---|---|---|"]
    out += ["| " + " | ".join([release, *(cell.replace("|", "\\|") for cell in row[family])]) + " |" for release, row in rows.items()]
    return "\n".join(out)


def tables(path: Path) -> dict[str, str]:
    """Family -> its table, of a file that was written before."""
    parts = path.read_text().split("\n## ")[1:] if path.exists() else []
    return {name: body.strip() for name, _, body in (part.partition("\n") for part in parts)}


HEAD = """\
# Compatibility with transformers

Made by `tools/compatibility/compatibility.py`, which says how; tiny random models in the layouts that their families were published in (2024;
SmolVLM, Qwen3 and Qwen3-VL 2025), saved again by each release. *Equal*: the same prompt token ids, logits within {tolerance} and the same greedy
answer, with an image and without. *Not in this release*: the family came later. *The release itself differs*: the same folder, read by that
release and by the newest, gives two answers; known causes are

- Llama 3.2 Vision with an image: releases up to 4.51 give the projector the states in front of the blocks that `intermediate_layers_indices` names,
  as the model's first authors do; later ones give it the states after them.
- LLaVA-NeXT with an image: 4.45 fills up the tiles of an image in another way, and its `processor_config.json` lacks `num_additional_image_tokens`,
  without which later releases count one image token too few and stop.
- Idefics3 and SmolVLM with an image: 4.57 multiplies the place of each patch in its tile by 1 - 1e-6 before it looks up the position, so that in f32
  every patch of a published model but the first takes the position before its own. Not in these tables, which are in f32: in bf16, 4.57, 5.0 and 5.8
  round that place to bf16, and of 26 or 27 patches along a side (Idefics3-8B, SmolVLM-2.2B) some take a neighbour's position; of 32 (256M, 500M) none.

*SmolVLM, as Idefics3* is the layout of the first SmolVLMs, whose `model_type` is `idefics3`. Images go through each release's Pillow image processor, as in
adamllm; that of 4.57 does not read Qwen3-VL's `size`, so it is given what the release's other image processor, its default, reads there.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--binaries", type=Path, default=ROOT / "target/release/examples")
    parser.add_argument("--release", action="append", help="only this one; the newest of releases.txt is always the reference")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this one")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/compatibility.md")
    options = parser.parse_args()
    options.venvs, options.work, options.binaries = (p.resolve() for p in (options.venvs, options.work, options.binaries))
    newest = venvs.releases()[-1]
    published = prepare(venvs.python_of(options.venvs, newest), options.work / "published", options.family or list(FAMILIES))
    visual = lambda name: "vision_config" in json.loads((published[name] / "config.json").read_text())
    plain = {n: options.work / "exported" / published[n].name for n in published}
    unexported = {n: export(options.binaries, published[n], visual(n), plain[n]) for n in published}
    plain = {n: folder / "model" for n, folder in plain.items()}

    releases = []
    for name in options.release or venvs.releases():
        print(f"{name} saves", file=sys.stderr, flush=True)
        releases.append(Release(options, name, published, plain))
    places = [(release, family) for release in releases for family in release.there]
    told = work(venvs.python_of(options.venvs, newest), asked(r.saved[f] for r, f in places), options.work / "newest")
    by_newest = {(r.name, f): one for (r, f), one in zip(places, told)}

    rows = {}
    for release in releases:
        print(f"{release.name} reads", file=sys.stderr, flush=True)
        said = {family: by_newest[release.name, family] for family in release.there}
        rows[release.name] = row(options, release, said, newest, unexported)
    found = {family: table(rows, family) for family in published}
    before = tables(options.out)
    found = (before if options.family else {}) | found
    found |= {SERVED: before[SERVED]} if SERVED in before else {}
    text = HEAD.format(tolerance=TOLERANCE) + "".join(f"\n## {name}\n\n{found[name]}\n" for name in [*FAMILIES, SERVED] if name in found)
    options.out.write_text(text)
    wrong = [cell for row in rows.values() for three in row.values() for cell in three if not cell.startswith(("equal", "not in this release"))]
    print(f"{len(wrong)} cells are not equal; see {options.out}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
