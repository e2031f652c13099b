"""Encoders: embeddings, classes, ranks, and TEI's routes."""
import base64
import json
import math
import os
import select
import struct
import time
import unittest

import tinymodel
from harness import (ROOT, SLOW, Case, Server, main_model, post_bytes,
                     read_reply, scratch, together)

LABELS = ["greeting", "weather", "card \u00e9", "other"]
TEXTS = ["hello there", "will it rain", "", "my card is lost",
         "h\u00e9llo \u4e16\u754c", "a b c d e f g " * 3]
# (route, field of the inputs, what else it needs)
ROUTES = [("/v1/embeddings", "input", {}), ("/v1/classify", "input", {}),
          ("/v1/rerank", "documents", {"query": "q"}), ("/embed", "inputs", {}),
          ("/predict", "inputs", {}), ("/rerank", "texts", {"query": "q"})]
VALUES = {"string": "x", "number": 1.5, "integer": 1, "bool": True,
          "array": [{}], "object": {"x": []}}
_server = None


def model_path(name, **options):
    path = scratch(f"{name}.gguf")
    if not os.path.exists(path):
        tinymodel.write_encoder(path, **options)
    return path


def models():
    return {
        "emb": model_path("emb", ctx=64),
        "cls": model_path("cls", labels=LABELS, kind="single", buckets=64,
                          layers=1, keys=[("inferd.classifier.temperature",
                                           tinymodel.F32, 2.0)]),
        "multi": model_path("multi", labels=LABELS, kind="multi", layers=0),
        "reg": model_path("reg", labels=["stars"], kind="regression"),
        "rank": model_path("rank", labels=["r"]),
    }


def server():
    global _server
    if _server is None:
        both = [f"{k}={v}" for k, v in models().items()]
        _server = Server(models=[f"gen={main_model()}"] + both)
    return _server


def tearDownModule():
    global _server
    if _server is not None:
        status, _server = _server.stop(), None
        assert status == 0, status


class Encode(Case):
    @classmethod
    def setUpClass(cls):
        cls.s = server()

    def ok(self, path, body):
        r = self.s.post(path, body)
        self.assertEqual(r.status, 200, r)
        return r.json

    def message(self, reply, status, *words):
        self.assertEqual(reply.status, status, reply)
        error = reply.json["error"]
        text = error if isinstance(error, str) else error["message"]
        for word in words:
            self.assertIn(word, text)


class Embeddings(Encode):
    def vectors(self, texts, **fields):
        data = self.ok("/v1/embeddings", {"input": texts, **fields})["data"]
        self.assertEqual([d["index"] for d in data], list(range(len(data))))
        return [d["embedding"] for d in data]

    def test_unit_length_and_order(self):
        both = self.vectors(TEXTS)
        self.assertEqual(len(both), len(TEXTS))
        for text, v in zip(TEXTS, both):
            self.assertAlmostEqual(sum(x * x for x in v), 1, 5)
            self.assertEqual(self.vectors(text), [v])

    def test_base64_is_the_same(self):
        plain = self.vectors(TEXTS)
        packed = self.vectors(TEXTS, encoding_format="base64")
        for v, b in zip(plain, packed):
            raw = base64.b64decode(b, validate=True)
            floats = struct.unpack(f"<{len(v)}f", raw)
            self.assertEqual([struct.unpack("<f", struct.pack("<f", x))[0]
                              for x in v], list(floats))

    def test_dimensions(self):
        full = self.vectors("hello", normalize=False)[0]
        cut = self.vectors("hello", dimensions=5)[0]
        norm = math.sqrt(sum(x * x for x in full[:5]))
        for a, b in zip(cut, full[:5]):
            self.assertAlmostEqual(a, b / norm, 5)
        for n in (0, -1, 65, 1.5, "5", [5]):
            self.assert_error(self.s.post("/v1/embeddings", {
                "input": "x", "dimensions": n}), 400, "dimensions")

    def test_token_ids(self):
        ids = [[t["id"] for t in self.ok("/v1/tokenize", {
            "text": text, "model": "emb"})["tokens"]] for text in TEXTS if text]
        texts = [t for t in TEXTS if t]
        self.assertEqual(self.vectors(ids), self.vectors(texts))
        self.assertEqual(self.vectors(ids[0]), self.vectors(texts[0]))
        for bad in ([-1], [10 ** 7], [[1], []], [1, "a"], [[1.5]]):
            self.assert_error(self.s.post("/v1/embeddings", {"input": bad}),
                              400, "input")

    def test_crowd_equals_alone(self):
        bodies = [{"input": (TEXTS * 3)[i:i + 1 + i % 7], "normalize": i % 2 > 0}
                  for i in range(12)]
        alone = [self.s.post("/v1/embeddings", b).body for b in bodies]
        crowd = together([lambda b=b: self.s.post("/v1/embeddings", b).body
                          for b in bodies * 4])
        self.assertEqual(crowd, alone * 4)

    def test_usage_counts_tokens(self):
        n = sum(len(self.ok("/v1/tokenize", {
            "text": t, "model": "emb"})["tokens"]) for t in TEXTS)
        before = self.s.metric("inferd_prompt_tokens_total", model="emb")
        reply = self.ok("/v1/embeddings", {"input": TEXTS})
        self.assertEqual(reply["usage"]["prompt_tokens"], n)
        after = self.s.metric("inferd_prompt_tokens_total", model="emb")
        self.assertEqual(after - before, n)

    def test_a_thousand(self):
        texts = [f"text {i} " * (i % 4) for i in range(1000)]
        all_at_once = self.vectors(texts)
        self.assertEqual(all_at_once[777], self.vectors(texts[777])[0])
        self.assertEqual(len(all_at_once), 1000)


