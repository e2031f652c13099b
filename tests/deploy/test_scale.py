"""Three replicas behind HAProxy: one is killed, comes back, another drains.

The real HAProxy with docker/haproxy.cfg, under load the whole time. No request
that asks for a whole answer may fail; streams of the killed replica may break,
all others end with [DONE].
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

import harness

CONFIG = os.path.join(harness.ROOT, "docker/haproxy.cfg")
HAPROXY = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Clients:
    """Ask until told to stop; note what each answer was."""

    def __init__(self, port, n_plain, n_streams):
        self.port, self.stop = port, threading.Event()
        self.lock = threading.Lock()
        self.plain, self.streams = [], []
        self.threads = [
            threading.Thread(target=self.run, args=(ask, out, i))
            for ask, out, n in ((self.ask, self.plain, n_plain),
                                (self.ask_stream, self.streams, n_streams))
            for i in range(n)]
        for thread in self.threads:
            thread.start()

    def run(self, ask, out, seed):
        while not self.stop.is_set():
            try:
                said = ask(seed)
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
            with self.lock:
                out.append(said)

    def post(self, body):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        conn.request("POST", "/v1/generate", json.dumps(body),
                     {"Content-Type": "application/json"})
        return conn, conn.getresponse()

    def fetch(self, body):
        conn, reply = self.post(body)
        try:
            return reply.status, reply.read()
        finally:
            conn.close()

    def ask(self, seed):
        status, body = self.fetch({"prompt": f"Story {seed}", "max_tokens": 40,
                                   "ignore_eos": True})
        if status != 200:
            return f"{status} {body[:200]!r}"
        n = json.loads(body)["usage"]["completion_tokens"]
        return "ok" if n == 40 else f"{n} tokens"

    def ask_stream(self, seed):
        status, body = self.fetch({"prompt": f"Stream {seed}", "stream": True,
                                   "max_tokens": 60, "ignore_eos": True})
        if status != 200:
            return f"{status}"
        return "ok" if body.endswith(b"data: [DONE]\n\n") else "cut"

    def answered(self):
        with self.lock:
            return len(self.plain)

    def join(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


@unittest.skipUnless(HAPROXY, "no haproxy here")
class ScaleTest(unittest.TestCase):
    def replica(self, port=0):
        server = harness.Server(model=harness.slow_model(), options={
            "listen": f"127.0.0.1:{port}", "threads": 1})
        self.servers.append(server)
        return server

    def proxy(self, ports):
        bind = free_port()
        self.haproxy = subprocess.Popen(
            [HAPROXY, "-db", "-f", CONFIG], stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "BIND": f"127.0.0.1:{bind}", **{
                name: f"127.0.0.1:{port}"
                for name, port in zip("ABC", ports)}})
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", bind), 1).close()
                return bind
            except OSError:
                time.sleep(0.05)
        raise AssertionError("haproxy does not listen")

    def setUp(self):
        self.servers, self.haproxy, self.clients = [], None, None

    def tearDown(self):
        if self.clients:
            self.clients.join()
        if self.haproxy:
            self.haproxy.kill()
            self.haproxy.wait()
        for server in self.servers:
            server.stop()

    def serve_on(self, clients, n=30):
        """Until n more plain requests were answered."""
        wanted = clients.answered() + n
        end = time.monotonic() + 60
        while clients.answered() < wanted:
            self.assertLess(time.monotonic(), end, "answers have stopped")
            time.sleep(0.02)

    def test_kill_restart_drain(self):
        a, b, c = (self.replica() for _ in range(3))
        port = self.proxy([a.port, b.port, c.port])
        clients = self.clients = Clients(port, 6, 3)
        self.serve_on(clients)
        before = list(clients.streams)
        a.process.send_signal(signal.SIGKILL)
        a.process.wait()
        self.serve_on(clients)
        with clients.lock:
            n_killed = len(clients.streams)
        self.replica(a.port)
        self.serve_on(clients)
        b.process.send_signal(signal.SIGTERM)
        self.serve_on(clients)
        self.assertEqual(b.process.wait(30), 0)
        self.serve_on(clients)
        clients.join()
        wrong = [said for said in clients.plain if said != "ok"]
        print(f"\n{len(clients.plain)} answers, {len(wrong)} wrong; "
              f"{len(clients.streams)} streams, "
              f"{clients.streams.count('ok')} whole")
        self.assertEqual(wrong, [])
        self.assertEqual(set(before), {"ok"})
        self.assertGreater(len(clients.streams), n_killed)
        # of those begun after the kill was over, none breaks, drain or not
        self.assertEqual(set(clients.streams[n_killed:]), {"ok"})
        self.assertGreater(self.servers[3].metric(
            "inferd_requests_total", route="/v1/generate", code="200"), 0)

    def test_a_session_stays(self):
        servers = [self.replica() for _ in range(3)]
        port = self.proxy([s.port for s in servers])
        for session, n in (("one", 6), ("two", 6)):
            had = [s.metric("inferd_prompt_tokens_total") for s in servers]
            # One connection: with a new one each, HAProxy may not have let go
            # of the request before, and two at once are over a replica's share
            # (hash-balance-factor) of so few.
            conn = http.client.HTTPConnection("127.0.0.1", port)
            for _ in range(n):
                conn.request("POST", "/v1/generate", json.dumps(
                    {"prompt": session, "max_tokens": 1}),
                    {"Content-Type": "application/json",
                     "X-Session": session})
                reply = conn.getresponse()
                self.assertEqual((reply.status, bool(reply.read())),
                                 (200, True))
            conn.close()
            has = [s.metric("inferd_prompt_tokens_total") for s in servers]
            self.assertEqual(sum(x != y for x, y in zip(had, has)), 1)
