"""Classifiers and embedders from small files, and files that cannot be."""
import csv
import json
import os
import random
import re
import struct
import unittest
import xml.dom.minidom

import program
from program import harness, must, read, scratch, train, write

TINY = ["--width", "32", "--heads", "2", "--vocab", "400", "--ngram-buckets",
        "2048", "--batch", "16", "--threads", "2", "--context", "32"]
TOPICS = {"sport": "ball goal team match player score",
          "money": "bank coin price market loan stock",
          "food": "bread soup apple taste oven, spice"}


def examples(n, seed=1):
    """Rows of (text, label) that a few words give away."""
    draw = random.Random(seed)
    filler = "the a of with near again today we they saw".split()
    rows = []
    for _ in range(n):
        label = draw.choice(sorted(TOPICS))
        words = draw.sample(TOPICS[label].split(), 2) + draw.sample(filler, 4)
        draw.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


def as_csv(rows, head="text,label"):
    out = [head] if head else []
    for text, label in rows:
        out.append('"%s\n","%s"' % (text.replace('"', '""'), label))
    return "\n".join(out) + "\n"


def as_jsonl(rows, name="label"):
    return "".join(json.dumps({"text": t, name: l}) + "\n" for t, l in rows)


def report(run):
    return json.loads(read(run, "report.json"))


def classify(out, *args):
    return must("classify", "--out", scratch(out), *args, *TINY)