class Limits(Encode):
    LONG = "a b " * 200

    def test_too_long(self):
        for body in ({"input": self.LONG}, {"input": ["ok", self.LONG]}):
            r = self.s.post("/v1/embeddings", body)
            self.assert_error(r, 422, "tokens", "64")
        self.assertIn("input 1", r.json["error"]["message"])
        self.message(self.s.post("/embed", {"inputs": self.LONG}), 422, "64")

    def test_the_field_at_fault(self):
        """An error names the field that the route has, not some other's."""
        long = "a b " * 900
        for path, field, more in ROUTES:
            r = self.s.post(path, {field: ["ok", long], **more})
            self.message(r, 422, f"{field} 1: ", "tokens")
            if isinstance(r.json["error"], dict):
                self.assertEqual(r.json["error"]["param"], field)
        r = self.s.post("/v1/rerank", {"query": long, "documents": ["a", "b"]})
        self.assertEqual(self.assert_error(r, 422)["param"], "query")
        for path, field, more in ROUTES[:3]:
            reply = self.ok(path, {field: ["ok", long], **more,
                                   "partial": True})
            error, = [i["error"] for i in reply.get("data") or reply["results"]
                      if "error" in i]
            self.assertEqual(error["param"], field)

    def test_truncate(self):
        cut = self.ok("/embed", {"inputs": self.LONG, "truncate": True})
        left = self.ok("/embed", {"inputs": self.LONG + "z", "truncate": True,
                                  "truncation_direction": "left"})
        self.assertNotEqual(cut, left)
        ids = [t["id"] for t in self.ok("/v1/tokenize", {
            "text": self.LONG, "model": "emb"})["tokens"]]
        self.assertEqual(cut, self.ok("/embed", {"inputs": ids[:64]}))

    def test_partial(self):
        data = self.ok("/v1/embeddings", {
            "input": ["a", self.LONG, "b"], "partial": True})["data"]
        self.assertEqual([d["index"] for d in data], [0, 1, 2])
        self.assertIsNone(data[1]["embedding"])
        self.assertIn("64", data[1]["error"]["message"])
        alone = self.ok("/v1/embeddings", {"input": "b"})["data"][0]
        self.assertEqual(data[2]["embedding"], alone["embedding"])
        for path, field, more in ROUTES[1:3]:
            reply = self.ok(path, {field: ["a", "a b " * 900, "b"], **more,
                                   "partial": True})
            items = reply.get("data") or reply["results"]
            failed = [i for i in items if "error" in i]
            self.assertEqual([i["index"] for i in failed], [1])
            self.assertEqual(len(items), 3)

    def test_too_many(self):
        for path, field, more in ROUTES:
            r = self.s.post(path, {field: ["x"] * 2049, **more})
            self.message(r, 413, "2048")
            self.message(self.s.post(path, {field: [], **more}), 400, field)

    def test_own_limits(self):
        s = Server({"max-inputs": 3, "max-waiting-inputs": 2},
                   model=models()["emb"])
        try:
            for n, status in ((2, 200), (3, 413), (4, 413)):
                self.assertEqual(s.post("/v1/embeddings", {
                    "input": ["x"] * n}).status, status)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_deadline(self):
        r = self.s.post("/v1/embeddings", {"input": ["a b c d"] * 2000,
                                           "deadline_ms": 1})
        self.assert_error(r, 504, "deadline")

    def test_hang_up_cancels(self):
        body = {"input": ["a b c d e f g h"] * 2000}
        before = self.s.metric("inferd_cancelled_total")
        for _ in range(4):
            sock = self.s.connect()
            sock.sendall(post_bytes("/v1/embeddings", body))
            self.s.wait_metric("inferd_queue_requests", lambda v: v > 0, 2,
                               model="emb")
            sock.close()
        self.s.wait_metric("inferd_queue_requests", lambda v: v == 0,
                           model="emb")
        self.assertGreater(self.s.metric("inferd_cancelled_total"), before)

    def test_drain_finishes(self):
        s = Server(model=models()["emb"])
        sock = s.connect()
        sock.sendall(post_bytes("/v1/embeddings", {"input": ["a b"] * 1500}))
        s.wait_metric("inferd_queue_requests", lambda v: v > 0)
        s.process.terminate()
        reply = read_reply(sock)
        self.assertEqual(reply.status, 200)
        self.assertEqual(len(reply.json["data"]), 1500)
        sock.close()
        self.assertEqual(s.stop(), 0)


