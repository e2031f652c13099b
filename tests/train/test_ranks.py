"""Data parallel runs: mpirun -np N infer-train lm."""
import os
import shutil
import signal
import subprocess
import time
import unittest

import program

SEAM = os.path.join(program.ROOT, os.environ.get(
    "SEAM", "build/release/tests/unit/test_train_ranks"))
# root is refused, and more ranks than cores, unless these say otherwise; what
# MPI itself leaks is not our affair
ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
       "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "ASAN_OPTIONS": "detect_leaks=0"}
LAUNCHERS = [path for path in map(
    shutil.which, ("mpirun.mpich", "mpirun.openmpi")) if path]
if not LAUNCHERS and shutil.which("mpirun"):
    LAUNCHERS = [shutil.which("mpirun")]
BATCH, CONTEXT = 4, 32
SHAPE = ["--layers", "2", "--heads", "2", "--width", "32", "--context",
         str(CONTEXT), "--batch", str(BATCH), "--threads", "1",
         "--dropout", "0.1", "--precision", "f32"]


def launch(n, *args, launcher=None):
    """The exit status, stdout and stderr of a job."""
    done = subprocess.run(
        [launcher or LAUNCHERS[0], "-np", str(n), program.TRAIN, *args],
        text=True, check=False, capture_output=True,
        timeout=100 * program.SLOWER, env={**os.environ, **ENV})
    program.check_clean(done.stderr)
    return done.returncode, done.stdout, done.stderr


def metrics(folder, column="loss"):
    """step -> number, of the rows that have it."""
    return {int(row["step"]): float(row[column])
            for row in program.rows(folder) if row[column]}


def ours(stderr):
    """What we said; launchers say more."""
    return [line for line in stderr.splitlines()
            if line.startswith("infer-train lm:")]