class Classify(unittest.TestCase):
    def test_single(self):
        data = write("c/train.csv", as_csv(examples(300)))
        test = write("c/test.jsonl", as_jsonl(examples(100, 2)))
        run = scratch("c/run")
        done = classify("c/run", data, "--test", test, "--epochs", "6")
        self.assertIn("test: accuracy", done.out)
        scores = report(run)
        self.assertGreater(scores["test"]["accuracy"], 0.9, done)
        self.assertEqual(scores["test"]["examples"], 100)
        self.assertLessEqual(scores["test"]["ece"], 1.0)
        for name in ("confusion.svg", "reliability.svg", "learning.svg"):
            xml.dom.minidom.parseString(read(run, name))
        with open(os.path.join(run, "classes.csv"), newline="") as f:
            classes = {r["label"]: r for r in csv.DictReader(f)}
        self.assertEqual(sorted(classes), sorted(TOPICS))
        self.assertEqual(sum(int(r["examples"]) for r in classes.values()),
                         100)
        with open(os.path.join(run, "confusion.csv"), newline="") as f:
            hits = sum(int(r["examples"]) for r in csv.DictReader(f)
                       if r["label"] == r["said"])
        self.assertAlmostEqual(hits / 100, scores["test"]["accuracy"])
        with open(os.path.join(run, "mistakes.csv"), newline="") as f:
            self.assertEqual(len(list(csv.DictReader(f))), 100 - hits)
        model = read(run, "model.gguf")
        for key in (b"inferd-encoder.classifier.output_labels",
                    b"inferd.classifier.temperature", b"ngram_embd.weight"):
            self.assertIn(key, model)
        again = train("classify", "--out", run, data, *TINY)
        self.assertEqual(again.status, 1)
        self.assertIn("holds a run already", again.err)

    def test_same_seed_same_model(self):
        data = write("s/train.csv", as_csv(examples(100)))
        for name in "ab":
            classify("s/" + name, data, "--epochs", "2")
        a, b = (read(scratch("s/" + n), "model.gguf") for n in "ab")
        # general.name is the folder's
        self.assertEqual(len(a), len(b))
        self.assertEqual(a[4096:], b[4096:])

    def test_out_of_scope(self):
        rows = examples(200) + [("zebra cloud %d lamp" % i, "none")
                                for i in range(40)]
        data = write("o/train.csv", as_csv(rows))
        classify("o/run", data, "--oos-label", "none", "--epochs", "6",
                 "--val-share", "0.3")
        self.assertIn("oos_recall", report(scratch("o/run"))["validation"])
        self.assertIn(b"inferd.classifier.oos_threshold",
                      read(scratch("o/run"), "model.gguf"))

    def test_beginning_is_forgotten(self):
        """What a beginning says of its own classes is not the new model's."""
        oos = write("f/oos.csv", as_csv(examples(200) + [
            ("zebra cloud %d lamp" % i, "none") for i in range(40)]))
        classify("f/first", oos, "--oos-label", "none", "--epochs", "2")
        first = scratch("f/first/model.gguf")
        self.assertIn(b"inferd.classifier.oos_label", read(first))
        classify("f/next", write("f/train.csv", as_csv(examples(100))),
                 "--init", first, "--epochs", "1")
        self.assertNotIn(b"inferd.classifier.oos",
                         read(scratch("f/next/model.gguf")))

    def test_refit(self):
        """Words that only validation has are known in the end."""
        train_rows = write("a/train.csv", as_csv(examples(200)))
        words = {"sport": "kayak regatta", "money": "ledger audit"}
        val = write("a/val.csv", as_csv(
            examples(40, 2) + [(w, l) for l, w in words.items()] * 20))
        test = write("a/test.csv", as_csv([(w, l) for l, w in words.items()]))
        args = (train_rows, "--val", val, "--test", test, "--epochs", "4")
        done = classify("a/run", *args)
        self.assertIn("280 examples, with those of validation", done.out)
        without = classify("a/without", *args, "--no-refit")
        self.assertNotIn("again", without.out)
        a, b = (report(scratch("a/" + n)) for n in ("run", "without"))
        self.assertEqual(a["test"]["accuracy"], 1.0)
        self.assertLess(b["test"]["accuracy"], 1.0)
        self.assertEqual(a["validation"], b["validation"])
        self.assertEqual(a["temperature"], b["temperature"])

    def test_refit_of_numbers(self):
        """The second training's outputs are in the numbers' unit too."""
        size = {"food": 1000, "money": 2000, "sport": 6000}
        data = write("n/train.csv", as_csv(
            [(t, size[l]) for t, l in examples(300)]))
        test = write("n/test.csv", as_csv(
            [(t, size[l]) for t, l in examples(60, 4)]))
        classify("n/run", data, "--test", test, "--kind", "regression",
                 "--epochs", "6")
        scores = report(scratch("n/run"))["test"]
        self.assertGreater(scores["pearson"], 0.9)
        self.assertLess(scores["mse"], 1000 ** 2)

    def test_stopped(self):
        """A signal ends a run early: with a sentence while there is nothing
        to keep, with the first training's model once there is."""
        data = write("i/train.csv", as_csv(examples(20000)))
        args = ["classify", data, "--epochs", "1", *TINY]
        early, late, whole = (scratch("i/" + n)
                              for n in ("early", "later", "whole"))
        done = program.stop_when(
            lambda: os.path.exists(os.path.join(early, "tokenizer.gguf")),
            program.INT, *args, "--out", early)
        self.assertEqual(done.status, 1, done)
        self.assertIn("stopped before the end of the first epoch", done.err)
        self.assertFalse(os.path.exists(os.path.join(early, "model.gguf")))
        done = program.stop_at_line(b"epoch  1 ", program.INT, *args, "--out",
                                    late)
        self.assertEqual(done.status, 0, done)
        self.assertNotIn("with those of validation", done.out)
        must(*args, "--out", whole, "--no-refit")
        self.assertEqual(read(late, "model.gguf")[4096:],
                         read(whole, "model.gguf")[4096:])

    def test_multi(self):
        rows = [(a[0] + " " + b[0], sorted({a[1], b[1]}))
                for a, b in zip(examples(300), examples(300, 5))]
        data = write("m/train.jsonl", as_jsonl(rows))
        classify("m/run", data, "--kind", "multi", "--epochs", "8")
        scores = report(scratch("m/run"))["validation"]
        self.assertGreater(scores["micro_f1"], 0.85)
        self.assertIn(b"inferd.classifier.thresholds",
                      read(scratch("m/run"), "model.gguf"))

    def test_regression_of_pairs(self):
        lines = ["a;b;similar"]
        for a, b in zip(examples(300), examples(300, 7)):
            lines.append("%s;%s;%d" % (a[0], b[0],
                                       5 if a[1] == b[1] else 1))
        data = write("r/train.csv", "\n".join(lines))
        done = classify("r/run", data, "--kind", "regression", "--text", "a",
                        "--pair", "b", "--label", "similar", "--epochs", "3")
        self.assertRegex(done.out, "validation: MSE [0-9.]+")

    def test_balance(self):
        rows = [r for r in examples(400)
                if r[1] != "food" or r[0] < "m"][:300]
        data = write("b/train.csv", as_csv(rows))
        for how in ("weights", "sampling"):
            classify("b/" + how, data, "--balance", how, "--epochs", "4",
                     "--layers", "1")
            self.assertGreater(
                report(scratch("b/" + how))["validation"]["macro_f1"], 0.8)

    def test_merge(self):
        data = write("g/train.csv", as_csv(examples(200)))
        classify("g/first", data, "--epochs", "3")
        first = scratch("g/first/model.gguf")
        models = []
        for seed in "23":
            classify("g/" + seed, data, "--init", first, "--seed", seed,
                     "--epochs", "1", "--val", data)
            models.append(scratch("g/%s/model.gguf" % seed))
        out = scratch("g/soup.gguf")
        must("merge", "--out", out, *models)
        self.assertEqual(os.path.getsize(out), os.path.getsize(models[0]))
        must("merge", "--kind", "ema", "--out", out, first, *models)
        done = must("merge", "--kind", "greedy", "--val", data, "--out", out,
                    first, *models)
        best = float(re.search(r"average of \d+, ([0-9.]+)",
                               done.out).group(1))
        alone = [float(x) for x in
                 re.findall(r"^\S+\.gguf: ([0-9.]+)$", done.out, re.M)]
        self.assertEqual(len(alone), 3)
        self.assertGreaterEqual(best, max(alone))
        self.assertFalse(os.path.exists(out + ".trial"))
        other = write("g/other.csv", as_csv(
            [(t, "x" + l) for t, l in examples(200, 9)]))
        classify("g/other", other, "--epochs", "1")
        bad = train("merge", "--out", out, first,
                    scratch("g/other/model.gguf"))
        self.assertEqual(bad.status, 1)
        self.assertRegex(bad.err, "another vocabulary|other labels")

    def test_broken_labels(self):
        data = write("g2/train.csv", as_csv(examples(200)))
        classify("g2/run", data, "--epochs", "1")
        good = read(scratch("g2/run/model.gguf"))
        at = good.index(b".output_labels") + 14 + 8

        def of(*labels):
            return struct.pack("<Q", len(labels)) + b"".join(
                struct.pack("<Q", len(x)) + x for x in labels)

        before = of(b"food", b"money", b"sport")
        self.assertEqual(good[at:at + len(before)], before)
        for labels, says in (
                (of(b"food", b"mone\0", b"sport"), "label 1 of the model"),
                (of(b"food", b"m" * 18), "2 labels, tensor 'cls.output")):
            self.assertEqual(len(labels), len(before))
            model = write("g2/bad.gguf", good.replace(before, labels))
            done = train("merge", "--kind", "greedy", "--val", data, "--out",
                         scratch("g2/soup.gguf"), model, model)
            self.assertEqual(done.status, 1, done)
            self.assertIn(says, done.err)