class WrongInput(Encode):
    FIELDS = {
        "model": {"string"}, "truncate": {"bool"}, "deadline_ms": {"integer"},
        "partial": {"bool"}, "raw_scores": {"bool"}, "normalize": {"bool"},
        "dimensions": {"integer"}, "encoding_format": set(),
        "top_k": {"integer"}, "threshold": {"number", "integer"},
        "explain": {"bool"}, "query": {"string"}, "top_n": {"integer"},
        "return_documents": {"bool"}, "return_text": {"bool"},
        "truncation_direction": set(),
    }
    OF = {
        "/v1/embeddings": "model truncate deadline_ms partial normalize "
                          "dimensions encoding_format",
        "/v1/classify": "model truncate deadline_ms partial raw_scores top_k "
                        "threshold explain",
        "/v1/rerank": "model truncate deadline_ms partial raw_scores query "
                      "top_n return_documents",
        "/embed": "truncate normalize dimensions truncation_direction",
        "/predict": "truncate raw_scores truncation_direction",
        "/rerank": "truncate raw_scores query return_text",
    }

    def test_each_field_and_type(self):
        for path, field, more in ROUTES:
            for name in self.OF[path].split():
                for kind, value in VALUES.items():
                    if kind in self.FIELDS[name]:
                        continue
                    r = self.s.post(path, {field: ["x"], **more, name: value})
                    self.message(r, 400, name)

    def test_inputs(self):
        for path, field, more in ROUTES:
            for value in (1, 1.5, True, {}, {"x": 1}, [None], [True], [{}],
                          [["a", "b", "c"]], [[[]]], ["a", 1]):
                r = self.s.post(path, {field: value, **more})
                self.message(r, 400, field)
            self.message(self.s.post(path, dict(more)), 400, field)
            self.message(self.s.post(path, {field: None, **more}), 400, field)

    def test_not_supported(self):
        for path, field, more in ROUTES:
            for name in ("prompt_name", "embedding_types"):
                self.message(self.s.post(path, {
                    field: ["x"], **more, name: "q"}), 400, name)

    def test_wrong_task(self):
        has = {"/v1/embeddings": "emb", "/embed": "emb", "/v1/classify": "cls",
               "/predict": "cls", "/v1/rerank": "rank", "/rerank": "rank"}
        for path, field, more in ROUTES:
            for name in ("gen", "emb", "cls", "rank"):
                r = self.s.post(path, {field: ["x"], "model": name, **more})
                if has[path] == name:
                    self.assertEqual(r.status, 200)
                else:
                    self.message(r, 400, name, path)
            self.message(self.s.post(path, {field: ["x"], "model": "nope",
                                            **more}), 404, "nope")
        self.assert_error(self.s.post("/v1/generate", {
            "prompt": "x", "model": "emb"}), 400, "embeds")

    def test_hostile_bodies(self):
        for path, field, more in ROUTES:
            for body in (b"", b"[]", b"{", b'{"a":"\\ud800"}', b"\xff",
                         b'{"%s":"\xff"}' % field.encode()):
                r = self.s.post(path, body)
                self.assertEqual(r.status, 400)
            self.assertEqual(self.s.get(path).status, 405)


