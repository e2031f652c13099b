"""Start the real program, talk to it over its socket, check what it says.

One Server serves most tests (shared()); tests that need other options start
their own. The client is a few lines over http.client, because the tests must
see exactly what was sent; hostile requests go through raw sockets. Every JSON
reply is checked against openapi.yaml, so a field that the contract does not
describe correctly fails whichever test meets it first.
"""
import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jsonschema
import yaml

import tinymodel

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
INFERD = os.path.join(ROOT, os.environ.get("INFERD", "bin/inferd"))
# Sanitizers cost a factor; deadlines of the tests stretch with them.
SLOW = 8 if re.search("asan|tsan", INFERD) else 1
STORIES = os.path.join(ROOT, "../shared/oracle/stories260K/model-Q8_0.gguf")
STORY = ("Once upon a time, there was a little girl named Lily. She loved to "
         "play outside in the park.")

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_L2_SIZE", None)
for name in [n for n in os.environ if n.startswith("INFERD_")]:
    del os.environ[name]

with open(os.path.join(ROOT, "openapi.yaml"), encoding="utf-8") as f:
    SPEC = yaml.safe_load(f)
TRACEPARENT = SPEC["components"]["headers"]["TraceParent"]["schema"]["pattern"]
_numbers = itertools.count()
_scratch = tempfile.TemporaryDirectory(prefix="inferd-test-")


def scratch(name):
    """A path in a folder that is removed at the end."""
    return os.path.join(_scratch.name, name)


def have_stories():
    return os.path.exists(STORIES)


def main_model():
    """The trained story teller, or a random model of the same size."""
    if have_stories():
        return STORIES
    path = scratch("tiny.gguf")
    if not os.path.exists(path):
        tinymodel.write(path, d=64, layers=5, heads=8, ff=192, ctx=512)
    return path


def slow_model():
    """Big enough that a request of its whole context takes seconds."""
    path = scratch("slow.gguf")
    if not os.path.exists(path):
        tinymodel.write(path, d=512, layers=6, heads=8, ff=1536, ctx=8192)
    return path


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body.decode("utf-8"), parse_constant=_refuse)

    @property
    def text(self):
        return self.json["choices"][0]["text"]

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def _refuse(name):
    raise ValueError(f"{name} is not JSON")


