"""POST /v1/generate and /v1/completions: what a good request gets."""
import unittest

from harness import STORY, Case, check_schema, have_stories, joined

GREEDY = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 24}


class Generate(Case):
    def test_shape(self):
        r = self.s.generate(**GREEDY)
        self.assertEqual(r.status, 200)
        g = r.json
        self.assertEqual(g["model"], "main")
        self.assertEqual(len(g["choices"]), 1)
        usage = g["usage"]
        self.assertEqual(usage["completion_tokens"], 24)
        self.assertEqual(usage["total_tokens"],
                         usage["prompt_tokens"] + 24)
        self.assertEqual(g["choices"][0]["finish_reason"], "length")
        self.assertNotIn("token_ids", g["choices"][0])

    @unittest.skipUnless(have_stories(), "no stories260K")
    def test_known_story(self):
        r = self.s.generate(prompt=[1], temperature=0, max_tokens=48)
        self.assertTrue(r.text.strip().startswith(STORY), r.text)
        r = self.s.generate(prompt="Once upon a time", temperature=0,
                            max_tokens=48)
        self.assertTrue(("Once upon a time" + r.text).startswith(STORY))

    def test_text_prompt_is_ids_with_bos(self):
        r = self.s.generate(**GREEDY, return_token_ids=True)
        c = r.json["choices"][0]
        tok = self.s.post("/v1/tokenize", {"text": GREEDY["prompt"],
                                           "add_special": True}).json
        self.assertEqual(c["prompt_token_ids"],
                         [t["id"] for t in tok["tokens"]])
        again = self.s.generate(**{**GREEDY,
                                   "prompt": c["prompt_token_ids"]})
        self.assertEqual(again.text, r.text)
        self.assertEqual(len(c["token_ids"]), 24)
        self.assertEqual(r.json["usage"]["prompt_tokens"],
                         len(c["prompt_token_ids"]))

    def test_numbers_with_fraction_zero(self):
        r = self.s.post("/v1/generate",
                        b'{"prompt":"Once","max_tokens":3.0,"temperature":0}')
        self.assertEqual(r.json["usage"]["completion_tokens"], 3)

    def test_null_is_absent(self):
        fields = ("model", "temperature", "top_p", "top_k", "min_p", "seed",
                  "n", "stop", "stop_token_ids", "logit_bias", "logprobs",
                  "echo", "stream", "stream_options", "response_format",
                  "user", "deadline_ms", "priority")
        r = self.s.generate(prompt="Once", max_tokens=2,
                            **{name: None for name in fields})
        self.assertEqual(r.status, 200, r)

    def test_unknown_fields_are_ignored(self):
        r = self.s.generate(**GREEDY, no_such_field={"a": [1]}, metadata=1)
        self.assertEqual(r.status, 200)

    def test_text_response_format(self):
        r = self.s.generate(**GREEDY, response_format={"type": "text"})
        self.assertEqual(r.status, 200, r)

    def test_default_max_tokens_is_finite(self):
        r = self.s.generate(prompt="Once", ignore_eos=True, temperature=0)
        self.assertEqual(r.json["choices"][0]["finish_reason"], "length")
        self.assertLessEqual(r.json["usage"]["completion_tokens"], 511)

    def test_huge_max_tokens_is_capped(self):
        r = self.s.generate(prompt="Once", max_tokens=10 ** 9,
                            ignore_eos=True, temperature=0)
        self.assertEqual(r.status, 200, r)
        self.assertEqual(r.json["choices"][0]["finish_reason"], "length")

    def test_zero_tokens(self):
        r = self.s.generate(prompt="Once", max_tokens=0)
        self.assertEqual((r.status, r.text), (200, ""))
        r = self.s.generate(prompt="Once", max_tokens=0, echo=True)
        self.assertEqual((r.status, r.text), (200, "Once"))

    def test_prompt_with_every_kind_of_character(self):
        text = "h\u00e9llo \u4e16\u754c \U0001f600\t\n"
        r = self.s.generate(prompt=text, max_tokens=4, echo=True)
        self.assertTrue(r.text.startswith(text), r.text)

    def test_request_id(self):
        r = self.s.post("/v1/generate", GREEDY,
                        headers={"X-Request-Id": "abc-123"})
        self.assertEqual(r.headers["X-Request-Id"], "abc-123")
        for bad in ("x" * 1000, "a b\tc\x01", "\xe9"):
            r = self.s.post("/v1/generate", GREEDY,
                            headers={"X-Request-Id": bad})
            self.assertEqual(r.status, 200)
            self.assertNotEqual(r.headers["X-Request-Id"], bad)

    def test_content_type_with_charset(self):
        r = self.s.post("/v1/generate", GREEDY, headers={
            "Content-Type": "application/json; charset=utf-8"})
        self.assertEqual(r.status, 200)

    def test_second_model(self):
        r = self.s.generate(**GREEDY, model="slow")
        self.assertEqual(r.json["model"], "slow")

    def test_timings(self):
        t = self.s.generate(**GREEDY).json["timings"]
        self.assertGreater(t["tokens_per_second"], 0)


