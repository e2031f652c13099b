"""Many at once: the same bytes as one by one."""
import random

from harness import Case, joined, together

WORDS = ("Once upon a time there was a little girl named Lily who loved to "
         "play outside in the park with her dog Max and a big red ball").split()


def requests(count, seed=1):
    """Mixed lengths, parameters, seeds, models, streams and routes."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        fields = {
            "prompt": " ".join(rng.choices(WORDS, k=rng.choice(
                (1, 3, 10, 40, 90)))),
            "max_tokens": rng.choice((1, 7, 30, 64, 120)),
            "seed": i, "return_token_ids": True,
            "temperature": rng.choice((0, 0, 0.7, 1, 1.5)),
            "ignore_eos": rng.random() < 0.5,
            "model": "slow" if i % 16 == 5 else "main",
        }
        extra = rng.choice((
            {}, {"top_k": 20}, {"top_p": 0.9}, {"min_p": 0.05},
            {"typical_p": 0.9}, {"repetition_penalty": 1.3},
            {"presence_penalty": 1, "frequency_penalty": 0.5},
            {"logit_bias": {"300": 5, "310": -100}}, {"n": 2},
            {"logprobs": 3}, {"echo": True}, {"stop": ["the", "\n"]}))
        path = "/v1/completions" if i % 5 == 0 else "/v1/generate"
        made.append((path, i % 3 == 0, {**fields, **extra}))
    return made


class Concurrency(Case):
    def run_one(self, path, stream, fields):
        if stream:
            chunks = self.s.stream(path, **fields)
            texts, ids = joined(chunks), joined(chunks, "token_ids")
            return [(texts[i], ids.get(i) or []) for i in sorted(texts)]
        r = self.s.post(path, fields)
        self.assertEqual(r.status, 200, (fields, r))
        return [(c["text"], c["token_ids"]) for c in r.json["choices"]]

    def test_batch_invariance(self):
        made = requests(64)
        alone = [self.run_one(*request) for request in made]
        for _ in range(2):
            crowd = together([lambda q=q: self.run_one(*q) for q in made])
            for request, a, b in zip(made, alone, crowd):
                self.assertEqual(a, b, request)

    def test_same_request_many_times(self):
        fields = {"prompt": "Once upon", "max_tokens": 50, "seed": 9}
        texts = together([lambda: self.s.generate(**fields).text
                          for _ in range(32)])
        self.assertEqual(len(set(texts)), 1)

    def test_gauges_return_to_zero(self):
        together([lambda: self.s.generate(prompt="a", max_tokens=20)
                  for _ in range(16)])
        for name in ("inferd_requests_running", "inferd_queue_requests"):
            self.s.wait_metric(name, lambda v: v == 0)

    def test_errors_among_good_ones(self):
        def call(i):
            if i % 3 == 0:
                return self.s.generate(prompt="a", n=-1).status
            if i % 3 == 1:
                return self.s.post("/v1/generate", b"{").status
            return self.s.generate(prompt="a", max_tokens=10).status
        got = together([lambda i=i: call(i) for i in range(60)])
        self.assertEqual(got, [400, 400, 200] * 20)
