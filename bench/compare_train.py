#!/usr/bin/env python3
"""compare_train.py - whole training steps of infer-train against PyTorch's.

Forward, backward, clipping and AdamW on the same GPT-2 shape and batch, in
turn, round by round; the table gives medians, the spread over rounds, the
ratio within a round and the most memory a process held. Each program takes the number of threads that suits it
best of those given. PyTorch is Debian's python3-torch.

    bench/compare_train.py --shapes 10.7M,124M-T256 --rounds 3
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile

# layers, heads, width, vocabulary, batch, tokens of a window, steps timed
SHAPES = {
    "0.8M": (4, 4, 128, 65, 12, 64, 60),
    "10.7M": (6, 6, 384, 65, 16, 256, 6),
    "124M-T64": (12, 12, 768, 50257, 4, 64, 6),
    "124M-T256": (12, 12, 768, 50257, 8, 256, 3),
}
PEERS = ("torch f32", "torch bf16")
OURS = ("infer-train f32", "infer-train auto")


def environment():
    env = dict(os.environ)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        env.pop(name, None)  # they halve OpenBLAS and slow PyTorch
    return env


def run(command):
    """What it printed, and the most memory it held, in bytes."""
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=errors)
        text = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            errors.seek(0)
            sys.exit(errors.read())
    return text, usage.ru_maxrss * 1024


# ---- PyTorch, in a process of its own ---------------------------------------


def torch_net(torch, layers, heads, width, vocab, batch, tokens):
    nn = torch.nn
    mask = ~torch.tril(torch.ones(tokens, tokens)).bool()

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            q, k, v = (
                t.view(batch, tokens, heads, -1).transpose(1, 2)
                for t in self.qkv(self.norm1(x)).split(width, 2)
            )
            s = (q @ k.transpose(-2, -1)) * (width // heads) ** -0.5
            a = torch.softmax(s.masked_fill(mask, float("-inf")), -1) @ v
            x = x + self.out(a.transpose(1, 2).reshape(batch, tokens, width))
            return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.place = nn.Embedding(vocab, width), nn.Embedding(tokens, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)
            self.head.weight = self.token.weight

        def forward(self, ids, targets):
            x = self.blocks(self.token(ids) + self.place(torch.arange(tokens)))
            logits = self.head(self.norm(x)).view(-1, vocab)
            return nn.functional.cross_entropy(logits.float(), targets.view(-1))

    return Net()


def torch_child(shape, precision, threads):
    import time

    import torch

    layers, heads, width, vocab, batch, tokens, steps = SHAPES[shape]
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net = torch_net(torch, layers, heads, width, vocab, batch, tokens)
    optim = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)
    ids = torch.randint(0, vocab, (batch, tokens))
    targets = torch.randint(0, vocab, (batch, tokens))
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        optim.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = net(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optim.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    print("speed", batch * tokens / statistics.median(seconds[2:]))


def run_torch(shape, precision, threads):
    text, memory = run(
        ["/usr/bin/python3", __file__, "--child", shape, precision, str(threads)])
    return float(re.search(r"speed (\S+)", text)[1]), memory


# ---- infer-train ------------------------------------------------------------


def write_text(path, n):
    words = "the quick brown fox jumps over lazy dogs and counts their many steps".split()
    with open(path, "w") as f:
        x = 1
        for i in range(n):
            x = x * 1103515245 + 12345 & 0x7FFFFFFF
            f.write(words[(x >> 8) % len(words)] + (".\n" if i % 11 == 10 else " "))


def run_ours(shape, precision, threads, folder, vocab_file):
    layers, heads, width, vocab, batch, tokens, steps = SHAPES[shape]
    text = os.path.join(folder, "text.txt")
    out = os.path.join(folder, "run")
    subprocess.run(["rm", "-rf", out], check=True)
    command = [
        "bin/infer-train", "lm", "--out", out, "--arch", "gpt2",
        "--layers", str(layers), "--heads", str(heads), "--width", str(width),
        "--context", str(tokens), "--batch", str(batch), "--steps", str(steps + 2),
        "--optimizer", "adamw", "--precision", precision, "--threads", str(threads),
        "--log-every", "1", "--eval-every", "100000", "--eval-tokens", "64",
        "--save-every", "100000", "--val", os.path.join(folder, "val.txt"),
        "--val-share", "0", "--peak", "1", text]
    if vocab > 1000:
        command[2:2] = ["--tokenizer", vocab_file]
    printed, memory = run(command)
    speeds = [float(s) for s in re.findall(r"(\d+) tokens/s", printed)]
    return statistics.median(speeds[2:-1]), memory  # the last holds the evaluation


# ---- the table --------------------------------------------------------------


def measure(name, shape, threads, folder, vocab_file):
    program, precision = name.split()
    if program == "torch":
        return run_torch(shape, precision, threads)
    return run_ours(shape, precision, threads, folder, vocab_file)


def compare(shape, rounds, threads, folder, vocab_file):
    names = PEERS + OURS
    speeds = {n: [] for n in names}
    memory = {n: 0 for n in names}
    for _ in range(rounds):
        for name in names:
            speed, most = max(measure(name, shape, t, folder, vocab_file) for t in threads)
            speeds[name].append(speed)
            memory[name] = max(memory[name], most)
    for name in names:
        s = sorted(speeds[name])
        cells = [shape, name, f"{statistics.median(s):,.0f}", f"{s[0]:,.0f} .. {s[-1]:,.0f}"]
        for peer in PEERS:
            r = sorted(a / b for a, b in zip(speeds[name], speeds[peer]))
            cells.append(f"{statistics.median(r):.2f} ({r[0]:.2f} .. {r[-1]:.2f})")
        cells.append(f"{memory[name] / 1e6:,.0f} MB")
        print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="2", help="to try, such as 1,2")
    parser.add_argument("--vocab", help="a GGUF file with GPT-2's vocabulary",
                        default="../shared/oracle/tokenizers/gpt-2/ggml-vocab-gpt-2.gguf")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        torch_child(options.child[0], options.child[1], int(options.child[2]))
        return
    print("| shape | program | tokens/s | range | against torch f32 | against torch bf16 "
          "| memory |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_text(os.path.join(folder, "text.txt"), 200000)
        write_text(os.path.join(folder, "val.txt"), 400)
        for shape in options.shapes.split(","):
            compare(shape, options.rounds, [int(t) for t in options.threads.split(",")],
                    folder, options.vocab)


if __name__ == "__main__":
    main()
