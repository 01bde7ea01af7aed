"""Trains a pipeline with torch.distributed.pipelining and tells how long its iterations took.

`bace bench pipeline --beside PYTHON scripts/bench_torch.py` runs this beside BACE's own pipeline: the same model, split,
batch and optimizer, fp32, Schedule1F1B, one process and one thread for each stage, gloo on the CPU and NCCL on CUDA. The
task comes as one line of JSON on standard input; the result goes as one line of JSON to standard output.
"""

import contextlib
import json
import math
import os
import pathlib
import socket
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

NORM_EPSILON = 1e-6
ROTARY_BASE = 10_000.0
EMBEDDING_DEVIATION = 0.1
# Text to draw batches from; more changes no figure.
TEXT_BYTES = 16 << 20


class Rotary(nn.Module):
    """Turns the pair of elements (i, i + head_size/2) of each head by its token's angle."""

    def __init__(self, tokens, head_size):
        super().__init__()
        self.half = head_size // 2
        speeds = ROTARY_BASE ** (-torch.arange(self.half, dtype=torch.float64) / self.half)
        angles = torch.outer(torch.arange(tokens, dtype=torch.float64), speeds)
        cosine, sine = angles.cos().float(), angles.sin().float()
        self.register_buffer("cosine", torch.cat([cosine, cosine], 1), persistent=False)
        self.register_buffer("sine", torch.cat([-sine, sine], 1), persistent=False)

    def forward(self, heads):  # (batch, heads, tokens, head_size)
        return heads * self.cosine + heads.roll(self.half, 3) * self.sine


class Layer(nn.Module):
    """Pre-norm attention and feed-forward, without biases."""

    def __init__(self, model, rotary):
        super().__init__()
        hidden, self.heads, self.kv_heads = model["hidden"], model["heads"], model["kv_heads"]
        self.head_size, self.gated = model["head_size"], model["gated"]
        inner, attended = model["feed_forward"], self.heads * self.head_size
        self.rotary = [rotary]  # in a list: its tables belong to the stage
        self.attention_gain = nn.Parameter(torch.ones(hidden))
        self.query_key_value = matrix((self.heads + 2 * self.kv_heads) * self.head_size, hidden)
        branches = math.sqrt(2 * model["layers"])
        self.attention_output = matrix(hidden, attended, branches)
        self.feed_forward_gain = nn.Parameter(torch.ones(hidden))
        self.inner = matrix(2 * inner if self.gated else inner, hidden)
        self.outer = matrix(hidden, inner, branches)

    def forward(self, stream):  # (batch, tokens, hidden)
        batch, tokens, hidden = stream.shape
        heads, kv_heads = self.heads, self.kv_heads
        normed = F.rms_norm(stream, (hidden,), self.attention_gain, NORM_EPSILON)
        projected = F.linear(normed, self.query_key_value)
        projected = projected.view(batch, tokens, heads + 2 * kv_heads, self.head_size).transpose(1, 2)
        turning, value = projected.split([heads + kv_heads, kv_heads], 1)
        query, key = self.rotary[0](turning).split([heads, kv_heads], 1)
        attended = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=heads != kv_heads
        )
        attended = attended.transpose(1, 2).reshape(batch, tokens, heads * self.head_size)
        stream = stream + F.linear(attended, self.attention_output)
        normed = F.rms_norm(stream, (hidden,), self.feed_forward_gain, NORM_EPSILON)
        inner = F.linear(normed, self.inner)
        if self.gated:
            gate, value = inner.chunk(2, -1)
            active = F.silu(gate) * value
        else:
            active = F.gelu(inner)
        return stream + F.linear(active, self.outer)


class StageModule(nn.Module):
    """A contiguous run of layers, with the embedding at the first stage and the head at the last."""

    def __init__(self, task, rank):
        super().__init__()
        model, split = task["model"], task["stage_layers"]
        hidden, vocabulary = model["hidden"], model["vocabulary"]
        self.rotary = Rotary(task["tokens"], model["head_size"])
        self.embedding = self.head = None
        if rank == 0:
            self.embedding = nn.Parameter(torch.randn(vocabulary, hidden) * EMBEDDING_DEVIATION)
        self.layers = nn.ModuleList(Layer(model, self.rotary) for _ in range(split[rank]))
        if rank == len(split) - 1:
            self.head_gain = nn.Parameter(torch.ones(hidden))
            self.head = matrix(vocabulary, hidden)

    def forward(self, stream):
        if self.embedding is not None:
            stream = F.embedding(stream, self.embedding)
        for layer in self.layers:
            stream = layer(stream)
        if self.head is not None:
            normed = F.rms_norm(stream, stream.shape[-1:], self.head_gain, NORM_EPSILON)
            stream = F.linear(normed, self.head)
        return stream


