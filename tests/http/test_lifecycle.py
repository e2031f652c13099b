"""Start, configuration, signals, drain, damaged model files."""
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

from harness import (INFERD, ROOT, SLOW, Server, joined, main_model,
                     parse_stream, post_bytes, read_reply, scratch, shared,
                     slow_model, together, Reply)
import tinymodel


def run(*args, env=None, timeout=20 * SLOW):
    """(exit status, stdout, stderr) of a start that must fail."""
    done = subprocess.run([INFERD, *args], capture_output=True, text=True,
                          cwd=ROOT, env={**os.environ, **(env or {})},
                          timeout=timeout, errors="replace")
    return done.returncode, done.stdout, done.stderr


class Healthcheck(unittest.TestCase):
    """inferd asks another inferd, as an image without a shell needs it."""

    def check(self, *args, env=None):
        code, out, err = run(*args, env=env)
        self.assertEqual(out, "")
        self.assertEqual(err.count("\n"), 1 if code else 0, err)
        return code, err

    def test_a_server(self):
        port = shared().port
        listen = f"127.0.0.1:{port}"
        for args in (["--listen", listen, "--healthcheck"],
                     ["--healthcheck=/readyz", "--listen", listen],
                     ["--healthcheck", "--listen", f"0.0.0.0:{port}"],
                     ["--healthcheck", "--listen", f":{port}"],
                     ["--healthcheck", "--listen", f"localhost:{port}"]):
            self.assertEqual(self.check(*args), (0, ""), args)
        self.assertEqual(self.check("--healthcheck", env={
            "INFERD_LISTEN": listen}), (0, ""))
        config = scratch("healthcheck.json")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'{{"listen": "{listen}", "model": ["/not/here"], '
                       '"api_keys_file": "/not/here"}')
        self.assertEqual(self.check("--config", config, "--healthcheck"),
                         (0, ""))
        code, err = self.check("--healthcheck=/nothing", "--listen", listen)
        self.assertEqual(code, 1)
        self.assertIn("/nothing is 404", err)

    def test_none(self):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            address = "127.0.0.1:%d" % closed.getsockname()[1]
        code, err = self.check("--healthcheck", "--listen", address)
        self.assertEqual(code, 1)
        self.assertIn(f"'{address}'", err)

    def test_one_that_hangs_or_speaks_otherwise(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = "127.0.0.1:%d" % silent.getsockname()[1]
            start = time.monotonic()
            code, err = self.check("--healthcheck", "--listen", address)
            self.assertEqual(code, 1)
            self.assertIn("does not answer", err)
            self.assertLess(time.monotonic() - start, 15 * SLOW)

            def greet():  # the one before waits to be taken, too
                for _ in range(2):
                    peer = silent.accept()[0]
                    try:
                        peer.sendall(b"220 smtp.example\r\n")
                    except OSError:
                        pass
                    peer.close()

            (code, err), _ = together([lambda: self.check(
                "--healthcheck", "--listen", address), greet])
            self.assertEqual(code, 1)

    def test_draining(self):
        """Alive, and not ready."""
        s = Server(model=slow_model())
        sock = s.open_stream(prompt="a", max_tokens=8000, ignore_eos=True)
        s.process.send_signal(signal.SIGTERM)
        listen = f"127.0.0.1:{s.port}"
        while s.get("/readyz").status != 503:
            time.sleep(0.01)
        self.assertEqual(self.check("--healthcheck", "--listen", listen)[0],
                         0)
        code, err = self.check("--healthcheck=/readyz", "--listen", listen)
        self.assertEqual(code, 1)
        self.assertIn("/readyz is 503", err)
        sock.close()
        self.assertEqual(s.stop(), 0)


class Start(unittest.TestCase):
    def fails(self, status, words, *args, env=None):
        code, out, err = run(*args, env=env)
        self.assertEqual(code, status, (args, out, err))
        self.assertEqual(out, "", args)
        for word in words:
            self.assertIn(word, err, args)
        return err

    def fails_in_a_line(self, words, *args, env=None):
        err = self.fails(1, words, *args, env=env)
        lines = [l for l in err.splitlines() if "level=info" not in l]
        self.assertEqual(len(lines), 1, err)

    def test_help_and_version(self):
        code, out, err = run("--help")
        self.assertEqual((code, err), (0, ""))
        for word in ("--model", "--listen", "--config", "--threads", "--ctx"):
            self.assertIn(word, out)
        code, out, _ = run("--version")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"^inferd \d")

    def test_wrong_usage(self):
        for args in (["--nope"], ["--listen"], ["--threads", "x"],
                     ["--threads", "-1"], ["--listen", "nowhere"],
                     ["--listen", "127.0.0.1:99999"], ["stray"],
                     ["--ctx", "1.5"], ["--ctx", ""], ["--threads", "5000"]):
            self.fails(2, [args[0].lstrip("-")], "--model", main_model(),
                       *args)

    def test_no_model(self):
        code, _, err = run("--listen", "127.0.0.1:0")
        self.assertIn(code, (1, 2))
        self.assertIn("model", err)

    def test_missing_model(self):
        self.fails_in_a_line(["/no/such.gguf"], "--listen", "127.0.0.1:0",
                             "--model", "/no/such.gguf")
        self.fails_in_a_line([], "--listen", "127.0.0.1:0", "--model", "/tmp")

    def test_same_name_twice(self):
        code, _, err = run("--listen", "127.0.0.1:0",
                           "--model", f"a={main_model()}",
                           "--model", f"a={main_model()}")
        self.assertIn(code, (1, 2))
        self.assertIn("a", err)

    def test_port_in_use(self):
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        self.fails_in_a_line([address], "--listen", address,
                             "--model", main_model())
        taken.close()

    def config(self, text):
        path = scratch("config.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_config_errors(self):
        for text, word in (('{"no_such_key": 1}', "no_such_key"),
                           ('{"threads": "x"}', "threads"),
                           ('{"threads": -1}', "threads"),
                           ('{"listen": 8080}', "listen"),
                           ("{", "config.json"), ("[]", "config.json"),
                           ("", "config.json")):
            path = self.config(text)
            code, _, err = run("--config", path, "--model", main_model())
            self.assertIn(code, (1, 2), text)
            self.assertIn(word, err, text)
        code, _, err = run("--config", "/no/such.json")
        self.assertIn(code, (1, 2))
        self.assertIn("/no/such.json", err)

    def test_bad_environment(self):
        code, _, err = run("--model", main_model(),
                           env={"INFERD_THREADS": "many"})
        self.assertIn(code, (1, 2))
        self.assertIn("INFERD_THREADS", err)

    def test_precedence(self):
        """flag > environment > file > default, seen in the context limit."""
        path = self.config('// a comment\n{"ctx": 64 /* tokens */}')

        def limit(options, env):
            s = Server(options, env=env)
            try:
                for n in (32, 64, 128, 512):
                    r = s.generate(prompt=[5] * n, max_tokens=1)
                    if r.status == 422:
                        return n
                return None
            finally:
                self.assertEqual(s.stop(), 0)

        env = {"INFERD_CTX": "128"}
        self.assertEqual(limit({}, {}), 512)
        self.assertEqual(limit({"config": path}, {}), 64)
        self.assertEqual(limit({"config": path}, env), 128)
        self.assertEqual(limit({"config": path, "ctx": 32}, env), 32)

    def test_shipped_config_is_the_default(self):
        path = os.path.join(ROOT, "config/inferd.json")
        if not os.path.exists(path):
            self.skipTest("no config/inferd.json")
        s = Server({"config": path})
        try:
            self.assertEqual(s.get("/readyz").status, 200)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_model_name_from_the_file(self):
        s = Server(models=[main_model()])
        try:
            name = s.get("/v1/models").json["data"][0]["id"]
            r = s.generate(prompt="a", max_tokens=1, model=name)
            self.assertEqual(r.status, 200)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_threads_do_not_change_the_text(self):
        texts = []
        for threads in (1, 2, 3):
            s = Server({"threads": threads}, model=slow_model())
            try:
                texts.append(s.generate(prompt="Once upon a time", seed=1,
                                        max_tokens=60).text)
            finally:
                self.assertEqual(s.stop(), 0)
        self.assertEqual(len(set(texts)), 1)


PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"] = sys.argv[3] or str(os.getpid())
os.environ["LISTEN_FDS"] = sys.argv[2]
os.execv(sys.argv[4], sys.argv[4:])
"""


class SocketActivation(unittest.TestCase):
    """As systemd starts it: with a socket that it has opened itself."""

    def start(self, sock, n=1, pid=""):
        return subprocess.Popen(
            [sys.executable, "-c", PASS_ON, str(sock.fileno()), str(n),
             str(pid), INFERD, "--model", main_model(),
             "--listen", "127.0.0.1:0"], pass_fds=[sock.fileno()],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def refused(self, sock, words, n=1):
        out, err = self.start(sock, n).communicate(timeout=20 * SLOW)
        self.assertEqual(out, "")
        self.assertIn(words, err)

    def serves(self, sock, url, **kw):
        process = self.start(sock, **kw)
        try:
            line = process.stdout.readline()
            self.assertTrue((url in line) == (not kw), line)
            port = int(line.rsplit(":", 1)[1])
            conn = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            conn.request("GET", "/readyz")
            self.assertEqual(conn.getresponse().status, 200)
            conn.close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()
        self.assertEqual(process.returncode, 0)

    def test_takes_the_socket_and_leaves_it_open(self):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            url = "http://127.0.0.1:%d\n" % sock.getsockname()[1]
            self.serves(sock, url)
            self.serves(sock, url)
            self.serves(sock, url, pid=1)  # meant for another process

    def test_what_is_no_listening_socket(self):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.refused(sock, "0 sockets were passed", n=0)
            self.refused(sock, "2 sockets were passed", n=2)
        with socket.socket() as sock:
            self.refused(sock, "no listening TCP socket")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("\0inferd-test-%d" % os.getpid())
            sock.listen()
            self.refused(sock, "no listening TCP socket")


class Models(unittest.TestCase):
    """Damaged files: one line, exit 1, never a signal."""

    @classmethod
    def setUpClass(cls):
        path = scratch("good.gguf")
        tinymodel.write(path, d=32, layers=1, heads=2, ff=64, ctx=64)
        with open(path, "rb") as file:
            cls.good = file.read()
        cls.head = cls.good.index(b"ffn_down") + 60

    def start(self, data):
        path = scratch("damaged.gguf")
        with open(path, "wb") as file:
            file.write(data)
        # A busy address: a file that loads after all then fails too.
        return run("--model", path, "--listen",
                   f"127.0.0.1:{shared().port}")

    def refused(self, data, what):
        code, out, err = self.start(data)
        self.assertEqual((code, out), (1, ""), (what, err[-2000:]))
        lines = [l for l in err.splitlines() if "level=info" not in l]
        self.assertEqual(len(lines), 1, (what, err[-2000:]))

    def test_truncated(self):
        n = len(self.good)
        for size in [0, 1, 3, 4, 8, 23, 24] + [n * i // 12
                                               for i in range(1, 12)] + [n - 1]:
            self.refused(self.good[:size], f"cut to {size}")

    def test_flipped(self):
        rng = random.Random(3)
        for at in list(range(0, 24, 2)) + rng.sample(range(24, self.head), 25):
            data = bytearray(self.good)
            data[at] ^= 1 << rng.randrange(8)
            self.refused(bytes(data), f"byte {at}")

    def test_not_a_model(self):
        for data in (b"", b"GGUF", b"hello world" * 100, bytes(10000),
                     b"GGUF\x03\0\0\0" + b"\xff" * 16,
                     b"GGUF\x03\0\0\0" + b"\xff" * 7 + b"\x7f" + bytes(8)):
            self.refused(data, data[:20])

    def test_cut_while_in_use(self):
        """A loaded model does not need its file."""
        path = scratch("cut.gguf")
        with open(path, "wb") as file:
            file.write(self.good)
        server = Server(model=path)
        try:
            ask = dict(prompt="the sea", max_tokens=20, temperature=0)
            before = server.generate(**ask).text
            os.truncate(path, 0)
            for _ in range(3):
                self.assertEqual(server.generate(**ask).text, before)
        finally:
            server.stop()

    def test_cut_while_it_loads(self):
        """One line and exit 1 instead of a death by SIGBUS."""
        path = scratch("big.gguf")
        tinymodel.write(path, d=1024, layers=2, heads=8, ff=4096, ctx=64)
        process = subprocess.Popen(
            [INFERD, "--model", path, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        maps = f"/proc/{process.pid}/maps"
        while process.poll() is None:
            with open(maps, encoding="utf-8") as file:
                if path in file.read():
                    break
        os.truncate(path, 10000)
        try:
            out, err = process.communicate(timeout=20 * SLOW)
        finally:
            process.kill()
            os.unlink(path)
        self.assertEqual((process.returncode, out), (1, ""), err[-2000:])
        self.assertIn("cut short", err.splitlines()[-1])

    def test_nan_weights(self):
        data = self.good[:-64] + b"\xff\xff\xff\x7f" * 16
        self.refused(data, "NaN")


class Signals(unittest.TestCase):
    def setUp(self):
        self.s = Server(model=slow_model())

    def tearDown(self):
        if self.s.process.poll() is None:
            self.s.process.kill()
            self.s.process.wait()
        self.s.process.stdout.close()

    def test_idle_stop(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            s = Server()
            start = time.monotonic()
            s.process.send_signal(sig)
            self.assertEqual(s.stop(), 0)
            self.assertLess(time.monotonic() - start, 2 * SLOW)

    def test_the_loop_alone_takes_signals(self):
        """A thread that took SIGTERM when libuv has put the default action
        back, at the end of a clean stop, would make it a death by signal."""
        s = Server()
        for _ in range(2):  # the access log's threads begin with its first line
            self.assertEqual(s.get("/v1/models").status, 200)
            time.sleep(0.2)
        tasks = f"/proc/{s.process.pid}/task"
        threads = [t for t in os.listdir(tasks) if t != str(s.process.pid)]
        self.assertGreater(len(threads), 4)
        for thread in threads:
            with open(f"{tasks}/{thread}/status") as f:
                held = int(re.search(r"SigBlk:\s*(\w+)", f.read())[1], 16)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self.assertTrue(held >> number - 1 & 1, (thread, number))
        self.assertEqual(s.stop(), 0)

    def test_idle_connections_do_not_hold_it(self):
        idle = [self.s.connect() for _ in range(20)]
        start = time.monotonic()
        self.assertEqual(self.s.stop(), 0)
        self.assertLess(time.monotonic() - start, 3 * SLOW)
        for sock in idle:
            sock.close()

    def test_uploads_do_not_hold_it(self):
        """Half a body, half a header, and one that fills its buffer."""
        raw = post_bytes("/v1/generate", {"prompt": "a"})
        chunked = (b"POST /v1/generate HTTP/1.1\r\nHost: x\r\n"
                   b"Content-Type: application/json\r\n"
                   b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 50000)
        socks = []
        for part in (raw[:-3], raw[:30], chunked):
            socks.append(self.s.connect())
            socks[-1].sendall(part)
        self.assertEqual(self.s.get("/healthz").status, 200)
        start = time.monotonic()
        self.assertEqual(self.s.stop(), 0)
        self.assertLess(time.monotonic() - start, 4 * SLOW)
        for sock in socks:
            sock.close()

    def test_drain(self):
        """The accepted stream finishes; new work is refused; exit 0."""
        fields = {"prompt": "Once", "max_tokens": 600 // SLOW, "seed": 1,
                  "ignore_eos": True}
        want = joined(self.s.stream("/v1/generate", **fields))[0]
        sock = self.s.connect()
        sock.sendall(post_bytes("/v1/generate", {**fields, "stream": True}))
        probe = self.s.connect()
        probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(read_reply(probe).status, 200)
        response = http.client.HTTPResponse(sock)
        response.begin()
        first = response.read(1)
        self.s.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        try:
            probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            reply = read_reply(probe)
        except OSError:
            reply = None
        # 503, unless the idle connection was closed first.
        self.assertTrue(reply is None or reply.status == 503, reply)
        body = first + response.read()
        chunks = parse_stream("/v1/generate", Reply(
            response.status, response.headers, body))
        self.assertEqual(joined(chunks)[0], want)
        response.close()
        sock.close()
        probe.close()
        self.assertEqual(self.s.stop(), 0)

    def test_drain_of_a_plain_reply(self):
        sock = self.s.connect()
        sock.sendall(post_bytes("/v1/generate", {
            "prompt": "Once", "max_tokens": 600 // SLOW,
            "ignore_eos": True}))
        self.s.wait_metric("inferd_requests_running", lambda v: v > 0)
        self.s.process.send_signal(signal.SIGTERM)
        reply = read_reply(sock)
        self.assertEqual(reply.status, 200)
        self.assertEqual(json.loads(reply.body)["usage"]["completion_tokens"],
                         600 // SLOW)
        sock.close()
        self.assertEqual(self.s.stop(), 0)

    def test_second_signal_stops_now(self):
        sock = self.s.open_stream(prompt="Once", max_tokens=8000, n=64,
                                  ignore_eos=True)
        self.s.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        self.assertIsNone(self.s.process.poll(), "did not drain")
        start = time.monotonic()
        self.s.process.send_signal(signal.SIGTERM)
        self.s.process.wait(10 * SLOW)
        self.assertLess(time.monotonic() - start, 3 * SLOW)
        self.assertGreaterEqual(self.s.process.returncode, 0)
        sock.close()

    def test_drain_timeout(self):
        s = Server({"drain-ms": 300}, model=slow_model())
        sock = s.open_stream(prompt="Once", max_tokens=8000, n=64,
                             ignore_eos=True)
        start = time.monotonic()
        s.stop(10 * SLOW)
        self.assertLess(time.monotonic() - start, 5 * SLOW)
        sock.close()
