"""Write a llama-architecture GGUF file with random weights.

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


def write(path, d=64, layers=2, heads=4, ff=128, ctx=512, seed=1, extra=(),
          template=None):
    """extra: more pieces for the vocabulary; template: chat_template."""
    vocab = vocabulary() + list(extra)
    meta = [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "random"),
        ("llama.context_length", U32, ctx),
        ("llama.embedding_length", U32, d),
        ("llama.block_count", U32, layers),
        ("llama.feed_forward_length", U32, ff),
        ("llama.attention.head_count", U32, heads),
        ("llama.attention.head_count_kv", U32, heads // 2),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.rope.dimension_count", U32, d // heads),
        ("llama.vocab_size", U32, len(vocab)),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [v[0] for v in vocab])),
        ("tokenizer.ggml.scores", ARRAY, (F32, [v[1] for v in vocab])),
        ("tokenizer.ggml.token_type", ARRAY, (_I32, [v[2] for v in vocab])),
        ("tokenizer.ggml.bos_token_id", U32, 1),
        ("tokenizer.ggml.eos_token_id", U32, 2),
        ("tokenizer.ggml.unknown_token_id", U32, 0),
    ]
    if template is not None:
        meta.append(("tokenizer.chat_template", STRING, template))
    kv = d // 2
    tensors = [("token_embd.weight", [d, len(vocab)]),
               ("output_norm.weight", [d])]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}.weight", shape) for name, shape in (
            ("attn_norm", [d]), ("attn_q", [d, d]), ("attn_k", [d, kv]),
            ("attn_v", [d, kv]), ("attn_output", [d, d]), ("ffn_norm", [d]),
            ("ffn_gate", [d, ff]), ("ffn_up", [d, ff]), ("ffn_down", [ff, d]))]

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
