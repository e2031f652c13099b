#!/usr/bin/env python3
"""Soak: mixed traffic for a while; memory, descriptors and latency stay flat.

    tests/load/run.py [seconds]

Clients of all kinds at once: plain requests, streams, batches, wrong
requests, and ones that leave. After a warm-up the resident set and the open
descriptors may not grow; at the end nothing runs, nothing waits, and the
program leaves with 0. Prints its figures and "N passed, N failed".
"""
import os
import random
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../http"))
import harness  # noqa: E402

CLIENTS = 24
ROUND_S = 5


class Traffic:
    def __init__(self, server):
        self.server = server
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.count = {}
        self.errors = []

    def note(self, what):
        with self.lock:
            self.count[what] = self.count.get(what, 0) + 1

    def one(self, rng):
        s = self.server
        fields = {"prompt": "Once upon a time " * rng.randrange(1, 20),
                  "max_tokens": rng.randrange(1, 100),
                  "seed": rng.randrange(1000),
                  "model": rng.choice(["main"] * 4 + ["slow"])}
        kind = rng.randrange(6)
        if kind == 0:
            s.stream("/v1/generate", **fields)
        elif kind == 1:
            self.expect(s.generate(**fields, n=3, logprobs=2), 200, 503)
        elif kind == 2:
            self.expect(s.generate(**{**fields, "temperature": "x"}), 400)
        elif kind == 3:
            sock = s.open_stream(wait=rng.random() < 0.5, **fields)
            time.sleep(rng.random() * 0.02)
            sock.close()
        elif kind == 4:
            self.expect(s.post("/v1/completions", {
                **fields, "prompt": ["a", "b", "c"]}), 200, 503)
        else:
            self.expect(s.generate(**fields), 200, 503)
        self.note(kind)

    def expect(self, reply, *statuses):
        if reply.status not in statuses:
            raise AssertionError(reply)

    def client(self, seed):
        rng = random.Random(seed)
        while not self.stop.is_set():
            try:
                self.one(rng)
            except Exception as error:  # counted, shown at the end
                with self.lock:
                    self.errors.append(repr(error))


def soak(seconds):
    failures = []
    # The cache is reserved at the start but touched block by block, and blocks
    # that hold a reusable prefix are reused last: a small one is soon resident.
    server = harness.Server(options={"ctx": 512, "kv-tokens": 4096},
                            models=[f"main={harness.main_model()}",
                                    f"slow={harness.slow_model()}"])
    traffic = Traffic(server)
    threads = [threading.Thread(target=traffic.client, args=(i,))
               for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    resident = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(ROUND_S)
        start = time.monotonic()
        server.get("/healthz")
        health_ms = (time.monotonic() - start) * 1e3
        resident.append(server.rss() / 1e6)
        print(f"  {sum(traffic.count.values()):7d} requests  "
              f"{resident[-1]:7.1f} MB  {server.fds():4d} descriptors  "
              f"/healthz {health_ms:.1f} ms", flush=True)
    traffic.stop.set()
    for thread in threads:
        thread.join()
    if traffic.errors:
        failures.append(f"{len(traffic.errors)} wrong replies, the first: "
                        f"{traffic.errors[0]}")
    third = max(1, len(resident) // 3)
    grown = max(resident[-third:]) - max(resident[third:2 * third] or [0])
    if grown > 20 * harness.SLOW:
        failures.append(f"resident set grows: {grown:.1f} MB in the last third")
    for name in ("inferd_requests_running", "inferd_queue_requests"):
        server.wait_metric(name, lambda v: v == 0)
    status = server.stop()
    if status:
        failures.append(f"exit status {status}")
    return failures


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    failures = soak(seconds)
    for failure in failures:
        print("FAIL", failure)
    print(f"{0 if failures else 1} passed, {1 if failures else 0} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