class Classify(Encode):
    def data(self, texts, **fields):
        return self.ok("/v1/classify", {"input": texts, **fields})["data"]

    def test_probabilities(self):
        for item, text in zip(self.data(TEXTS), TEXTS):
            self.assertAlmostEqual(sum(item["probs"]), 1, 5)
            self.assertEqual(item["num_classes"], 4)
            scores = [s["score"] for s in item["labels"]]
            self.assertEqual(scores, sorted(scores, reverse=True))
            self.assertEqual({s["label"] for s in item["labels"]}, set(LABELS))
            self.assertEqual(item["label"], item["labels"][0]["label"])
            self.assertEqual(item["probs"][LABELS.index(item["label"])],
                             scores[0])
            again = self.data(text)[0]
            self.assertEqual(again["probs"], item["probs"])

    def test_temperature(self):
        raw = self.data("hello", raw_scores=True)[0]["probs"]
        probs = self.data("hello")[0]["probs"]
        exps = [math.exp(x / 2.0) for x in raw]
        for p, e in zip(probs, exps):
            self.assertAlmostEqual(p, e / sum(exps), 5)

    def test_top_k_and_threshold(self):
        self.assertEqual(len(self.data("hello", top_k=2)[0]["labels"]), 2)
        item = self.data("hello", threshold=0.2)[0]
        self.assertEqual(len(item["labels"]),
                         sum(p >= 0.2 for p in item["probs"]))

    def test_multi_label(self):
        for item in self.data(TEXTS, model="multi"):
            self.assertEqual(len(item["labels"]),
                             sum(p >= 0.5 for p in item["probs"]))
        raw = self.data("hello", model="multi", raw_scores=True)[0]["probs"]
        probs = self.data("hello", model="multi")[0]["probs"]
        for x, p in zip(raw, probs):
            self.assertAlmostEqual(p, 1 / (1 + math.exp(-x)), 5)

    def test_regression(self):
        a = self.data("hello", model="reg")[0]
        b = self.data("hello", model="reg", raw_scores=True)[0]
        self.assertEqual(a["probs"], b["probs"])
        self.assertEqual(a["label"], "stars")

    def test_pairs(self):
        a, b, c = self.data([["one", "two"], ["two", "one"], "one"])
        self.assertNotEqual(a["probs"], b["probs"])
        self.assertEqual(self.data([["one", "two"]])[0]["probs"], a["probs"])
        self.assertEqual(self.data("one")[0]["probs"], c["probs"])

    def test_out_of_scope(self):
        path = model_path("oos", labels=LABELS, kind="single", keys=[
            ("inferd.classifier.oos_threshold", tinymodel.F32, 0.999),
            ("inferd.classifier.oos_label", tinymodel.STRING, "none")])
        s = Server(model=path)
        try:
            for raw in (False, True):
                item = s.post("/v1/classify", {
                    "input": "hello", "raw_scores": raw}).json["data"][0]
                self.assertEqual(item["label"], "none")
                self.assertEqual(len(item["labels"]), 4)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_explain_is_complete(self):
        texts = TEXTS[:5] + [["my card", "is lost"]]
        for model in ("cls", "multi", "reg"):
            for raw in (False, True):
                for text, item in zip(texts, self.data(
                        texts, model=model, explain=True, raw_scores=raw)):
                    parts = item["explanation"]
                    score = max(item["probs"])
                    total = sum(p["attribution"] for p in parts)
                    self.assertAlmostEqual(
                        total, score - item["explanation_baseline"], 4)
                    self.check_offsets(text, parts)

    def check_offsets(self, text, parts):
        texts = text if isinstance(text, list) else [text]
        for i, one in enumerate(texts):
            data = one.encode()
            at = 0
            for p in (p for p in parts if p.get("text", 0) == i):
                self.assertLessEqual(at, p["end"])
                data[p["start"]:p["end"]].decode()  # whole characters
                at = p["end"]
            self.assertEqual(at, len(data), (text, parts))

    def test_explain_limits(self):
        self.message(self.s.post("/v1/classify", {
            "input": ["x"] * 17, "explain": True}), 413, "16")

    def explain_server(self):
        """A model slow enough that explanations last, and their texts."""
        path = model_path("large", labels=LABELS, kind="single", d=128,
                          layers=3, ctx=300, buckets=64)
        return Server(model=path), ["abcde " * 40 + str(i)
                                    for i in range(16 // SLOW)]

    def begin_explain(self, s, texts):
        sock = s.connect()
        sock.sendall(post_bytes("/v1/classify", {
            "input": texts, "explain": True}))
        return sock

    def test_explain_lets_others_pass(self):
        """Short texts are answered while thousands of sequences wait."""
        s, texts = self.explain_server()
        try:
            hello = {"input": "hello"}
            alone = s.post("/v1/classify", hello).json["data"]
            self.message(s.post("/v1/classify", {
                "input": "abcde " * 90, "truncate": True, "explain": True}),
                422, "256")
            sock = self.begin_explain(s, texts)
            s.wait_metric("inferd_prompt_tokens_total", lambda v: v > 5000)
            for _ in range(3):
                self.assertEqual(s.post("/v1/classify", hello).json["data"],
                                 alone)
            ready, _, _ = select.select([sock], [], [], 0)
            self.assertEqual(ready, [], "the explanation came first")
            reply = read_reply(sock)
            self.assertEqual(len(reply.json["data"]), len(texts))
            sock.close()
        finally:
            self.assertEqual(s.stop(), 0)

    def test_explanations_take_turns(self):
        """One is in memory at a time; the others wait, and may be late, may
        leave, and are answered as if they were alone."""
        s, texts = self.explain_server()
        try:
            short = {"input": ["hello there", "rain"], "explain": True}
            alone = s.post("/v1/classify", short).json["data"]
            before = s.rss()
            first = self.begin_explain(s, texts[:2])
            socks = [self.begin_explain(s, texts) for _ in range(20)]
            late = s.post("/v1/classify", {**short, "deadline_ms": 300})
            self.message(late, 504, "deadline")
            self.assertEqual(len(read_reply(first).json["data"]), 2)
            first.close()
            time.sleep(2)  # all would be there by now
            self.assertLess(s.rss() - before, 80e6 * (4 if SLOW > 1 else 1))
            for sock in socks:
                sock.close()
            replies = together([lambda: s.post("/v1/classify", short)
                                for _ in range(6)])
            for r in replies:
                self.assertEqual(r.json["data"], alone)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_ensemble(self):
        other = model_path("cls2", labels=LABELS, kind="single", seed=2)
        config = scratch("ensemble.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"model": {
                "both": {"path": [models()["cls"], other]},
                "first": {"path": models()["cls"]},
                "second": {"path": other}}}, file)
        s = Server({"config": config}, models=[])
        try:
            probs = {name: s.post("/v1/classify", {
                "input": TEXTS, "model": name}).json["data"]
                for name in ("both", "first", "second")}
            for both, a, b in zip(*(probs[k] for k in
                                    ("both", "first", "second"))):
                for x, y, z in zip(both["probs"], a["probs"], b["probs"]):
                    self.assertAlmostEqual(x, (y + z) / 2, 6)
            self.assert_error(s.post("/v1/classify", {
                "input": "x", "model": "both", "explain": True}), 400,
                "ensemble")
        finally:
            self.assertEqual(s.stop(), 0)

    def test_out_of_scope_of_an_ensemble(self):
        """The threshold is one of probabilities: raw scores, which are
        larger, change nothing."""
        config = scratch("scope.json")
        threshold = [("inferd.classifier.oos_threshold", tinymodel.F32, 0.9),
                     ("inferd.classifier.oos_label", tinymodel.STRING, "none")]
        paths = [model_path(f"scope{i}", labels=LABELS, kind="single", seed=i,
                            keys=threshold) for i in (3, 4)]
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"model": {"x": {"path": paths}}}, file)
        s = Server({"config": config}, models=[])
        try:
            plain, raw = (s.post("/v1/classify", {
                "input": TEXTS, "raw_scores": r}).json["data"]
                for r in (False, True))
            self.assertGreater(max(max(d["probs"]) for d in raw), 0.9)
            for a, b in zip(plain, raw):
                self.assertLess(max(a["probs"]), 0.9)
                self.assertEqual((a["label"], b["label"]), ("none", "none"))
        finally:
            self.assertEqual(s.stop(), 0)

    def test_bad_ensemble_does_not_start(self):
        config = scratch("bad.json")
        for path in ([models()["cls"], models()["emb"]], [],
                     [models()["cls"], 1]):
            with open(config, "w", encoding="utf-8") as file:
                json.dump({"model": {"x": {"path": path}}}, file)
            with self.assertRaises(AssertionError):
                Server({"config": config}, models=[])


