"""The curl load tests against a real server, briefly; each must also notice.

A script that always says "ok" is worse than none, so besides the runs that
must pass there are runs that must fail: a server that is not there, a missing
key, a queue that refuses, a limit on latency that nobody can keep.
"""
import os
import subprocess
import unittest

import harness

SCRIPTS = os.path.join(harness.ROOT, "tests/load")
CLASSIFIER = os.path.join(harness.ROOT, "models/intents.gguf")


def script(name, port, **env):
    """Status and output of a script, run as a user runs it."""
    done = subprocess.run(
        [os.path.join(SCRIPTS, name + ".sh")], timeout=200, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "URL": f"http://127.0.0.1:{port}",
             "SECONDS_MAX": "20", **env})
    return done.returncode, done.stdout


class CurlTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.s = harness.Server(
            options={"chat-template": "plain"},
            models=[f"main={harness.main_model()}", f"intents={CLASSIFIER}"])

    @classmethod
    def tearDownClass(cls):
        status = cls.s.stop()
        assert status == 0, status

    def passes(self, name, *words, port=None, **env):
        status, output = script(name, port or self.s.port, **env)
        self.assertEqual(status, 0, output)
        for word in words:
            self.assertRegex(output, word)
        print(f"\n{name}.sh\n{output}", end="")

    def fails(self, name, *words, port=None, **env):
        status, output = script(name, port or self.s.port, **env)
        self.assertNotEqual(status, 0, output)
        for word in words:
            self.assertRegex(output, word)

    def test_smoke(self):
        self.passes("smoke", r"stream +1 ", r"ok: all 6 replies are 200")

    def test_sustained(self):
        self.passes("sustained", r"generate +80 .* 200:80",
                    r"80 requests in .* [1-9][0-9.]* tokens/s", REQUESTS="80")

    def test_streaming(self):
        self.passes("streaming", r"stream +40 .* 200:40", REQUESTS="40")

    def test_mixed(self):
        self.passes("mixed", r"classify +10 ", r"chat +10 ", r"tokenize +10 ",
                    REQUESTS="80", CLASSIFIER="intents")

    def test_slow_clients(self):
        self.passes("slow", r"slow clients: 8, of which still reading: [1-8]", r"200:40", REQUESTS="40")

    def test_burst_over_the_queue(self):
        s = harness.Server(model=harness.slow_model(), options={
            "max-running": 2, "max-waiting": 4})
        try:
            self.passes("burst", r"503:\d+", r"refused: [1-9]", port=s.port,
                        REFUSED="1", BURST="24", TOKENS_EACH="20")
            self.fails("sustained", r"FAIL: \d+ of 24 replies are 200",
                       port=s.port, CLIENTS="24", REQUESTS="24")
        finally:
            s.stop()

    def test_burst_within_the_queue(self):
        self.passes("burst", r"refused: 0", BURST="16", TOKENS_EACH="20")
        self.fails("burst", "FAIL: nothing was refused", REFUSED="1",
                   BURST="8", TOKENS_EACH="20")

    def test_a_key(self):
        s = harness.Server(options={"api-keys": "secret"})
        try:
            self.passes("smoke", port=s.port, KEY="secret")
            self.fails("smoke", "401:1", port=s.port, KEY="wrong")
        finally:
            s.stop()

    def test_nobody_there(self):
        s = harness.Server()
        s.stop()
        for name in ("smoke", "sustained", "burst", "streaming", "mixed",
                     "slow"):
            self.fails(name, "FAIL", port=s.port, REQUESTS="4", BURST="4")

    def test_limits_are_judged(self):
        self.fails("slow", "FAIL: p99 is above 0 ms", P99_MS="0",
                   REQUESTS="4", SLOW="1")
        self.fails("sustained", "404:4", MODEL="nobody", REQUESTS="4")
