"""Wrong requests: each gets its status, its field's name, and no crash."""
import json
import time
import unittest

from harness import (SLOW, Case, Server, post_bytes, read_reply, slow_model,
                     together)

ROUTES = ("/v1/generate", "/v1/completions")
OK = {"prompt": "Once", "max_tokens": 2, "temperature": 0}

# One value of each JSON type; a field is tried with each type it is not.
VALUES = {"string": "x", "number": 1.5, "integer": 1, "bool": True,
          "array": [{}], "object": {"x": []}}

FIELDS = {
    "prompt": {"string"},
    "model": {"string"},
    "max_tokens": {"integer"},
    "temperature": {"number", "integer"},
    "top_p": {"number", "integer"},
    "top_k": {"integer"},
    "min_p": {"number", "integer"},
    "typical_p": {"number", "integer"},
    "repetition_penalty": {"number", "integer"},
    "presence_penalty": {"number", "integer"},
    "frequency_penalty": {"number", "integer"},
    "logit_bias": {"object"},
    "seed": {"integer"},
    "n": {"integer"},
    "stop": {"string"},
    "stop_token_ids": set(),
    "ignore_eos": {"bool"},
    "logprobs": {"integer"},
    "echo": {"bool"},
    "return_token_ids": {"bool"},
    "stream": {"bool"},
    "stream_options": {"object"},
    "response_format": set(),
    "priority": {"integer"},
    "deadline_ms": {"integer"},
}

OUT_OF_RANGE = {
    "temperature": (-0.1, 101, 1e300, -1e300),
    "top_p": (0, -0.5, 1.0001, 2),
    "top_k": (-1, -2 ** 40, 2 ** 40),
    "min_p": (-0.1, 1, 1.5),
    "typical_p": (0, -1, 1.01),
    "repetition_penalty": (0, -1, 1e30),
    "presence_penalty": (-2.01, 2.01),
    "frequency_penalty": (-2.01, 2.01),
    "n": (0, -1, 16384, 2 ** 63),
    "max_tokens": (-1, -2 ** 63),
    "logprobs": (-1, 21, 2 ** 31),
    "deadline_ms": (0, -1),
    "seed": (1.5, 1e300),
    "stop": ([1], [None], ["a", 2], ["x"] * 100000),
    "stop_token_ids": ([-1], [2 ** 31], [10 ** 6], ["1"], [1.5],
                       [1] * 100000),
    "logit_bias": ({"x": 1}, {"-1": 1}, {"1": "x"}, {"1": 101}, {"1": -101},
                   {"1": None}, {"1000000": 1}, {"": 1}, {"1.5": 1},
                   {"99999999999999999999": 1}, {" 1": 1}),
    "prompt": ("", [], [""], [1, "a"], ["a", 1], [-1], [10 ** 6], [2 ** 40],
               [1.5], [None], [[]], [["a"]], [True]),
    "stream_options": ({"include_usage": 1}, {"include_usage": "true"}),
    "response_format": ({}, {"type": 1}, {"type": "nope"}),
}