class Rank(Encode):
    DOCS = ["paris", "rome is old", "", "the capital of france is paris"]

    def test_sorted_and_cut(self):
        body = {"query": "capital", "documents": self.DOCS}
        results = self.ok("/v1/rerank", body)["results"]
        scores = [r["relevance_score"] for r in results]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual({r["index"] for r in results}, set(range(4)))
        self.assertTrue(all(0 <= s <= 1 for s in scores))
        top = self.ok("/v1/rerank", {**body, "top_n": 2,
                                     "return_documents": True})["results"]
        self.assertEqual([r["index"] for r in top],
                         [r["index"] for r in results[:2]])
        for r in top:
            self.assertEqual(r["document"]["text"], self.DOCS[r["index"]])

    def test_objects_and_raw(self):
        a = self.ok("/v1/rerank", {"query": "q", "documents": self.DOCS})
        b = self.ok("/v1/rerank", {"query": "q", "raw_scores": True,
                                   "documents": [{"text": d} for d in
                                                 self.DOCS]})
        for x, y in zip(a["results"], b["results"]):
            self.assertEqual(x["index"], y["index"])
            self.assertAlmostEqual(x["relevance_score"], 1 / (
                1 + math.exp(-y["relevance_score"])), 5)

    def test_tei_is_the_same(self):
        a = self.ok("/v1/rerank", {"query": "q", "documents": self.DOCS})
        b = self.ok("/rerank", {"query": "q", "texts": self.DOCS,
                                "return_text": True})
        self.assertEqual([(r["index"], r["relevance_score"])
                          for r in a["results"]],
                         [(r["index"], r["score"]) for r in b])
        self.assertEqual([r["text"] for r in b],
                         [self.DOCS[r["index"]] for r in b])


