"""response_format: what is written parses and validates, or is cut short and
says so; what cannot be kept is refused by name, at once."""
import json
import random
import re
import time
import unittest
import warnings

from harness import SLOW, Case, joined, together

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jsonschema

SEED = 20261125


def schema_format(schema, **more):
    return {"type": "json_schema",
            "json_schema": {"name": "x", "schema": schema, **more}}


def once(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)) or not keys, keys
    return dict(pairs)


class SchemaMaker:
    """Random schemas of every supported kind."""

    def __init__(self, rng):
        self.rng = rng

    def number(self, integer):
        r = self.rng
        s = {"type": "integer" if integer else "number"}
        lo = r.choice([-1000, -12, -1, 0, 0, 3, 99]) + r.choice([0, 0, .25])
        hi = lo + r.choice([0.5, 1, 7, 250, 10 ** 6])
        if integer:
            lo, hi = int(lo), int(hi) + 2
        if r.random() < .6:
            s[r.choice(["minimum", "exclusiveMinimum"])] = lo
        if r.random() < .6:
            s[r.choice(["maximum", "exclusiveMaximum"])] = hi
        return s

    def string(self):
        r = self.rng
        kind = r.randrange(5)
        if kind == 0:
            return {"type": "string"}
        if kind == 1:
            lo = r.randrange(4)
            return {"type": "string", "minLength": lo,
                    "maxLength": lo + r.choice([0, 1, 5, 40])}
        if kind == 2:
            return {"type": "string", "pattern": r.choice([
                "^[a-z]{1,8}$", "^(foo|ba[rz]){1,3}$", r"^\d{3}-\w+$",
                "^[^a-c\"\\\\]{2,4}$", "^.{3}$", "^a?b*c{2}$", "x", "^\\S\\s$",
                "^[\u00e0-\u00ff\u4e00-\u4eff]{1,3}$", "^$|^-$"])}
        if kind == 3:
            return {"type": "string", "format": r.choice(
                ["date", "time", "date-time", "uuid", "ipv4", "email"])}
        return {"enum": r.sample(["a", "ab", "abc", "b", "", "\"\\", "\n",
                                  "\u00e9\u4e16", "\U0001f600"],
                                 r.randint(1, 5))}

    def array(self, depth):
        r = self.rng
        s = {"type": "array"}
        if r.random() < .8:
            s["items"] = self.any(depth - 1)
        if r.random() < .3:
            s["prefixItems"] = [self.any(depth - 1)
                                for _ in range(r.randint(1, 3))]
            if r.random() < .5:
                s["items"] = False
                return s
        if r.random() < .7:
            s["maxItems"] = r.randint(0, 4)
            s["minItems"] = r.randint(0, s["maxItems"])
        return s

    def object(self, depth):
        r = self.rng
        names = r.sample(["a", "ab", "b", "name", "\u00fc", "x y", "q\"", "z"],
                         r.randint(0, 5))
        s = {"type": "object",
             "properties": {n: self.any(depth - 1) for n in names}}
        s["required"] = [n for n in names if r.random() < .6]
        if r.random() < .1:
            s["required"].append("more")
        extra = r.choice([None, False, True, "schema"])
        if extra == "schema":
            extra = self.any(depth - 1)
        if extra is not None:
            s["additionalProperties"] = extra
        if "more" in s["required"] and extra is False:
            s["required"].remove("more")
        return s

    def union(self, depth):
        r = self.rng
        kind = r.choice(["anyOf", "oneOf", "type", "tagged"])
        if kind == "type":
            return {"type": r.sample(["null", "boolean", "integer", "string"],
                                     2)}
        if kind == "tagged":
            return {"oneOf": [{
                "type": "object", "required": ["kind", "v"],
                "properties": {"kind": {"const": k}, "v": self.any(depth - 1)}}
                for k in ("p", "q")]}
        branches = [self.array(depth - 1), {"type": "null"}, self.number(True)]
        return {kind: r.sample(branches, r.randint(1, 3))}

    def any(self, depth):
        r = self.rng
        if depth <= 0:
            return r.choice([self.string, lambda: self.number(True),
                             lambda: self.number(False),
                             lambda: {"type": "boolean"},
                             lambda: {"const": r.choice([0, 1.5, "x", None, [
                                 1, {"a": 2}]])}])()
        return r.choice([self.object, self.object, self.array, self.union,
                         lambda _: {}])(depth)