class Batch(Case):
    def test_prompts_in_order(self):
        prompts = ["Once upon a time", "The", "A big dog"]
        r = self.s.generate(prompt=prompts, temperature=0, max_tokens=8)
        choices = r.json["choices"]
        self.assertEqual([c["index"] for c in choices], [0, 1, 2])
        alone = [self.s.generate(prompt=p, temperature=0, max_tokens=8)
                 for p in prompts]
        self.assertEqual([c["text"] for c in choices],
                         [a.text for a in alone])
        self.assertEqual(r.json["usage"]["prompt_tokens"],
                         sum(a.json["usage"]["prompt_tokens"] for a in alone))

    def test_n(self):
        fields = {"prompt": ["Once", "The"], "max_tokens": 12, "seed": 7}
        r = self.s.generate(**fields, n=3)
        choices = r.json["choices"]
        self.assertEqual([c["index"] for c in choices], list(range(6)))
        texts = [c["text"] for c in choices[:3]]
        self.assertGreater(len(set(texts)), 1)
        first = self.s.generate(**{**fields, "prompt": "Once"})
        self.assertEqual(first.text, texts[0])
        self.assertLessEqual(r.json["usage"]["completion_tokens"], 72)

    def test_batch_stream(self):
        fields = {"prompt": ["Once", "The", "A"], "max_tokens": 10,
                  "seed": 3, "n": 2}
        whole = self.s.generate(**fields).json["choices"]
        parts = joined(self.s.stream("/v1/generate", **fields))
        self.assertEqual(parts, {c["index"]: c["text"] for c in whole})

    def test_token_ids_batch_for_completions(self):
        r = self.s.post("/v1/completions", {
            "prompt": [[1, 403], [1]], "max_tokens": 4, "temperature": 0})
        self.assertEqual(len(r.json["choices"]), 2)


class Sampling(Case):
    def test_same_seed_same_text(self):
        fields = {"prompt": "Once upon a time", "max_tokens": 40}
        a, b, c = (self.s.generate(**fields, seed=seed).text
                   for seed in (42, 42, 43))
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)

    def test_no_seed_differs(self):
        texts = {self.s.generate(prompt="Once", max_tokens=40).text
                 for _ in range(4)}
        self.assertGreater(len(texts), 1)

    def test_seed_range(self):
        for seed in (0, -1, 2 ** 31, 2 ** 53, -2 ** 53):
            r = self.s.generate(prompt="Once", max_tokens=4, seed=seed)
            self.assertEqual(r.status, 200, (seed, r))

    def test_top_k_1_is_greedy(self):
        greedy = self.s.generate(**GREEDY).text
        for fields in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 0.999999}):
            r = self.s.generate(**{**GREEDY, "temperature": 1, "seed": 1,
                                   **fields})
            self.assertEqual(r.text, greedy, fields)

    def test_every_parameter_is_taken(self):
        r = self.s.generate(prompt="Once", max_tokens=20, seed=5,
                            temperature=0.7, top_p=0.9, top_k=50, min_p=0.02,
                            typical_p=0.95, repetition_penalty=1.2,
                            presence_penalty=0.5, frequency_penalty=-0.5)
        self.assertEqual(r.status, 200, r)

    def test_logit_bias(self):
        base = self.s.generate(**GREEDY, return_token_ids=True)
        first = base.json["choices"][0]["token_ids"][0]
        r = self.s.generate(**GREEDY, return_token_ids=True,
                            logit_bias={str(first): -100})
        self.assertNotIn(first, r.json["choices"][0]["token_ids"])
        r = self.s.generate(**{**GREEDY, "max_tokens": 3},
                            return_token_ids=True, ignore_eos=True,
                            logit_bias={"300": 100})
        self.assertEqual(r.json["choices"][0]["token_ids"], [300] * 3)

    def test_penalties_change_greedy(self):
        r = self.s.generate(prompt="Once", temperature=0, max_tokens=60,
                            return_token_ids=True, ignore_eos=True,
                            presence_penalty=2, frequency_penalty=2)
        free = self.s.generate(prompt="Once", temperature=0, max_tokens=60,
                               return_token_ids=True, ignore_eos=True)
        count = [len(set(x.json["choices"][0]["token_ids"]))
                 for x in (r, free)]
        self.assertGreater(count[0], count[1])