def matrix(outputs, inputs, shrink=1.0):
    """A matrix whose output is about as large as its input, or smaller by `shrink`."""
    return nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs) / shrink)


def optimizer_of(module, task):
    """AdamW in one fused operation; gains of norms do not decay."""
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": task["weight_decay"]},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    betas = (task["beta1"], task["beta2"])
    return torch.optim.AdamW(groups, lr=task["learning_rate"], betas=betas, eps=task["epsilon"], fused=True)


class Text:
    """Batches of bytes, the same on every rank."""

    def __init__(self, task, device):
        self.rows, self.tokens = task["micro_batches"] * task["sequences"], task["tokens"]
        self.device, self.draws = device, torch.Generator().manual_seed(task["seed"])
        # Without a text, torch's own sources: what BACE's workers train on by default.
        data, path = bytearray(), pathlib.Path(task["text"] or pathlib.Path(torch.__file__).parent)
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            if len(data) >= TEXT_BYTES:
                break
            data += file.read_bytes()
        self.data = torch.frombuffer(data, dtype=torch.uint8)

    def batch(self):
        starts = torch.randint(len(self.data) - self.tokens, (self.rows, 1), generator=self.draws)
        rows = self.data[starts + torch.arange(self.tokens + 1)].long().to(self.device)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def join(task, rank, port):
    """The device of this rank, once all ranks have met."""
    stages = len(task["stage_layers"])
    cuda = task["device"] != "cpu"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=stages,
        device_id=device if cuda else None,
    )
    return device


def train(rank, task, port):
    torch.set_num_threads(1)
    device, stages = join(task, rank, port), len(task["stage_layers"])
    torch.manual_seed(task["seed"] + rank)
    module = StageModule(task, rank).to(device)
    optimizer, text = optimizer_of(module, task), Text(task, device)
    micro_batches, vocabulary = task["micro_batches"], task["model"]["vocabulary"]

    def loss_of(logits, targets):
        # Divided here, so that no pass over the gradients has to.
        return F.cross_entropy(logits.view(-1, vocabulary), targets.view(-1)) / micro_batches

    stage = PipelineStage(module, rank, stages, device)
    schedule = Schedule1F1B(stage, micro_batches, loss_fn=loss_of, scale_grads=False)
    is_first, is_last = rank == 0, rank == stages - 1
    losses, ends_s = [], []
    for _ in range(task["iterations"]):
        tokens, targets = text.batch()
        kept = []
        schedule.step(
            *([tokens] if is_first else []),
            target=targets if is_last else None,
            losses=kept if is_last else None,
            return_outputs=False,
        )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(torch.stack(kept).sum() if is_last else None)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        ends_s.append(time.monotonic())
    own = {
        "parameters": sum(p.numel() for p in module.parameters()),
        "losses": [loss.item() for loss in losses] if is_last else None,
        "ends_s": ends_s,
    }
    found = [None] * stages
    dist.gather_object(own, found if is_first else None)
    if is_first:
        print(json.dumps(joined(found)), flush=True)
    dist.destroy_process_group()


def joined(found):
    """What all ranks have found; an iteration ends with the first stage's step."""
    return {
        "torch": torch.__version__,
        "parameters": sum(one["parameters"] for one in found),
        "losses": found[-1]["losses"],
        "ends_s": found[0]["ends_s"],
    }


def free_port():
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def main():
    task = json.loads(sys.stdin.readline())
    stages = len(task["stage_layers"])
    if task["device"] != "cpu" and torch.cuda.device_count() < stages:
        sys.exit(f"NCCL needs a CUDA device for each of {stages} stages; torch sees {torch.cuda.device_count()}")
    mp.spawn(train, (task, free_port()), nprocs=stages)


if __name__ == "__main__":
    main()
