"""Clients that leave: their work stops, nobody else's does."""
import socket
import struct
import time

from harness import SLOW, Case, joined, post_bytes, together

RUNNING = "inferd_requests_running"
LONG = {"model": "slow", "prompt": "Once", "max_tokens": 8000,
        "ignore_eos": True, "temperature": 0}


def reset(sock):
    """Close with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))
    sock.close()


class Disconnect(Case):
    def setUp(self):
        self.s.wait_metric(RUNNING, lambda v: v == 0)
        self.cancelled = self.s.metric("inferd_cancelled_total")

    def stops(self, count=1, within=1.0):
        """The gauge falls to 0 soon, and the counter tells why."""
        took = self.s.wait_metric(RUNNING, lambda v: v == 0, within)
        self.s.wait_metric("inferd_queue_requests", lambda v: v == 0, 1)
        self.s.wait_metric("inferd_cancelled_total",
                           lambda v: v >= self.cancelled + count, 1)
        return took

    def begin(self, fields, path="/v1/generate"):
        """Send a request that isn't a stream; wait until it runs."""
        sock = self.s.connect()
        sock.sendall(post_bytes(path, fields))
        self.s.wait_metric(RUNNING, lambda v: v > 0)
        return sock

    def test_mid_stream(self):
        for close in (socket.socket.close, reset):
            before = self.s.metric("inferd_cancelled_total")
            sock = self.s.open_stream(**LONG)
            self.assertGreater(self.s.metric(RUNNING), 0)
            close(sock)
            self.stops()
            self.assertGreater(self.s.metric("inferd_cancelled_total"),
                               before)

    def test_while_generating_without_stream(self):
        self.begin(LONG).close()
        self.stops()

    def test_in_prefill(self):
        """A batch of long prompts: seconds before the first token."""
        prompts = [[5 + i] + [7] * 4000 for i in range(8)]
        sock = self.begin({**LONG, "prompt": prompts, "max_tokens": 1},
                          "/v1/completions")
        sock.close()
        # One step is up to 512 rows of the slow model.
        self.stops(within=2)

    def test_while_queued(self):
        first = self.s.open_stream(**{**LONG, "n": 64})
        try:
            full = self.s.metric("inferd_queue_requests")
            waiting = [self.s.open_stream(wait=False, **LONG)
                       for _ in range(20)]
            self.s.wait_metric("inferd_queue_requests",
                               lambda v: v >= full + 20)
            for sock in waiting:
                sock.close()
            self.s.wait_metric("inferd_queue_requests",
                               lambda v: v <= full, 2)
        finally:
            first.close()
        self.stops(21, within=2)

    def test_others_go_on(self):
        fields = {"model": "slow", "prompt": "Once upon", "seed": 4,
                  "max_tokens": 200, "ignore_eos": True}
        want = self.s.generate(**fields).text

        def leave(i):
            sock = self.s.open_stream(**{**LONG, "prompt": f"Once {i}"})
            time.sleep(0.02 * i)
            sock.close()

        results = together(
            [lambda: joined(self.s.stream("/v1/generate", **fields))[0]] * 3 +
            [lambda i=i: leave(i) for i in range(10)])
        self.assertEqual(results[:3], [want] * 3)
        self.stops(10)

    def test_slow_reader_is_stopped(self):
        """One who never reads can't make the server buffer for ever."""
        before = self.s.rss()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.s.port))
        try:
            sock.sendall(post_bytes("/v1/generate", {
                **LONG, "logprobs": 20, "n": 16, "stream": True}))
            time.sleep(2)
            self.assertLess(self.s.rss() - before, 100e6 * SLOW)
        finally:
            sock.close()
        self.s.wait_metric(RUNNING, lambda v: v == 0, 3)

    def test_half_a_request(self):
        for cut in (5, 60, -1):
            sock = self.s.connect()
            sock.sendall(post_bytes("/v1/generate", LONG)[:cut])
            sock.close()
        self.assertEqual(self.s.generate(prompt="a", max_tokens=1).status, 200)