@unittest.skipUnless(LAUNCHERS, "there is no mpirun")
class Ranks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = program.text_file("ranks.txt", 40000)
        cls.val = program.text_file("ranks-val.txt", 3000, seed=2)

    def options(self, out, *more):
        folder = program.scratch(out)
        return folder, ["lm", "--out", folder, *SHAPE, "--val", self.val,
                        *more, self.text]

    def start(self, n, args):
        """A job in the background."""
        return subprocess.Popen(
            [LAUNCHERS[0], "-np", str(n), program.TRAIN, *args], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **ENV})

    def pid_of(self, folder, rank):
        names = {f"{name}={rank}".encode() for name in (
            "PMI_RANK", "OMPI_COMM_WORLD_RANK")}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = program.read("/proc", pid, "cmdline").split(b"\0")
                env = program.read("/proc", pid, "environ").split(b"\0")
            except OSError:
                continue
            if (words[0] == program.TRAIN.encode() and
                    folder.encode() in words and names & set(env)):
                return int(pid)
        self.fail(f"rank {rank} is not running")

    def wait_for(self, *path):
        end = time.monotonic() + 30 * program.SLOWER
        while not os.path.exists(os.path.join(*path)):
            self.assertLess(time.monotonic(), end, f"no {path[-1]}")
            time.sleep(0.01)

    def test_seam(self):
        """Every rank runs the unit test, which knows what is right for all."""
        for launcher in LAUNCHERS:
            for n in (2, 3):
                with self.subTest(launcher=launcher, n=n):
                    done = subprocess.run(
                        [launcher, "-np", str(n), SEAM], text=True,
                        check=False, capture_output=True,
                        timeout=60 * program.SLOWER,
                        env={**os.environ, **ENV})
                    self.assertEqual(done.returncode, 0, done.stderr)

    def test_curve(self):
        """The same losses as one process, but for the order of sums."""
        n_steps = 10 if program.SANITIZED else 40
        steps = ["--steps", str(n_steps), "--log-every", "1",
                 "--eval-every", "10"]
        folder, args = self.options("one", *steps)
        program.must(*args)
        loss, val = (metrics(folder, c) for c in ("loss", "val_loss"))
        # A gradient is a sum over the rows: another order moves it by up to
        # rows * 2^-24 of its size, and a loss by as large a share.
        tolerance = BATCH * CONTEXT * 2 ** -24 * loss[1]
        jobs = [(launcher, 2) for launcher in LAUNCHERS]
        for launcher, n in [*jobs, (LAUNCHERS[0], 4)]:
            with self.subTest(launcher=launcher, n=n):
                folder, args = self.options(
                    f"{n}-{os.path.basename(launcher)}", *steps)
                status, stdout, stderr = launch(n, *args, launcher=launcher)
                self.assertEqual(status, 0, stderr)
                self.assertEqual(stdout.count("nats per token"), 1)
                self.assertRegex(stdout, f"{n} ranks; summing their gradients "
                                 r"took \d+\.\d % of the time")
                self.assertIn(f"on {n} ranks of 1 threads", program.read(
                    folder, "README.md").decode())
                for step, one in loss.items():
                    self.assertAlmostEqual(
                        metrics(folder)[step], one, delta=tolerance)
                for step, one in val.items():
                    self.assertAlmostEqual(
                        metrics(folder, "val_loss")[step], one,
                        delta=tolerance)
        # the tolerance tells runs apart that differ in their dropout
        folder, args = self.options("seed", *steps, "--seed", "2")
        program.must(*args)
        other = metrics(folder)
        self.assertGreater(max(abs(other[step] - one)
                               for step, one in loss.items()), 100 * tolerance)

    def test_dead_rank(self):
        """Kill one: the job ends, and goes on to the same bits."""
        steps = ["--steps", "300", "--save-every", "20", "--eval-every", "100"]
        whole, args = self.options("full", *steps)
        status, _, stderr = launch(2, *args)
        self.assertEqual(status, 0, stderr)
        cut, args = self.options("part", *steps)
        job = self.start(2, args)
        self.wait_for(cut, "checkpoints", "step-000000000020.ckpt")
        os.kill(self.pid_of(cut, 1), signal.SIGKILL)
        output = job.communicate(timeout=30 * program.SLOWER)[0]
        self.assertNotEqual(job.returncode, 0)
        self.assertRegex(output, "(?i)rank 1.*has died|KILLED|signal 9")
        self.assertFalse(os.path.exists(os.path.join(cut, "model.gguf")))
        status, _, stderr = launch(2, "lm", "--resume", cut)
        self.assertEqual(status, 0, stderr)
        self.assertEqual(ours(stderr), [])
        self.assertEqual(metrics(cut), metrics(whole))
        name = b"part", b"full"  # general.name is the folder's
        self.assertTrue(
            program.read(cut, "model.gguf").replace(*name) ==
            program.read(whole, "model.gguf"))

    def test_measured_precision(self):
        """Rank 0's measurement counts, or parameters would differ."""
        folder, args = self.options("auto", "--steps", "2")
        status, _, stderr = launch(2, *args, "--precision", "auto")
        self.assertEqual(status, 0, stderr)

    def test_signal(self):
        """One rank is told to stop: all do, and rank 0 saves."""
        folder, args = self.options("stop", "--steps", "100000")
        job = self.start(2, args)
        self.wait_for(folder, "metrics.csv")
        os.kill(self.pid_of(folder, 1), signal.SIGTERM)
        output = job.communicate(timeout=30 * program.SLOWER)[0]
        self.assertNotEqual(job.returncode, 0)
        self.assertEqual(output.count("and saved; go on with"), 1, output)
        self.assertEqual(len(os.listdir(os.path.join(
            folder, "checkpoints"))), 1)

    def test_batch_does_not_divide(self):
        for n, text in ((3, "does not divide over 3 ranks"),
                        (5, "5 ranks cannot share a --batch of 4")):
            folder, args = self.options("share", "--steps", "1")
            status, _, stderr = launch(n, *args)
            self.assertNotEqual(status, 0)
            self.assertEqual(len(ours(stderr)), 1, stderr)
            self.assertIn(text, stderr)
            self.assertFalse(os.path.exists(folder))

    def test_rank_0_fails(self):
        """What only rank 0 does and notices ends all of them, with one line."""
        folder, args = self.options("taken", "--steps", "1")
        os.makedirs(folder)
        with open(os.path.join(folder, "data"), "w", encoding="utf-8"):
            pass
        status, _, stderr = launch(2, *args)
        self.assertNotEqual(status, 0)
        self.assertEqual(len(ours(stderr)), 1, stderr)

    def test_bad_option(self):
        status, _, stderr = launch(2, "lm", "--nonsense")
        self.assertNotEqual(status, 0)
        self.assertEqual(len(ours(stderr)), 1, stderr)


class Alone(unittest.TestCase):
    def test_no_mpi(self):
        """Without a launcher no MPI is loaded."""
        done = program.train("lm", env={"LD_DEBUG": "files"})
        self.assertEqual(done.status, 2)
        self.assertIn("libopenblas", done.err)
        self.assertNotRegex(done.err, "libmpi|libmpich")

    def test_other_mpi(self):
        """A launcher's word that the library does not confirm: N processes
        would each train alone, in one folder."""
        done = program.train(
            "lm", env={"PMI_RANK": "0", "PMI_SIZE": "2", "ASAN_OPTIONS":
                       "detect_leaks=0"})
        self.assertEqual(done.status, 1)
        self.assertRegex(done.err, "it is of another MPI|no MPI library")


if __name__ == "__main__":
    unittest.main()