class Stop(Case):
    def setUp(self):
        self.whole = self.s.generate(**{**GREEDY, "max_tokens": 60}).text

    def stopped(self, stop, **fields):
        r = self.s.generate(**{**GREEDY, "max_tokens": 60, **fields},
                            stop=stop)
        c = r.json["choices"][0]
        self.assertEqual(c["finish_reason"], "stop", c)
        return c["text"]

    def test_stop_at_every_place(self):
        """Strings of all lengths, so most cross token borders."""
        for start in range(3, min(60, len(self.whole) - 9), 4):
            for length in (1, 2, 5, 9):
                stop = self.whole[start:start + length]
                want = self.whole[:self.whole.index(stop)]
                self.assertEqual(self.stopped(stop), want, repr(stop))

    def test_stream_leaks_nothing(self):
        for start in range(5, 50, 9):
            stop = self.whole[start:start + 7]
            want = self.whole[:self.whole.index(stop)]
            chunks = self.s.stream("/v1/generate", stop=stop,
                                   **{**GREEDY, "max_tokens": 60})
            self.assertEqual(joined(chunks)[0], want)

    def test_first_of_several(self):
        a, b = self.whole[30:34], self.whole[12:15]
        cut = min(self.whole.index(a), self.whole.index(b))
        self.assertEqual(self.stopped([a, b, "never in it"]),
                         self.whole[:cut])

    def test_no_match_gives_all(self):
        r = self.s.generate(**{**GREEDY, "max_tokens": 60},
                            stop=["\u2603", self.whole[-3:] + "x"])
        self.assertEqual(r.text, self.whole)

    def test_stop_ids(self):
        r = self.s.generate(**GREEDY, return_token_ids=True)
        ids = r.json["choices"][0]["token_ids"]
        stop = ids[10]
        r = self.s.generate(**GREEDY, return_token_ids=True,
                            stop_token_ids=[stop])
        c = r.json["choices"][0]
        self.assertEqual(c["finish_reason"], "stop")
        self.assertLessEqual(len(c["token_ids"]), ids.index(stop) + 1)


class EchoAndLogprobs(Case):
    def test_echo(self):
        r = self.s.generate(**GREEDY)
        e = self.s.generate(**GREEDY, echo=True)
        self.assertEqual(e.text, GREEDY["prompt"] + r.text)

    def test_logprobs(self):
        for path in ("/v1/generate", "/v1/completions"):
            r = self.s.post(path, {**GREEDY, "logprobs": 3})
            c = r.json["choices"][0]
            lp = c["logprobs"]
            for key in ("tokens", "token_logprobs", "top_logprobs",
                        "text_offset"):
                self.assertEqual(len(lp[key]), 24, key)
            for got, top in zip(lp["token_logprobs"], lp["top_logprobs"]):
                # Greedy takes the best. Two tokens may share a text.
                self.assertAlmostEqual(got, max(top.values()), places=4)
                self.assertLessEqual(len(top), 4)
            self.assertEqual("".join(lp["tokens"]), c["text"])
            self.assertEqual(lp["text_offset"][0], 0)

    def test_logprobs_zero(self):
        r = self.s.generate(**GREEDY, logprobs=0)
        lp = r.json["choices"][0]["logprobs"]
        self.assertEqual(len(lp["token_logprobs"]), 24)

    def test_prompt_logprobs(self):
        """With echo the prompt is scored: perplexity tools need it."""
        r = self.s.post("/v1/completions", {
            "prompt": GREEDY["prompt"], "max_tokens": 0, "echo": True,
            "logprobs": 1})
        self.assertEqual(r.status, 200, r)
        lp = r.json["choices"][0]["logprobs"]
        self.assertIsNone(lp["token_logprobs"][0])
        self.assertGreater(len(lp["tokens"]), 2)
        for value in lp["token_logprobs"][1:]:
            self.assertLess(value, 0)

    def test_logprobs_do_not_change_the_text(self):
        self.assertEqual(self.s.generate(**GREEDY).text,
                         self.s.generate(**GREEDY, logprobs=5).text)

    def test_stream_logprobs(self):
        chunks = self.s.stream("/v1/generate", **GREEDY, logprobs=1)
        n = sum(len(c["logprobs"]["tokens"]) for chunk in chunks
                for c in chunk["choices"] if c.get("logprobs"))
        self.assertEqual(n, 24)


