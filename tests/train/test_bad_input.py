"""What people get wrong: one sentence that says where and what to do; exit 2
for the command line, 1 for the rest; no run folder to trip over later."""
import glob
import json
import os
import struct
import unittest

import program
from program import TINY, must, scratch, text_file, train, write

LM = ["lm", "--out", "OUT", *TINY, "--steps", 3]
TOK = ["tokenizer", "--out", "OUT"]


def jsonl(*rows):
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n"
                   for r in rows)


class BadInputTest(unittest.TestCase):
    number = 0

    def refuse(self, args, status, *said):
        BadInputTest.number += 1
        out = scratch(f"bad/out{BadInputTest.number}")
        args = [out if a == "OUT" else a for a in args]
        done = train(*args)
        self.assertEqual(done.status, status, done)
        self.assertEqual(done.out, "", done)
        for line in done.err.splitlines()[:-1]:
            # what comes before the sentence may only be a warning
            self.assertRegex(line, "OpenBLAS")
        self.assertRegex(done.err.splitlines()[-1], rf"^infer-train {args[0]}"
                         r": .{15,}[^.]$")
        for text in said:
            self.assertIn(text, done.err)
        self.assertFalse(os.path.exists(out + "/config.json"), done)
        return done

    def test_texts(self):
        long = program.english(3000)
        cases = [
            ("empty.txt", b"", ["holds no text", "files that are not empty"]),
            ("binary.txt", b"\x7fELF\x02\x01\x00\x00" + bytes(900),
             ["'binary.txt' line 1", "zero byte", "give UTF-8 text"]),
            ("line.txt", b"One line.",
             ["training text has", "give more text"]),
            ("latin.txt", (long + "caf\xe9 au lait\n").encode("latin-1"),
             [f"line {long.count(chr(10)) + 1}", "0xe9 is not UTF-8",
              "iconv"]),
            ("utf16.txt", long.encode("utf-16"), ["line 1", "not UTF-8"]),
            ("cut.txt", (long + "x").encode() + b"\xe2\x82",
             ["0xe2 is not UTF-8"]),
            ("field.jsonl", jsonl({"text": long}, {"title": "x", "body": "y"}),
             ["line 2", "'text'", "title, body", "--field"]),
            ("type.jsonl", jsonl({"text": long}, {"text": 3}),
             ["line 2", "string"]),
            ("broken.jsonl", jsonl({"text": "a"}, {"text": long}, '{"text":'),
             ["line 3", "JSON"]),
            ("list.jsonl", jsonl('["a", "b"]'), ["line 1", "object"]),
            ("surrogate.jsonl", jsonl('{"text": "\\ud800"}'), ["line 1"]),
        ]
        for name, data, said in cases:
            path = write("bad/" + name, data)
            said = [s.replace(f"'{name}'", f"'{path}'") for s in said]
            for command in (LM, [*TOK, "--kind", "char"]):
                if name == "line.txt" and command is not LM:
                    continue
                with self.subTest(name, command=command[0]):
                    self.refuse([*command, path], 1, *said)

    def test_paths(self):
        folder = os.path.dirname(write("bad/none/picture.png", b"\x89PNG"))
        unreadable = text_file("bad/secret.txt")
        self.refuse([*LM, scratch("bad/absent.txt")], 1, "absent.txt",
                    "No such file")
        self.refuse([*LM, folder], 1, "no .txt, .md or .jsonl file in")
        self.refuse([*LM, text_file(), "--val", scratch("bad/absent")], 1,
                    "No such file")
        self.refuse([*LM, "/dev/null"], 1, "not a regular file")
        self.refuse([*LM, text_file(), "--tokenizer", scratch("bad/no.gguf")],
                    1, "no.gguf", "No such file")
        self.refuse([*LM, text_file(), "--tokenizer", text_file()], 1,
                    "GGUF")
        if os.geteuid() != 0:
            os.chmod(unreadable, 0)
            self.refuse([*LM, unreadable], 1, "Permission denied")

    def test_folders(self):
        run = scratch("bad/run")
        must("lm", "--out", run, *TINY, "--steps", 3, text_file())
        done = train("lm", "--out", run, *TINY, "--steps", 3, text_file())
        self.assertEqual(done.status, 1)
        self.assertIn("holds a run already; go on with --resume", done.err)
        self.refuse(["lm", "--resume", os.path.dirname(text_file())], 2,
                    "holds no run")
        self.refuse(["lm", "--resume", run, text_file()], 2, "leave them out")
        self.refuse(["lm", "--resume", run, "--out", "OUT"], 2,
                    "leave them out")
        self.refuse(["lm", "--out", text_file() + "/run", *TINY, "--steps", 3,
                     text_file()], 1, "Not a directory")

    def test_shapes(self):
        text = text_file()
        for options, said in (
                (["--heads", 3], "--width 32 is not a multiple of --heads 3"),
                (["--heads", 32], "head width 1 is odd"),
                (["--heads", 4, "--kv-heads", 3], "do not share"),
                (["--arch", "gpt2", "--kv-heads", 1], "gpt2 has as many"),
                (["--start-context", 5], "does not double"),
                (["--start-context", 64], "does not double"),
                (["--schedule", "wsd", "--warmup", "0.5", "--decay", "0.6"],
                 "warm"),
        ):
            with self.subTest(options):
                self.refuse([*LM, *options, text], 2, said)
        self.refuse([*LM, "--width", 65536, "--heads", 512, "--layers", 900,
                     text], 1, "GB of memory", "smaller --width")
        self.refuse([*LM, "--context", 65536, text], 1,
                    "give more text or a smaller --context")
        self.refuse([*LM, "--val-share", "0.00001", text], 1,
                    "validation text")

    def test_options(self):
        text = text_file()
        for args, said in (
                ([*LM, "--stpes", 3, text], "unknown option '--stpes'"),
                ([*LM, "--batch", "0", text], "--batch takes a whole number"),
                ([*LM, "--batch", "2.5", text], "not '2.5'"),
                ([*LM, "--lr", "nan", text], "not 'nan'"),
                ([*LM, "--lr", 1000, text], "not in 0..1000"),
                ([*LM, "--time", "10y", text], "--time takes a time"),
                ([*LM, "--optimizer", "lion", text], "sgd|adam|adamw|muon"),
                ([*LM, "--untied=1", text], "takes no value"),
                ([*LM, text, "--seed"], "--seed needs a value"),
                (LM, "no data given"),
                (["lm", *TINY, "--steps", 3, text], "--out is missing"),
                (["lm", "--out", "OUT", *TINY, text], "no end is given"),
                ([*LM, "--val-share", 0, text], "no validation text"),
                ([*TOK, "--byte-fallback", "--no-byte-fallback", text],
                 "exclude each other"),
                ([*TOK, "--symbol", "a b", text], "has a space"),
                (["tokenizer", text], "--out is missing"),
                (["eval", text], "--data is missing"),
                (["eval", "--data", text], "give one model"),
                (["eval", "m", "--data", text, "--split", "val",
                  "--val-share", 0], "above 0"),
                (["quantize", "a.gguf", "b.gguf"], "--type is missing"),
                (["quantize", "a.gguf", "b.gguf", "--type", "q3"],
                 "'q3' is none of"),
                (["quantize", "a.gguf", "--type", "q8_0"], "give two files"),
        ):
            with self.subTest(args):
                self.refuse(args, 2, said)
        done = train("nonsense")
        self.assertEqual(done.status, 2)
        self.assertIn("unknown command 'nonsense'", done.err)
        self.assertEqual(train().status, 2)

    def test_help(self):
        for command in ("tokenizer", "lm", "eval", "quantize"):
            done = must(command, "--help")
            self.assertIn(f"usage: infer-train {command}", done.out)
            self.assertLess(max(map(len, done.out.splitlines())), 81)

    def test_vocabularies(self):
        text = text_file()
        for kind in ("bpe", "unigram"):
            done = self.refuse([*TOK, "--kind", kind, "--vocab", 30000, text],
                               1, "larger than the text allows", "pass --vocab")
            most = done.err.split("--vocab ")[1].split()[0]
            must("tokenizer", "--out", scratch("bad/fits"), "--kind", kind,
                 "--vocab", most, text)
            self.refuse([*TOK, "--kind", kind, "--vocab", 10, text], 1,
                        "larger --vocab")
        self.refuse([*TOK, "--kind", "char", "--vocab", 3 + 1 - 1 + 1, text,
                     "--byte-fallback"], 1, "leave no room for characters")

    def test_diverges(self):
        """NaN: the step is named, what was good stays."""
        run = scratch("bad/nan")
        done = train("lm", "--out", run, *TINY, "--steps", 400,
                     "--optimizer", "sgd", "--precision", "f32", "--lr", 999,
                     "--clip", 0, "--schedule", "constant", "--warmup", 0,
                     "--save-every", 1, "--eval-every", 2, text_file())
        self.assertEqual(done.status, 1, done)
        self.assertRegex(done.err, r"is not finite at step \d+; nothing of it "
                         "was saved. Try a lower --lr")
        self.assertFalse(os.path.exists(run + "/model.gguf"))
        for path in glob.glob(run + "/checkpoints/step-*"):
            data = program.read(path)
            n, = struct.unpack_from("<Q", data, 8)
            at = len(data) - 8  # the header's length is not ours to know
            n_state, n_ema = struct.unpack_from("<QQ", data, 16)
            at -= 4 * (n + n_state + n_ema)
            values = struct.unpack_from(f"<{n}f", data, at)
            self.assertTrue(all(abs(v) < float("inf") for v in values), path)


if __name__ == "__main__":
    unittest.main()