class Server:
    """A running inferd. Options are its flags: {"max-body-bytes": 1000}."""

    def __init__(self, options=None, model=None, env=None, models=None):
        args = [INFERD, "--listen", "127.0.0.1:0"]
        if models is None:
            models = [f"main={model or main_model()}"]
        for path in models:
            args += ["--model", path]
        options = dict(options or {})
        self.access_path = options.setdefault(
            "access-log-file", scratch(f"access-{next(_numbers)}.jsonl"))
        for key, value in options.items():
            args += [f"--{key}", str(value)]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            args, stdout=subprocess.PIPE, stderr=self.log, cwd=ROOT,
            env={**os.environ, **(env or {})})
        line = self._first_line()
        match = re.fullmatch(
            r"inferd: listening on http://127\.0\.0\.1:(\d+)\n", line)
        if not match:
            self.process.kill()
            raise AssertionError(f"{args}: {line!r}, {self.stderr()!r}")
        self.port = int(match.group(1))

    def _first_line(self):
        timer = threading.Timer(20 * SLOW, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline().decode()
        finally:
            timer.cancel()

    def stderr(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def access(self, wanted, timeout=10 * SLOW):
        """The line of the access log for which wanted(line) is true."""
        end = time.monotonic() + timeout
        while True:
            with open(self.access_path, encoding="utf-8") as file:
                lines = file.read().split("\n")[:-1]
            for line in map(json.loads, lines):
                if wanted(line):
                    return line
            if time.monotonic() > end:
                raise AssertionError(f"not in {lines[-5:]}")
            time.sleep(0.02)

    def access_of(self, reply):
        """The line of this reply's request."""
        name = reply.headers["X-Request-Id"]
        return self.access(lambda line: line["id"] == name)

    def stop(self, timeout=15 * SLOW):
        """SIGTERM; the exit status. Sanitizers must have found nothing."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"does not stop: {self.stderr()[-2000:]}")
        finally:
            self.process.stdout.close()
        text = self.stderr()
        if "Sanitizer" in text or "runtime error" in text:
            raise AssertionError(text[-6000:])
        return status

    def connect(self, timeout=30 * SLOW):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def request(self, method, path, body=None, headers=None, check=True):
        """One request; body is bytes, or anything else as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        conn = http.client.HTTPConnection("127.0.0.1", self.port,
                                          timeout=60 * SLOW)
        try:
            conn.request(method, path, body, headers)
            response = conn.getresponse()
            reply = Reply(response.status, response.headers, response.read())
        finally:
            conn.close()
        if check:
            check_reply(method, path, reply)
        return reply

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body, **kw):
        return self.request("POST", path, body, **kw)

    def generate(self, **fields):
        return self.post("/v1/generate", fields)

    def stream(self, path, **fields):
        """All events of a stream: a list of parsed chunks, [DONE] checked."""
        reply = self.post(path, {**fields, "stream": True}, check=False)
        if reply.status != 200:
            raise AssertionError(reply)
        return parse_stream(path, reply)

    def open_stream(self, path="/v1/generate", wait=True, **fields):
        """A socket on which a stream has begun; the caller closes it."""
        sock = self.connect()
        sock.sendall(post_bytes(path, {**fields, "stream": True}))
        if wait:
            data = b""
            while b"data:" not in data:
                more = sock.recv(4096)
                if not more:
                    raise AssertionError(f"stream ended: {data!r}")
                data += more
        return sock

    def metrics(self):
        """{name{labels}: value}"""
        values = {}
        for line in self.get("/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def metric(self, name, **labels):
        """Sum of the samples of one metric that carry these labels."""
        total = None
        for key, value in self.metrics().items():
            if key.split("{")[0] == name and all(
                    f'{k}="{v}"' in key for k, v in labels.items()):
                total = (total or 0) + value
        if total is None:
            raise AssertionError(f"no metric {name} {labels}")
        return total

    def wait_metric(self, name, wanted, timeout=5, **labels):
        """Until the metric satisfies wanted(value); the seconds it took."""
        start = time.monotonic()
        while True:
            value = self.metric(name, **labels)
            took = time.monotonic() - start
            if wanted(value):
                return took
            if took > timeout * SLOW:
                raise AssertionError(f"{name} is {value} after {took:.1f} s")
            time.sleep(0.01)

    def wait_idle(self, timeout=5):
        """Until no sequence waits and none runs. The queue first: between the
        end of one and the start of the next in line, none runs either."""
        self.wait_metric("inferd_queue_requests", lambda v: v == 0, timeout)
        self.wait_metric("inferd_requests_running", lambda v: v == 0, timeout)

    def rss(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


_shared = None


def shared():
    """The server that most tests use: two models, default limits."""
    global _shared
    if _shared is None or _shared.process.poll() is not None:
        if _shared is not None:
            raise AssertionError("the server died: " +
                                 _shared.stderr()[-4000:])
        _shared = Server(models=[f"main={main_model()}",
                                 f"slow={slow_model()}"])
    return _shared


def stop_shared():
    """0, or the exit status that tells of a crash."""
    global _shared
    status = 0 if _shared is None else _shared.stop()
    _shared = None
    return status


class Case(unittest.TestCase):
    """A test with the shared server as self.s; it must survive the test."""

    @classmethod
    def setUpClass(cls):
        cls.s = shared()

    def tearDown(self):
        if self.s.process.poll() is not None:
            self.fail("the server died: " + self.s.stderr()[-4000:])

    def assert_error(self, reply, status, *words):
        self.assertEqual(reply.status, status, reply)
        error = reply.json["error"]
        for word in words:
            self.assertIn(word.lower(), error["message"].lower())
        return error


# ---- checking against the contract ------------------------------------------

_validators = {}


def validator(schema_name):
    if schema_name not in _validators:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resolver = jsonschema.RefResolver("", SPEC)
            _validators[schema_name] = jsonschema.Draft202012Validator(
                {"$ref": f"#/components/schemas/{schema_name}"},
                resolver=resolver)
    return _validators[schema_name]


def check_schema(name, value):
    for error in validator(name).iter_errors(value):
        at = "/".join(map(str, error.absolute_path))
        raise AssertionError(f"{name}/{at}: {error.message}")


def _deref(node):
    while "$ref" in node:
        path = node["$ref"].removeprefix("#/").split("/")
        node = SPEC
        for part in path:
            node = node[part]
    return node


def _operation(method, path):
    path = path.split("?")[0]
    for template, item in SPEC["paths"].items():
        pattern = re.sub(r"{\w+}", "[^/]+", template)
        if re.fullmatch(pattern, path):
            return item.get(method.lower())
    return None


def check_reply(method, path, reply):
    """Status, headers and body are what openapi.yaml says."""
    if "X-Request-Id" not in reply.headers:
        raise AssertionError(f"{method} {path}: no X-Request-Id")
    if not re.fullmatch(TRACEPARENT, reply.headers.get("traceparent", "")):
        raise AssertionError(f"{method} {path}: {reply.headers}")
    if method == "HEAD":
        return
    op = _operation(method, path)
    if op is None:
        if reply.status not in (404, 405, 204):
            raise AssertionError(f"{method} {path}: {reply}")
        if reply.status != 204:
            check_schema("TeiError" if "error_type" in reply.json else "Error",
                         reply.json)
        return
    documented = op["responses"].get(str(reply.status))
    if documented is None:
        raise AssertionError(f"{method} {path}: undocumented {reply}")
    documented = _deref(documented)
    for name in documented.get("headers", {}):
        if name not in reply.headers and reply.status != 204:
            raise AssertionError(f"{method} {path}: {reply.status} "
                                 f"without {name}")
    mime = (reply.headers.get("Content-Type") or "").split(";")[0]
    media = documented.get("content", {})
    if media and mime not in media:
        raise AssertionError(f"{method} {path}: {reply.status} is {mime!r}")
    if mime == "application/json":
        name = media[mime]["schema"]["$ref"].rsplit("/", 1)[1]
        check_schema(name, reply.json)


CHUNKS = {"/v1/generate": "GenerationChunk",
          "/v1/completions": "CompletionChunk",
          "/v1/chat/completions": "ChatChunk"}


def parse_stream(path, reply):
    """Split a finished stream into its events; check frame and chunks."""
    for name, value in (("Content-Type", "text/event-stream"),
                        ("Cache-Control", "no-cache"),
                        ("X-Accel-Buffering", "no")):
        got = reply.headers.get(name) or ""
        if not got.startswith(value):
            raise AssertionError(f"{name}: {got!r}")
    text = reply.body.decode("utf-8")  # strict: no character is split
    if not text.endswith("data: [DONE]\n\n"):
        raise AssertionError(f"no [DONE]: {text[-200:]!r}")
    chunks = []
    for block in text[:-2].split("\n\n")[:-1]:
        lines = [l for l in block.split("\n") if not l.startswith(":")]
        if not lines:
            continue
        if len(lines) != 1 or not lines[0].startswith("data: "):
            raise AssertionError(f"frame: {block!r}")
        chunk = json.loads(lines[0][6:], parse_constant=_refuse)
        if "error" not in chunk:
            check_schema(CHUNKS[path], chunk)
        chunks.append(chunk)
    return chunks


def joined(chunks, key="text"):
    """{index: the concatenated deltas of that choice}"""
    whole = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            i = choice["index"]
            empty = "" if key == "text" else []
            whole[i] = whole.get(i, empty) + (choice.get(key) or empty)
    return whole


# ---- raw requests ------------------------------------------------------------

def post_bytes(path, body, headers=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\n"
            f"Content-Type: application/json\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def read_reply(sock):
    """One HTTP reply from a raw socket; None if the peer just closes."""
    response = http.client.HTTPResponse(sock)
    try:
        response.begin()
        return Reply(response.status, response.headers, response.read())
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        response.close()


def together(functions):
    """Run all at once, a thread each; their results in order."""
    results = [None] * len(functions)

    def call(i):
        try:
            results[i] = functions[i]()
        except BaseException as error:  # handed to the test's thread
            results[i] = error

    threads = [threading.Thread(target=call, args=(i,))
               for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