class Structured(Case):
    def ask(self, fmt, **fields):
        r = self.s.generate(**{"prompt": "Once upon a time", "seed": 5,
                               "max_tokens": 120, "response_format": fmt,
                               **fields})
        self.assertEqual(r.status, 200, r)
        return r.json["choices"]

    def check(self, schema, choices):
        """All that ended validates; how many did."""
        ended = 0
        for c in choices:
            self.assertIn(c["finish_reason"], ("stop", "length"))
            if c["finish_reason"] == "stop":
                value = json.loads(c["text"])
                jsonschema.Draft202012Validator(schema).validate(value)
                ended += 1
        return ended

    def test_random_schemas(self):
        rng = random.Random(SEED)
        maker = SchemaMaker(rng)
        ended = n = 0
        for i in range(120 // (3 if SLOW > 1 else 1)):
            schema = maker.any(rng.randint(0, 3))
            with self.subTest(seed=SEED, i=i, schema=schema):
                choices = self.ask(schema_format(schema), n=3, seed=i,
                                   temperature=rng.choice([0.5, 1, 3]))
                ended += self.check(schema, choices)
                n += len(choices)
        self.assertGreater(ended, n / 3, "too few end to prove much")

    def test_json_object(self):
        ended = 0
        for seed in range(12):
            c, = self.ask({"type": "json_object"}, seed=seed, temperature=1.5)
            if c["finish_reason"] == "stop":
                self.assertIsInstance(json.loads(
                    c["text"], object_pairs_hook=dict), dict)
                ended += 1
        self.assertGreater(ended, 2)

    def test_strings_are_utf8_and_escaped(self):
        """Pushed towards bytes, quotes and backslashes."""
        vocabulary = self.s.post("/v1/tokenize", {
            "text": "\u00e9\U0001f600\u4e16\\\"\n", "add_special": False}).json
        bias = {str(t["id"]): 6 for t in vocabulary["tokens"]}
        for seed in range(10):
            c, = self.ask(schema_format({"type": "string", "maxLength": 12}),
                          seed=seed, temperature=2, logit_bias=bias)
            self.assertEqual(c["finish_reason"], "stop", c)
            text = json.loads(c["text"])
            self.assertLessEqual(len(text), 12)
            text.encode("utf-8")  # no lone surrogates
            self.assertNotIn("\ufffd", text)

    def test_recursion(self):
        schema = {"$defs": {"tree": {
            "type": "object", "required": ["v", "sub"],
            "properties": {"v": {"type": "integer"}, "sub": {
                "type": "array", "items": {"$ref": "#/$defs/tree"}}}}},
            "$ref": "#/$defs/tree"}
        self.check(schema, self.ask(schema_format(schema), n=6,
                                    temperature=1.5))
        # never ends by itself: runs into the depth that is allowed, and on
        deep = {"$defs": {"a": {"type": "array", "items": {
            "$ref": "#/$defs/a"}, "minItems": 0}}, "$ref": "#/$defs/a"}
        ids = self.s.post("/v1/tokenize", {"text": "[[[",
                                           "add_special": False}).json
        bias = {str(t["id"]): 50 for t in ids["tokens"]}
        c, = self.ask(schema_format(deep), max_tokens=400, logit_bias=bias,
                      temperature=0)
        if c["finish_reason"] == "stop":
            json.loads(c["text"])
        self.assertGreater(c["text"].count("["), 60)

    def test_cut_short_says_so(self):
        schema = {"type": "string", "minLength": 50}
        for more in ({"max_tokens": 5}, {"stop": ["a", "e", "o", "i", "t"]}):
            c, = self.ask(schema_format(schema), **more)
            self.assertEqual(c["finish_reason"], "length")

    def test_a_stop_string_that_never_comes(self):
        schema = {"type": "array", "items": {"enum": ["ab"]}, "minItems": 2,
                  "maxItems": 3}
        c, = self.ask(schema_format(schema), stop=["zz", "abc"])
        self.assertEqual(c["finish_reason"], "stop")
        self.check(schema, [c])

    def test_same_bytes_alone_and_in_company(self):
        maker = SchemaMaker(random.Random(3))
        jobs = [{"prompt": "Once", "seed": i, "max_tokens": 60, "n": 1 + i % 3,
                 "temperature": 1.2, "logprobs": 1,
                 "response_format": schema_format(maker.any(2))}
                for i in range(16)]
        alone = [self.s.generate(**j).json["choices"] for j in jobs]
        crowd = together([
            lambda j=j: self.s.generate(**j).json["choices"] for j in jobs])
        self.assertEqual(alone, crowd)

    def test_stream_equals_reply(self):
        fmt = schema_format({"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 20}}, "required": ["a"]})
        fields = {"prompt": "Once", "seed": 4, "max_tokens": 80, "n": 2,
                  "response_format": fmt}
        whole = self.s.generate(**fields).json["choices"]
        chunks = self.s.stream("/v1/generate", **fields)
        for c in whole:
            self.assertEqual(joined(chunks)[c["index"]], c["text"])

    def test_completions_too(self):
        r = self.s.post("/v1/completions", {
            "prompt": "x", "response_format": schema_format(
                {"enum": ["yes", "no"]})})
        self.assertIn(r.text.strip(), ('"yes"', '"no"'))
        self.assertEqual(r.json["choices"][0]["finish_reason"], "stop")

    def test_batch_of_prompts(self):
        r = self.s.generate(prompt=["a", "b", "c"], seed=1,
                            response_format=schema_format(
                                {"type": "integer", "minimum": 1,
                                 "maximum": 3}))
        for c in r.json["choices"]:
            self.assertIn(c["text"].strip(), "123")

    def test_large_enum_and_many_optional(self):
        values = [f"value {i}" for i in range(4000)]
        schema = {"enum": values}
        self.check(schema, self.ask(schema_format(schema), n=4))
        schema = {"type": "object", "properties": {
            f"p{i}": {"type": "integer", "maximum": 9, "minimum": 0}
            for i in range(200)}}
        self.check(schema, self.ask(schema_format(schema), n=2))

    def test_every_enum_value_can_come(self):
        seen = set()
        for c in self.ask(schema_format({"enum": [1, 12, 123, "a", "ab"]}),
                          n=60, temperature=100):
            seen.add(c["text"].strip())
        self.assertEqual(seen, {"1", "12", "123", '"a"', '"ab"'})


REFUSED = [
    ({"not": {}}, "not"),
    ({"if": {}}, "if"),
    ({"type": "strin"}, "strin"),
    ({"type": 1}, "type"),
    ({"type": []}, "type"),
    ({"type": ["null", "null"]}, "twice"),
    ({"type": ["null"] * 8, "enum": [None]}, "twice"),
    ({"properties": []}, "properties"),
    ({"properties": {"a": 1}}, "#/properties/a"),
    ({"properties": {"a": {"nope": 1}}}, "nope"),
    ({"required": "a"}, "required"),
    ({"required": [1]}, "required"),
    ({"patternProperties": {}}, "patternProperties"),
    ({"minProperties": 1}, "minProperties"),
    ({"uniqueItems": True}, "uniqueItems"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
    ({"type": "array", "minItems": -1}, "minItems"),
    ({"type": "array", "minItems": 1.5}, "minItems"),
    ({"type": "array", "contains": {}}, "contains"),
    ({"prefixItems": []}, "prefixItems"),
    ({"type": "string", "minLength": 4, "maxLength": 3}, "minLength"),
    ({"type": "string", "pattern": "a", "maxLength": 3}, "pattern"),
    ({"type": "string", "format": "regex"}, "format"),
    ({"type": "string", "pattern": 1}, "pattern"),
    ({"type": "string", "pattern": "("}, "pattern"),
    ({"type": "string", "pattern": ")"}, "pattern"),
    ({"type": "string", "pattern": "[a"}, "class"),
    ({"type": "string", "pattern": "[b-a]"}, "range"),
    ({"type": "string", "pattern": "a**"}, "repeat"),
    ({"type": "string", "pattern": "a{2,1}"}, "quantifier"),
    ({"type": "string", "pattern": "a{x}"}, "quantifier"),
    ({"type": "string", "pattern": "(?=a)"}, "(?:"),
    ({"type": "string", "pattern": "(a)\\1"}, "escape"),
    ({"type": "string", "pattern": "\\bx"}, "escape"),
    ({"type": "string", "pattern": "a^b"}, "ends"),
    ({"type": "string", "pattern": "(a*)*"}, "empty"),
    ({"type": "string", "pattern": "\\"}, "backslash"),
    ({"type": "string", "pattern": "[^\\s\\S]"}, "class"),
    ({"type": "integer", "minimum": 5, "maximum": 4}, "bounds"),
    ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "bounds"),
    ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "bounds"),
    ({"type": "number", "minimum": 1e-18}, "digits"),
    ({"type": "number", "minimum": "1"}, "minimum"),
    ({"type": "number", "multipleOf": 0.1}, "multipleOf"),
    ({"enum": []}, "enum"),
    ({"enum": 1}, "enum"),
    ({"enum": ["a"], "minLength": 1}, "enum"),
    ({"type": "string", "enum": [1]}, "type"),
    ({"const": 1e300}, "9e15"),
    ({"enum": [str(i) for i in range(5000)]}, "4096"),
    ({"anyOf": []}, "anyOf"),
    ({"anyOf": [{}], "type": "string"}, "anyOf"),
    ({"allOf": [{}, {}]}, "allOf"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
    ({"oneOf": [{}, {"type": "null"}]}, "oneOf"),
    ({"$ref": "#/nowhere"}, "$ref"),
    ({"$ref": "http://example.com/x"}, "$ref"),
    ({"$ref": 1}, "$ref"),
    ({"$defs": {"x" * 256: {}}, "$ref": "#/$defs/" + "x" * 300}, "$ref"),
    ({"$ref": "#"}, "itself"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
      "$ref": "#/$defs/a"}, "itself"),
    ({"$defs": {"a": {"type": "object", "properties": {
        "x": {"$ref": "#/$defs/a"}}, "required": ["x"]}},
      "$ref": "#/$defs/a"}, "nothing satisfies"),
    ({"type": "object", "properties": {"a": False}, "required": ["a"]},
     "false"),
    ({"minimum": 1, "minLength": 2}, "type"),
]


def nested_types(depth):
    s = {}
    for _ in range(depth):
        s = {"type": ["object"] * 7, "properties": {"a": s}}
    return s


# Large, deep, or made to explode: an answer at once, either way.
HOSTILE = [
    nested_types(12),
    {"$defs": {f"z{i}": {} for i in range(30000)} |
     {f"a{i}": {"const": i} for i in range(200)},
     "oneOf": [{"$ref": f"#/$defs/a{i}"} for i in range(200)]},
    {"type": ["null"] * 50000, "enum": list(range(4096))},
    {"properties": {f"p{i}": {"type": "string", "pattern": "".join(
        f"[{chr(97 + k % 26)}{chr(0x4e00 + 600 * i + k)}]"
        for k in range(600))} for i in range(100)}},
    {"type": "object", "additionalProperties": True,
     "properties": {f"a{i}": {} for i in range(1000)},
     "required": [f"b{i}" for i in range(1000)]},
    {"oneOf": [{"enum": list(range(0, 100000, 2))},
               {"enum": list(range(1, 100000, 2))}]},
    {"oneOf": [{"type": "object", "required": [f"a{i}" for i in range(20000)],
                "properties": {f"a{i}": {"const": k} for i in range(20000)}}
               for k in (1, 1)]},
    {"type": "string", "pattern": "(" * 60000 + ")" * 60000},
    {"type": "string", "pattern": "(" * 2000 + "a" + ")" * 2000},
    {"type": "string", "pattern": "(a{1000000000}){1000000000}"},
    {"type": "string", "pattern": "(a|b|c|d){999999}" * 100},
    {"type": "string", "pattern": "(.*.*.*.*.*.*)x" * 50},
    {"type": "string", "pattern": "[" + "a-z" * 1000 + "]"},
    {"type": "string", "minLength": 10 ** 9},
    {"enum": ["x" * i for i in range(1000)]},
    {"anyOf": [{"type": "string", "pattern": f"^(a|aa)*{i}$"}
               for i in range(200)]},
    {"anyOf": [{"enum": [f"{i} {k}" for k in range(4000)]}
               for i in range(40)] + [{}]},  # too large, then anything
    {"properties": {str(i): {} for i in range(2000)}},
    {"properties": {str(i): {} for i in range(900)}},
    {"required": [str(i) for i in range(1000)],
     "additionalProperties": {"enum": list(range(1000))}},
    {"$defs": {str(i): {"anyOf": [
        {"type": "array", "items": {"$ref": f"#/$defs/{i + 1}"}},
        {"type": "array", "items": {"$ref": f"#/$defs/{i + 1}"},
         "maxItems": 3}]} for i in range(60)} | {"60": {"type": "null"}},
     "$ref": "#/$defs/0"},
    {"$defs": {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(1500)},
     "$ref": "#/$defs/0"},
    {"$defs": {str(i): {"type": "array", "items": {
        "$ref": f"#/$defs/{(i * 7 + 1) % 1000}"}} for i in range(1000)},
     "$ref": "#/$defs/0"},
]


class StructuredErrors(Case):
    def ask(self, schema, **fields):
        return self.s.generate(prompt="Once", max_tokens=8, seed=1,
                               response_format=schema_format(schema), **fields)

    def test_refused_by_name(self):
        for schema, word in REFUSED:
            with self.subTest(schema=str(schema)[:100]):
                e = self.assert_error(self.ask(schema), 400, word)
                self.assertEqual(e["param"], "response_format")
                self.assertEqual(e["code"], "invalid_schema")

    def test_wrong_types(self):
        for path in ("/v1/generate", "/v1/completions"):
            for value in ("x", 1, True, [], {}, {"type": 1}, {"type": "x"},
                          {"type": "json_schema"},
                          {"type": "json_schema", "json_schema": 1},
                          {"type": "json_schema", "json_schema": {}},
                          {"type": "json_schema",
                           "json_schema": {"schema": 1}},
                          {"type": "json_schema",
                           "json_schema": {"name": 1, "schema": {}}},
                          {"type": "json_schema", "json_schema": {
                              "name": "x", "schema": {}, "strict": 1}}):
                with self.subTest(path=path, value=value):
                    self.assert_error(self.s.post(path, {
                        "prompt": "x", "response_format": value}), 400,
                        "response_format")

    def test_hostile(self):
        before = self.s.rss()
        for schema in HOSTILE:
            with self.subTest(schema=str(schema)[:80]):
                start = time.monotonic()
                r = self.ask(schema)
                took = time.monotonic() - start
                self.assertIn(r.status, (200, 400), r)
                self.assertLess(took, 1.5 * SLOW)
        self.assertLess(self.s.rss() - before, 200e6 * (4 if SLOW > 1 else 1))

    def test_deep_json_is_refused_by_the_parser(self):
        deep = b'{"type":"array","items":' * 80 + b"{}" + b"}" * 80
        r = self.s.post("/v1/generate", b'{"prompt":"x","response_format":'
                        b'{"type":"json_schema","json_schema":{"name":"x",'
                        b'"schema":' + deep + b"}}}")
        self.assertEqual(r.status, 400)


if __name__ == "__main__":
    unittest.main()
