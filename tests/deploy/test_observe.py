"""Prometheus' own tools on the real /metrics, and every name that is asked for.

A dashboard or an autoscaler that names a metric that does not exist shows
nothing and says nothing: so each query of docker/ must find its metrics, and
its labels, in what a server exports that has served each kind of request. The
files of docker/ that repeat facts of others are compared with them.
"""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

import yaml

import harness

DOCKER = os.path.join(harness.ROOT, "docker")
DASHBOARD = os.path.join(DOCKER, "grafana/dashboards/inferd.json")


def load(name):
    with open(os.path.join(DOCKER, name), encoding="utf-8") as f:
        return list(yaml.safe_load_all(f))


def dashboard_queries():
    with open(DASHBOARD, encoding="utf-8") as f:
        board = json.load(f)
    return [(panel["title"], target["expr"]) for panel in board["panels"]
            for target in panel["targets"]]


class ObserveTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.s = harness.Server(options={"max-body-bytes": 2000})
        for _ in range(3):
            cls.s.generate(prompt="Once upon a time", max_tokens=20)
            cls.s.stream("/v1/generate", prompt="Once", max_tokens=20)
        cls.s.generate(prompt="x" * 3000)
        cls.text = cls.s.get("/metrics").body.decode()

    @classmethod
    def tearDownClass(cls):
        status = cls.s.stop()
        assert status == 0, status

    def names(self):
        return set(re.findall(r"^(\w+)[{ ]", self.text, re.M))

    def check_query(self, where, query):
        asked = set(re.findall(r"\binferd_\w+", query))
        self.assertTrue(asked, f"{where}: {query} asks for nothing of ours")
        self.assertEqual(asked - self.names(), set(), where)
        for labels in re.findall(r"by \(([^)]*)\)", query):
            for label in re.split(r", *", labels):
                self.assertRegex(
                    self.text,
                    rf"(?m)^(?:{'|'.join(asked)}){{[^}}]*\b{label}=", where)

    def test_dashboard_asks_for_what_there_is(self):
        queries = dashboard_queries()
        self.assertGreater(len(queries), 20)
        for title, query in queries:
            with self.subTest(title):
                self.check_query(title, query)
        with self.assertRaises(AssertionError):
            self.check_query("wrong", "rate(inferd_no_such_total[1m])")
        with self.assertRaises(AssertionError):
            self.check_query("wrong", "sum by (nobody) (inferd_ready)")

    def test_autoscalers_ask_for_what_there_is(self):
        keda, = load("k8s/keda.yaml")
        hpa, = load("k8s/hpa.yaml")
        for trigger in keda["spec"]["triggers"]:
            self.check_query("keda.yaml", trigger["metadata"]["query"])
        for metric in hpa["spec"]["metrics"]:
            self.check_query("hpa.yaml", metric["pods"]["metric"]["name"])

    @unittest.skipUnless(shutil.which("promtool"), "no promtool here")
    def test_promtool_accepts_the_metrics(self):
        for text, good in ((self.text, True),
                           (self.text + "no number\n", False),
                           (self.text + "# HELP bad Unnamed.\n"
                            "# TYPE bad counter\nbad 1\n", False)):
            done = subprocess.run(["promtool", "check", "metrics"], input=text,
                                  text=True, capture_output=True)
            self.assertEqual(done.returncode == 0, good, done)
            if good:
                self.assertEqual(done.stdout + done.stderr, "")

    @unittest.skipUnless(shutil.which("prometheus"), "no prometheus here")
    def test_prometheus_answers_the_dashboard(self):
        """Scrape the real server; each query must return data."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        config, = load("prometheus.yml")
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        config["scrape_configs"][0]["static_configs"] = [
            {"targets": [f"127.0.0.1:{self.s.port}"]}]
        path = os.path.join(folder, "prometheus.yml")
        with open(path, "w", encoding="utf-8") as f:
            yaml.safe_dump(config, f)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        process = subprocess.Popen(
            ["prometheus", f"--config.file={path}", "--log.level=error",
             f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"])
        try:
            self.ask_all(f"http://127.0.0.1:{port}/api/v1/query?query=")
        finally:
            process.kill()
            process.wait()

    def ask_all(self, url):
        left, end = dashboard_queries(), time.monotonic() + 60
        while left and time.monotonic() < end:
            time.sleep(1)
            self.s.generate(prompt="Once upon a time", max_tokens=20)
            for title, query in list(left):
                try:
                    with urllib.request.urlopen(
                            url + urllib.parse.quote(query), timeout=10) as r:
                        result = json.load(r)["data"]["result"]
                except OSError:
                    break
                if result:
                    left.remove((title, query))
        self.assertEqual(left, [])

    def test_ids_reach_the_log_and_prompts_do_not(self):
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        for name, sent in (("one", trace), ("two", trace[:-1])):
            reply = self.s.post("/v1/generate", {
                "prompt": "Sesame", "max_tokens": 1},
                headers={"X-Request-Id": name, "traceparent": sent})
            self.assertEqual(reply.headers["X-Request-Id"], name)
            line = self.s.access_of(reply)
            self.assertEqual(line["trace_id"] == trace[3:35], name == "one")
            self.assertEqual(line["trace_id"],
                             reply.headers["traceparent"][3:35])
        with open(self.s.access_path, encoding="utf-8") as log:
            self.assertNotIn("Sesame", self.s.stderr() + log.read())

    def test_container_serves_the_models_that_ship(self):
        with open(os.path.join(DOCKER, "inferd.json"), encoding="utf-8") as f:
            listed = re.findall(r'"/models/([^"]+)"', f.read())
        ships = [os.path.basename(path) for path in
                 glob.glob(os.path.join(harness.ROOT, "models/*.gguf"))]
        self.assertEqual(sorted(listed), sorted(ships))

    def test_kubernetes_files_fit_each_other(self):
        objects = load("k8s/inferd.yaml")
        kinds = {o["kind"]: o for o in objects}
        deployment, service = kinds["Deployment"], kinds["Service"]
        pod = deployment["spec"]["template"]
        box = pod["spec"]["containers"][0]
        labels = pod["metadata"]["labels"]
        for selector in (deployment["spec"]["selector"]["matchLabels"],
                         service["spec"]["selector"],
                         kinds["PodDisruptionBudget"]["spec"]["selector"]
                         ["matchLabels"]):
            self.assertEqual(selector, labels)
        ports = {p["name"] for p in box["ports"]}
        self.assertIn(service["spec"]["ports"][0]["targetPort"], ports)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            get = box[probe]["httpGet"]
            self.assertIn(get["port"], ports)
            self.assertEqual(self.s.get(get["path"]).status, 200)
        sleep = box["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreater(pod["spec"]["terminationGracePeriodSeconds"],
                           sleep + 30)
        for name in ("hpa", "keda"):
            scaler, = load(f"k8s/{name}.yaml")
            self.assertEqual(scaler["spec"]["scaleTargetRef"]["name"],
                             deployment["metadata"]["name"])
