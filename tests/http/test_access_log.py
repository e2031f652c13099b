"""The access log: a line of JSON per request, whole, complete, and discreet;
and W3C Trace Context, which ties it to the logs of others."""
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import time
import unittest

from harness import (INFERD, ROOT, SLOW, Case, Server, main_model, post_bytes,
                     scratch, shared, slow_model, together)
from test_lifecycle import run

ALWAYS = {"time", "id", "trace_id", "span_id", "client", "method", "route",
          "path", "status", "total_ms", "bytes_in", "bytes_out"}
WORK = {"model", "prompt_tokens", "queue_ms"}


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def wait_for(what, timeout=10 * SLOW):
    end = time.monotonic() + timeout
    while not what():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.02)


class AccessLog(Case):
    def test_generation(self):
        body = {"prompt": "Once upon a time", "max_tokens": 5,
                "ignore_eos": True}
        reply = self.s.post("/v1/generate", body)
        line = self.s.access_of(reply)
        self.assertEqual(set(line), ALWAYS | WORK | {
            "cached_tokens", "completion_tokens", "ttft_ms", "finish"})
        usage = reply.json["usage"]
        self.assertEqual(line["prompt_tokens"], usage["prompt_tokens"])
        self.assertEqual(line["completion_tokens"], 5)
        self.assertEqual(line["cached_tokens"],
                         usage["prompt_tokens_details"]["cached_tokens"])
        self.assertEqual(
            (line["method"], line["route"], line["path"], line["status"],
             line["model"], line["finish"], line["client"]),
            ("POST", "/v1/generate", "/v1/generate", 200, "main", "length",
             "127.0.0.1"))
        self.assertEqual(line["bytes_in"], len(json.dumps(body)))
        self.assertEqual(line["bytes_out"], len(reply.body))
        self.assertLessEqual(line["queue_ms"], line["ttft_ms"])
        self.assertLessEqual(line["ttft_ms"], line["total_ms"])
        self.assertRegex(line["time"],
                         r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_stream(self):
        reply = self.s.post("/v1/generate", {
            "prompt": "Once", "max_tokens": 7, "ignore_eos": True, "n": 2,
            "stream": True}, check=False)
        line = self.s.access_of(reply)
        self.assertIs(line["stream"], True)
        self.assertEqual(line["completion_tokens"], 14)
        self.assertEqual(line["finish"], "length")
        self.assertEqual(line["bytes_out"], len(reply.body))

    def test_other_routes(self):
        for path, route in (("/healthz", "/healthz"), ("/nothing", "other"),
                            ("/v1/models/main", "/v1/models/")):
            line = self.s.access_of(self.s.get(path))
            self.assertEqual((line["path"], line["route"]), (path, route))
            self.assertFalse(WORK & set(line), line)
        self.assertEqual(line["status"], 200)

    def test_errors_have_their_code(self):
        for fields, status, code in (
                ({"prompt": 5}, 400, "invalid_value"),
                ({"prompt": "a", "model": "none"}, 404, "model_not_found"),
                ({"prompt": [5] * 9999}, 422, "context_length_exceeded")):
            line = self.s.access_of(self.s.post("/v1/generate", fields))
            self.assertEqual((line["status"], line["error"]), (status, code))
        self.assertEqual(line["model"], "main")

    def test_a_client_that_leaves(self):
        sock = self.s.connect()
        sock.sendall(post_bytes("/v1/generate", {
            "model": "slow", "prompt": "left early", "stream": True,
            "ignore_eos": True, "max_tokens": 8000},
            "X-Request-Id: leaver\r\n"))
        got = b""
        while got.count(b"data:") < 3:
            got += sock.recv(4096)
        sock.close()
        line = self.s.access(lambda line: line["id"] == "leaver")
        self.assertEqual(line["status"], 499)
        self.assertGreaterEqual(line["completion_tokens"], 3)
        self.assertGreater(line["prompt_tokens"], 0)

    def test_nothing_secret_and_nothing_torn(self):
        """Odd paths stay inside their line; texts and headers stay out."""
        self.s.request("POST", "/v1/generate?token=Sesame1", {
            "prompt": "Sesame2", "max_tokens": 3, "user": "Sesame3"}, headers={
                "Authorization": "Bearer Sesame4", "Cookie": "Sesame5",
                "X-Request-Id": 'a"b\\c {"id": 1}'})
        self.s.access(lambda line: line["id"] == 'a"b\\c {"id": 1}')
        odd = self.s.get('/a%0a%22b%5c%ff%c3%a4' + "x" * 2000)
        path = self.s.access_of(odd)["path"]
        self.assertTrue(path.startswith('/a\n"b\\\ufffdäxxx'), path)
        self.assertLess(len(path), 300)
        with open(self.s.access_path, encoding="utf-8") as file:
            self.assertNotIn("Sesame", file.read())
        self.assertNotIn("Sesame", self.s.stderr())
        self.assertTrue(lines_of(self.s.access_path))

    def test_each_request_has_one_line(self):
        together([lambda: [self.s.get("/v1/models", headers={
            "X-Request-Id": f"one-of-many-{i}"}) for i in range(50)]] * 8)
        self.s.access_of(self.s.get("/healthz"))
        found = [line for line in lines_of(self.s.access_path)
                 if line["id"].startswith("one-of-many-")]
        self.assertEqual(len(found), 400)
        self.assertEqual(len({line["span_id"] for line in found}), 400)


class Destinations(unittest.TestCase):
    def server(self, **options):
        s = Server({name.replace("_", "-"): value
                    for name, value in options.items()})
        self.addCleanup(s.process.kill)
        return s

    def test_stdout_comes_behind_the_first_line(self):
        s = self.server(access_log_file="stdout")
        name = s.get("/healthz").headers["X-Request-Id"]
        self.assertEqual(json.loads(s.process.stdout.readline())["id"], name)
        self.assertEqual(s.stop(), 0)

    def test_stderr(self):
        s = self.server(access_log_file="stderr")
        name = s.get("/healthz").headers["X-Request-Id"]
        self.assertEqual(s.stop(), 0)
        self.assertIn(f'"id":"{name}"', s.stderr())

    def test_off(self):
        path = scratch("off.jsonl")
        s = Server({"access-log": "false", "access-log-file": path})
        s.get("/healthz")
        self.assertEqual(s.stop(), 0)
        self.assertFalse(os.path.exists(path))

    def test_the_last_lines_are_written(self):
        s = self.server()
        names = [s.get("/healthz").headers["X-Request-Id"]
                 for _ in range(20)]
        self.assertEqual(s.stop(), 0)
        self.assertEqual([line["id"] for line in lines_of(s.access_path)],
                         names)

    def test_a_key_is_named_and_not_shown(self):
        keys = scratch("keys.json")
        with open(keys, "w", encoding="utf-8") as file:
            file.write('[{"name": "web", "key": "hush-hush"}]')
        s = self.server(api_keys_file=keys)
        line = s.access_of(s.get("/v1/models", headers={
            "Authorization": "Bearer hush-hush"}))
        self.assertEqual(line["key"], "web")
        line = s.access_of(s.get("/v1/models", headers={
            "Authorization": "Bearer hush-hush-not"}))
        self.assertEqual((line["status"], line["error"]),
                         (401, "invalid_api_key"))
        self.assertNotIn("key", line)
        self.assertEqual(s.stop(), 0)
        with open(s.access_path, encoding="utf-8") as file:
            self.assertNotIn("hush", file.read())

    def test_logrotate(self):
        """Renamed under load, opened anew at SIGHUP: no line is lost."""
        s = self.server()
        path, stop, names = s.access_path, [], []

        def load():
            while not stop:
                names.append(s.get("/healthz").headers["X-Request-Id"])

        def rotate():
            try:
                for i in range(3):
                    wait_for(lambda: os.path.exists(path) and
                             os.path.getsize(path) > 0)
                    os.rename(path, f"{path}.{i}")
                    s.process.send_signal(signal.SIGHUP)
            finally:
                stop.append(True)

        together([load, rotate])
        self.assertEqual(s.stop(), 0)
        found = [line["id"] for name in
                 [f"{path}.0", f"{path}.1", f"{path}.2", path]
                 for line in lines_of(name)]
        self.assertEqual(found, names)
        self.assertIn("event=access_log_reopened", s.stderr())

    def test_sighup_without_a_file_is_a_clean_stop(self):
        s = self.server(access_log_file="stdout")
        s.process.send_signal(signal.SIGHUP)
        self.assertEqual(s.process.wait(20 * SLOW), 0)
        s.process.stdout.close()

    def test_a_file_that_cannot_be_opened(self):
        fifo = scratch("fifo")
        os.mkfifo(fifo)
        for path in ("/no/such/folder/log", "/", fifo):
            status, out, err = run(
                "--listen", "127.0.0.1:0", "--model", main_model(),
                "--access-log-file", path)
            self.assertEqual((status, out), (1, ""), path)
            self.assertIn(f"'{path}'", err)

    def test_a_pipe_that_nobody_reads(self):
        """The server goes on, counts what it loses, and stops."""
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        s = self.server(access_log_file=f"/proc/{os.getpid()}/fd/{write}")
        wait_for(lambda: [s.get("/nothing/" + "x" * 250) for _ in range(200)]
                 and s.metric("inferd_access_log_dropped_total") > 0, 120)
        os.set_blocking(read, False)
        text = b""

        def drained():
            nonlocal text
            try:
                text += os.read(read, 1 << 20)
            except BlockingIOError:
                pass
            return text.count(b"\n") > 1000

        wait_for(drained)  # it goes on where it stood
        self.assertEqual(s.stop(), 0)
        os.close(write)
        os.set_blocking(read, True)
        while more := os.read(read, 1 << 20):
            text += more
        os.close(read)
        lines = text.decode().split("\n")
        for line in lines[:-1]:
            json.loads(line)

    def test_a_full_disk(self):
        """Lines are lost, and said to be; the next one is whole again."""
        s = self.server()
        s.access_of(s.get("/healthz"))
        size = os.path.getsize(s.access_path)
        self.limit(s, size + 100)
        s.get("/healthz")
        wait_for(lambda: s.metric("inferd_access_log_dropped_total") >= 1)
        self.limit(s, resource.RLIM_INFINITY)
        reply = s.get("/healthz")
        wait_for(lambda: reply.headers["X-Request-Id"] in self.read(s))
        self.assertEqual(s.stop(), 0)
        bad = 0
        for line in self.read(s).splitlines():
            try:
                json.loads(line)
            except ValueError:
                bad += 1
        self.assertEqual(bad, 1)
        self.assertIn("event=access_log_failed reason=EFBIG", s.stderr())
        self.assertIn("event=access_log_resumed", s.stderr())

    @staticmethod
    def read(s):
        with open(s.access_path, encoding="utf-8") as file:
            return file.read()

    @staticmethod
    def limit(s, size):
        resource.prlimit(s.process.pid, resource.RLIMIT_FSIZE,
                         (size, resource.RLIM_INFINITY))


TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


class TraceContext(Case):
    def ask(self, *values):
        """The traceparent of the reply, split, and the log's line."""
        sock = self.s.connect()
        name = f"trace-{os.urandom(8).hex()}"
        fields = "".join(f"traceparent: {value}\r\n" for value in values)
        sock.sendall(f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: "
                     f"{name}\r\nConnection: close\r\n{fields}\r\n".encode())
        text = b""
        while more := sock.recv(4096):
            text += more
        sock.close()
        found = re.findall(rb"(?m)^traceparent: (.*)\r$", text)
        self.assertEqual(len(found), 1, text)
        line = self.s.access(lambda line: line["id"] == name)
        return found[0].decode().split("-"), line

    def test_a_valid_one_is_carried_on(self):
        for sent, flags in ((VALID, "01"), (VALID[:-2] + "00", "00"),
                            (VALID[:-2] + "ff", "01"),
                            (VALID[:-2] + "fe", "00"),
                            ("cc" + VALID[2:], "01"),
                            ("cc" + VALID[2:] + "-what-comes", "01")):
            with self.subTest(sent):
                got, line = self.ask(sent)
                self.assertEqual(got[:2] + got[3:], ["00", TRACE, flags])
                self.assertNotEqual(got[2], PARENT)
                self.assertRegex(got[2], "^[0-9a-f]{16}$")
                self.assertEqual(
                    (line["trace_id"], line["span_id"], line["parent_id"]),
                    (TRACE, got[2], PARENT))

    def test_an_invalid_one_begins_a_new_trace(self):
        bad = ["", "00", VALID[:-1], VALID + "0", VALID + "-", VALID.upper(),
               VALID + "-what", "ff" + VALID[2:], "cc" + VALID[2:] + ".x",
               f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
               VALID.replace("-", "_"), VALID.replace("a", "g"),
               f"0-{TRACE}-{PARENT}-01", f"00-{TRACE}0-{PARENT[1:]}-01",
               VALID + ", " + VALID, "\x7f" * 55]
        seen = set()
        for sent in [[b] for b in bad] + [[], [VALID, VALID]]:
            with self.subTest(sent):
                got, line = self.ask(*sent)
                self.assertEqual((got[0], got[3]), ("00", "00"))
                self.assertEqual((line["trace_id"], line["span_id"]),
                                 (got[1], got[2]))
                self.assertNotIn("parent_id", line)
                self.assertNotEqual(got[1], TRACE)
                seen.add(got[1])
        self.assertEqual(len(seen), len(bad) + 2)

    def test_every_kind_of_reply_has_it(self):
        """Streams, errors, the refusal of an upload; and a page may read it."""
        headers = {"traceparent": VALID}
        for method, path, body in (
                ("POST", "/v1/generate", {"prompt": "a", "stream": True,
                                          "max_tokens": 2}),
                ("POST", "/v1/generate", b"x"), ("GET", "/nothing", None),
                ("POST", "/v1/generate", b"x" * (3 << 20)),
                ("OPTIONS", "/v1/generate", None), ("HEAD", "/healthz", None)):
            try:
                reply = self.s.request(method, path, body, headers=headers,
                                       check=False)
            except (BrokenPipeError, ConnectionResetError):
                continue  # refused while the body was still on its way
            self.assertEqual(reply.headers["traceparent"][3:35], TRACE)


if __name__ == "__main__":
    unittest.main()
