"""BERT checkpoints in Hugging Face's layout, imported and served: embeddings
and classes against the same net computed here in double precision."""
import json
import math
import os
import random
import struct
import unittest

from program import harness, must, read, scratch, train, write

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat dog ##s sat on mat a".split()
D, HEADS, FFN, LAYERS, CTX = 16, 2, 24, 2, 32
TEXTS = {"The cats sat": [2, 5, 6, 8, 9, 3],
         "a dog on the mat": [2, 12, 7, 10, 5, 11, 3],
         "zebra": [2, 1, 3]}


def shapes(classes=0):
    """Names and dimensions of a BertModel's tensors, with a head or not."""
    out = {"embeddings.word_embeddings.weight": (len(WORDS), D),
           "embeddings.position_embeddings.weight": (CTX, D),
           "embeddings.token_type_embeddings.weight": (2, D),
           "embeddings.LayerNorm.weight": (D,),
           "embeddings.LayerNorm.bias": (D,),
           "pooler.dense.weight": (D, D), "pooler.dense.bias": (D,)}
    for i in range(LAYERS):
        at = "encoder.layer.%d." % i
        for name, rows, cols in (("attention.self.query", D, D),
                                 ("attention.self.key", D, D),
                                 ("attention.self.value", D, D),
                                 ("attention.output.dense", D, D),
                                 ("intermediate.dense", FFN, D),
                                 ("output.dense", D, FFN)):
            out[at + name + ".weight"] = (rows, cols)
            out[at + name + ".bias"] = (rows,)
        for name in ("attention.output", "output"):
            out[at + name + ".LayerNorm.weight"] = (D,)
            out[at + name + ".LayerNorm.bias"] = (D,)
    if classes:
        out["classifier.weight"] = (classes, D)
        out["classifier.bias"] = (classes,)
    return out


def values(classes=0):
    draw = random.Random(5)
    return {name: [draw.gauss(1.0 if "LayerNorm.weight" in name else 0.0, 0.4)
                   for _ in range(math.prod(dims))]
            for name, dims in sorted(shapes(classes).items())}


def safetensors(tensors, dims):
    head, data = {}, b""
    for name, v in tensors.items():
        raw = struct.pack("<%df" % len(v), *v)
        head[name] = {"dtype": "F32", "shape": list(dims[name]),
                      "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def checkpoint(folder, classes=0, rename=lambda name: name, extra=None,
               config=None, **files):
    tensors, dims = values(classes), shapes(classes)
    tensors = {rename(n): v for n, v in tensors.items()}
    dims = {rename(n): d for n, d in dims.items()}
    for name in extra or ():
        tensors[name], dims[name] = [0.5] * 4, (4,)
    what = {"model_type": "bert", "vocab_size": len(WORDS), "hidden_size": D,
            "architectures": ["BertForSequenceClassification" if classes
                              else "BertModel"],
            "max_position_embeddings": CTX, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "intermediate_size": FFN,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            "hidden_act": "gelu", "position_embedding_type": "absolute"}
    if classes:
        what["id2label"] = {str(i): "class %d" % i for i in range(classes)}
    write(folder + "/config.json", json.dumps({**what, **(config or {})}))
    write(folder + "/model.safetensors", safetensors(tensors, dims))
    write(folder + "/vocab.txt", "\n".join(WORDS) + "\n")
    for name, text in files.items():
        write("%s/%s" % (folder, name.replace("__", "/").replace("_json",
                                                                 ".json")),
              text)
    return scratch(folder)


class Net:
    """The same in plain loops (Devlin et al. 2018)."""

    def __init__(self, tensors):
        self.t = tensors

    def rows(self, name, i):
        return self.t[name][i * D:(i + 1) * D]

    def linear(self, name, x):
        w, b, n = self.t[name + ".weight"], self.t[name + ".bias"], len(x)
        return [sum(w[o * n + i] * x[i] for i in range(n)) + b[o]
                for o in range(len(b))]

    def norm(self, name, x):
        mean = sum(x) / len(x)
        scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-12)
        return [(v - mean) * scale * w + b for v, w, b in
                zip(x, self.t[name + ".weight"], self.t[name + ".bias"])]

    def attend(self, at, xs):
        q, k, v = ([self.linear(at + "attention.self." + n, x) for x in xs]
                   for n in ("query", "key", "value"))
        width, out = D // HEADS, [[0.0] * D for _ in xs]
        for h in range(0, D, width):
            for i in range(len(xs)):
                scores = [sum(q[i][h + c] * k[j][h + c] for c in range(width))
                          / math.sqrt(width) for j in range(len(xs))]
                exps = [math.exp(s - max(scores)) for s in scores]
                for c in range(width):
                    out[i][h + c] = sum(e * v[j][h + c] for j, e in
                                        enumerate(exps)) / sum(exps)
        return out

    def run(self, ids):
        xs = [self.norm("embeddings.LayerNorm", [
            a + b + c for a, b, c in zip(
                self.rows("embeddings.word_embeddings.weight", t),
                self.rows("embeddings.position_embeddings.weight", i),
                self.rows("embeddings.token_type_embeddings.weight", 0))])
            for i, t in enumerate(ids)]
        for i in range(LAYERS):
            at = "encoder.layer.%d." % i
            att = self.attend(at, xs)
            xs = [self.norm(at + "attention.output.LayerNorm", [
                a + b for a, b in zip(x, self.linear(
                    at + "attention.output.dense", y))])
                for x, y in zip(xs, att)]
            up = [[0.5 * v * (1 + math.erf(v / math.sqrt(2)))
                   for v in self.linear(at + "intermediate.dense", x)]
                  for x in xs]
            xs = [self.norm(at + "output.LayerNorm", [
                a + b for a, b in zip(x, self.linear(at + "output.dense", u))])
                for x, u in zip(xs, up)]
        return xs


