"""kill -9 at random moments, again and again: the model is that of a run
nobody disturbed."""
import glob
import os
import random
import time
import unittest

import program
from program import losses, must, read, scratch

KILLS = int(os.environ.get("KILLS", "3" if program.SANITIZED else "8"))


class KillTest(unittest.TestCase):
    def test_kill_loop(self):
        seed = int(os.environ.get("SEED", time.time_ns() % 10 ** 9))
        draw = random.Random(seed)
        steps = 40 + 6 * KILLS
        # A checkpoint after each step: most of the time it is being written.
        # One thread: barriers wait long for a second on a busy machine.
        args = [*program.TINY, "--threads", 1, "--steps", steps,
                "--log-every", 2, "--eval-every", 3, "--save-every", 1,
                "--ema", "0.9", "--dropout", "0.1", program.text_file()]
        whole, run = scratch("undisturbed"), scratch("often-kill!")
        began = time.monotonic()
        must("lm", "--out", whole, *args, timeout=600)
        took = time.monotonic() - began
        began = time.monotonic()
        must("lm", "--resume", whole)  # nothing left to do: start and end
        rest = time.monotonic() - began
        kills = starts = 0
        while kills < KILLS and starts < 4 * KILLS + 20:
            starts += 1
            known = os.path.exists(run + "/config.json")
            p = program.start("lm", *(["--resume", run] if known else
                                      ["--out", run, *args]))
            # some within its start, most when a few steps are done
            time.sleep(draw.uniform(0.0, 1.5 * rest + 2.5 * took / KILLS))
            kills += p.poll() is None
            p.kill()
            _, err = p.communicate()
            program.check_clean(err.decode())
            self.assertIn(p.returncode, (0, -program.KILL), (seed, err))
        self.assertEqual(kills, KILLS, f"seed {seed}")
        must("lm", *(["--resume", run] if os.path.exists(run + "/config.json")
                     else ["--out", run, *args]), timeout=600)
        self.assertEqual(losses(run), losses(whole), f"seed {seed}")
        self.assertEqual(
            read(run, "model.gguf").replace(b"often-kill!", b"undisturbed"),
            read(whole, "model.gguf"), f"seed {seed}")
        self.assertFalse(glob.glob(run + "/**/*.tmp-*", recursive=True))


if __name__ == "__main__":
    unittest.main()
