"""Write GGUF files with random weights: llama's architecture, our encoder's.

For tests that need a model of a certain size, where none is at hand, or a file
to damage. The weights repeat one block of random numbers: fast to make, and
the same on each machine. The vocabulary is <unk>, <s>, </s>, the 256 bytes,
single characters and pairs of letters.
"""
import array
import random
import struct

U32, F32, STRING, ARRAY = 4, 6, 8, 9
_I32 = 5
ALIGN = 32


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _entry(key, kind, value):
    head = _string(key) + struct.pack("<I", kind)
    if kind == U32:
        return head + struct.pack("<I", value)
    if kind == F32:
        return head + struct.pack("<f", value)
    if kind == STRING:
        return head + _string(value)
    item, values = value
    head += struct.pack("<IQ", item, len(values))
    if item == STRING:
        return head + b"".join(_string(v) for v in values)
    return head + struct.pack(f"<{len(values)}{'f' if item == F32 else 'i'}",
                              *values)


def vocabulary():
    """[(piece, score, type)]; type 1 normal, 2 unknown, 3 control, 6 byte."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    letters = "etaoinshrdlucmfwygpbvkxqjz"
    pairs = ["\u2581" + c for c in letters]
    pairs += [a + b for a in letters[:8] for b in letters[:8]]
    singles = "\u2581" + letters + letters.upper() + ".,!?'\"-\n0123456789"
    singles += "\u00e9\u4e16\u754c"
    for rank, piece in enumerate(pairs + list(singles)):
        pieces.append((piece, -float(rank), 1))
    return pieces


def _tokenizer(extra=()):
    vocab = vocabulary() + list(extra)
    return len(vocab), [
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [v[0] for v in vocab])),
        ("tokenizer.ggml.scores", ARRAY, (F32, [v[1] for v in vocab])),
        ("tokenizer.ggml.token_type", ARRAY, (_I32, [v[2] for v in vocab])),
        ("tokenizer.ggml.bos_token_id", U32, 1),
        ("tokenizer.ggml.eos_token_id", U32, 2),
        ("tokenizer.ggml.unknown_token_id", U32, 0),
    ]


def _shape(arch, d, layers, heads, ff, ctx, n_vocab):
    return [
        ("general.architecture", STRING, arch),
        ("general.name", STRING, "random"),
        (f"{arch}.context_length", U32, ctx),
        (f"{arch}.embedding_length", U32, d),
        (f"{arch}.block_count", U32, layers),
        (f"{arch}.feed_forward_length", U32, ff),
        (f"{arch}.attention.head_count", U32, heads),
        (f"{arch}.attention.head_count_kv", U32, heads // 2),
        (f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5),
        (f"{arch}.rope.dimension_count", U32, d // heads),
        (f"{arch}.vocab_size", U32, n_vocab),
    ]


def _layers(d, layers, ff, n_vocab):
    kv = d // 2
    tensors = [("token_embd.weight", [d, n_vocab]),
               ("output_norm.weight", [d])]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}.weight", shape) for name, shape in (
            ("attn_norm", [d]), ("attn_q", [d, d]), ("attn_k", [d, kv]),
            ("attn_v", [d, kv]), ("attn_output", [d, d]), ("ffn_norm", [d]),
            ("ffn_gate", [d, ff]), ("ffn_up", [d, ff]), ("ffn_down", [ff, d]))]
    return tensors


def write(path, d=64, layers=2, heads=4, ff=128, ctx=512, seed=1, extra=(),
          template=None):
    """extra: more pieces for the vocabulary; template: chat_template."""
    n_vocab, tokenizer = _tokenizer(extra)
    if template is not None:
        tokenizer.append(("tokenizer.chat_template", STRING, template))
    _write(path, _shape("llama", d, layers, heads, ff, ctx, n_vocab) +
           tokenizer, _layers(d, layers, ff, n_vocab), seed)


def write_encoder(path, labels=(), kind=None, d=64, layers=2, ctx=128,
                  buckets=0, keys=(), seed=1):
    """labels: none, an embedder; one without kind, a reranker."""
    arch = "inferd-encoder"
    n_vocab, tokenizer = _tokenizer()
    meta = _shape(arch, d, layers, 4, 2 * d, ctx, n_vocab) + tokenizer
    meta += [(f"{arch}.pooling_type", U32, 1), *keys]
    tensors = _layers(d, layers, 2 * d, n_vocab)
    if buckets:
        meta += [(f"{arch}.ngram.{name}", U32, value) for name, value in (
            ("buckets", buckets), ("min", 1), ("max", 2), ("char_min", 3),
            ("char_max", 4))]
        tensors.append(("ngram_embd.weight", [d, buckets]))
    if kind:
        meta.append(("inferd.classifier.kind", STRING, kind))
    if labels:
        meta.append((f"{arch}.classifier.output_labels", ARRAY,
                     (STRING, list(labels))))
        tensors += [("cls.output.weight", [d, len(labels)]),
                    ("cls.output.bias", [len(labels)])]
    _write(path, meta, tensors, seed)


def _write(path, meta, tensors, seed):
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(meta))
    head += b"".join(_entry(*entry) for entry in meta)
    offset = 0
    for name, shape in tensors:
        head += _string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", 0, offset)  # F32
        offset += 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        offset += -offset % ALIGN

    rng = random.Random(seed)
    # A prime length, so that no two rows of a matrix are the same.
    block = array.array("f", (rng.gauss(0, 1) for _ in range(8191)))
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGN))
        for _, shape in tensors:
            if len(shape) == 1:
                data = array.array("f", [1.0]) * shape[0]
            else:
                n = shape[0] * shape[1]
                shift = rng.randrange(8191)
                scaled = array.array("f", (x * shape[0] ** -0.5 for x in
                                           block[shift:] + block[:shift]))
                data = (scaled * (n // 8191 + 1))[:n]
            data = data.tobytes()
            file.write(data + bytes(-len(data) % ALIGN))