class BertImport(unittest.TestCase):
    def close(self, got, want):
        for a, b in zip(got, want):  # GELU's tanh form differs a little
            self.assertAlmostEqual(a, b, delta=4e-3)

    def ask(self, model, path, body):
        server = harness.Server(model=model)
        try:
            reply = server.post(path, body)
            self.assertEqual(reply.status, 200, reply)
            return reply.json["data"]
        finally:
            self.assertEqual(server.stop(), 0)

    def test_embeddings(self):
        net = Net(values())
        for pooling in ("mean", "cls"):
            folder = checkpoint("bi/" + pooling, **{
                "1_Pooling__config_json": json.dumps({
                    "pooling_mode_cls_token": pooling == "cls",
                    "pooling_mode_mean_tokens": pooling == "mean"})})
            model = folder + ".gguf"
            must("import", folder, model)
            data = self.ask(model, "/v1/embeddings",
                            {"input": list(TEXTS), "normalize": False})
            for item, ids in zip(data, TEXTS.values()):
                xs = net.run(ids)
                want = (xs[0] if pooling == "cls" else
                        [sum(x[c] for x in xs) / len(xs) for c in range(D)])
                self.close(item["embedding"], want)

    def test_classes(self):
        net = Net(values(3))
        folder = checkpoint("bi/classes", classes=3)
        model = folder + ".gguf"
        must("import", folder, model)
        data = self.ask(model, "/v1/classify",
                        {"input": list(TEXTS), "raw_scores": True})
        for item, ids in zip(data, TEXTS.values()):
            hidden = [math.tanh(v) for v in
                      net.linear("pooler.dense", net.run(ids)[0])]
            want = net.linear("classifier", hidden)
            got = {l["label"]: l["score"] for l in item["labels"]}
            self.close([got["class %d" % i] for i in range(3)], want)

    def test_other_names(self):
        """Below a pre-training head, with the norms' old names."""
        def old(name):
            return "bert." + name.replace(
                "LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta")
        models = []
        for i, args in enumerate(({}, {"rename": old, "extra": [
                "cls.predictions.bias", "cls.seq_relationship.bias",
                "bert.embeddings.position_ids"]})):
            folder = checkpoint("bi/%d/same" % i, **args)
            must("import", folder, folder + ".gguf")
            models.append(read(folder + ".gguf"))
        self.assertEqual(*models)

    def test_trained_on(self):
        """What was imported is a beginning for a classifier."""
        folder = checkpoint("bi/begin")
        must("import", folder, folder + ".gguf")
        draw = random.Random(1)
        data = write("bi/train.csv", "text,label\n" + "".join(
            "%s %s,%s\n" % (" ".join(draw.choices(["the", "a", "on", "sat"],
                                                  k=5)), w, w)
            for w in ("cat", "dog", "mat") * 80))
        done = train("classify", "--out", scratch("bi/run"), data, "--init",
                     folder)
        self.assertEqual(done.status, 2)
        self.assertIn("infer-train import", done.err)
        done = must("classify", "--out", scratch("bi/run"), data, "--init",
                    folder + ".gguf", "--epochs", "20", "--lr", "1e-2")
        self.assertIn("validation: accuracy 100.00 %", done.out)

    def test_bad_beginnings(self):
        """Files of which the header and the tensors disagree."""
        folder = checkpoint("bi/good")
        must("import", folder, folder + ".gguf")
        good = read(folder + ".gguf")
        data = write("bi/few.csv",
                     "text,label\n" + "the cat,a\na dog,b\n" * 30)

        def named(name):
            return struct.pack("<Q", len(name)) + name

        def rows(name, n):
            begin = named(name) + struct.pack("<IQ", 2, D)
            at = good.index(begin) + len(begin)
            return good[:at] + struct.pack("<Q", n) + good[at + 8:]

        def u32(key, n):
            begin = named(key) + struct.pack("<I", 4)
            at = good.index(begin) + len(begin)
            return good[:at] + struct.pack("<I", n) + good[at + 4:]

        def without(name):
            return good.replace(named(name), named(name[:-1] + b"_"))

        for i, (bad, says) in enumerate((
                (rows(b"token_embd.weight", 5),
                 "13 tokens, tensor 'token_embd.weight' 5 rows"),
                (rows(b"blk.0.ffn_up.weight", 8), "is not 16 x 24"),
                (u32(b"bert.attention.head_count", 0), "number of heads is 0"),
                (u32(b"bert.attention.head_count", 3), "as many key/value"),
                (u32(b"bert.embedding_length", 8), "is not 8 x 13"),
                (u32(b"bert.block_count", 3), "no tensor 'blk.2.attn_q"),
                (without(b"position_embd.weight"),
                 "no tensor 'position_embd.weight'"),
                (without(b"token_types.weight"),
                 "no tensor 'token_types.weight'"))):
            done = train("classify", "--out", scratch("bi/badrun%d" % i),
                         data, "--init", write("bi/off%d.gguf" % i, bad))
            self.assertIn(done.status, (1, 2), done)
            self.assertIn(says, done.err)

    def test_refused(self):
        head = {"model": {"type": "WordPiece", "vocab": {
            w: i for i, w in enumerate(WORDS)}}}
        cased = {"normalizer": {"type": "BertNormalizer", "lowercase": False}}
        for i, (args, says) in enumerate((
                ({"tokenizer_config_json": '{"do_lower_case": false}'},
                 "'do_lower_case' must be true"),
                ({"tokenizer_json": json.dumps({**head, **cased})},
                 "'lowercase' must be true"),
                ({"tokenizer_json": '{"model": {"type": "BPE"}}'},
                 "must be WordPiece"),
                ({"config": {"hidden_act": "relu"}}, "'hidden_act'"),
                ({"config": {"position_embedding_type": "relative_key"}},
                 "'position_embedding_type'"),
                ({"config": {"num_attention_heads": 3}}, "no multiple"),
                ({"config": {"vocab_size": 99}}, "[13][16]"),
                ({"extra": ["bert.embeddings.LayerNorm.beta"]},
                 "are the same"),
                ({"extra": ["encoder.adapter.weight"]},
                 "tensor 'encoder.adapter.weight' is not known"),
                ({"1_Pooling__config_json":
                  '{"pooling_mode_mean_tokens": false}'},
                 "'pooling_mode_mean_tokens'"),
                ({"1_Pooling__config_json":
                  '{"pooling_mode_mean_tokens": true, '
                  '"pooling_mode_cls_token": true}'}, "not both"),
                ({"1_Pooling__config_json":
                  '{"pooling_mode_mean_tokens": true, '
                  '"pooling_mode_max_tokens": true}'},
                 "'pooling_mode_max_tokens' is not supported"),
                ({"tokenizer_json": json.dumps({**head, "normalizer": {
                    "type": "Sequence", "normalizers": [
                        cased["normalizer"]]}})},
                 "must be BertNormalizer"),
                ({"tokenizer_json": json.dumps({**head, "normalizer": None})},
                 "'normalizer' must not be null"),
                ({"2_Dense__config_json": "{}"}, "2_Dense"))):
            folder = checkpoint("bi/bad%d" % i, **args)
            done = train("import", folder, folder + ".gguf")
            self.assertEqual(done.status, 1, done)
            self.assertIn(says, done.err)
            self.assertFalse(os.path.exists(folder + ".gguf"))
        folder = checkpoint("bi/novocab")
        write("bi/novocab/vocab.txt", "\n".join(WORDS).replace("[SEP]", "sep"))
        done = train("import", folder, folder + ".gguf")
        self.assertIn("no token '[SEP]'", done.err)
        write("bi/novocab/vocab.txt", "\n".join(WORDS + ["[X]", "y"]))
        done = train("import", folder, folder + ".gguf")
        self.assertIn("token '[X]' has id 13, the model has 13", done.err)
        # a token with a NUL is as long as its line
        write("bi/novocab/vocab.txt",
              "\n".join(WORDS).replace("mat", "m\0" + "t" * 500))
        must("import", folder, folder + ".gguf")
        self.assertIn(b"m\0" + b"t" * 500, read(folder + ".gguf"))
        # the same words as JSON
        folder = checkpoint("bi/json", tokenizer_json=json.dumps(head))
        must("import", folder, folder + ".gguf")


if __name__ == "__main__":
    unittest.main()
