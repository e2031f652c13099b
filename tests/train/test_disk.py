"""Disks that are full or fail: one sentence, the last good state, and a
resumed run that ends as if nothing had been."""
import errno
import os
import resource
import shutil
import subprocess
import unittest

import program
from program import TINY, losses, must, read, scratch, train

ARGS = [*TINY, "--steps", 12, "--log-every", 2, "--eval-every", 4,
        "--save-every", 3]


class DiskTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.args = [*ARGS, program.text_file()]
        cls.whole = scratch("disk-whole")
        must("lm", "--out", cls.whole, *cls.args)

    def go_on(self, run):
        """From whatever is left."""
        if os.path.exists(run + "/config.json"):
            must("lm", "--resume", run)
        else:
            must("lm", "--out", run, *self.args)
        self.assertEqual(losses(run), losses(self.whole))
        self.assertEqual(
            read(run, "model.gguf").replace(os.path.basename(run).encode(),
                                            b"disk-whole"),
            read(self.whole, "model.gguf"))

    def test_file_size_limit(self):
        """As a quota: data fits, checkpoints do not."""
        run = scratch("disk-limit")
        biggest = os.path.getsize(self.whole + "/data/train.tokens")

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (biggest, biggest))
        done = train("lm", "--out", run, *self.args, before=limit)
        self.assertEqual(done.status, 1, done)
        self.assertRegex(done.err, "^infer-train lm: cannot write '.*': File "
                         "too large; mend that and go on with infer-train lm "
                         "--resume .*\n$")
        self.go_on(run)

    def test_full_disk(self):
        place = scratch("small-disk")
        os.makedirs(place)
        size = "size=400k"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs",
                           place], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("cannot mount a tmpfs")
        try:
            run = place + "/disk-small"
            done = train("lm", "--out", run, *self.args)
            self.assertEqual(done.status, 1, done)
            self.assertIn("No space left on device; mend that and go on",
                          done.err)
            subprocess.run(["mount", "-o", "remount,size=8m", place],
                           check=True)
            self.go_on(run)
        finally:
            subprocess.run(["umount", place], check=True)

    @unittest.skipIf(program.SANITIZED, "sanitizers want to be loaded first")
    def test_each_call_fails(self):
        """The n-th write, fsync or rename fails, for n = 1, 2, ..."""
        library = scratch("faults.so")
        source = os.path.join(program.ROOT, "tests/train/faults.c")
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC",
                        "-D_GNU_SOURCE", "-o", library, source, "-ldl"],
                       check=True)
        at, step = 1, 1 if os.environ.get("SLOW") else 9
        while True:
            code = errno.EIO if at % 2 else errno.ENOSPC
            run = scratch("disk-fault")
            done = train("lm", "--out", run, *self.args, env={
                "LD_PRELOAD": library, "FAULT_AT": str(at),
                "FAULT_ERRNO": str(code)})
            if done.status == 0:
                break
            with self.subTest(at):
                self.assertEqual(done.status, 1, done)
                self.assertIn(os.strerror(code), done.err)
                self.assertEqual(done.err.count("\n"), 1, done.err)
                self.go_on(run)
            shutil.rmtree(run)
            at += step
        self.assertGreater(at, 60)


if __name__ == "__main__":
    unittest.main()
