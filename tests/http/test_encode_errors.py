"""Each row of the contract's table of errors on each route of an encoder."""
import json
import os
import signal
import unittest

import tinymodel
from harness import (SLOW, Case, Server, check_reply, post_bytes, read_reply,
                     scratch)

LABELS = ["a", "b", "c"]
# route: (model of its task, a good body)
POSTS = {
    "/v1/embeddings": ("emb", {"input": ["x"]}),
    "/v1/classify": ("cls", {"input": ["x"]}),
    "/v1/rerank": ("rank", {"query": "q", "documents": ["x"]}),
    "/embed": ("emb", {"inputs": ["x"]}),
    "/predict": ("cls", {"inputs": ["x"]}),
    "/rerank": ("rank", {"query": "q", "texts": ["x"]}),
    "/tokenize": ("emb", {"inputs": ["x"]}),
    "/decode": ("emb", {"ids": [5]}),
}
ROUTES = [*POSTS, "/info"]
LIST = {"/v1/embeddings": "input", "/v1/classify": "input",
        "/v1/rerank": "documents", "/embed": "inputs", "/predict": "inputs",
        "/rerank": "texts", "/tokenize": "inputs", "/decode": "ids"}
TEI = ("/embed", "/predict", "/rerank", "/tokenize", "/decode", "/info")


def models(size):
    """One of each task; the large ones take seconds for a thousand texts."""
    shape = {"small": {"d": 64, "layers": 1, "ctx": 64},
             "large": {"d": 256, "layers": 4, "ctx": 128}}[size]
    out = []
    for name, more in (("emb", {}), ("cls", {"labels": LABELS,
                                             "kind": "single"}),
                       ("rank", {"labels": ["r"]})):
        path = scratch(f"{size}-{name}.gguf")
        if not os.path.exists(path):
            tinymodel.write_encoder(path, **shape, **more)
        out.append(f"{name}={path}")
    return out


def many(path, n):
    """A good body with n entries."""
    field = LIST[path]
    return {**POSTS[path][1],
            field: [[5]] * n if path == "/decode" else ["x"] * n}


class Rows(Case):
    @classmethod
    def tearDownClass(cls):
        assert cls.s.stop() == 0

    def row(self, path, reply, status, *words):
        """The status, the shape of the route's errors, and the words."""
        with self.subTest(path=path, status=status):
            self.assertIsNotNone(reply, "closed without an answer")
            self.assertEqual(reply.status, status, reply)
            check_reply("GET" if path == "/info" else "POST", path, reply)
            error = reply.json["error"]
            if path in TEI:
                self.assertIsInstance(error, str)
                self.assertIn("error_type", reply.json)
            else:
                self.assertEqual({"message", "type", "param", "code"},
                                 set(error))
                error = error["message"]
            for word in words:
                self.assertIn(word, error)
            if status in (429, 503):
                self.assertGreaterEqual(int(reply.headers["Retry-After"]), 1)


class Refused(Rows):
    """What is wrong with the request itself."""

    @classmethod
    def setUpClass(cls):
        cls.s = Server({"max-body-bytes": 20000, "max-inputs": 8,
                        "body-timeout-ms": 300}, models=models("small"))

    def test_bodies(self):
        for path in POSTS:
            for body in (b"", b"{", b"[]", b"1", b"{'a':1}", b"\xff", b'{"a":01}',
                         b'{"a":"\\ud800"}', b'{"a":1,"a":2}', b"[" * 9000):
                self.row(path, self.s.post(path, body), 400)
            for name in LIST[path], "query":
                if name not in POSTS[path][1]:
                    continue
                body = dict(POSTS[path][1])
                for value in (None, 1, True, {}, [{}], [None], [1.5], [["a", 1]],
                              [[[]]]):
                    self.row(path, self.s.post(path, {**body, name: value}),
                             400, name)
                del body[name]
                self.row(path, self.s.post(path, body), 400, name)

    def test_ranges(self):
        bad = {"dimensions": (0, -1, 65, 1.5, 1e300), "top_k": (0, -1, 2 ** 31),
               "top_n": (0, -1, 2 ** 31), "threshold": (1e31, "x"),
               "encoding_format": ("x", "", 1), "deadline_ms": (0, -1, 1e300),
               "truncation_direction": ("up", 1), "ids": ([-1], [2 ** 31], [1.5]),
               "add_special_tokens": (1, "x"), "skip_special_tokens": (0, [])}
        of = {"/v1/embeddings": "dimensions encoding_format deadline_ms",
              "/v1/classify": "top_k threshold deadline_ms",
              "/v1/rerank": "top_n deadline_ms",
              "/embed": "dimensions truncation_direction deadline_ms",
              "/predict": "truncation_direction deadline_ms",
              "/rerank": "truncation_direction deadline_ms",
              "/tokenize": "add_special_tokens",
              "/decode": "ids skip_special_tokens"}
        for path, names in of.items():
            for name in names.split():
                for value in bad[name]:
                    self.row(path, self.s.post(path, {
                        **POSTS[path][1], name: value}), 400, name)

    def test_models(self):
        for path, (model, body) in POSTS.items():
            self.row(path, self.s.post(path, {**body, "model": "nope"}), 404,
                     "nope")
            self.row(path, self.s.post(path, {**body, "model": 1}), 400,
                     "model")
            for other in ("emb", "cls", "rank"):
                r = self.s.post(path, {**body, "model": other})
                if other == model or path in ("/tokenize", "/decode"):
                    self.assertEqual(r.status, 200, (path, other, r))
                else:
                    self.row(path, r, 400, other)

    def test_methods(self):
        for path in ROUTES:
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
                good = "GET" if path == "/info" else "POST"
                if method == good:
                    continue
                r = self.s.request(method, path, check=False,
                                   body=None if method == "GET" else b"{}")
                self.assertEqual(r.status, 405, (method, path, r))
                self.assertIn(good, r.headers["Allow"])
            r = self.s.request("POST", path + "/x", b"{}", check=False)
            self.assertEqual(r.status, 404, r)

    def test_sizes(self):
        for path, (_, body) in POSTS.items():
            r = self.s.post(path, json.dumps(body).encode() + b" " * 20000)
            self.row(path, r, 413, "20000")
            self.assertEqual(self.s.post(path, many(path, 8)).status, 200)
            self.row(path, self.s.post(path, many(path, 9)), 413, "8",
                     LIST[path])

    def test_headers(self):
        for path in ROUTES:
            method = "GET" if path == "/info" else "POST"
            sock = self.s.connect()
            try:
                sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
                             f"X-Long: {'x' * 20000}\r\n\r\n".encode())
            except OSError:
                pass  # refused before all was read
            reply = read_reply(sock)
            self.assertTrue(reply is None or reply.status == 431, (path, reply))
            sock.close()
        for path, (_, body) in POSTS.items():
            self.row(path, self.s.post(path, body, headers={
                "Content-Type": "text/plain"}), 415, "application/json")

    def test_slow_body(self):
        socks = {path: self.s.connect() for path in POSTS}
        for path, sock in socks.items():
            sock.sendall(post_bytes(path, POSTS[path][1])[:-1])
        for path, sock in socks.items():
            self.row(path, read_reply(sock), 408)
            sock.close()

    def test_too_long(self):
        for path in [p for p in POSTS if p not in ("/tokenize", "/decode")]:
            field, body = LIST[path], POSTS[path][1]
            long = {**body, field: ["ok", "a b " * 200]}
            self.row(path, self.s.post(path, long), 422, field + " 1", "64")
            self.assertEqual(self.s.post(path, {
                **long, "truncate": True}).status, 200)
        # which takes no context
        r = self.s.post("/tokenize", {"inputs": "a b " * 200})
        self.assertEqual(r.status, 200)


