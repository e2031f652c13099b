#!/usr/bin/env python3
"""Spearman of a served embedder's cosines and the scores of text pairs.

    bench/stsb.py URL MODEL ../shared/data/stsb_en/test.jsonl

Rows are {"a", "b", "score"}. What quantization costs is seen by serving two
files of one model and asking for both.
"""
import json
import sys
import urllib.request

AT_ONCE = 256


def vectors(url, model, texts):
    out = []
    for i in range(0, len(texts), AT_ONCE):
        body = json.dumps({"model": model, "input": texts[i:i + AT_ONCE]})
        request = urllib.request.Request(
            url + "/v1/embeddings", body.encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            out += [d["embedding"] for d in json.load(reply)["data"]]
    return out


def ranks(values):
    """Equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    out, i = [0.0] * len(values), 0
    while i < len(order):
        k = i
        while k < len(order) and values[order[k]] == values[order[i]]:
            k += 1
        for j in order[i:k]:
            out[j] = (i + k - 1) / 2
        i = k
    return out


def pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xy = sum((a - mx) * (b - my) for a, b in zip(x, y))
    xx = sum((a - mx) ** 2 for a in x)
    yy = sum((b - my) ** 2 for b in y)
    return xy / (xx * yy) ** 0.5


def main(url, model, path):
    with open(path, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    a = vectors(url, model, [r["a"] for r in rows])
    b = vectors(url, model, [r["b"] for r in rows])
    cosines = [sum(x * y for x, y in zip(u, v)) for u, v in zip(a, b)]
    rho = pearson(ranks(cosines), ranks([float(r["score"]) for r in rows]))
    print("%s: Spearman %.4f of %d pairs" % (model, rho, len(rows)))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
