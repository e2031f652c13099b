"""Crowds: idle, slow and leaving clients; latency of the probe under load.

Figures are printed, not judged: machines differ. Failing means stuck, leaking
or far off.
"""
import resource
import socket
import statistics
import sys
import threading
import time
import unittest

from harness import (SLOW, Server, main_model, post_bytes, read_reply,
                     slow_model)

PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def probe_times(server, seconds):
    """Round trips of /healthz on one keep-alive connection."""
    sock = server.connect()
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        sock.sendall(PROBE)
        assert read_reply(sock).status == 200
        took.append(time.monotonic() - start)
        time.sleep(0.002)
    sock.close()
    return took


def report(text):
    print(f"\n  {text}", file=sys.stderr)


class Crowd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.s = Server(models=[f"main={main_model()}",
                               f"slow={slow_model()}"])

    @classmethod
    def tearDownClass(cls):
        assert cls.s.stop() == 0

    def flat(self, before, what, limit=30e6):
        grown = self.s.rss() - before
        report(f"{what}: resident {grown / 1e6:+.1f} MB")
        self.assertLess(grown, limit * SLOW)

    def test_thousand_idle_connections(self):
        before, fds = self.s.rss(), self.s.fds()
        idle = [self.s.connect() for _ in range(1000)]
        for sock in idle[::10]:
            sock.sendall(PROBE)
            self.assertEqual(read_reply(sock).status, 200)
        self.assertEqual(self.s.generate(prompt="a", max_tokens=5).status, 200)
        self.flat(before, "1,000 idle connections", 60e6)
        for sock in idle:
            sock.close()
        end = time.monotonic() + 5 * SLOW
        while self.s.fds() > fds + 5 and time.monotonic() < end:
            time.sleep(0.02)
        self.assertLessEqual(self.s.fds(), fds + 5)

    def test_slow_writers(self):
        before = self.s.rss()
        raw = post_bytes("/v1/generate", {"prompt": "Once " * 50,
                                          "max_tokens": 2})
        socks = [self.s.connect() for _ in range(200)]
        for i in range(0, len(raw) - 1, 30):
            for sock in socks:
                sock.sendall(raw[i:min(i + 30, len(raw) - 1)])
            time.sleep(0.02)
        self.assertEqual(self.s.get("/healthz").status, 200)
        for sock in socks[:50]:
            sock.sendall(raw[-1:])
        for sock in socks[:50]:
            self.assertEqual(read_reply(sock).status, 200)
        for sock in socks:
            sock.close()
        self.flat(before, "200 slow writers")

    def test_mid_stream_disconnects(self):
        fields = {"model": "slow", "prompt": "Once", "max_tokens": 8000,
                  "ignore_eos": True}
        self.leave(fields)  # workspaces and arenas grow once
        before = self.s.rss()
        for _ in range(3):
            self.leave(fields)
        self.flat(before, "150 disconnects in streams")
        self.assertEqual(self.s.get("/healthz").status, 200)
        self.assertEqual(self.s.generate(prompt="a", max_tokens=2).status, 200)

    def leave(self, fields):
        socks = [self.s.open_stream(wait=False, **fields) for _ in range(50)]
        for sock in socks[:10]:
            sock.recv(4096)
        for sock in socks:
            sock.close()
        self.s.wait_idle()

    def test_probe_under_load(self):
        stop = threading.Event()
        tokens = []

        def client(i):
            while not stop.is_set():
                r = self.s.generate(model="slow", prompt=f"Once {i}", seed=i,
                                    max_tokens=100, ignore_eos=True)
                tokens.append(r.json["usage"]["completion_tokens"])

        threads = [threading.Thread(target=client, args=(i,))
                   for i in range(32)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        start = time.monotonic()
        took = sorted(probe_times(self.s, 3))
        stop.set()
        for thread in threads:
            thread.join()
        rate = sum(tokens) / (time.monotonic() - start)
        p99 = took[len(took) * 99 // 100]
        report(f"/healthz at concurrency 32: median "
               f"{statistics.median(took) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} "
               f"ms, max {took[-1] * 1e3:.2f} ms; {rate:.0f} tokens/s")
        self.assertLess(p99, 2 * SLOW)

    def test_probe_during_prefill(self):
        sock = self.s.connect()
        sock.sendall(post_bytes("/v1/completions", {
            "model": "slow", "max_tokens": 1,
            "prompt": [[5 + i] + [7] * 4000 for i in range(16)]}))
        took = sorted(probe_times(self.s, 1))
        report(f"/healthz in prefill: p99 "
               f"{took[len(took) * 99 // 100] * 1e3:.2f} ms")
        self.assertLess(took[-1], 2 * SLOW)
        sock.close()
        self.s.wait_idle(10)


class Connections(unittest.TestCase):
    def test_no_descriptors_left(self):
        """More clients than files it may open: all are answered in the end."""
        s = Server()
        limit = 100
        try:
            resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE,
                             (limit, limit))
            body = b'{"prompt":"Once","max_tokens":30,"stream":true}'
            socks = [s.connect(60) for _ in range(limit + 50)]
            for sock in socks:
                sock.sendall(post_bytes("/v1/generate", body))
            for sock in socks:
                self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 200"))
                sock.close()
            self.assertEqual(s.get("/healthz").status, 200)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_connection_limit(self):
        """Beyond the limit clients wait or are refused; it recovers."""
        s = Server({"max-connections": 20})
        try:
            socks = []
            for _ in range(40):
                try:
                    socks.append(s.connect(1))
                except OSError:
                    pass
            for sock in socks:
                sock.close()
            end = time.monotonic() + 10 * SLOW
            while True:
                try:
                    with s.connect(1) as sock:
                        sock.sendall(PROBE)
                        if sock.recv(100).startswith(b"HTTP/1.1 200"):
                            break
                except (OSError, socket.timeout):
                    pass
                self.assertLess(time.monotonic(), end, "does not recover")
        finally:
            self.assertEqual(s.stop(), 0)
