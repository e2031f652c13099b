#!/usr/bin/env python3
"""Cranfield's SMART files as a retrieval folder of `infer-train embed`.

    bench/cranfield.py ../shared/data/cranfield FOLDER

Writes corpus.jsonl, queries.jsonl and qrels.tsv. Queries are numbered by their
order, as the judgements number them. Every judged document counts as relevant,
with gain 1, as in the BM25 figure that the project compares with.
"""
import json
import os
import sys


def records(path):
    """[{letter: text}] of a file of .I .T .A .B .W parts."""
    out, part = [], None
    with open(path, encoding="ascii", errors="replace") as f:
        for line in f:
            if line.startswith(".I"):
                out.append({})
                part = None
            elif len(line) == 3 and line[0] == "." and line[1].isupper():
                part = line[1]
                out[-1].setdefault(part, "")
            elif part:
                out[-1][part] += " " + line.strip()
    return out


def write(folder, name, rows):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        for i, text in enumerate(rows, 1):
            json.dump({"_id": str(i), "text": text.strip() or "(empty)"}, f)
            f.write("\n")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    write(folder, "corpus.jsonl",
          [r.get("T", "") + " " + r.get("W", "")
           for r in records(os.path.join(source, "cran.all.1400"))])
    write(folder, "queries.jsonl",
          [r.get("W", "") for r in records(os.path.join(source, "cran.qry"))])
    with open(os.path.join(source, "cranqrel"), encoding="ascii") as f, \
            open(os.path.join(folder, "qrels.tsv"), "w",
                 encoding="utf-8") as out:
        out.write("query\tdocument\tgain\n")
        for line in f:
            if line.strip():
                query, doc = line.split()[:2]
                out.write(f"{query}\t{doc}\t1\n")


if __name__ == "__main__":
    main()