class Tei(Encode):
    def test_embed(self):
        a = self.ok("/embed", {"inputs": TEXTS})
        b = self.ok("/v1/embeddings", {"input": TEXTS})["data"]
        self.assertEqual(a, [d["embedding"] for d in b])
        self.assertEqual(self.ok("/embed", {"inputs": TEXTS[0]}), a[:1])

    def test_predict(self):
        one = self.ok("/predict", {"inputs": "hello"})
        many = self.ok("/predict", {"inputs": ["hello", "rain"]})
        self.assertEqual(one, many[0])
        self.assertEqual(len(many), 2)
        nested = self.ok("/predict", {"inputs": [["hello"], ["a", "b"]]})
        self.assertEqual(nested[0], one)
        native = self.ok("/v1/classify", {"input": "hello"})["data"][0]
        self.assertEqual(native["labels"], one)

    def test_tokenize_and_decode(self):
        lists = self.ok("/tokenize", {"inputs": TEXTS})
        self.assertEqual(len(lists), len(TEXTS))
        for text, tokens in zip(TEXTS, lists):
            self.assertTrue(tokens[0]["special"])
            self.assertIsNone(tokens[0]["start"])
            end = max([0] + [t["stop"] for t in tokens[1:]])
            self.assertEqual(end, len(text.encode()))
        ids = [[t["id"] for t in tokens] for tokens in lists]
        self.assertEqual(self.ok("/decode", {"ids": ids}), TEXTS)
        self.assertEqual(self.ok("/decode", {"ids": ids[0]}), TEXTS[:1])
        shown = self.ok("/decode", {"ids": ids[0],
                                    "skip_special_tokens": False})[0]
        self.assertTrue(shown.startswith("<s>"))
        for bad in ("x", [-1], [[1], 2], [["1"]], {}, [10 ** 7], 1):
            self.message(self.s.post("/decode", {"ids": bad}), 400, "ids")
        for bad in (1, [1], {}, [None], []):
            self.message(self.s.post("/tokenize", {"inputs": bad}), 400,
                         "inputs")

    def test_info(self):
        info = self.s.get("/info").json
        self.assertEqual(info["model_id"], "emb")
        self.assertEqual(info["model_type"], {"embedding": {"pooling": "mean"}})
        self.assertEqual(info["max_input_length"], 64)
        s = Server(model=models()["cls"])
        try:
            labels = s.get("/info").json["model_type"]["classifier"]["id2label"]
            self.assertEqual([labels[str(i)] for i in range(4)], LABELS)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_no_encoder(self):
        s = Server(model=main_model())
        try:
            for path, body in (("/embed", {"inputs": "x"}),
                               ("/tokenize", {"inputs": "x"})):
                self.message(s.post(path, body), 400, "main")
            self.message(s.get("/info"), 400, "main")
        finally:
            self.assertEqual(s.stop(), 0)

    def test_keys_and_models(self):
        keys = scratch("encode-keys.json")
        with open(keys, "w", encoding="utf-8") as file:
            json.dump([{"name": "a", "key": "sk-a", "models": ["cls"]}], file)
        s = Server({"api-keys-file": keys}, models=[
            f"{k}={v}" for k, v in models().items()])
        try:
            auth = {"Authorization": "Bearer sk-a"}
            self.message(s.post("/embed", {"inputs": "x"}), 401)
            self.message(s.post("/embed", {"inputs": "x"}, headers=auth), 403)
            self.assertEqual(s.post("/predict", {"inputs": "x"},
                                    headers=auth).status, 200)
            self.message(s.get("/info", headers=auth), 403)
        finally:
            self.assertEqual(s.stop(), 0)


