"""A run from text to a served model, and the files it leaves."""
import glob
import hashlib
import json
import os
import re
import struct
import unittest
import xml.dom.minidom

import program
from program import TINY, harness, must, read, rows, scratch, text_file


def crc32c(data):
    """Castagnoli, by the definition: a polynomial division of bits."""
    crc = 0xffffffff
    for byte in data:
        for i in range(8):
            bit = (byte >> i ^ crc) & 1
            crc >>= 1
            if bit:
                crc ^= 0x82f63b78
    return crc ^ 0xffffffff


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


def fields(data):
    """[(number, value)] of a protobuf message."""
    at, out = 0, []

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        else:
            n = {1: 8, 5: 4}.get(kind) or varint()
            value = data[at:at + n]
            if len(value) != n:
                raise AssertionError("a field is cut short")
            at += n
        out.append((key >> 3, value))
    return out


def read_events(path):
    """[(step, {tag: value}, started, version)]; checks all checksums."""
    data, at, events = read(path), 0, []
    while at < len(data):
        length = data[at:at + 8]
        n, = struct.unpack("<Q", length)
        crc, = struct.unpack("<I", data[at + 8:at + 12])
        body = data[at + 12:at + 12 + n]
        end, = struct.unpack("<I", data[at + 12 + n:at + 16 + n])
        if crc != masked(length) or end != masked(body):
            raise AssertionError(f"{path}: wrong checksum at {at}")
        at += 16 + n
        event = dict(fields(body))
        scalars = {}
        for number, value in fields(event.get(5, b"")):
            if number != 1:
                raise AssertionError(number)
            one = dict(fields(value))
            scalars[one[1].decode()], = struct.unpack("<f", one[2])
        if not 1e9 < struct.unpack("<d", event[1])[0] < 1e10:
            raise AssertionError("wall time")
        events.append((event.get(2, 0), scalars, event.get(7),
                       event.get(3)))
    return events


class CrcTest(unittest.TestCase):
    def test_check_value(self):
        self.assertEqual(crc32c(b"123456789"), 0xe3069283)


class RunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = text_file()
        cls.val = text_file("val.txt", 3000, seed=2)
        cls.run_dir = scratch("lm/run")  # lm/ is made too
        cls.done = must("lm", "--out", cls.run_dir, *TINY, "--steps", 60,
                        "--log-every", 10, "--eval-every", 20, "--save-every",
                        20, "--precision", "f32", "--val", cls.val,
                        "--sample", 20, "--prompt", "The ", cls.text)

    def test_config(self):
        config = json.loads(read(self.run_dir, "config.json"))
        self.assertEqual(config["argv"][0], "lm")
        self.assertIn(self.text, config["argv"])
        # measured once: a resumed run keeps it
        self.assertIn(config["argv"][config["argv"].index("--precision") + 1],
                      ("f32", "bf16"))
        self.assertEqual(config["width"], 32)

    def test_metrics(self):
        table = rows(self.run_dir)
        self.assertEqual([r["step"] for r in table],
                         ["10", "20", "30", "40", "50", "60"])
        self.assertEqual([bool(r["val_loss"]) for r in table],
                         [False, True] * 3)
        self.assertLess(float(table[-1]["loss"]), float(table[0]["loss"]))
        lines = read(self.run_dir, "metrics.jsonl").decode().splitlines()
        for row, line in zip(table, lines, strict=True):
            self.assertEqual({k: float(v) for k, v in row.items() if v},
                             json.loads(line))

    def test_events(self):
        path, = glob.glob(self.run_dir + "/events.out.tfevents.*")
        version, begin, *events = read_events(path)
        self.assertEqual(version[3], b"brain.Event:2")
        self.assertEqual((begin[0], fields(begin[2])), (1, [(1, 1)]))
        for row, event in zip(rows(self.run_dir), events, strict=True):
            step, scalars = event[:2]
            self.assertEqual(step, int(row["step"]))
            for tag, name in (("loss/training", "loss"),
                              ("loss/validation", "val_loss"),
                              ("learning rate", "lr"),
                              ("gradient length", "norm")):
                self.assertEqual(tag in scalars, row[name] != "")
                if tag in scalars:
                    self.assertAlmostEqual(scalars[tag], float(row[name]),
                                           delta=1e-6 * abs(scalars[tag]))

    def test_picture(self):
        svg = xml.dom.minidom.parseString(read(self.run_dir, "loss.svg"))
        lines = svg.getElementsByTagName("polyline")
        points = [len(x.getAttribute("points").split()) for x in lines]
        self.assertEqual(points, [6, 3])

    def test_card(self):
        card = read(self.run_dir, "README.md").decode()
        for path in (self.text, self.val):
            data = read(path)
            self.assertIn(f"{hashlib.sha256(data).hexdigest()}  {len(data)}  "
                          f"{path}", card)
        self.assertIn("infer-train lm --out " + self.run_dir, card)
        self.assertRegex(card, r"commit [0-9a-f]{7,}|commit unknown")
        self.assertRegex(card, r"60 steps, 7680 tokens, [0-9.]+ s on 2 thread")
        self.assertRegex(card, r"bits per byte \| [0-9]+\.[0-9]{5}")

    def test_progress(self):
        self.assertRegex(self.done.out, r"step 20  loss \d+\.\d{4}  val "
                         r"\d+\.\d{4}  \d+ tokens/s \(\d+\.\d % of peak\)")
        self.assertNotIn("\r", self.done.out)

    def test_samples(self):
        kept = read(self.run_dir, "samples.txt").decode()
        parts = re.split(r"^== step (\d+)\n", kept, flags=re.M)[1:]
        self.assertEqual(parts[::2], ["20", "40", "60"])
        for sample in parts[1::2]:
            self.assertEqual(sample[:4], "The ")
            self.assertGreater(len(sample), 5)
            self.assertIn(sample, self.done.out)
        self.assertFalse(glob.glob(self.run_dir + "/.*"))

    def test_engine_agrees(self):
        done = must("eval", self.run_dir + "/model.gguf", "--data", self.val,
                    "--json")
        scores = json.loads(done.out)
        loss = program.card_loss(self.run_dir)
        self.assertAlmostEqual(scores["loss"], loss, delta=1e-4 * loss)
        card = read(self.run_dir, "README.md").decode()
        bits = float(re.search(r"per byte \| ([0-9.]+)", card).group(1))
        self.assertAlmostEqual(scores["bits_per_byte"], bits,
                               delta=1e-4 * bits)

    def test_served(self):
        server = harness.Server(model=self.run_dir + "/model.gguf")
        try:
            reply = server.generate(prompt="The ", max_tokens=8,
                                    ignore_eos=True)
            self.assertEqual(reply.status, 200, reply)
            self.assertEqual(reply.json["usage"]["completion_tokens"], 8)
        finally:
            self.assertEqual(server.stop(), 0)


class OtherRunsTest(unittest.TestCase):
    def test_gpt2_from_pieces(self):
        """Another architecture, a SentencePiece vocabulary, a folder of JSONL
        and text."""
        lines = program.english(30000, 3).splitlines()
        program.write("mix/a.jsonl", "".join(
            json.dumps({"body": line}) + "\n" for line in lines))
        program.write("mix/sub/b.txt", program.english(5000, 4))
        program.write("mix/c.bin", b"\x00\x01")  # not text: passed over
        must("tokenizer", "--out", scratch("mix-tok"), "--vocab", 400,
             "--field", "body", scratch("mix"))
        must("lm", "--out", scratch("mix-run"), *TINY, "--arch", "gpt2",
             "--steps", 20, "--tokenizer", scratch("mix-tok.gguf"),
             "--field", "body", scratch("mix"))
        sources = read(scratch("mix-run"), "data/sources.txt").decode()
        self.assertEqual([s.split("/")[-1] for s in sources.splitlines()],
                         ["a.jsonl", "b.txt"])

    def test_patience(self):
        """A run that gets no better ends early, with its last checkpoint."""
        run = scratch("patience")
        must("lm", "--out", run, *TINY, "--steps", 400, "--eval-every", 2,
             "--patience", 3, "--lr", "1e-9", "--other-lr", "1e-9",
             "--dropout", "0.5", text_file())
        last = int(rows(run)[-1]["step"])
        self.assertLess(last, 400)
        self.assertTrue(os.path.exists(
            f"{run}/checkpoints/step-{last:012d}.ckpt"))

    def test_time_limit(self):
        run = scratch("time")
        must("lm", "--out", run, *TINY, "--time", "1s", text_file())
        table = rows(run)
        self.assertTrue(table[-1]["val_loss"])
        self.assertGreaterEqual(float(table[-1]["seconds"]), 1.0)
        self.assertLess(float(table[-1]["seconds"]), 1.5 * program.SLOWER)


if __name__ == "__main__":
    unittest.main()