class Keyed(Rows):
    @classmethod
    def setUpClass(cls):
        path = scratch("row-keys.json")
        keys = [{"name": f"r{i}", "key": f"sk-{i}", "rate": 1}
                for i in range(len(ROUTES))]
        keys += [{"name": "other", "key": "sk-other",
                  "routes": ["/v1/generate"]},
                 {"name": "model", "key": "sk-model", "models": ["none"]}]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(keys, file)
        cls.s = Server({"api-keys-file": path}, models=models("small"))

    def ask(self, path, key):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if path == "/info":
            return self.s.get(path, headers=headers)
        return self.s.post(path, POSTS[path][1], headers=headers)

    def test_keys(self):
        for path in ROUTES:
            for key in (None, "sk-", "sk-othe", "sk-other2"):
                self.row(path, self.ask(path, key), 401)
            self.row(path, self.ask(path, "sk-other"), 403)
            self.row(path, self.ask(path, "sk-model"), 403, "model")

    def test_rate(self):
        for i, path in enumerate(ROUTES):
            statuses = [self.ask(path, f"sk-{i}") for _ in range(2)]
            self.assertEqual(statuses[0].status, 200, statuses)
            self.row(path, statuses[1], 429)


class Loaded(Rows):
    """While each model is busy with all it may accept."""

    TEXTS = ["a b c d e " * 8] * (600 // SLOW)

    @classmethod
    def setUpClass(cls):
        cls.s = Server({"max-waiting-inputs": len(cls.TEXTS)},
                       models=models("large"))

    @classmethod
    def tearDownClass(cls):
        pass  # the test stops it

    def fill(self):
        """A job in each model; the sockets to close."""
        socks = []
        for path in ("/v1/embeddings", "/v1/classify", "/v1/rerank"):
            model, body = POSTS[path]
            socks.append(self.s.connect())
            socks[-1].sendall(post_bytes(path, {
                **body, LIST[path]: self.TEXTS}))
            self.s.wait_metric("inferd_queue_requests", lambda v: v > 0,
                               model=model)
        return socks

    def test_queue_deadline_and_drain(self):
        for path in POSTS:
            if path not in ("/tokenize", "/decode"):
                body = {**POSTS[path][1], LIST[path]: self.TEXTS,
                        "deadline_ms": 1}
                self.row(path, self.s.post(path, body), 504, "deadline")
        socks = self.fill()
        for path, (_, body) in POSTS.items():
            self.row(path, self.s.post(path, body), 503)
        self.assertEqual(self.s.get("/info").status, 200)
        begun = {path: self.s.connect() for path in ROUTES}
        for path, sock in begun.items():
            raw = b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n"
            if path != "/info":
                raw = post_bytes(path, POSTS[path][1])
            sock.sendall(raw[:-1])
        self.s.get("/healthz")  # what came before was read
        self.s.process.send_signal(signal.SIGTERM)
        for path, sock in begun.items():
            sock.sendall(b"}" if path != "/info" else b"\n")
            reply = read_reply(sock)
            if path != "/info":
                self.row(path, reply, 503)
            sock.close()
        for sock in socks:  # nobody waits for them any more
            sock.close()
        self.assertEqual(self.s.stop(), 0)

    def tearDown(self):
        self.s.stop()


if __name__ == "__main__":
    unittest.main()
