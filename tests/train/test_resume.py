"""A run that was stopped and resumed ends in the bytes of one that was not."""
import glob
import os
import shutil
import unittest

import program
from program import INT, KILL, TERM, TINY, losses, must, read, scratch, train
from test_lm import read_events

EVERY = ["--steps", 28, "--log-every", 1, "--eval-every", 5, "--save-every",
         4]
# What a step may depend on besides the parameters.
CASES = {
    "sgd": ["--optimizer", "sgd", "--clip", "0.5"],
    "adam": ["--optimizer", "adam", "--schedule", "cosine"],
    "adamw": ["--optimizer", "adamw", "--dropout", "0.2", "--accumulate", 3],
    "muon": ["--start-context", 8, "--ema", "0.9", "--dropout", "0.1",
             "--label-smoothing", "0.1"],
    "gpt2": ["--arch", "gpt2", "--precision", "f32", "--ema", "0.5",
             "--untied", "--sample", 8, "--sample-every", 3],
}


def arguments(case):
    return [*TINY, *EVERY, *CASES[case], program.text_file()]


def best(run):
    return read(run, "checkpoints/best.ckpt")


class ResumeTest(unittest.TestCase):
    def undisturbed(self, case):
        run = scratch(f"whole-{case}")
        if not os.path.exists(run):
            must("lm", "--out", run, *arguments(case))
        return run

    def compare(self, case, run):
        whole = self.undisturbed(case)
        for name in ("model.gguf", "samples.txt"):
            if not os.path.exists(os.path.join(whole, name)):
                continue
            # the name of the folder is in the model, and as long
            ours = read(run, name).replace(
                os.path.basename(run).encode(),
                os.path.basename(whole).encode())
            self.assertEqual(ours, read(whole, name), f"{case}: {name}")
        self.assertEqual(losses(run), losses(whole))

    def interrupted(self, case, tag, stops):
        """Stop at each (step, signal), resume, compare."""
        run = scratch(f"w{tag}-{case}".ljust(len(f"whole-{case}"), "_"))
        first = ["lm", "--out", run, *arguments(case)]
        for i, (step, number) in enumerate(stops):
            done = program.stop_at(step, number, *first)
            if done.status == 0 and i > 0:
                break  # on a busy machine the signal came after the end
            self.assertNotEqual(done.status, 0, done)
            if number == TERM:
                self.assertEqual(done.status, 1, done)
                self.assertIn("and saved; go on with infer-train lm --resume",
                              done.err)
            if os.path.exists(os.path.join(run, "config.json")):
                first = ["lm", "--resume", run]
        must(*first)
        self.compare(case, run)
        return run

    def test_every_optimizer(self):
        for case in CASES:
            with self.subTest(case):
                self.interrupted(case, "abc", [(2, TERM), (9, KILL),
                                               (12, TERM), (17, KILL)])

    def test_interrupt(self):
        run = self.interrupted("muon", "int", [(7, INT)])
        files = sorted(glob.glob(run + "/events.out.tfevents.*"))
        self.assertEqual(len(files), 2)  # one for each process
        starts = [read_events(f)[1][0] for f in files]
        self.assertEqual(starts[0], 1)
        self.assertGreater(starts[1], 7)

    def test_finished_run(self):
        run = self.undisturbed("adam")
        before = read(run, "model.gguf")
        must("lm", "--resume", run)
        self.assertEqual(read(run, "model.gguf"), before)

    def test_raised_limit_is_kept(self):
        run = scratch("raised")
        must("lm", "--out", run, *arguments("sgd"))
        done = program.stop_at(30, KILL, "lm", "--resume", run, "--steps", 90)
        self.assertNotEqual(done.status, 0)
        must("lm", "--resume", run)
        self.assertEqual(losses(run)[-1][0], "90")

    def test_damaged_checkpoints(self):
        """The newest that is whole is taken; what is lost is trained again."""
        for what in ("cut", "bit", "empty", "text"):
            with self.subTest(what):
                run = scratch("d-" + what.ljust(8, "_"))
                shutil.copytree(self.undisturbed("muon"), run)
                config = read(run, "config.json").replace(
                    self.undisturbed("muon").encode(), run.encode())
                program.write(run + "/config.json", config)
                paths = sorted(glob.glob(run + "/checkpoints/step-*"))
                self.assertEqual(len(paths), 2)
                self.damage(paths[-1], what)
                done = must("lm", "--resume", run)
                self.assertIn("passed over 1 damaged checkpoint", done.err)
                self.assertIn("going on from step 24", done.err)
                self.compare_copy(run)

    def compare_copy(self, run):
        whole = self.undisturbed("muon")
        self.assertEqual(losses(run), losses(whole))
        self.assertEqual(
            read(run, "model.gguf").replace(
                os.path.basename(run).encode(),
                os.path.basename(whole).encode()),
            read(whole, "model.gguf"))

    @staticmethod
    def damage(path, how):
        data = bytearray(read(path))
        if how == "cut":
            del data[len(data) * 2 // 3:]
        elif how == "bit":
            data[len(data) // 2] ^= 4
        elif how == "empty":
            data.clear()
        else:
            data = b"not a checkpoint\n" * 100
        with open(path, "wb") as f:
            f.write(data)

    def test_all_damaged(self):
        run = scratch("all-damaged")
        shutil.copytree(self.undisturbed("sgd"), run)
        for path in glob.glob(run + "/checkpoints/step-*"):
            self.damage(path, "cut")
        done = train("lm", "--resume", run)
        self.assertEqual(done.status, 1, done)
        self.assertRegex(done.err, "no checkpoint .* can be used")

    def test_damaged_best(self):
        run = scratch("damaged-best")
        shutil.copytree(self.undisturbed("sgd"), run)
        self.damage(run + "/checkpoints/best.ckpt", "bit")
        done = must("lm", "--resume", run)
        self.assertIn("the last parameters become the model", done.err)

    def test_other_shape(self):
        run = scratch("other-shape")
        shutil.copytree(self.undisturbed("adam"), run)
        done = train("lm", "--resume", run, "--width", 64)
        self.assertEqual(done.status, 1)
        self.assertIn("of another shape", done.err)
        must("lm", "--resume", run)  # as it was

    def test_damaged_run(self):
        for name, said in (("config.json", "is damaged"),
                           ("data/train.tokens", "start the run again"),
                           ("tokenizer.gguf", "tokenizer.gguf")):
            with self.subTest(name):
                run = scratch("dr-" + name.replace("/", "-"))
                shutil.copytree(self.undisturbed("sgd"), run)
                self.damage(os.path.join(run, name), "cut")
                done = train("lm", "--resume", run)
                self.assertEqual(done.status, 1 + (name == "config.json"),
                                 done)
                self.assertIn(said, done.err)

    def test_one_process_at_a_time(self):
        run = scratch("locked")
        p = program.start("lm", "--out", run, *TINY, "--time", "60s",
                          "--log-every", 1, program.text_file())
        try:
            for line in p.stdout:
                if line.startswith(b"step 1 "):
                    break
            done = train("lm", "--resume", run)
            self.assertEqual(done.status, 1, done)
            self.assertIn("another infer-train works in", done.err)
        finally:
            p.kill()
            p.communicate()


if __name__ == "__main__":
    unittest.main()