BERT = os.path.join(program.ROOT, "../shared/oracle/bert-mean/model-F32.gguf")


@unittest.skipUnless(os.path.exists(BERT), "skipped: no ../shared/oracle")
class Bert(unittest.TestCase):
    """A file of BERT's family (random values) as a beginning."""

    def test_classify(self):
        data = write("b/train.csv", as_csv(examples(300)))
        rows = examples(50, 2)
        test = write("b/test.csv", as_csv(rows))
        run = scratch("b/run")
        must("classify", "--out", run, data, "--test", test, "--init", BERT,
             "--epochs", "6", "--lr", "2e-3", "--batch", "16",
             "--context", "64", "--threads", "2")
        accuracy = report(run)["test"]["accuracy"]
        self.assertGreater(accuracy, 0.9)
        self.assertIn(b"bert.classifier.output_labels",
                      read(run, "model.gguf"))
        server = harness.Server(model=run + "/model.gguf")
        try:
            reply = server.post("/v1/classify",
                                {"input": [text for text, _ in rows]})
            self.assertEqual(reply.status, 200, reply)
            said = [r["label"] for r in reply.json["data"]]
        finally:
            self.assertEqual(server.stop(), 0)
        right = sum(a == b for a, (_, b) in zip(said, rows))
        self.assertAlmostEqual(right / len(rows), accuracy, delta=0.021)
        # what came out is a beginning too, and can be averaged
        must("classify", "--out", scratch("b/more"), data, "--init",
             run + "/model.gguf", "--epochs", "1", "--batch", "16")
        soup = must("merge", "--kind", "greedy", "--val", test, "--out",
                    scratch("b/soup.gguf"), run + "/model.gguf",
                    scratch("b/more/model.gguf"))
        self.assertIn("the average of", soup.out)

    def test_embed(self):
        draw = random.Random(3)
        data = write("b2/train.jsonl", "".join(
            json.dumps({"texts": [t, " ".join(draw.sample(
                TOPICS[l].split(), 3))]}) + "\n" for t, l in examples(60)))
        pairs = write("b2/pairs.tsv", "a\tb\tscore\n" + "".join(
            "%s\t%s\t%d\n" % (a[0], b[0], a[1] == b[1])
            for a, b in zip(examples(60, 11), examples(60, 12))))
        run = scratch("b2/run")
        must("embed", "--out", run, data, "--init", BERT, "--val", pairs,
             "--epochs", "8", "--lr", "1e-3", "--dimensions", "96,32")
        self.assertGreater(report(run)["scores"][0]["val_spearman"], 0.5)

    def test_options_of_the_file(self):
        data = write("b3/train.csv", as_csv(examples(60)))
        for option, value, says in (
                ("--width", "128", "--width is 128, of --init's file it is"),
                ("--layers", "9", "--layers is 9"),
                ("--ngram-buckets", "64", "--ngram-buckets is 64"),
                ("--context", "4096", "--context 4096 is above"),
                ("--tokenizer", "x.model", "has its own")):
            done = train("classify", "--out", scratch("b3/run"), data,
                         "--init", BERT, option, value)
            self.assertEqual(done.status, 2, done)
            self.assertIn(says, done.err)


