"""Run the real infer-train, and what the tests need around it: texts, a
scratch folder, and a look into the files of a run.

Texts are made here from a seed, so the tests need no data of anybody's.
"""
import csv
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.append(os.path.join(ROOT, "tests/http"))
import harness  # noqa: E402,F401  (starts servers, for tests that want one)

INFERD = os.path.join(ROOT, os.environ.get("INFERD", "bin/inferd"))
TRAIN = os.path.join(ROOT, os.environ.get("TRAIN", "bin/infer-train"))
SANITIZED = bool(re.search("asan|ubsan|tsan", TRAIN))
# Deadlines stretch with what sanitizers cost.
SLOWER = 8 if SANITIZED else 1

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_L2_SIZE", None)
_scratch = tempfile.TemporaryDirectory(prefix="infer-train-test-")

# A net so small that a step takes a fraction of a millisecond.
TINY = ["--layers", "1", "--heads", "2", "--width", "32", "--context", "32",
        "--batch", "4", "--threads", "2"]


def scratch(name):
    """A path in a folder that is removed at the end."""
    return os.path.join(_scratch.name, name)


def write(name, data):
    path = scratch(name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path


def english(n_bytes, seed=1):
    """Sentences of a few hundred made-up words that follow one another by
    rules, so that there is something to learn."""
    draw = random.Random(seed)
    stems = ["ba", "ko", "ri", "tu", "ne", "sha", "lo", "mi", "ver", "don"]
    words = [a + b for a in stems for b in stems] + ["the", "and", "of", "a"]
    out, n, word = [], 0, 0
    while n < n_bytes:
        sentence = []
        for _ in range(draw.randint(4, 12)):
            word = (word * 7 + draw.choice([1, 3, 3, 3, 11])) % len(words)
            sentence.append(words[word])
        line = " ".join(sentence).capitalize() + ".\n"
        out.append(line)
        n += len(line)
    return "".join(out)[:n_bytes]


def text_file(name="text.txt", n_bytes=20000, seed=1):
    path = scratch(name)
    return path if os.path.exists(path) else write(name, english(n_bytes,
                                                                 seed))


def check_clean(text):
    if "Sanitizer" in text or "runtime error" in text:
        raise AssertionError(text[-6000:])


class Done:
    """A finished command."""

    def __init__(self, args, status, out, err):
        self.args, self.status, self.out, self.err = args, status, out, err

    def __repr__(self):
        return (f"{self.args}\nexit {self.status}\nstdout: "
                f"{self.out[-2000:]}\nstderr: {self.err[-2000:]}")


def train(*args, timeout=120, before=None, env=None):
    """infer-train to its end."""
    args = [TRAIN, *map(str, args)]
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=timeout * SLOWER, cwd=ROOT, preexec_fn=before,
                       env={**os.environ, **(env or {})})
    done = Done(args[1:], p.returncode, p.stdout.decode("utf-8", "replace"),
                p.stderr.decode("utf-8", "replace"))
    check_clean(done.err)
    return done


def must(*args, **kw):
    """The same; it must succeed."""
    done = train(*args, **kw)
    if done.status != 0:
        raise AssertionError(done)
    return done


def start(*args):
    return subprocess.Popen([TRAIN, *map(str, args)], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _rest(p, args, out=b""):
    rest, err = p.communicate(timeout=60 * SLOWER)
    err = err.decode("utf-8", "replace")
    check_clean(err)
    return Done(list(args), p.returncode, (out + rest).decode(), err)


def stop_at_line(begin, number, *args):
    """Start, send a signal when a line begins so; Done."""
    p = start(*args)
    out = b""
    for line in p.stdout:
        out += line
        if line.startswith(begin):
            p.send_signal(number)
            break
    return _rest(p, args, out)


def stop_at(step, number, *args):
    return stop_at_line(b"step %d " % step, number, *args)


def stop_when(there, number, *args):
    """The same, when there() is true."""
    p = start(*args)
    while not there() and p.poll() is None:
        time.sleep(0.001)
    p.send_signal(number)
    return _rest(p, args)


def read(*parts):
    with open(os.path.join(*parts), "rb") as f:
        return f.read()


def rows(run):
    with open(os.path.join(run, "metrics.csv"), newline="") as f:
        return list(csv.DictReader(f))


def losses(run):
    """What must not depend on how often a run was stopped."""
    return [(r["step"], r["tokens"], r["loss"], r["val_loss"])
            for r in rows(run)]


def card_loss(run):
    card = read(run, "README.md").decode()
    return float(re.search(r"nats per token \| ([0-9.]+)", card).group(1))


KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
