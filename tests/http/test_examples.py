"""docs/examples: each one that is no page, run as a reader would run it.

The pages are run in a browser by tests/web.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import unittest

from harness import ROOT, SLOW, Server, main_model, slow_model

EXAMPLES = os.path.join(ROOT, "docs/examples")
PROMPT = "Once upon a time"


def run(args, url, **env):
    return subprocess.run(
        args, capture_output=True, text=True, timeout=60 * SLOW, cwd=EXAMPLES,
        env={**os.environ, "INFERD_URL": url, "PYTHONDONTWRITEBYTECODE": "1",
             **env})


class Cutter:
    """A proxy that breaks the first connections after some bytes of answer."""

    def __init__(self, port, after):
        self.port, self.after, self.n = port, list(after), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.n += 1
            limit = self.after.pop(0) if self.after else None
            threading.Thread(target=self.pass_on, args=(client, limit),
                             daemon=True).start()

    def pass_on(self, client, limit):
        with client, socket.create_connection(("127.0.0.1", self.port)) as up:
            threading.Thread(target=self.copy, args=(client, up, None),
                             daemon=True).start()
            self.copy(up, client, limit)

    @staticmethod
    def copy(source, sink, limit):
        """Until `limit` bytes went through; then end both."""
        try:
            while limit != 0 and (data := source.recv(limit or 65536)):
                sink.sendall(data)
                limit = limit and limit - len(data)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        intents = os.path.join(ROOT, "models/intents.gguf")
        cls.s = Server(models=[f"main={main_model()}",
                               f"intents={intents}"])
        cls.url = f"http://127.0.0.1:{cls.s.port}"
        cls.text = cls.s.generate(prompt=PROMPT, max_tokens=40, seed=1).text

    @classmethod
    def tearDownClass(cls):
        status = cls.s.stop()
        assert status == 0, status

    def check_texts(self, done):
        """The text twice, at once and streamed; then the error's words."""
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(done.stdout.count(self.text + "\n"), 2, done)
        self.assertRegex(done.stdout, r"(?m)^\d+ tokens, (length|stop)$")
        self.assertIn("400 invalid_value: temperature", done.stdout)

    def test_python(self):
        done = run([sys.executable, "inferd_client.py", PROMPT], self.url)
        self.check_texts(done)
        self.assertEqual(done.stderr, "")

    def test_python_with_a_wrong_key(self):
        s = Server({"api-keys": "right"})
        try:
            url = f"http://127.0.0.1:{s.port}"
            done = run([sys.executable, "inferd_client.py"], url,
                       INFERD_KEY="wrong")
            self.assertEqual(done.returncode, 1)
            self.assertIn("ApiError: 401 invalid_api_key", done.stderr)
            done = run([sys.executable, "inferd_client.py"], url,
                       INFERD_KEY="right")
            self.assertEqual(done.returncode, 0, done)
        finally:
            self.assertEqual(s.stop(), 0)

    @unittest.skipUnless(shutil.which("node"), "no node here")
    def test_node(self):
        done = run(["node", "node.mjs", PROMPT], self.url)
        self.check_texts(done)
        self.assertEqual(done.stderr, "")
        self.assertRegex(done.stdout, r"\(request req-[0-9a-f]{16}\)")

    @unittest.skipUnless(shutil.which("node"), "no node here")
    def test_node_goes_on_after_breaks(self):
        """Three cuts, one of them inside an event: the same text, once."""
        whole = len(self.text)
        proxy = Cutter(self.s.port, [None, 700, 1501, 0])
        self.addCleanup(proxy.close)
        self.assertGreater(whole, 20)
        # one connection each: the program's own requests are not kept alive
        done = run(["node", "--input-type=module", "-e", """
import { GenerationSource } from "./generation-source.js";
const get = await fetch(process.env.INFERD_URL + "/healthz", { headers: { Connection: "close" } });
await get.text();
const source = new GenerationSource(process.env.INFERD_URL + "/v1/generate",
  { prompt: "Once upon a time", max_tokens: 40, seed: 1 });
let text = "", breaks = 0;
source.addEventListener("message", (e) => { text += e.text; });
source.addEventListener("error", (e) => { breaks++; if (e.retryMs === null) process.exit(3); });
source.addEventListener("done", (e) => console.log(JSON.stringify({ text, breaks, reason: e.reason })));
"""], proxy.url)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        self.assertEqual(json.loads(done.stdout), {
            "text": self.text, "breaks": 3, "reason": "length"})

    @unittest.skipUnless(shutil.which("node"), "no node here")
    def test_node_waits_for_a_busy_server_and_closes(self):
        s = Server({"max-running": 1, "max-waiting": 0}, model=slow_model())
        try:
            sock = s.open_stream(prompt="a", max_tokens=8000, ignore_eos=True)
            timer = threading.Timer(0.5, sock.close)
            timer.start()
            done = run(["node", "--input-type=module", "-e", """
import { GenerationSource } from "./generation-source.js";
const source = new GenerationSource(process.env.INFERD_URL + "/v1/generate",
  { prompt: "Once", max_tokens: 8000, ignore_eos: true });
const said = [];
source.addEventListener("error", (e) => said.push([e.error.status, e.retryMs >= 1000]));
source.addEventListener("message", () => {
  if (said.at(-1) === "closed") process.exit(3);
  said.push("closed");
  source.close();
  setTimeout(() => console.log(JSON.stringify(said)), 300);
});
"""], f"http://127.0.0.1:{s.port}")
            timer.join()
            self.assertEqual((done.returncode, done.stderr), (0, ""), done)
            said = json.loads(done.stdout)
            self.assertEqual(said[0], [503, True])
            self.assertEqual(said[-1], "closed")
            s.wait_metric("inferd_requests_running", lambda n: n == 0)
        finally:
            self.assertEqual(s.stop(), 0)

    @unittest.skipUnless(shutil.which("node"), "no node here")
    def test_node_gives_up(self):
        """On an error of the request at once; without a server after a few."""
        script = """
import { GenerationSource } from "./generation-source.js";
const source = new GenerationSource(process.env.INFERD_URL + "/v1/generate",
  { prompt: "a", max_tokens: -1 });
source.addEventListener("error", (e) =>
  console.log(JSON.stringify([e.error.status ?? null, e.retryMs === null, source.readyState])));
"""
        done = run(["node", "--input-type=module", "-e", script], self.url)
        self.assertEqual(json.loads(done.stdout), [400, True, 2], done)
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        done = run(["node", "--input-type=module", "-e", script],
                   f"http://127.0.0.1:{port}")
        said = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(said, [[None, False, 0]] * 4 + [[None, True, 2]])

    @unittest.skipUnless(shutil.which("curl"), "no curl here")
    def test_curl(self):
        done = run(["sh", "curl.sh"], self.url, CLASSIFIER="intents")
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(done.stderr.replace(
            "curl: (22) The requested URL returned error: 400\n", ""), "")
        parts = dict(re.findall(r"(?m)^# (\w+ \w+).*\n([^#]*)", done.stdout))
        self.assertEqual(json.loads(parts["a text"])["choices"][0]["text"],
                         self.text)
        events = [json.loads(line[6:]) for line in
                  parts["as it"].splitlines() if line.startswith("data: {")]
        self.assertEqual("".join(e["choices"][0]["text"] for e in events),
                         self.text)
        self.assertTrue(json.loads(parts["the class"])["data"][0]["label"])
        self.assertEqual(len(json.loads(parts["the models"])["data"]), 2)
        self.assertRegex(parts["in scripts"],
                         r"temperature.*\(exit status 22\)")

    def test_the_index_names_every_file(self):
        with open(os.path.join(EXAMPLES, "README.md"),
                  encoding="utf-8") as file:
            text = file.read()
        for name in os.listdir(EXAMPLES):
            if name != "README.md":
                self.assertIn(f"[`{name}`]({name})", text)


if __name__ == "__main__":
    unittest.main()
