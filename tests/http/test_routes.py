"""The other routes: models, tokens, probes, metrics, CORS, keys."""
import json
import re
import unittest

from harness import (ROOT, Case, Server, have_stories, main_model, post_bytes,
                     scratch, shared, slow_model)

TEXTS = ("", " ", "Once upon a time", "  two  spaces ", "h\u00e9llo",
         "\u4e16\u754c\U0001f600", "a\nb\tc", "\u0301x", "x" * 5000)


class Models(Case):
    def test_list_and_one(self):
        models = self.s.get("/v1/models").json["data"]
        self.assertEqual([m["id"] for m in models], ["main", "slow"])
        for model in models:
            one = self.s.get("/v1/models/" + model["id"])
            self.assertEqual(one.json, model)

    def test_unknown(self):
        for name in ("nope", "main%20", "a%2Fb", "..%2f", "main/x"):
            self.assert_error(self.s.get("/v1/models/" + name), 404)
        for name in ("%00", "main%00", "main%00x"):
            r = self.s.get("/v1/models/" + name, check=False)
            self.assertIn(r.status, (400, 404))


class Tokens(Case):
    def test_round_trip(self):
        for text in TEXTS:
            r = self.s.post("/v1/tokenize", {"text": text,
                                             "add_special": False})
            self.assertEqual(r.status, 200, text)
            ids = [t["id"] for t in r.json["tokens"]]
            back = self.s.post("/v1/detokenize", {"ids": ids})
            self.assertEqual(back.json["text"].removeprefix(" "),
                             text.removeprefix(" "))

    def test_offsets_cover_the_text(self):
        for text in TEXTS:
            tokens = self.s.post("/v1/tokenize", {
                "text": text, "add_special": False}).json["tokens"]
            n = len(text.encode())
            at = 0
            for token in tokens:
                self.assertLessEqual(at, token["end"])
                self.assertLessEqual(token["start"], token["end"])
                self.assertLessEqual(token["end"], n)
                at = token["end"]
            self.assertEqual(at, n, text)

    def test_add_special(self):
        both = [self.s.post("/v1/tokenize", {"text": "Once",
                                             "add_special": special})
                for special in (True, False)]
        with_bos, without = ([t["id"] for t in r.json["tokens"]]
                             for r in both)
        self.assertEqual(with_bos, [1] + without)

    @unittest.skipUnless(have_stories(), "no stories260K")
    def test_reference_ids(self):
        r = self.s.post("/v1/tokenize", {"text": "relieved. they had"})
        self.assertEqual([t["id"] for t in r.json["tokens"]],
                         [1, 410, 276, 421, 417, 411, 396, 426, 366, 381])

    def test_wrong_ids(self):
        for ids in ([-1], [10 ** 6], [2 ** 31], [2 ** 63], [1.5], ["1"],
                    "1", [None], [[1]], 3, None, {}):
            self.assert_error(self.s.post("/v1/detokenize", {"ids": ids}),
                              400, "ids")

    def test_wrong_text(self):
        for text in (1, None, [], ["a"], {}, True):
            self.assert_error(self.s.post("/v1/tokenize", {"text": text}),
                              400, "text")
        self.assert_error(self.s.post("/v1/tokenize", {}), 400, "text")
        self.assert_error(self.s.post("/v1/detokenize", {}), 400, "ids")
        self.assert_error(self.s.post("/v1/tokenize", {
            "text": "a", "model": "nope"}), 404)

    def test_long_text(self):
        r = self.s.post("/v1/tokenize", {"text": "word " * 20000})
        self.assertEqual(r.status, 200)
        self.assertEqual(self.s.get("/healthz").status, 200)


