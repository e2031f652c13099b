"""Smaller weights: sizes, losses before and after, and importances."""
import json
import os
import re
import unittest

import program
from program import must, scratch, text_file, train

TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k",
         "q5_k", "q6_k"]
if program.SANITIZED:  # unit tests go through all of them
    TYPES = ["f16", "q4_k"]

SHIPPED = os.path.join(program.ROOT, "models/text.gguf")
BOOK = os.path.join(program.ROOT, "../shared/data/books/war-and-peace.txt")


class QuantizeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Wide enough for blocks of 256; outliers come with a high rate.
        cls.text = text_file("quantize.txt", 40000)
        cls.val = text_file("quantize-val.txt", 6000, seed=5)
        run = scratch("quantize/run")
        must("lm", "--out", run, "--layers", 1, "--heads", 4, "--width", 256,
             "--ffn", 256, "--context", 64, "--batch", 8, "--threads", 1,
             "--steps", 5 if program.SANITIZED else 60, "--lr", "0.1",
             "--val", cls.val, cls.text)
        cls.model = run + "/model.gguf"

    def loss(self, path):
        return json.loads(must("eval", path, "--data", self.val,
                               "--json").out)["loss"]

    def test_types(self):
        whole = self.loss(self.model)
        sizes = {}
        for name in TYPES:
            with self.subTest(name):
                path = scratch(f"quantize/{name}.gguf")
                done = must("quantize", self.model, path, "--type", name,
                            "--eval", self.val)
                sizes[name] = os.path.getsize(path)
                before, after = re.findall(r"loss ([0-9.]+), perpl", done.out)
                self.assertAlmostEqual(float(before), whole, delta=1e-4)
                # 4 bits cost some hundredths of a nat, never the model
                self.assertLess(abs(float(after) - whole), 0.15)
                self.assertRegex(done.out, r"file  \d+\.\d+ MB -> \d+\.\d+ MB")
        if program.SANITIZED:
            return
        self.assertLess(sizes["q4_0"], 0.2 * sizes["f32"])
        self.assertLess(sizes["q4_k"], sizes["q5_k"])
        self.assertLess(sizes["q5_k"], sizes["q6_k"])

    def test_importance(self):
        for name in ("q4_0", "q4_k"):
            a, b = scratch("quantize/a.gguf"), scratch("quantize/b.gguf")
            must("quantize", self.model, a, "--type", name)
            done = must("quantize", self.model, b, "--type", name,
                        "--imatrix", self.text)
            self.assertRegex(done.out, r"importance of 8 matrices from \d+ tok")
            self.assertEqual(os.path.getsize(a), os.path.getsize(b))
            with open(a, "rb") as x, open(b, "rb") as y:
                self.assertNotEqual(x.read(), y.read())

    @unittest.skipIf(program.SANITIZED, "a large model")
    @unittest.skipUnless(os.path.exists(BOOK), f"skipped: {BOOK} is not here")
    def test_importance_helps(self):
        """The model that ships loses less with four bits when rounding knows
        what its own kind of text makes important. (With a small model of a
        minute's training that is as often untrue: the loss is no measure of
        such small errors.)"""
        with open(BOOK, "rb") as f:
            book = f.read()
        seen = program.write("quantize/seen.txt",
                             book[-100000:-40000].decode(errors="ignore"))
        self.val = program.write("quantize/unseen.txt",
                                 book[-20000:].decode(errors="ignore"))
        a, b = scratch("quantize/c.gguf"), scratch("quantize/d.gguf")
        plain = weighed = 0.0
        for name in ("q4_0", "q4_1"):
            must("quantize", SHIPPED, a, "--type", name)
            must("quantize", SHIPPED, b, "--type", name, "--imatrix", seen)
            plain += self.loss(a)
            weighed += self.loss(b)
        self.assertLess(weighed, plain - 0.003)

    def test_refusals(self):
        done = train("quantize", self.model, self.model, "--type", "q8_0")
        self.assertEqual(done.status, 1)
        self.assertIn("would replace the model it is made from", done.err)
        done = train("quantize", self.text, scratch("quantize/no.gguf"),
                     "--type", "q8_0")
        self.assertEqual(done.status, 1)
        self.assertFalse(os.path.exists(scratch("quantize/no.gguf")))
        done = train("quantize", self.model, scratch("quantize/no.gguf"),
                     "--type", "q8_0", "--imatrix",
                     program.write("quantize/empty.txt", ""))
        self.assertEqual(done.status, 1)
        self.assertIn("holds no text", done.err)


if __name__ == "__main__":
    unittest.main()
