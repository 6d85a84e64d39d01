"""Scoring in Python: what `score` is compared with by `compare_scoring.py`. One process, as such scripts are run.

    python scoring.py TASK FILE

Written for this comparison from the published protocols, each formula as plain as the protocol allows: the VQA evaluation's answer
normalisation, LLaVA-Med's recall and closed accuracy, MMMU's multiple-choice parsing, longest name first for lists of names, and the
`rouge` package. Prints `{task, n, paper}` with the names that `score --json` uses.
"""

import json
import random
import re
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "crates/adamllm-eval/data"
PUNCTUATION = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]
DIGITS = {word: str(i) for i, word in enumerate("zero one two three four five six seven eight nine ten".split())} | {"none": "0"}
ARTICLES = {"a", "an", "the"}
PERIOD = re.compile(r"\.(?!\d)")
COMMA = re.compile(r"\d,\d")


def lines(name):
    return (DATA / name).read_text().splitlines()


CONTRACTIONS = dict(line.split(" ") for line in lines("vqa_contractions.txt"))


def normalise(text):
    out = text
    for mark in PUNCTUATION:
        if mark + " " in text or " " + mark in text or COMMA.search(text):
            out = out.replace(mark, "")
        else:
            out = out.replace(mark, " ")
    words = []
    for word in PERIOD.sub("", out, 32).lower().split():
        word = DIGITS.get(word, word)
        if word not in ARTICLES:
            words.append(CONTRACTIONS.get(word, word))
    return " ".join(words).replace(",", "")


def open_recall(answer, label):
    answer, label = normalise(answer).split(), normalise(label).split()
    shared = sum(1 for word in answer if word in label)
    missing = sum(1 for word in label if word not in answer)
    return 100 * shared / (shared + missing) if shared else 0.0


def score_vqa(row):
    answer, label = normalise(row["pred"].lower()), normalise(row["label"].lower())
    if row["answer_type"] == "OPEN":
        return "OPEN recall", open_recall(answer, label)
    said = "yes" in answer or "no" in answer
    return "CLOSED yes/no accuracy", 100.0 if said and label in answer else 0.0


def parse_choice(answer, keys, texts, seed):
    for mark in ",.!?;:'":
        answer = answer.strip(mark)
    answer = " " + answer + " "
    for form in ("({})", " {} "):
        found = [(answer.rfind(form.format(key)), i) for i, key in enumerate(keys)]
        found = [(at, i) for at, i in found if at >= 0]
        if found:
            return keys[max(found)[1]], "key"
    if len(answer) > 5:
        lower = answer.lower()
        found = [(lower.rfind(text.lower()), -i) for i, text in enumerate(texts)]
        found = [(at, i) for at, i in found if at >= 0]
        if found:
            return keys[-max(found)[1]], "text"
    return random.Random(seed).choice(keys), "draw"


def score_pmc(row):
    keys = ["A", "B", "C", "D"]
    key, _ = parse_choice(row["pred"], keys, [row[k] for k in keys], row["syn_id"])
    return "acc", 100.0 if key == row["label"] else 0.0


def food101():
    names = lines("food101_classes.txt")
    keys = [str(i) for i in range(len(names))]

    def score(row):
        key, _ = parse_choice(row["pred"], keys, names, row["syn_id"])
        return "acc", 100.0 if names[int(key)] == row["label"] else 0.0

    return score


def names_of(file, metric):
    names = lines(file)
    by_length = sorted(range(len(names)), key=lambda i: -len(names[i]))
    last = {name: i for i, name in enumerate(names)}

    def score(row):
        answer, found = row["pred"].lower(), set()
        for i in by_length:
            if names[i].lower() in answer:
                answer = answer.replace(names[i].lower(), "")
                found.add(i)
        truth = {last[name] for name in row["label"]}
        hits = len(truth & found)
        if metric == "f1":
            return metric, 200 * hits / (len(truth) + len(found)) if truth or found else 0.0
        return metric, 100 * hits / len(truth)

    return score


def recipes():
    from rouge import Rouge

    rouge = Rouge(metrics=["rouge-l"])

    def score(row):
        try:
            return "rl", 100 * rouge.get_scores(row["pred"], row["label"])[0]["rouge-l"]["f"]
        except (ValueError, RecursionError):
            return "rl", 0.0

    return score


TASKS = {
    "SLAKE": lambda: score_vqa, "VQA_RAD": lambda: score_vqa, "PathVQA": lambda: score_vqa, "PMC_VQA": lambda: score_pmc,
    "Food101": food101, "FoodSeg103": lambda: names_of("foodseg103_classes.txt", "f1"),
    "Nutrition5K": lambda: names_of("nutrition5k_ingredients.txt", "recall"), "Recipe1M": recipes,
}


def main(task, file):
    score, sums = TASKS[task](), {}
    with open(file) as rows:
        for n, line in enumerate(rows, 1):
            name, value = score(json.loads(line))
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value, count + 1)
    means = {name: total / count for name, (total, count) in sums.items()}
    print(json.dumps({"task": task, "n": n, "paper": means}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