class Fields(Case):
    def test_wrong_types(self):
        for path in ROUTES:
            for field, good in FIELDS.items():
                for kind, value in VALUES.items():
                    if kind in good:
                        continue
                    if field == "stop" and kind == "array":
                        value = [1]
                    r = self.s.post(path, {**OK, field: value})
                    with self.subTest(path=path, field=field, value=value):
                        error = self.assert_error(r, 400, field)
                        self.assertEqual(
                            error["param"].split("[")[0].split(".")[0], field)

    def test_out_of_range(self):
        for path in ROUTES:
            for field, values in OUT_OF_RANGE.items():
                for value in values:
                    if path == "/v1/completions" and value == [[]]:
                        continue
                    r = self.s.post(path, {**OK, field: value})
                    with self.subTest(path=path, field=field,
                                      value=str(value)[:60]):
                        self.assert_error(r, 400, field)

    def test_message_names_the_range(self):
        r = self.s.generate(prompt="x", temperature=200)
        self.assert_error(r, 400, "temperature", "100")
        r = self.s.generate(prompt="x", n=1000)
        self.assert_error(r, 400, "n", "128")

    def test_missing_prompt(self):
        for path in ROUTES:
            self.assert_error(self.s.post(path, {}), 400, "prompt")
            self.assert_error(self.s.post(path, {"prompt": None}), 400,
                              "prompt")

    def test_unknown_model(self):
        for path in ROUTES:
            r = self.s.post(path, {**OK, "model": "gpt-9"})
            self.assertEqual(self.assert_error(r, 404, "gpt-9")["param"],
                             "model")

    def test_errors_are_not_streams(self):
        r = self.s.post("/v1/generate", {**OK, "stream": True, "n": -1})
        self.assertEqual(r.status, 400)
        self.assertTrue(r.headers["Content-Type"].startswith(
            "application/json"))

    def test_stream_options_without_stream(self):
        r = self.s.post("/v1/generate", {
            **OK, "stream_options": {"include_usage": True}})
        self.assertIn(r.status, (200, 400))

    def test_prompt_longer_than_the_context(self):
        for prompt in ("word " * 2000, [1] * 600):
            self.assert_error(self.s.generate(prompt=prompt, max_tokens=1),
                              422)
        r = self.s.post("/v1/generate", {
            "prompt": "word " * 2000, "max_tokens": 1, "stream": True})
        self.assertEqual(r.status, 422)

    def test_longest_prompt_that_fits(self):
        n = 511
        r = self.s.generate(prompt=[5] * n, max_tokens=10, temperature=0,
                            ignore_eos=True)
        self.assertEqual(r.status, 200, r)
        self.assertEqual(r.json["choices"][0]["finish_reason"], "length")
        self.assertGreaterEqual(r.json["usage"]["completion_tokens"], 1)

    def test_batch_too_large(self):
        r = self.s.generate(prompt=["a"] * 100000, max_tokens=1)
        self.assertIn(r.status, (400, 413))
        r = self.s.generate(prompt=["a"] * 5000, max_tokens=1)
        self.assertIn(r.status, (400, 413, 503))

    def test_error_echo_is_safe_json(self):
        """Names from the request in messages must not break the reply."""
        for name in ('"', "\\", "\n\r\t\x01", "\u2028", "x" * 100000,
                     "\U0001f600" * 200, "%s%n%d"):
            r = self.s.post("/v1/generate", {**OK, "model": name})
            self.assert_error(r, 404)
            self.assertLess(len(r.body), 2000)


