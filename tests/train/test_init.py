"""A run that goes on from a model: from its file, from its export."""
import os
import re
import shutil
import unittest

import program
from program import losses, must, read, rows, scratch, train

OPTIONS = ["--batch", 4, "--context", 32, "--threads", 2, "--precision", "f32",
           "--eval-tokens", 0, "--log-every", 1, "--seed", 5]


def base(arch):
    """A run whose model the others go on from."""
    run = scratch(f"init-base-{arch}")
    if not os.path.exists(run):
        must("lm", "--out", run, "--arch", arch, "--steps", 20, *program.TINY,
             program.text_file())
    return run


def go_on(out, model, *more):
    run = scratch(out)
    must("lm", "--out", run, "--init", model, *OPTIONS, "--val",
         program.text_file(), *more, program.text_file())
    return run


class InitTest(unittest.TestCase):
    def test_begins_with_the_loss_of_the_model(self):
        for arch in ("llama", "gpt2"):
            model = os.path.join(base(arch), "model.gguf")
            small = scratch(f"init-{arch}-q8.gguf")
            must("quantize", model, small, "--type", "q8_0")
            run = go_on(f"init-loss-{arch}", model, "--steps", 3)
            done = must("eval", model, "--data", program.text_file(),
                        "--context", 32)
            want = float(re.search(r"loss +([0-9.]+)", done.out).group(1))
            first = rows(run)[0]
            self.assertEqual(first["step"], "0")
            self.assertAlmostEqual(float(first["val_loss"]), want,
                                   delta=1e-4 * want)
            self.assertLess(float(rows(run)[-1]["val_loss"]), want)
            run = go_on(f"init-q8-{arch}", small, "--steps", 1)
            self.assertAlmostEqual(float(rows(run)[0]["val_loss"]), want,
                                   delta=0.02 * want)

    def test_a_checkpoint_is_the_same_model(self):
        for arch in ("llama", "gpt2"):
            folder, back = scratch(f"hf-{arch}"), scratch(f"hf-{arch}.gguf")
            must("export", base(arch), folder)
            must("import", folder, back)
            ours = go_on(f"init-file-{arch}",
                         os.path.join(base(arch), "model.gguf"), "--steps", 4)
            theirs = go_on(f"init-folder-{arch}", folder, "--steps", 4)
            again = go_on(f"init-back-{arch}", back, "--steps", 4)
            self.assertEqual(losses(ours), losses(theirs))
            self.assertEqual(losses(ours), losses(again))

    def test_resume_needs_no_original(self):
        copy = scratch("init-copy.gguf")
        shutil.copy(os.path.join(base("llama"), "model.gguf"), copy)
        whole = go_on("init-whole", copy, "--steps", 8)
        part = go_on("init-parts", copy, "--steps", 4, "--schedule",
                     "constant")
        os.unlink(copy)
        must("lm", "--resume", part, "--steps", 8)
        self.assertEqual(rows(part)[-1]["step"], "8")
        self.assertEqual(losses(part)[0], losses(whole)[0])
        self.assertTrue(read(part, "model.gguf"))

    def test_contradictions(self):
        model = os.path.join(base("llama"), "model.gguf")
        cases = [(["--layers", 2], "--layers 2 contradicts --init"),
                 (["--arch", "gpt2"], "--arch contradicts"),
                 (["--tokenizer", "char"], "--tokenizer contradicts"),
                 (["--context", 33], "--context 33 contradicts")]
        for more, says in cases:
            done = train("lm", "--out", scratch("init-never"), "--init", model,
                         "--steps", 1, *more, program.text_file())
            self.assertEqual(done.status, 2, done)
            self.assertIn(says, done.err)
        for command in (["import", scratch("nothing"), scratch("x.gguf")],
                        ["export", scratch("nothing"), scratch("x")]):
            done = train(*command)
            self.assertEqual(done.status, 1, done)
            self.assertIn("nothing", done.err)
        done = train("import", model)
        self.assertEqual(done.status, 2, done)
        self.assertFalse(os.path.exists(scratch("x.gguf")))


if __name__ == "__main__":
    unittest.main()