class Embed(unittest.TestCase):
    def test_embed(self):
        draw = random.Random(3)
        groups, pairs = [], ["a\tb\tscore"]
        for text, label in examples(200):
            groups.append({"texts": [text, " ".join(
                draw.sample(TOPICS[label].split(), 3))]})
        for a, b in zip(examples(80, 11), examples(80, 12)):
            pairs.append("%s\t%s\t%d" % (a[0], b[0], a[1] == b[1]))
        data = write("e/train.jsonl",
                     "".join(json.dumps(g) + "\n" for g in groups))
        scored = write("e/pairs.tsv", "\n".join(pairs))
        docs = examples(30, 13)
        write("e/r/corpus.jsonl", "".join(
            json.dumps({"_id": "d%d" % i, "text": t}) + "\n"
            for i, (t, _) in enumerate(docs)))
        write("e/r/queries.jsonl", "".join(
            json.dumps({"_id": l, "text": TOPICS[l]}) + "\n" for l in TOPICS))
        write("e/r/qrels.tsv", "query\tdoc\tgain\n" + "".join(
            "%s\td%d\t1\n" % (l, i) for i, (_, l) in enumerate(docs)))
        run = scratch("e/run")
        must("embed", "--out", run, data, "--scored", scored, "--val", scored,
             "--retrieval", scratch("e/r"), "--dimensions", "32,16",
             "--epochs", "4", *TINY)
        scores = report(run)["scores"]
        self.assertEqual([s["dimensions"] for s in scores], [32, 16])
        for s in scores:
            self.assertGreater(s["val_spearman"], 0.6)
            self.assertGreater(s["ndcg@10"], 0.8)
        self.assertIn(b"inferd.embedding.dimensions", read(run, "model.gguf"))

    def test_cut(self):
        data = write("e2/train.csv", as_csv(examples(60)))
        done = must("embed", "--out", scratch("e2/run"), data, "--texts",
                    "text", "--cut", "--epochs", "1", *TINY)
        self.assertRegex(done.out, r"^60 groups, 180 texts")
        classify("e2/classes", data, "--epochs", "1", "--init",
                 scratch("e2/run/model.gguf"))
        short = write("e2/short.csv", "text\na\nb\n")
        done = train("embed", "--out", scratch("e2/no"), short, "--texts",
                     "text", "--cut", *TINY)
        self.assertIn("no text is long enough", done.err)

    def test_idf(self):
        """Rows begun as tf-idf know that a rare word says more than a few
        common ones, also of words that training never saw."""
        data = write("e3/train.csv", as_csv(examples(200)))
        new = ["quartz", "lichen", "gusset", "tundra", "pomelo", "bobbin"]
        pairs = ["a\tb\tscore"]
        for i, word in enumerate(new):
            other = new[(i + 1) % len(new)]
            pairs += ["they saw %s\tagain the %s\t5" % (word, word),
                      "the of with near %s\tthe of with near %s\t0" %
                      (word, other)]
        test = write("e3/test.tsv", "\n".join(pairs))
        rho, empty = {}, {}
        for begin in ("zero", "idf"):
            run = scratch("e3/" + begin)
            must("embed", "--out", run, data, "--texts", "text", "--cut",
                 "--test", test, "--epochs", "1", "--ngram-begin", begin,
                 *TINY, "--ngram-buckets", "65536", "--ngram-words", "1",
                 "--ngram-char-min", "0", "--ngram-lr", "0.01")
            rho[begin] = report(run)["scores"][0]["test_spearman"]
            model = read(run, "model.gguf")
            empty[begin] = model.count(0) / len(model)
        self.assertGreater(rho["idf"], 0.7)  # of 0.87: scores tie
        self.assertGreater(empty["zero"], 0.9)
        self.assertLess(empty["idf"], 0.7)  # half a float like 7.4f is zeros

    def test_group_of_one(self):
        data = write("e1/train.jsonl", '{"texts": ["a b", "c"]}\n'
                                       '{"texts": ["alone"]}\n')
        done = train("embed", "--out", scratch("e1/run"), data, *TINY)
        self.assertEqual(done.status, 1)
        self.assertRegex(done.err, "line 2: 1 text")