class Json(Case):
    def bad(self, body, *words):
        for path in ROUTES + ("/v1/tokenize", "/v1/detokenize"):
            r = self.s.post(path, body)
            self.assert_error(r, 400, *words)

    def test_not_json(self):
        good = json.dumps(OK).encode()
        for body in (b"", b" ", b"x", b"{", b"}", b"{]", b"[1,", b"{'a':1}",
                     b'{"a"}', b'{"a":}', b'{"a":1,}', b"[1,]", b"nul",
                     b'{"prompt":"x"', b'"\\x"', b'"\\u12"', b"\x00",
                     good + b"x", good + good, good + b"\x00", good[:-1],
                     b"\xef\xbb\xbf" + good[:-1], b"NaN", b'{"a":NaN}',
                     b'{"a":Infinity}', b'{"a":01}', b'{"a":+1}',
                     b'{"a":.5}', b'{"a":1.}', b'{"a":0x1}', b'{"a":1e}',
                     b'{"a":"\n"}', b'{"a":"\x01"}', b"/**/{}", b"{}//"):
            with self.subTest(body=body):
                self.bad(body)

    def test_every_truncation(self):
        body = json.dumps({**OK, "stop": ["a\\n\u00e9"], "logit_bias":
                           {"1": -1.5e1}, "stream": False},
                          ensure_ascii=False).encode()
        for n in range(len(body)):
            r = self.s.post("/v1/generate", body[:n])
            self.assertEqual(r.status, 400, body[:n])

    def test_not_an_object(self):
        for body in (b"[]", b"1", b'"x"', b"null", b"true", b"[{}]"):
            self.bad(body, "object")

    def test_invalid_utf8(self):
        for raw in (b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80",
                    b"\xf4\x90\x80\x80", b"\x80", b"\xf8\x88\x80\x80\x80"):
            r = self.s.post("/v1/generate",
                            b'{"prompt":"' + raw + b'","max_tokens":1}')
            self.assert_error(r, 400)

    def test_escapes(self):
        for text in (rb"\ud800", rb"\udc00", rb"\ud800\u0041", rb"a\u0000b"):
            r = self.s.post("/v1/generate",
                            b'{"prompt":"' + text + b'","max_tokens":1}')
            self.assertEqual(r.status, 400, (text, r))
        r = self.s.post("/v1/generate", rb'{"prompt":"\ud83d\ude00\/\b\f",'
                                        rb'"max_tokens":1}')
        self.assertEqual(r.status, 200)

    def test_duplicate_keys(self):
        r = self.s.post("/v1/generate",
                        b'{"prompt":"a","prompt":"b","max_tokens":1}')
        self.assert_error(r, 400, "twice")

    def test_depth(self):
        for n in (100, 1000, 100000):
            for a, b in ((b"[", b"]"), (b'{"a":', b"}")):
                body = a * n + b"1" + b"}" * n if b == b"}" else a * n + b * n
                self.assertEqual(
                    self.s.post("/v1/generate", body).status, 400)
                r = self.s.post("/v1/generate",
                                b'{"prompt":"x","max_tokens":1,"y":' + body +
                                b"}")
                self.assertIn(r.status, (200, 400))
        self.assert_error(self.s.post("/v1/generate", b"[" * 500000), 400)

    def test_numbers(self):
        for number in (b"1e999", b"-1e999", b"1e-999", b"9" * 400,
                       b"9223372036854775808", b"-9223372036854775809",
                       b"0." + b"1" * 5000, b"-0"):
            for field in (b"temperature", b"n", b"max_tokens", b"seed",
                          b"priority", b"deadline_ms", b"top_k"):
                body = (b'{"prompt":"x","max_tokens":1,"' + field + b'":' +
                        number + b"}")
                if field == b"max_tokens":
                    body = b'{"prompt":"x","max_tokens":' + number + b"}"
                r = self.s.post("/v1/generate", body)
                self.assertIn(r.status, (200, 400), (field, number[:30], r))
        r = self.s.post("/v1/generate", b'{"prompt":"x","temperature":1e999}')
        self.assert_error(r, 400)


class Transport(Case):
    def test_content_type(self):
        body = json.dumps(OK).encode()
        for kind in ("text/plain", "application/x-www-form-urlencoded",
                     "application/jsonx", "multipart/form-data; boundary=x"):
            r = self.s.post("/v1/generate", body,
                            headers={"Content-Type": kind})
            self.assert_error(r, 415, "application/json")

    def test_no_content_type(self):
        sock = self.s.connect()
        body = json.dumps(OK).encode()
        sock.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.assertIn(read_reply(sock).status, (200, 415))
        sock.close()

    def test_headers_too_large(self):
        r = self.s.get("/healthz", check=False,
                       headers={"X-Big": "a" * 100000})
        self.assertIn(r.status, (400, 413, 431))

    def test_path_too_long(self):
        r = self.s.get("/" + "a" * 100000, check=False)
        self.assertIn(r.status, (400, 404, 413, 414, 431))