class Operations(Case):
    def test_probes(self):
        for path in ("/healthz", "/readyz"):
            self.assertEqual(self.s.get(path).status, 200)
            r = self.s.request("HEAD", path)
            self.assertIn(r.status, (200, 405))

    def test_contract_is_the_file(self):
        with open(f"{ROOT}/openapi.yaml", "rb") as file:
            self.assertEqual(self.s.get("/openapi.yaml").body, file.read())

    def test_metrics_format(self):
        self.s.generate(prompt="Once", max_tokens=4)
        r = self.s.get("/metrics")
        self.assertTrue(r.headers["Content-Type"].startswith("text/plain"))
        types, seen = {}, []
        for line in r.body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.assertNotIn(name, types, "declared twice")
                types[name] = kind
            elif line and not line.startswith("#"):
                match = re.fullmatch(
                    r'([a-z_:]+)(\{(\w+="[^"]*",?)*\})? (\S+)', line)
                self.assertTrue(match, line)
                float(match.group(4))
                seen.append(match.group(1))
        for name in seen:
            base = re.sub("_(bucket|sum|count)$", "", name)
            self.assertTrue(name in types or base in types, name)
            self.assertRegex(name, "^(inferd_|vllm:|process_)")
        self.assertEqual(len(seen), len(set(
            l.rsplit(" ", 1)[0] for l in r.body.decode().splitlines()
            if l and l[0] != "#")), "a sample twice")

    def test_counts_requests_and_tokens(self):
        def tokens():
            return sum(v for k, v in self.s.metrics().items()
                       if k.startswith("inferd_generated_tokens_total"))
        before = tokens()
        self.s.generate(prompt="Once", max_tokens=7, ignore_eos=True)
        self.assertEqual(tokens() - before, 7)

    def test_unknown_route_and_method(self):
        for path in ("/nope", "/v1", "/v1/", "/v1/generate/x", "/%2e%2e/etc",
                     "//", "/v1/generate/"):
            self.assert_error(self.s.get(path), 404)
        for method, path in (("GET", "/v1/generate"), ("PUT", "/v1/generate"),
                             ("DELETE", "/v1/models"), ("POST", "/healthz"),
                             ("GET", "/v1/tokenize"), ("POST", "/metrics"),
                             ("PATCH", "/v1/models/main")):
            r = self.s.request(method, path)
            self.assert_error(r, 405)
            self.assertRegex(r.headers["Allow"], "GET|POST")
            self.assertNotIn(method, r.headers["Allow"].split(", "))

    def test_query_is_ignored(self):
        self.assertEqual(self.s.get("/healthz?x=1").status, 200)


ORIGIN = "https://app.example"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}


class Cors(unittest.TestCase):
    def test_default_is_same_origin(self):
        s = shared()
        for r in (s.request("OPTIONS", "/v1/generate", headers=PREFLIGHT),
                  s.request("GET", "/v1/models", headers=PREFLIGHT)):
            self.assertNotIn("Access-Control-Allow-Origin", r.headers)

    def test_configured_origin(self):
        s = Server({"cors-origins": ORIGIN, "api-keys": "secret-1"})
        try:
            r = s.request("OPTIONS", "/v1/generate", headers=PREFLIGHT)
            self.assertIn(r.status, (200, 204))
            self.assertEqual(r.headers["Access-Control-Allow-Origin"], ORIGIN)
            self.assertIn("POST", r.headers["Access-Control-Allow-Methods"])
            self.assertIn("authorization", r.headers[
                "Access-Control-Allow-Headers"].lower())
            self.assertIn("Origin", r.headers["Vary"])
            # Errors must be readable by the page too.
            r = s.post("/v1/generate", {}, headers=PREFLIGHT)
            self.assertEqual(r.status, 401)
            self.assertEqual(r.headers["Access-Control-Allow-Origin"], ORIGIN)
            r = s.request("OPTIONS", "/v1/generate", headers={
                **PREFLIGHT, "Origin": ORIGIN + ".evil"})
            self.assertNotIn("Access-Control-Allow-Origin", r.headers)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_any_origin(self):
        s = Server({"cors-origins": "*"})
        try:
            r = s.request("OPTIONS", "/v1/generate", headers=PREFLIGHT)
            self.assertEqual(r.headers["Access-Control-Allow-Origin"], "*")
        finally:
            self.assertEqual(s.stop(), 0)


