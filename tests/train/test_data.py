"""From files to tokens: what is read, in which order, how it is cleaned and
divided. Characters are the tokens, so the token files can be read back."""
import json
import os
import struct
import time
import unittest

import program
from program import must, read, scratch, write

TRAINER = struct.Struct("<8sIIQQ")
EOS = "\u2400"  # in the texts below for </s>


def tokens(run, part, alphabet):
    data = read(run, f"data/{part}.tokens")
    magic, width, n_vocab, n, _ = TRAINER.unpack(data[-TRAINER.size:])
    assert (magic, width) == (b"infertk1", 2), data[-TRAINER.size:]
    ids = struct.unpack(f"<{n}H", data[:-TRAINER.size])
    # <unk> <s> </s>, then characters by code point, U+2581 for the space
    chars = sorted({"\u2581" if c == " " else c for c in alphabet})
    assert n_vocab == 3 + len(chars), (n_vocab, chars)
    names = ["?", "?", EOS] + [" " if c == "\u2581" else c for c in chars]
    return "".join(names[i] for i in ids)


class DataTest(unittest.TestCase):
    number = 0

    def streams(self, *args, alphabet, val=None):
        """(training, validation) texts of a run over the data."""
        DataTest.number += 1
        run = scratch(f"data/run{DataTest.number}")
        val = val or write("data/val.txt", "ab" * 20)
        if "--val-share" not in args:
            args = [*args, "--val", val]
            alphabet += "ab"
        must("lm", "--out", run, "--layers", 1, "--heads", 1, "--width", 8,
             "--context", 4, "--batch", 1, "--threads", 1, "--steps", 1,
             *args)
        return (tokens(run, "train", alphabet), tokens(run, "val", alphabet))

    def train(self, *args, **kw):
        return self.streams(*args, **kw)[0]

    def test_rows(self):
        path = write("data/rows.jsonl", "".join(
            json.dumps({"n": 1, "t": t}) + "\n\n" for t in
            ["one two", "line\nbreak", "", "\u00e9\u6f22"]))
        got = self.train("--field", "t", path,
                         alphabet="one two line\nbreak\u00e9\u6f22")
        self.assertEqual(got, f"one two{EOS}line\nbreak{EOS}\u00e9\u6f22")

    def test_units(self):
        path = write("data/unit.txt", "a b\nc\n\n\nd\ne")
        for unit, want in (("file", "a b\nc\n\n\nd\ne"),
                           ("paragraph", f"a b\nc\n{EOS}d\ne"),
                           ("line", f"a b\n{EOS}c\n{EOS}d\n{EOS}e")):
            with self.subTest(unit):
                got = self.train("--unit", unit, path, alphabet="a\n bcde")
                self.assertEqual(got, want)

    def test_folder_order(self):
        for name in ("z.txt", "a/2.md", "a/1.text", "m.jsonl", ".hidden.txt",
                     "skip.csv"):
            text = name[0]
            write("data/tree/" + name, json.dumps({"text": "m" * 3}) + "\n"
                  if name.endswith("jsonl") else text * 3)
        got = self.train(scratch("data/tree"), alphabet="azm")
        self.assertEqual(got, f"aaa{EOS}aaa{EOS}mmm{EOS}zzz")

    def test_dedupe_and_length(self):
        path = write("data/dup.txt", "same\nlong enough\nsame\nx\nlong enough\n"
                     "last\n")
        args = ["--unit", "line", path]
        alphabet = "same\nlong enoughxlast"
        self.assertEqual(
            self.train("--dedupe", *args, alphabet=alphabet),
            f"same\n{EOS}long enough\n{EOS}x\n{EOS}last\n")
        self.assertEqual(
            self.train("--min-bytes", 4, "--max-bytes", 6, *args,
                       alphabet="same\nlast",
                       val=write("data/val6.txt", "ababa\n")),
            f"same\n{EOS}same\n{EOS}last\n")

    def test_normalisation(self):
        path = write("data/norm.txt", "caf\u0065\u0301 \ufb01n \uff21")
        for form, want in (("none", "cafe\u0301 \ufb01n \uff21"),
                           ("nfc", "caf\u00e9 \ufb01n \uff21"),
                           ("nfkc", "caf\u00e9 fin A")):
            with self.subTest(form):
                self.assertEqual(self.train("--normalize", form, path,
                                            alphabet=want), want)

    def test_replace_invalid(self):
        path = write("data/bad.txt", b"ab\xff c\xe2\x82 d\xed\xa0\x80")
        want = "ab\ufffd c\ufffd\ufffd d\ufffd\ufffd\ufffd"
        self.assertEqual(self.train("--invalid", "replace", path,
                                    alphabet=want), want)

    def test_split(self):
        """The end of a file, or a share of the documents: the same every
        time, nothing lost, nothing in both."""
        text = "".join(f"{i:03d}\n" for i in range(400))
        path = write("data/split.txt", text)
        args = ["--val-share", "0.25", path]
        a, b = self.streams(*args, alphabet=text)
        self.assertEqual(a + b, text)
        self.assertAlmostEqual(len(b) / len(text), 0.25, delta=0.01)
        args = ["--unit", "line", *args]
        a, b = self.streams(*args, "--seed", 1, alphabet=text)
        self.assertEqual(self.streams(*args, "--seed", 2, alphabet=text),
                         (a, b))
        a, b = a.split(EOS), b.split(EOS)
        self.assertEqual(sorted(a + b), text.splitlines(keepends=True))
        self.assertAlmostEqual(len(b) / 400, 0.25, delta=0.08)

    def test_eval_split(self):
        """eval divides a text as lm does."""
        text = program.text_file()
        run = scratch("data/evalsplit")
        must("lm", "--out", run, *program.TINY, "--steps", 5, "--unit", "line",
             "--val-share", "0.2", "--precision", "f32", text)
        scores = json.loads(must(
            "eval", run + "/model.gguf", "--data", text, "--unit", "line",
            "--split", "val", "--val-share", "0.2", "--json").out)
        loss = program.card_loss(run)
        self.assertAlmostEqual(scores["loss"], loss, delta=1e-4 * loss)
        n = json.loads(must(
            "eval", run + "/model.gguf", "--data", text, "--unit", "line",
            "--split", "train", "--val-share", "0.2", "--json").out)["tokens"]
        card = read(run, "README.md").decode()
        self.assertIn(f"validation tokens | {scores['tokens'] + 1}", card)
        self.assertGreater(n, 3 * scores["tokens"])

    @unittest.skipUnless(os.environ.get("SLOW"), "takes minutes")
    def test_larger_than_memory(self):
        """Memory of its own does not grow with the text (what is mapped from
        files is the system's to take back)."""
        n = int(os.environ.get("BIG_MB", "1024"))
        path = scratch("data/big.txt")
        piece = program.english(1 << 20).encode()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            for _ in range(n):
                f.write(piece)
        run = scratch("data/big")
        p = program.start("lm", "--out", run, *program.TINY, "--steps", 3,
                          "--val-share", "0.001", "--eval-tokens", 1000, path)
        most = 0
        while p.poll() is None:
            with open(f"/proc/{p.pid}/status", encoding="ascii") as f:
                most = max([most] + [int(line.split()[1]) for line in f
                                     if line.startswith("RssAnon")])
            time.sleep(0.05)
        _, err = p.communicate()
        self.assertEqual(p.returncode, 0, err)
        self.assertGreater(most, 0)
        self.assertLess(most, 100 << 10, "kB")
        self.assertGreater(os.path.getsize(run + "/data/train.tokens"),
                           n * 1.9 * (1 << 20))
        os.unlink(path)


if __name__ == "__main__":
    unittest.main()