class Limits(unittest.TestCase):
    """Small limits: each refusal is quick, and says what and when."""

    @classmethod
    def setUpClass(cls):
        cls.s = Server({"max-body-bytes": 20000, "max-waiting": 2,
                        "max-running": 1, "max-batch": 4,
                        "body-timeout-ms": 500, "header-timeout-ms": 1000},
                       model=slow_model())

    @classmethod
    def tearDownClass(cls):
        assert cls.s.stop() == 0

    def test_body_too_large(self):
        body = b'{"prompt":"' + b"a" * 30000 + b'"}'
        r = self.s.post("/v1/generate", body)
        error = r.json["error"]
        self.assertEqual(r.status, 413)
        self.assertIn("20000", error["message"])

    def test_body_announced_too_large(self):
        """Refused from the header, before the body is sent."""
        for length in (20001, 2 ** 31, 2 ** 32 + 5, 2 ** 63 - 1):
            sock = self.s.connect(5 * SLOW)
            sock.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\n"
                         b"Content-Type: application/json\r\n"
                         b"Content-Length: %d\r\n\r\n{" % length)
            self.assertEqual(read_reply(sock).status, 413, length)
            sock.close()

    def test_chunked_too_large(self):
        sock = self.s.connect(5 * SLOW)
        sock.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Type: application/json\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 50_000_000:
                sock.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")
                sent += 4096
        except OSError:
            pass
        sock.close()
        # It reads on for a while, so that the client sees the 413.
        self.assertLess(sent, 40_000_000)

    def test_batch_limit(self):
        r = self.s.generate(prompt=["a"] * 5, max_tokens=1)
        self.assertEqual(r.status, 413, r)
        self.assertIn("4", r.json["error"]["message"])

    def test_slow_body(self):
        sock = self.s.connect(10 * SLOW)
        raw = post_bytes("/v1/generate", OK)
        start = time.monotonic()
        sock.sendall(raw[:-10])
        for byte in raw[-10:-1]:  # never the last one
            time.sleep(0.1)
            try:
                sock.sendall(bytes([byte]))
            except OSError:
                break
        reply = read_reply(sock)
        sock.close()
        self.assertLess(time.monotonic() - start, 5 * SLOW)
        self.assertTrue(reply is None or reply.status == 408, reply)

    def test_slow_headers(self):
        sock = self.s.connect(30 * SLOW)
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        start = time.monotonic()
        try:
            while time.monotonic() - start < 20 * SLOW:
                sock.sendall(b"X")
                sock.settimeout(0.1)
                try:
                    if not sock.recv(1):
                        break
                    break
                except TimeoutError:
                    pass
        except OSError:
            pass
        took = time.monotonic() - start
        sock.close()
        self.assertLess(took, 15 * SLOW, "slow headers are never cut off")

    def test_queue_full(self):
        """One runs, two wait, the rest is refused at once."""
        streams = [self.s.open_stream(prompt="a", max_tokens=4000,
                                      ignore_eos=True)]
        try:
            for _ in range(2):
                streams.append(self.s.open_stream(
                    prompt="b", max_tokens=4000, ignore_eos=True, wait=False))
            time.sleep(0.2)
            took, refused = [], []
            for path in ROUTES:
                for _ in range(5):
                    start = time.monotonic()
                    r = self.s.post(path, {"prompt": "c", "max_tokens": 1})
                    took.append(time.monotonic() - start)
                    refused.append(r)
            for r in refused:
                self.assertEqual(r.status, 503, r)
                self.assertGreaterEqual(int(r.headers["Retry-After"]), 1)
            self.assertLess(sorted(took)[len(took) // 2], 0.1 * SLOW)
            # The same rule for a batch, as a whole.
            r = self.s.generate(prompt=["a", "b"], max_tokens=1)
            self.assertEqual(r.status, 503, r)
            self.assertEqual(self.s.get("/healthz").status, 200)
        finally:
            for sock in streams:
                sock.close()
        self.s.wait_idle()
        self.assertEqual(self.s.generate(prompt="a", max_tokens=1).status, 200)

    def test_deadline_in_the_queue(self):
        sock = self.s.open_stream(prompt="a", max_tokens=8000, ignore_eos=True)
        try:
            start = time.monotonic()
            r = self.s.generate(prompt="b", max_tokens=1, deadline_ms=100)
            took = time.monotonic() - start
            self.assertEqual(r.status, 504, r)
            self.assertLess(took, 1 * SLOW)
        finally:
            sock.close()

    def test_deadline_while_generating(self):
        self.s.wait_idle()
        r = self.s.generate(prompt="b", max_tokens=8000, ignore_eos=True,
                            deadline_ms=500 * SLOW)
        self.assertEqual(r.status, 200, r)
        self.assertEqual(r.json["choices"][0]["finish_reason"], "deadline")
        self.assertGreater(r.json["usage"]["completion_tokens"], 0)

    def test_many_at_once_are_all_answered(self):
        replies = together([lambda: self.s.generate(prompt="x", max_tokens=5)
                            for _ in range(40)])
        statuses = {r.status for r in replies}
        self.assertLessEqual(statuses, {200, 503})
        self.assertIn(200, statuses)