class Keys(unittest.TestCase):
    def test_keys(self):
        s = Server({"api-keys": "secret-1"})
        try:
            body = {"prompt": "Once", "max_tokens": 2}
            for headers in ({}, {"Authorization": "Bearer wrong"},
                            {"Authorization": "Bearer secret-11"},
                            {"Authorization": "Bearer secret-"},
                            {"Authorization": "Bearer "},
                            {"Authorization": "Basic secret-1"},
                            {"Authorization": "secret-1"}):
                for path in ("/v1/generate", "/v1/completions",
                             "/v1/tokenize", "/v1/detokenize"):
                    r = s.post(path, body, headers=headers)
                    self.assertEqual(r.status, 401, (path, headers, r))
                self.assertEqual(
                    s.get("/v1/models", headers=headers).status, 401)
            key = {"Authorization": "Bearer secret-1"}
            self.assertEqual(
                s.post("/v1/generate", body, headers=key).status, 200)
            self.assertEqual(s.get("/v1/models", headers=key).status, 200)
            for path in ("/healthz", "/readyz", "/metrics", "/openapi.yaml"):
                self.assertEqual(s.get(path).status, 200, path)
            self.assertNotIn("secret-1", s.stderr())
        finally:
            self.assertEqual(s.stop(), 0)


class KeyLimits(unittest.TestCase):
    """Each key has its own budget; others don't feel it."""

    @classmethod
    def setUpClass(cls):
        path = scratch("keys.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump([
                {"name": "rated", "key": "key-of-rated", "rate": 3},
                {"name": "narrow", "key": "key-of-narrow", "concurrency": 1},
                {"name": "scoped", "key": "key-of-scoped", "models": ["main"],
                 "routes": ["/v1/generate"]},
                {"name": "budget", "key": "key-of-budget", "tokens": 200},
                {"name": "free", "key": "key-of-free"}], file)
        cls.s = Server({"api-keys-file": path},
                       models=[f"main={main_model()}",
                               f"slow={slow_model()}"])

    @classmethod
    def tearDownClass(cls):
        assert cls.s.stop() == 0

    def post(self, key, path="/v1/generate", **fields):
        return self.s.post(path, {"prompt": "Once", "max_tokens": 2, **fields},
                           headers={"Authorization": f"Bearer {key}"})

    def limited(self, reply):
        self.assertEqual(reply.status, 429, reply)
        self.assertGreaterEqual(int(reply.headers["Retry-After"]), 1)
        self.assertEqual(self.post("key-of-free").status, 200)

    def test_rate(self):
        statuses = [self.post("key-of-rated").status for _ in range(3)]
        self.assertEqual(statuses, [200] * 3)
        self.limited(self.post("key-of-rated"))

    def test_concurrency(self):
        fields = {"prompt": "Once", "model": "slow", "max_tokens": 8000,
                  "ignore_eos": True, "stream": True}
        sock = self.s.connect()
        sock.sendall(post_bytes("/v1/generate", fields,
                                "Authorization: Bearer key-of-narrow\r\n"))
        self.assertIn(b" 200 ", sock.recv(4096))
        self.limited(self.post("key-of-narrow"))
        sock.close()
        self.s.wait_idle()
        self.assertEqual(self.post("key-of-narrow").status, 200)

    def test_tokens(self):
        statuses = [self.post("key-of-budget", max_tokens=80, ignore_eos=True)
                    .status for _ in range(5)]
        self.assertEqual(statuses[0], 200)
        self.limited(self.post("key-of-budget", max_tokens=80))

    def test_scope(self):
        self.assertEqual(self.post("key-of-scoped").status, 200)
        for reply in (self.post("key-of-scoped", model="slow"),
                      self.post("key-of-scoped", "/v1/completions"),
                      self.post("key-of-scoped", "/v1/tokenize", text="a")):
            self.assertEqual(reply.status, 403, reply)

    def test_no_cached_tokens_across_keys(self):
        prompt = "Lily and Ben went to the park to play with the dog. " * 6
        self.post("key-of-free", prompt=prompt)
        again = self.post("key-of-free", prompt=prompt).json["usage"]
        self.assertGreater(again["prompt_tokens_details"]["cached_tokens"], 0)
        other = self.post("key-of-scoped", prompt=prompt).json["usage"]
        self.assertEqual(other["prompt_tokens_details"]["cached_tokens"], 0)


class Logging(Case):
    def test_prompts_are_not_logged(self):
        word = "Xylophonistical"
        self.s.generate(prompt=word, max_tokens=2, echo=True)
        self.s.generate(prompt=word, max_tokens="x")
        self.assertNotIn(word, self.s.stderr())