class BadInput(unittest.TestCase):
    def refused(self, name, data, *args, status=1):
        path = write("x/" + name, data)
        done = train("classify", "--out", scratch("x/run-" + name), path,
                     *args, *TINY)
        self.assertEqual(done.status, status, done)
        self.assertEqual(len(done.err.strip().split("\n")), 1, done)
        return done.err

    def test_files(self):
        good = as_csv(examples(50))
        test = write("x/test.csv", "text,label\nhello,unheard\n")
        cases = [
            ("one.csv", "text,label\na,x\nb,x\n", (), "all examples have the "
             "label 'x'"),
            ("empty.csv", "", (), "no rows"),
            ("blank.csv", 'text,label\nfine,x\n"  ",y\n', (),
             "line 3: the text is empty"),
            ("column.csv", "text,category\na,x\n", (),
             "no column 'label'; it has: text, category"),
            ("bytes.csv", b"text,label\ncaf\xe9,x\n", (),
             "line 2: byte 0xe9 is not UTF-8"),
            ("unknown.csv", good, ("--test", test),
             "line 2: the label 'unheard' is not among"),
            ("number.csv", "text,label\na,1\nb,many\n",
             ("--kind", "regression", "--val-share", "0.5"),
             "line 3: 'many' is not a number"),
            ("lists.jsonl", '{"text": "a", "label": ["x", "y"]}\n'
             '{"text": "b", "label": "z"}\n', (), "line 1: not one label"),
            ("few.csv", "text,label\na,x\nb,y\n", ("--val-share", "0.0001"),
             "to validate"),
        ]
        for name, data, args, message in cases:
            with self.subTest(name):
                self.assertIn(message, self.refused(name, data, *args))

    def test_options(self):
        good = as_csv(examples(20))
        for args, message in ((("--width", "33", "--heads", "2"), "--width"),
                              (("--kind", "several"), "--kind takes one of"),
                              (("--ngram-char-min", "5", "--ngram-char-max",
                                "3"), "--ngram-char-min"),
                              (("--oos-label", "x", "--kind", "multi"),
                               "--oos-label")):
            with self.subTest(args):
                path = write("x/options.csv", good)
                done = train("classify", "--out", scratch("x/no"), path, *TINY,
                             *args)
                self.assertEqual(done.status, 2, done)
                self.assertIn(message, done.err)

    def test_init_of_another_width(self):
        data = write("x/init.csv", as_csv(examples(60)))
        classify("x/narrow", data, "--epochs", "1")
        done = train("classify", "--out", scratch("x/wide"), data, *TINY,
                     "--width", "64", "--init",
                     scratch("x/narrow/model.gguf"))
        self.assertEqual(done.status, 1, done)
        self.assertIn("--width is 64 here", done.err)


if __name__ == "__main__":
    unittest.main()