class Shipped(Encode):
    """The models that `make run` serves do what their cards say."""

    @classmethod
    def setUpClass(cls):
        cls.s = Server(models=[os.path.join(ROOT, "models", name + ".gguf")
                               for name in ("intents", "sentences")])

    @classmethod
    def tearDownClass(cls):
        assert cls.s.stop() == 0

    def test_intents(self):
        texts = {"what is the weather in boston": "weather",
                 "set an alarm for seven": "alarm",
                 "I still have not received my new card": "card_arrival"}
        data = self.ok("/v1/classify", {"input": list(texts)})["data"]
        self.assertEqual([d["label"] for d in data], list(texts.values()))

    def test_sentences(self):
        texts = ["a man is playing a guitar on stage",
                 "someone plays the guitar", "the card has not arrived yet",
                 "when will my new card be delivered?"]
        for n in (256, 128, 64):
            v = [d["embedding"] for d in self.ok("/v1/embeddings", {
                "model": "sentences", "input": texts, "dimensions": n})["data"]]
            near = [sum(a * b for a, b in zip(v[i], v[k]))
                    for i, k in ((0, 1), (2, 3), (0, 2), (1, 3))]
            self.assertGreater(min(near[:2]), max(near[2:]) + 0.1, n)


class Reference(Encode):
    ORACLE = os.path.join(ROOT, "../shared/oracle")

    @unittest.skipUnless(os.path.exists(ORACLE), "no oracle")
    def test_bert_over_http(self):
        names = ("bert-mean", "bert-rank")
        s = Server(models=[f"{n}={self.ORACLE}/{n}/model-F32.gguf"
                           for n in names])
        try:
            for name in names:
                with open(f"{self.ORACLE}/{name}/cases.json",
                          encoding="utf-8") as file:
                    cases = json.load(file)
                self.compare(s, name, cases)
        finally:
            self.assertEqual(s.stop(), 0)

    def compare(self, s, name, cases):
        all_of = cases["models"]["F32"]["llamacpp"]["embeddings"]
        for i, p in enumerate(cases["prompts"]):
            if name == "bert-mean" and p.get("text"):
                got = s.post("/embed", {"inputs": p["text"]}).json[0]
                want = all_of["mean_normalised"][i]
            elif p["name"].endswith("closing-sep"):
                reply = s.post("/v1/rerank", {
                    "query": p["query"], "documents": [p["document"]],
                    "raw_scores": True}).json
                got = [reply["results"][0]["relevance_score"]]
                want = all_of["rank"][i]
                want = want if isinstance(want, list) else [want]
            else:
                continue
            for a, b in zip(got, want):
                self.assertAlmostEqual(a, b, delta=5e-3)


if __name__ == "__main__":
    unittest.main()