class Stream(Case):
    def test_equals_reply(self):
        for path in ("/v1/generate", "/v1/completions"):
            fields = {**GREEDY, "return_token_ids": True}
            whole = self.s.post(path, fields).json["choices"][0]
            chunks = self.s.stream(path, **fields)
            self.assertEqual(joined(chunks)[0], whole["text"])
            self.assertEqual(joined(chunks, "token_ids")[0],
                             whole["token_ids"])
            self.assertEqual(len({c["id"] for c in chunks}), 1)
            last = [c["choices"][0] for c in chunks if c["choices"]][-1]
            self.assertEqual(last["finish_reason"], "length")
            for chunk in chunks[:-1]:
                if chunk["choices"]:
                    self.assertIsNone(chunk["choices"][0]["finish_reason"])

    def test_usage_only_when_asked(self):
        for path in ("/v1/generate", "/v1/completions"):
            chunks = self.s.stream(path, **GREEDY)
            self.assertFalse([c for c in chunks if c.get("usage")])
            chunks = self.s.stream(path, **GREEDY,
                                   stream_options={"include_usage": True})
            self.assertEqual(chunks[-1]["choices"], [])
            check_schema("Usage", chunks[-1]["usage"])
            self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 24)
            for chunk in chunks[:-1]:
                self.assertIsNone(chunk.get("usage"))

    def test_characters_stay_whole(self):
        """Bias towards byte tokens: the stream must still be UTF-8 (checked
        when it is read) and equal the reply."""
        tok = self.s.post("/v1/tokenize", {"text": "\U0001f600\u4e16",
                                           "add_special": False}).json
        bias = {str(t["id"]): 30 for t in tok["tokens"]}
        fields = {"prompt": "Once", "max_tokens": 60, "seed": 11,
                  "logit_bias": bias, "temperature": 2}
        whole = self.s.generate(**fields).text
        self.assertEqual(
            joined(self.s.stream("/v1/generate", **fields))[0], whole)

    def test_arrives_piece_by_piece(self):
        chunks = self.s.stream("/v1/generate", **GREEDY)
        self.assertGreaterEqual(len(chunks), 12)

    def test_stream_false_is_a_reply(self):
        self.assertEqual(self.s.generate(**GREEDY, stream=False).status, 200)


class Completions(Case):
    def test_shape(self):
        r = self.s.post("/v1/completions", {**GREEDY, "model": "main"})
        c = r.json
        self.assertEqual(c["object"], "text_completion")
        self.assertEqual(c["choices"][0]["text"],
                         self.s.generate(**GREEDY).text)

    def test_default_is_16_tokens(self):
        r = self.s.post("/v1/completions", {"prompt": "Once",
                                            "ignore_eos": True})
        self.assertEqual(r.json["usage"]["completion_tokens"], 16)

    def test_best_of_equal_n(self):
        r = self.s.post("/v1/completions", {**GREEDY, "n": 1, "best_of": 1})
        self.assertEqual(r.status, 200, r)
        r = self.s.post("/v1/completions", {**GREEDY, "n": 1, "best_of": 3})
        self.assert_error(r, 400, "best_of")

    def test_suffix_is_refused(self):
        r = self.s.post("/v1/completions", {**GREEDY, "suffix": "end"})
        self.assert_error(r, 400, "suffix")


class PrefixCache(Case):
    def test_cached_and_the_same(self):
        prompt = ("Lily and Ben went to the park to play with the big dog. " *
                  4 + "They were happy")
        fields = {"prompt": prompt, "temperature": 0, "max_tokens": 20,
                  "logprobs": 1}
        a, b = self.s.generate(**fields), self.s.generate(**fields)
        self.assertEqual(a.json["choices"], b.json["choices"])
        cached = b.json["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertGreater(cached, 0)
