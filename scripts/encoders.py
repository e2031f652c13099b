#!/usr/bin/env python3
"""The training files of scripts/encoders.sh.

    scripts/encoders.py intents|sentences DATA FOLDER
"""
import csv
import json
import os
import random
import re
import sys


def clinc(data, *names):
    for name in names:
        with open(os.path.join(data, "clinc150", name + ".jsonl"),
                  encoding="utf-8") as f:
            for line in f:
                row = json.loads(line)
                yield row["text"], row["label"]


def banking(data, name):
    with open(os.path.join(data, "banking77", name + ".csv"),
              encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            yield row["text"].strip(), row["category"]


def write(folder, name, rows):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        for row in rows:
            json.dump(row, f, ensure_ascii=False)
            f.write("\n")


def intents(data, folder):
    """BANKING77 has no validation part: every tenth training row is one."""
    bank = list(banking(data, "train"))
    parts = {
        "train": [*clinc(data, "train", "train_oos"),
                  *(r for i, r in enumerate(bank) if i % 10)],
        "val": [*clinc(data, "dev", "dev_oos"), *bank[::10]],
        "test": [*clinc(data, "test", "test_oos"), *banking(data, "test")],
    }
    for name, rows in parts.items():
        write(folder, name + ".jsonl",
              [{"text": t, "label": l} for t, l in rows])


def paragraphs(path):
    with open(path, encoding="utf-8", errors="ignore") as f:
        for part in re.split(r"\n\s*\n", f.read()):
            text = " ".join(part.split())
            if 120 <= len(text) <= 600:
                yield text


def halves(text):
    at = text.find(" ", len(text) // 2)
    return [text[:at], text[at + 1:]] if at > 0 else None


def sentences(data, folder):
    draw = random.Random(1)
    classes, groups = {}, []
    for text, label in [*clinc(data, "train"), *banking(data, "train")]:
        classes.setdefault(label, []).append(text)
    for label in sorted(classes):
        texts = classes[label]
        draw.shuffle(texts)
        groups += [texts[i:i + 4] for i in range(0, len(texts) - 3, 4)]
    for book in ("war-and-peace.txt", "botchan.txt"):
        for text in paragraphs(os.path.join(data, "books", book)):
            groups += filter(None, [halves(text)])
    with open(os.path.join(data, "mr", "train.jsonl"), encoding="utf-8") as f:
        groups += filter(None, (halves(json.loads(line)["text"])
                                for line in f))
    draw.shuffle(groups)
    write(folder, "groups.jsonl", [{"texts": g} for g in groups])


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("intents", "sentences"):
        sys.exit(__doc__)
    globals()[sys.argv[1]](*sys.argv[2:])
