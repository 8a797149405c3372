"""Bound from the rooms of twofile/ by `make run.py`: edit there, not here.

    python run.py model.bin -p "Once upon a time"

the ground
    needs                What must be there before anything else: Python and numpy, new enough.
    errors               What goes wrong, in four parts on one line, and what is only said.
    files                Opening what a user names.
    machine              What this machine has: memory, cores, a name.

what stands in a file
    format/types         How the elements of a tensor stand in the file.
    format/config        The numbers a model is made of.
    format/table         The header page and the table of tensors: read, refuse.

what kernels are written in
    words/word           Words that kernels are written in, and what writes their instructions.
    words/numbers        Words of arithmetic, lane by lane; the same bits on every machine.
    words/dots           Words of integer dot products: 16 rows of 4 weights meet 4 activations. The sums are exact, so every machine gets the same.
    words/memory         Words that read and write memory.
    words/threads        Words for what threads do to each other.
    machines/amx         Intel's matrix unit.
    machines/host        Which instruction set this machine has.

from words to machine code
    compiler/kernel      What is compiled: kernels, and functions inlined into them.
    compiler/compile     A kernel becomes object code, by numba.
    compiler/kept        Object code kept between runs, in a folder that is ours alone.
    compiler/code        Object code becomes addresses and functions.

a forward as data
    program/buffers      Memory that kernels work in.
    program/passes       The words of a record and of a pass.
    program/player       The threads that play a program.

what is compiled
    kernels/play         The kernel that plays the others, and what threads share and wait for.
    kernels/rows         Rows of results: as float32, or quantised for a matmul.
    kernels/activation   Functions of the feed-forward part, number by number.
    kernels/attention    Attention over the cache.
    kernels/convolution  Short convolutions over the tokens.
    kernels/exact        e^x in float64 of + and * alone.
    kernels/delta        The gated delta rule.
    kernels/embed        Rows of a matrix, by their numbers.
    kernels/experts      Mixtures of experts: who is asked, what they say, by what weight.
    kernels/matmul       Matrices times rows.
    kernels/norm         Norms of rows and of heads.
    kernels/pick         The choice of a token.
    kernels/rotation     Positions as angles, and what goes into the cache of keys and values.
    kernels/table        Kernels that are made of a template, by name.

the parts of a model
    layers/plan          The tensors of a file, in order.

a model that runs, and text
    modelfile            A model file, checked and mapped.
    forward              The model recorded once as a program, played for every pass.
    tokenizer/compose    Unicode's form C, in time also for long texts.
    tokenizer/file       The sections of a tokenizer.bin.
    tokenizer/splits     How text is cut before merging.
    tokenizer/contents   What a tokenizer.bin says, checked.
    tokenizer/merges     A word becomes ids, by merging its neighbours.
    tokenizer/stream     Tokens in, whole characters out.
    tokenizer/template   A conversation as a chat template writes it.
    tokenizer/users      User-defined tokens, which are searched for in text.
    tokenizer/tokenizer  Text to ids and back.
    tokenizer/find       Which tokenizer a model has.

writing
    sampler              Logits and one number in [0, 1) become the next id.
    chances              Logits become chances.
    answers              What was written, as OpenAI's objects.
    writer               One text in the making.
    guess                Guesses of what comes, and the loop that tries them.
    engine               A model file on this machine: what it takes to run, and who runs it.
    session              One text in the cache.
    prompts              What a user gives becomes ids that fit.
    together             Many texts written at once, the weights read once for all.
    scores               What a model says of given texts.
    promptcache          A session on disk.
    about                What a model file says of itself.
    model                What a program imports: text in, text out.

the program
    front/text           Text from outside, and text for a terminal.
    front/prompt         The prompt, from flags, files and pipes.
    front/batch          JSON lines in, JSON lines out, many texts written together.
    front/flags          The command line's flags.
    front/bench          Tokens per second, as llama-bench measures them, and the machine's ceilings beside them.
    front/chat           A conversation in a terminal.
    front/show           What is printed about a model or a given text.
    front/write          Writing one text to stdout.
    front/main           The program: flags, modes, signals, exit codes.
"""

import argparse
import bisect
import codecs
import contextlib
import ctypes
import functools
import hashlib
import heapq
import importlib.util
import inspect
import itertools
import math
import os
import random
import re
import signal
import stat
import struct
import sys
import threading
import time
import weakref
from collections import Counter, namedtuple
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

# ===== the ground

# -----------------------------------------------------------------------------
# twofile/needs.py
# What must be there before anything else: Python and numpy, new enough.

import sys

STARTED = __name__ == "__main__" or sys.argv[:1] == ["-m"]  # run as a program, not imported by one


def lacking(found):
    """End the program with what is missing, in one line; an import with an ImportError."""
    if not STARTED:
        raise ImportError(found)
    sys.exit(f"run.py: error: {found}")


try:
    import numpy as np
except ImportError:
    lacking("the package numpy is not installed; expected numpy and numba; pip install numpy numba")
except KeyboardInterrupt:
    if not STARTED:
        raise
    sys.exit(130)
if sys.version_info < (3, 10) or int(np.__version__.split(".")[0]) < 2:
    lacking(
        f"Python {sys.version.split()[0]} with numpy {np.__version__}; "
        "expected 3.10 and 2.0, or newer; update them"
    )


# -----------------------------------------------------------------------------
# twofile/errors.py
# What goes wrong, in four parts on one line, and what is only said.

class ModelError(Exception):
    """The file or the request is not one this program can serve; the message says why and what to
    do."""


def printable(text):
    """text with everything that could drive a terminal escaped."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)


def say(text):
    """Put a notice on stderr, in the program's name."""
    print(f"run.py: {text}", file=sys.stderr, flush=True)


# -----------------------------------------------------------------------------
# twofile/files.py
# Opening what a user names.

def padded(n, multiple):
    """n rounded up to a multiple."""
    return -(-n // multiple) * multiple


def open_regular(path, what):
    """A read-only file descriptor of a regular file, and its size in bytes; never blocks on a FIFO.
    what it should be is for messages. Raises ModelError."""
    name = printable(str(path))
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        make = ", or make one with export.py" if ".bin" in what else ""
        raise ModelError(f"{name}: not found; expected {what}; check the path{make}") from None
    except (OSError, ValueError) as e:
        raise ModelError(
            f"{name}: cannot be opened ({e}); expected {what}; check the path and permissions"
        ) from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise ModelError(f"{name}: not a regular file; expected {what}; give the file itself")
    return fd, info.st_size


def read_small(path, what, most):
    """The bytes of a regular file of at most so many; what it should be is for messages. Raises
    ModelError."""
    fd, size = open_regular(path, what)
    with os.fdopen(fd, "rb") as f:
        if size > most:
            found = f"{printable(str(path))}: {size:,} bytes"
            raise ModelError(f"{found}, expected {what} of at most {most:,}; give the right file")
        return f.read(most)


# -----------------------------------------------------------------------------
# twofile/machine.py
# What this machine has: memory, cores, a name.

IMPORT_SECONDS = time.process_time()  # processor time since the process began


def total_memory():
    """Bytes of memory this process may use: the machine's, or its control group's if that is
    less."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = Path("/sys/fs/cgroup/memory.max")
        return (
            min(memory, int(limit.read_text()))
            if limit.exists() and limit.read_text().strip() != "max"
            else memory
        )
    except (AttributeError, OSError, ValueError):
        return 1 << 62


def available_cores():
    """Physical cores, of those this process may run on, within its control group's quota."""
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:
        cpus = range(os.cpu_count() or 1)
    cores = set()
    for cpu in cpus:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else cpu)
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        most, period = quota.read_text().split()
        if most != "max":
            return max(1, min(len(cores), -(-int(most) // int(period))))
    return max(1, len(cores))


def cpu_name():
    """The processor, as the system names it."""
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        import platform

        return platform.processor() or platform.machine()


def peak_rss():
    """Most memory that this process has held, in bytes; 0 where it cannot be known."""
    try:  # not getrusage, which counts what the parent held when it started this program
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


# ===== what stands in a file

# -----------------------------------------------------------------------------
# twofile/format/types.py
# How the elements of a tensor stand in the file.

GROUP = 32  # columns that share a scale in q8_0 and q4_0
BLOCK = 16  # rows of a block; see pack_matrix in export.py
DTYPES = {"f32": 1, "f16": 2, "bf16": 3, "q8_0": 4, "q4_0": 5, "i32": 6, "u8": 7}
BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8, "q4_0": 4, "i32": 32, "u8": 8}
MATRIX_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")


def tensor_bytes(dtype, shape, layout):
    """Bytes a tensor takes in the file, as an exact Python int; layout 1 counts the padding of its blocks."""
    if layout:
        shape = (
            padded(shape[0], BLOCK),
            padded(shape[1], GROUP) if dtype in ("q8_0", "q4_0") else shape[1],
        )
    return math.prod(shape) * BITS[dtype] // 8


def scale_shape(shape):
    """Shape of W.s for a quantised matrix of this shape: [blocks, groups, rows of a block]."""
    return (padded(shape[0], BLOCK) // BLOCK, padded(shape[1], GROUP) // GROUP, BLOCK)


# -----------------------------------------------------------------------------
# twofile/format/config.py
# The numbers a model is made of.

NONE = 0xFFFFFFFF  # an absent token id
CONFIG_U32 = (
    "dim n_layers n_heads n_kv_heads head_dim ffn_dim vocab_size max_ctx norm act qk_norm qk_after parallel "
    "router norm_topk n_experts top_k expert_ffn shared_ffn n_rope flags"
).split()
CONFIG_F32 = (
    "eps post_eps attn_scale embed_scale resid_scale logit_scale attn_cap final_cap clip_qkv route_scale "
    "act_alpha act_limit temp_beta temp_len"
).split()
CONFIG_LAST = "rope_long sample_temperature sample_top_p sample_top_k".split()
CONFIG_MIX = "conv_len delta_k_heads delta_v_heads delta_k_dim delta_v_dim head_dim2 n_kv_heads2 kv_shared".split()
CONFIG_MIX += "ffn_dim2 ple_dim".split()
CONFIG_F32_USED = set(CONFIG_F32) - {"post_eps", "clip_qkv", "route_scale"}
CONFIG = struct.Struct(
    f"<16s{len(CONFIG_U32)}I{len(CONFIG_F32)}f2I32sI2fI{len(CONFIG_MIX)}I224s"
)  # 476 of the 512 bytes
FLAGS = {"head": 1, "qkv_bias": 2, "o_bias": 4, "gate_up_bias": 8, "down_bias": 16, "tokenizer": 32}

# no gate; norms behind attention and feed-forward; no norms before them; table of positions; and so on
FLAGS |= {
    "ungated": 64,
    "post_norm": 128,
    "no_pre_norm": 256,
    "positions": 512,
    "head_bias": 1024,
    "embed_norm": 2048,
}
FLAGS |= {"norm_bias": 4096, "shared_gate": 8192, "expert_bias": 16384, "sinks": 32768}
FLAGS |= {"attn_gate": 1 << 16, "v_norm": 1 << 17, "layer_scale": 1 << 18, "delta_turns": 1 << 19}
ATTENTION, CONV, DELTA, ATTENTION2 = range(4)  # kinds of layers: how tokens learn of each other
ACTIVATIONS = ("silu", "gelu_tanh", "gelu_erf", "relu", "relu2", "clamped")
RANGES = {  # field -> (least, most) that this version runs; what is not listed must be zero
    "dim": (1, 1 << 20),
    "n_layers": (1, 1024),
    "n_heads": (1, 1 << 16),
    "n_kv_heads": (1, 1 << 16),
    "head_dim": (2, 1024),
    "ffn_dim": (1, 1 << 22),
    "vocab_size": (1, 1 << 22),
    "max_ctx": (1, 1 << 24),
    "norm": (0, 1),
    "act": (0, len(ACTIVATIONS) - 1),
    "qk_norm": (0, 2),
    "qk_after": (0, 1),
    "parallel": (0, 1),
    "norm_topk": (0, 1),
    "n_experts": (0, 1024),
    "top_k": (0, 32),
    "expert_ffn": (0, 1 << 20),
    "shared_ffn": (0, 1 << 20),
    "n_rope": (1, 16),
    "flags": (0, (1 << 20) - 1),
    "conv_len": (0, 16),
    "delta_k_heads": (0, 1 << 12),
    "delta_v_heads": (0, 1 << 12),
    "delta_k_dim": (0, 1024),
    "delta_v_dim": (0, 1024),
    "head_dim2": (0, 1024),
    "n_kv_heads2": (0, 1 << 16),
    "kv_shared": (0, 1023),
    "ffn_dim2": (0, 1 << 22),
    "ple_dim": (0, 1 << 14),
}


@dataclass(frozen=True)
class Config:
    """The numbers a model is made of, in the order of the file. Zero means off; docs/format.md has the table."""

    arch_tag: str  # the family, for people only: no decision hangs on it
    dim: int  # width of the residual stream
    n_layers: int
    n_heads: int  # query heads
    n_kv_heads: int  # key/value heads; divides n_heads
    head_dim: int
    ffn_dim: int  # hidden width of the feed-forward part
    vocab_size: int
    max_ctx: int  # positions the model was made for
    norm: int = 0  # 0 = RMS, 1 = layer norm
    act: int = 0  # of ACTIVATIONS
    qk_norm: int = 0  # norm of queries and keys: 1 = each head by itself, 2 = all heads together
    qk_after: int = 0  # 1 = that norm comes behind the rotation
    parallel: int = 0  # 1 = attention and feed-forward read the same input
    router: int = 0
    norm_topk: int = 0  # 1 = the weights of the chosen experts sum to 1
    n_experts: int = (
        0  # 0 = no mixture of experts; else the feed-forward part of every layer is one
    )
    top_k: int = 0  # experts of a token
    expert_ffn: int = 0
    shared_ffn: int = 0  # width of an expert that every token goes to, 0 = none
    n_rope: int = 1  # tables in the tensor "rope"
    flags: int = 0  # FLAGS, or-ed
    eps: float = 1e-5  # of the norms
    post_eps: float = 0.0
    attn_scale: float = 0.0  # 0 = 1/sqrt(head_dim)
    embed_scale: float = 0.0
    resid_scale: float = 0.0
    logit_scale: float = 0.0
    attn_cap: float = 0.0
    final_cap: float = 0.0
    clip_qkv: float = 0.0
    route_scale: float = 0.0
    act_alpha: float = 0.0
    act_limit: float = 0.0
    temp_beta: float = 0.0
    temp_len: float = 0.0
    bos: int = NONE
    eos: int = NONE
    tokenizer_sha256: bytes = bytes(32)  # of the whole tokenizer.bin; zeros = exported without one
    rope_long: int = (
        0  # a context longer than this uses the second half of the rope tables; 0 = there is none
    )
    sample_temperature: float = 0.0  # how the model's makers sample; 0 = they do not say
    sample_top_p: float = 0.0
    sample_top_k: int = 0
    conv_len: int = 0  # taps of the convolutions of layers of kind CONV and DELTA
    delta_k_heads: int = 0  # of layers of kind DELTA: heads that queries and keys have,
    delta_v_heads: int = 0  # heads that values and states have,
    delta_k_dim: int = 0  # and their sizes: a state is a matrix of these two
    delta_v_dim: int = 0
    head_dim2: int = 0  # of layers of kind ATTENTION2
    n_kv_heads2: int = 0
    kv_shared: int = (
        0  # so many last layers use the keys and values of the last layer of their kind before them
    )
    ffn_dim2: int = 0  # hidden width in those layers, 0 = ffn_dim
    ple_dim: int = 0  # width of what each layer gets of a token's own embedding for it, 0 = nothing
    kinds: bytes = bytes(224)  # of each layer; beyond the 224th all are ATTENTION

    def kind(self, layer):
        return self.kinds[layer] if layer < len(self.kinds) else ATTENTION

    def heads(self, layer):
        """Of an attention layer: its kv heads, the size of a head."""
        second = self.kind(layer) == ATTENTION2
        return (self.n_kv_heads2, self.head_dim2) if second else (self.n_kv_heads, self.head_dim)

    def attends(self, layer):
        return self.kind(layer) in (ATTENTION, ATTENTION2)

    def state_floats(self, layer):
        """Numbers that a layer of kind CONV or DELTA keeps of a sequence: of its convolution's inputs, of its heads' states."""
        state = (
            self.delta_v_heads * self.delta_k_dim * padded(self.delta_v_dim, BLOCK)
            if self.kind(layer) == DELTA
            else 0
        )
        return max(self.conv_len - 1, 1) * padded(self.mixed(layer)[0], GROUP), state

    def kv_layer(self, layer):
        """The layer whose keys and values an attention layer sees: its own, or an earlier one's; None if there is none."""
        own = self.n_layers - self.kv_shared
        return (
            layer
            if layer < own
            else max((i for i in range(own) if self.kind(i) == self.kind(layer)), default=None)
        )

    def ffn(self, layer):
        return (
            self.ffn_dim2 or self.ffn_dim
            if layer >= self.n_layers - self.kv_shared
            else self.ffn_dim
        )

    def mixed(self, layer):
        """Of what comes from a layer's matrix qkv: the columns convolved, those in all, and those of what goes to matrix o."""
        c = self
        if c.kind(layer) == CONV:
            return c.dim, 3 * c.dim, c.dim
        if c.kind(layer) == DELTA:
            values = c.delta_v_heads * c.delta_v_dim
            convolved = 2 * c.delta_k_heads * c.delta_k_dim + values
            return convolved, convolved + values, values
        kv, size = c.heads(layer)
        rows = (
            c.n_heads
            + (2 * kv if c.kv_layer(layer) == layer else 0)
            + (c.n_heads if c.has("attn_gate") else 0)
        )
        return 0, rows * size, c.n_heads * size

    def has(self, flag):
        """True if the optional part named flag (a key of FLAGS) is in the file."""
        return bool(self.flags & FLAGS[flag])

    def pack(self):
        """-> the 512 bytes of the header page's config."""
        body = CONFIG.pack(
            self.arch_tag.encode()[:16],
            *(getattr(self, name) for name in CONFIG_U32),
            *(getattr(self, name) for name in CONFIG_F32),
            self.bos,
            self.eos,
            self.tokenizer_sha256,
            *(getattr(self, name) for name in CONFIG_LAST),
            *(getattr(self, name) for name in CONFIG_MIX),
            self.kinds,
        )
        return body.ljust(512, b"\0")

    @classmethod
    def unpack(cls, raw):
        """512 bytes -> Config, unchecked."""
        tag, *numbers = CONFIG.unpack_from(raw)
        last = ("bos", "eos", "tokenizer_sha256", *CONFIG_LAST, *CONFIG_MIX, "kinds")
        named = dict(zip([*CONFIG_U32, *CONFIG_F32, *last], numbers))
        return cls(tag.rstrip(b"\0").decode("ascii", "replace"), **named)


def _check_config(c):
    for name in CONFIG_U32 + CONFIG_MIX:
        low, high = RANGES.get(name, (0, 0))
        if not low <= getattr(c, name) <= high:
            hint = "" if name in RANGES else "; it needs a newer run.py"
            raise ModelError(
                f"{name} is {str(getattr(c, name))[:40]}, expected {low}..{high}{hint}; export again"
            )
    for name in CONFIG_F32:
        value = getattr(c, name)
        if not math.isfinite(value) or value < 0:
            raise ModelError(
                f"{name} is {value}, expected a finite number, not negative; export again"
            )
        if value and name not in CONFIG_F32_USED:
            raise ModelError(
                f"{name} is {value}, expected 0 in this version; it needs a newer run.py"
            )
    if not (0 <= c.sample_temperature <= 100 and 0 <= c.sample_top_p <= 1):
        found = f"temperature {c.sample_temperature}, top_p {c.sample_top_p}"
        raise ModelError(f"{found}, expected 0 to 100 and 0 to 1; export again")
    if c.temp_len % 1 or c.temp_len > 1 << 30 or bool(c.temp_beta) > bool(c.temp_len):
        raise ModelError(
            f"temp_len is {c.temp_len}, expected a whole number of positions to 2^30; export again"
        )
    if c.n_heads % c.n_kv_heads or c.head_dim % 2:
        heads = f"{c.n_heads} heads over {c.n_kv_heads} of size {c.head_dim}"
        raise ModelError(f"{heads}, expected a divisor and an even size; export again")
    if c.has("head_bias") > c.has("head") or c.rope_long and c.n_rope % 2:
        raise ModelError("flags or rope tables that cannot be together; export again")
    mixed = c.n_experts and (
        c.top_k < 1 or c.top_k > c.n_experts or c.expert_ffn < 8 or c.expert_ffn % 8 or c.dim % 16
    )
    other = c.parallel or c.has("ungated") or c.has("post_norm") or c.has("no_pre_norm")
    if mixed or c.n_experts and other or c.n_experts * max(2 * c.expert_ffn, c.dim) > 1 << 31:
        text = f"{c.n_experts} experts of {c.expert_ffn}, {c.top_k} a token"
        wants = "widths of whole blocks, a gate, norms before and not behind, and no more a token than there are"
        raise ModelError(f"{text}; expected {wants}; export again")
    if not c.n_experts and (
        c.top_k or c.expert_ffn or c.shared_ffn or c.norm_topk or c.has("shared_gate")
    ):
        raise ModelError("parts of a mixture of experts without experts; export again")
    clamped = ACTIVATIONS[c.act] == "clamped"
    if (
        c.has("expert_bias") > bool(c.n_experts)
        or clamped != (c.act_limit > 0)
        or clamped
        and c.has("ungated")
    ):
        raise ModelError(
            "biases of experts without experts, or a limit without its activation and gate; export again"
        )
    if c.qk_after > bool(c.qk_norm):
        raise ModelError("qk_after is 1 without a norm of queries and keys; export again")
    if c.has("shared_gate") > bool(c.shared_ffn):
        raise ModelError("a gate of a shared expert without one; export again")
    if c.n_heads * c.head_dim > 1 << 20:
        raise ModelError(
            f"{c.n_heads} heads of {c.head_dim} are wider than {1 << 20}; export again"
        )
    if not 0 < c.eps < 1:
        raise ModelError(f"eps is {c.eps}, expected a number between 0 and 1; export again")
    for name in ("bos", "eos"):
        if getattr(c, name) != NONE and getattr(c, name) >= c.vocab_size:
            raise ModelError(
                f"{name} is {getattr(c, name)}, expected an id below {c.vocab_size}; export again"
            )
    if any(c.kinds) or c.flags >> 16 or any(getattr(c, name) for name in CONFIG_MIX):
        _check_kinds(c)


def _check_kinds(c):
    """Layers of several kinds: each has what it needs, and nothing is there for a kind that is not."""
    found = set(c.kinds[: c.n_layers])
    if any(c.kinds[c.n_layers :]) or max(found) > ATTENTION2:
        raise ModelError(
            f"kinds of layers {sorted(found)}, expected 0..{ATTENTION2} and zeros behind them; use a newer run.py"
        )
    if bool(c.conv_len) != bool(found & {CONV, DELTA}):
        raise ModelError(
            f"conv_len is {c.conv_len}, expected taps for layers that convolve and for no others; export again"
        )
    sizes = c.delta_k_heads, c.delta_v_heads, c.delta_k_dim, c.delta_v_dim
    wide = max(c.delta_k_heads * c.delta_k_dim, c.delta_v_heads * c.delta_v_dim)
    wrong = any(sizes) and (not all(sizes) or c.delta_v_heads % c.delta_k_heads or wide > 1 << 20)
    if any(sizes) != (DELTA in found) or wrong or c.has("delta_turns") > any(sizes):
        text = f"{sizes[0]} and {sizes[1]} heads of {sizes[2]} and {sizes[3]} in delta layers"
        raise ModelError(
            f"{text}, expected sizes for such layers, the first a divisor of the second; export again"
        )
    if c.delta_k_dim % 4:
        raise ModelError(f"delta_k_dim is {c.delta_k_dim}, expected a multiple of 4; export again")
    second = c.head_dim2, c.n_kv_heads2
    odd = c.head_dim2 % 2 or c.n_heads * c.head_dim2 > 1 << 20 or c.rope_long
    wrong = any(second) and (not all(second) or c.n_heads % c.n_kv_heads2 or odd)
    if any(second) != (ATTENTION2 in found) or wrong:
        text = f"a second kind of attention of {c.n_kv_heads2} heads of {c.head_dim2}"
        raise ModelError(
            f"{text}, expected a divisor of {c.n_heads} and an even size, for such layers; export again"
        )
    shared = range(c.n_layers - c.kv_shared, c.n_layers)
    if c.kv_shared >= c.n_layers or any(not c.attends(i) or c.kv_layer(i) is None for i in shared):
        text = f"kv_shared is {c.kv_shared}"
        raise ModelError(
            f"{text}, expected attention layers, each with one of its kind before them; export again"
        )
    if c.ffn_dim2 and not c.kv_shared or c.ple_dim % 16 or c.n_layers * c.ple_dim > 1 << 22:
        raise ModelError(
            f"ffn_dim2 is {c.ffn_dim2}, ple_dim {c.ple_dim}, expected shared layers, whole blocks; export again"
        )
    if c.ple_dim and (c.n_experts or ACTIVATIONS[c.act] == "clamped"):
        raise ModelError(
            "embeddings of layers beside experts are not run by this version; use a newer run.py"
        )
    if c.parallel or any(
        c.has(flag) for flag in ("qkv_bias", "o_bias", "ungated", "no_pre_norm", "positions")
    ):
        raise ModelError(
            "layers of several kinds with biases, or in parallel, or without norms or gates; use a newer run.py"
        )


# -----------------------------------------------------------------------------
# twofile/format/table.py
# The header page and the table of tensors: read, refuse.

MAGIC = b"\x89LMB\r\n\x1a\n"
VERSION = 1
ENDIAN = 0x01020304
PAGE, RECORD = 4096, 192
HEADER = struct.Struct("<8sIIQIIQQQQ32s")
RECORD_FIELDS = struct.Struct("<64sII4QQQII32s")
FOREIGN = [  # what people pass by mistake, by its first bytes
    (b"GGUF", "a GGUF file"),
    (b"PK\x03\x04", "a zip archive or a torch checkpoint"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a git-lfs pointer, not the file it points to (git lfs pull)"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"24ka", "a llama2.c checkpoint"),
    (b"\x89LMT", "a tokenizer.bin"),
    (b"\x89LMB", "a model.bin that was transferred in text mode"),
]


@dataclass(frozen=True)
class Tensor:
    """One row of the tensor table. data is the mapped bytes: uint8 [nbytes], read-only."""

    name: str
    dtype: str
    shape: tuple
    off: int
    nbytes: int
    sha256: bytes
    data: np.ndarray = None


def _read_meta(f, size):
    """The bytes [0, data_off) of the file; checks what must hold before anything is allocated."""
    head = f.read(PAGE)
    if not head.startswith(MAGIC):
        _refuse_magic(head)
    if size < 2 * PAGE or len(head) < PAGE:
        raise ModelError(
            f"{size:,} bytes, shorter than the {2 * PAGE:,} of any model; download or export it again"
        )
    _, version, endian, file_size, n, record, table_off, data_off, *_ = HEADER.unpack_from(head)
    if endian == int.from_bytes(ENDIAN.to_bytes(4, "little"), "big"):
        raise ModelError(
            "a big-endian file; expected little-endian; export it again with this export.py"
        )
    if version != VERSION:
        raise ModelError(
            f"format version {version}, this run.py reads {VERSION}; export again or use a newer run.py"
        )
    if endian != ENDIAN:
        raise ModelError(
            f"byte order mark {endian:#x}, expected {ENDIAN:#x}; the header is damaged, copy it again"
        )
    if file_size != size:
        raise ModelError(
            f"file is {size:,} bytes, header says {file_size:,} (truncated or appended to?); copy it again"
        )
    if not 1 <= n <= 65536 or record != RECORD or table_off != PAGE:
        raise ModelError(
            f"{n} tensors of {record} bytes at {table_off}, expected 1..65536 of 192 at 4096; export again"
        )
    if data_off % PAGE or not PAGE + n * RECORD <= data_off <= min(
        size, PAGE + n * RECORD + (1 << 20) + PAGE
    ):
        raise ModelError(
            f"header puts the data at {data_off:,}, expected a page after the tensor table; export again"
        )
    return head + f.read(data_off - PAGE)


def _refuse_magic(head):
    for magic, what in FOREIGN:
        if head.startswith(magic):
            raise ModelError(
                f"this is {what}; expected a model.bin; convert the model with export.py"
            )
    if (
        head[8:16]
        and struct.unpack("<Q", head[:8].ljust(8, b"\0"))[0] < 1 << 27
        and head[8:9] == b"{"
    ):
        raise ModelError(
            "this is a safetensors file; expected a model.bin; convert its folder with export.py"
        )
    found = "empty" if not head else f"starts with {head[:8]!r}"
    raise ModelError(f"{found}, expected {MAGIC!r}; was it written by export.py?")


def _read_table(meta, n, data_off):
    """The tensor records, each checked by itself and against its neighbour; all arithmetic in Python ints."""
    names = {number: name for name, number in DTYPES.items()}
    tensors, expected_off = [], data_off
    for i in range(n):
        raw = meta[PAGE + i * RECORD : PAGE + (i + 1) * RECORD]
        name, dtype, ndim, *rest = RECORD_FIELDS.unpack_from(raw)
        dims, (off, nbytes, group, layout, sha) = rest[:4], rest[4:]
        text = name.rstrip(b"\0").decode("ascii", "replace")

        def refuse(found, i=i, text=text):
            raise ModelError(f"tensor {i} ({printable(text)!r}): {found}; export again")

        if not text or name[-1] or set(text) - set("abcdefghijklmnopqrstuvwxyz0123456789_."):
            refuse("expected a name of a-z 0-9 _ . that ends in a zero byte")
        if dtype not in names or not 1 <= ndim <= 4 or layout > 1 or any(raw[RECORD_FIELDS.size :]):
            refuse(
                f"type {dtype}, {ndim} dims, layout {layout} are not known; does it need a newer run.py"
            )
        shape = tuple(dims[:ndim])
        if any(not 1 <= d <= 1 << 31 for d in shape) or any(dims[ndim:]):
            refuse(f"dims {dims}, expected 1..2^31 and zeros after")
        kind = names[dtype]
        quantised = kind in ("q8_0", "q4_0")
        if (
            group != (GROUP if quantised else 0)
            or layout != (ndim == 2)
            or (quantised and not layout)
        ):
            refuse(f"group {group}, layout {layout}, {ndim} dims do not fit {kind}")
        if off != expected_off or off % 64:
            refuse(f"begins at {off:,}, expected {expected_off:,} (overlap or hole)")
        if nbytes != tensor_bytes(kind, shape, layout):
            want = tensor_bytes(kind, shape, layout)
            refuse(f"{nbytes:,} bytes, expected {want:,} for {shape}")
        tensors.append(Tensor(text, kind, shape, off, nbytes, sha))
        expected_off = padded(off + nbytes, 64)
    return tensors


# ===== what kernels are written in

# -----------------------------------------------------------------------------
# twofile/words/word.py
# Words that kernels are written in, and what writes their instructions.

@dataclass(frozen=True, eq=False)
class Word:
    """A word of the kernels: emit(builder, operands) writes its LLVM instructions.

    The signature has a letter for each argument, an arrow, the result. F, I, N: a tile of T vectors of 16 float32, of 16
    int32, of partial sums of 4-bit products; B: 64 bytes; f: float32; d: float64; i: int32; p: int64 or an address; v:
    nothing; a: an address and a stride in bytes, so that each vector of the tile has its own address. emit sees one vector
    at a time. T is that of the widest tile among the arguments (a single vector meets a tile by repetition), or the digit
    of the result.
    """

    signature: str
    emit: object

    def __call__(self, *args):
        raise RuntimeError("words exist only inside compiled kernels")

    @functools.cached_property
    def compiled(self):
        return _intrinsic(self)


class _LL:
    """llvmlite's modules and types, and the host's isa; filled in by _prepare when something must be compiled."""


def _ptr(b, address, kind):
    return b.inttoptr(address, kind.as_pointer())


def _call(b, name, result, *args):
    kind = _LL.ir.FunctionType(result, [a.type for a in args])
    return b.call(_LL.cgutils.get_or_insert_function(b.module, kind, name), args)


def _vec(element, n):
    return _LL.ir.VectorType(element, n)


def _as(kind, element):
    """The scalar or vector type kind with other elements."""
    return _vec(element, kind.count) if isinstance(kind, _LL.ir.VectorType) else element


def _const(kind, value):
    return _LL.ir.Constant(
        kind, [value] * kind.count if isinstance(kind, _LL.ir.VectorType) else value
    )


def _shuffle(b, v, lanes, w=None):
    return b.shuffle_vector(v, w or v, _LL.ir.Constant(_vec(_LL.i32, len(lanes)), list(lanes)))


def _splat(b, value, n=16):
    one = b.insert_element(
        _LL.ir.Constant(_vec(value.type, n), _LL.ir.Undefined), value, _const(_LL.i32, 0)
    )
    return _shuffle(b, one, [0] * n)


def _piece(b, v, i, n):
    """Lanes i * n to i * n + n - 1."""
    return _shuffle(b, v, range(i * n, i * n + n))


def _split(b, parts, emit, *vectors):
    """emit on each of 2 or 4 parts of the vectors, joined again: for machines with narrower registers."""
    out = [emit(*(_piece(b, v, i, v.type.count // parts) for v in vectors)) for i in range(parts)]
    while len(out) > 1:
        out = [_shuffle(b, x, range(2 * x.type.count), y) for x, y in zip(out[::2], out[1::2])]
    return out[0]


def _get(b, p, kind):
    return b.load(_ptr(b, p, kind), align=1)


def _put(b, p, value):
    b.store(value, _ptr(b, p, value.type), align=1)


def _intrinsic(word):
    """A Word as a numba intrinsic: types its call, and emits it for each vector of the tiles."""
    import numba

    Tile = _LL.Tile
    letters, result = word.signature.split("->")
    scalars = {
        "p": numba.int64,
        "i": numba.int32,
        "f": numba.float32,
        "d": numba.float64,
        "v": numba.void,
        "B": Tile("B", 0),
    }
    count = len(letters) + letters.count("a")

    def typing(context, *given):
        width = int(result[1:] or max([0] + [g.width for g in given if isinstance(g, Tile)]))
        flat = [kind for letter in letters for kind in ("pp" if letter == "a" else letter)]
        kinds = [g if isinstance(g, Tile) else scalars[kind] for kind, g in zip(flat, given)]
        returns = scalars[result] if result in scalars else Tile(result[0], width)
        return returns(*kinds), lambda cx, b, sig, args: _emit(
            word, letters, result, width, cx, b, args
        )

    parameters = [
        inspect.Parameter(f"x{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(1 + count)
    ]
    typing.__signature__ = inspect.Signature(parameters)
    return numba.extending.intrinsic(typing)


def _emit(word, letters, result, width, context, b, args):
    """Write a word's instructions: once, or once for each of the width vectors of its tiles."""
    ir, args, operands = _LL.ir, list(args), []
    for letter in letters:
        value = args.pop(0)
        if letter == "a":
            step = args.pop(0)
            operands.append([b.add(value, b.mul(step, _const(_LL.i64, i))) for i in range(width)])
        elif letter in "FIN":
            n = value.type.count
            operands.append([b.extract_value(value, i if n > 1 else 0) for i in range(width)])
        else:
            operands.append([value] * max(width, 1))
    out = [
        word.emit(b, *(o[i] for o in operands))
        for i in range(max(width, 1) if result[0] in "vFIN" else 1)
    ]
    if result == "v":
        return context.get_dummy_value()
    if result[0] not in "FIN":
        return out[0]
    tile = ir.Constant(ir.ArrayType(out[0].type, width), ir.Undefined)
    for i, vector in enumerate(out):
        tile = b.insert_value(tile, vector, i)
    return tile


# -----------------------------------------------------------------------------
# twofile/words/numbers.py
# Words of arithmetic, lane by lane; the same bits on every machine.

# arithmetic, lane by lane
zeros1 = Word("->F1", lambda b: _const(_LL.F, 0.0))
zeros4 = Word("->F4", lambda b: _const(_LL.F, 0.0))
zeros16 = Word("->F16", lambda b: _const(_LL.F, 0.0))
splat = Word("f->F1", _splat)
add = Word("FF->F", lambda b, x, y: b.fadd(x, y))
sub = Word("FF->F", lambda b, x, y: b.fsub(x, y))
mul = Word("FF->F", lambda b, x, y: b.fmul(x, y))
div = Word("FF->F", lambda b, x, y: b.fdiv(x, y))
fma = Word("FFF->F", lambda b, x, y, z: _fma(b, x, y, z))
larger = Word(
    "FF->F", lambda b, x, y: _call(b, "llvm.maximum.v16f32", _LL.F, x, y)
)  # NaN if either is
magnitude = Word("F->F", lambda b, x: _call(b, "llvm.fabs.v16f32", _LL.F, x))
root = Word("f->f", lambda b, x: _call(b, "llvm.sqrt.f32", _LL.f32, x))


def _fma(b, x, y, z):
    return _call(b, "llvm.fma.v16f32", _LL.F, x, y, z)


def _lanes(b, relation, n):
    return b.icmp_signed(
        relation, _LL.ir.Constant(_vec(_LL.i64, 16), list(range(16))), _splat(b, n)
    )


def _store_first(b, p, v, n):
    mask = _lanes(b, "<", n)
    _call(
        b,
        "llvm.masked.store.v16f32.p0",
        _LL.ir.VoidType(),
        v,
        _ptr(b, p, _LL.F),
        _const(_LL.i32, 4),
        mask,
    )


def _keep(b, v, first, last, other):
    return b.select(b.and_(_lanes(b, ">=", first), _lanes(b, "<", last)), v, _splat(b, other))


def _fold(emit):
    """Sixteen lanes to one, upper half onto lower half: the same order everywhere."""

    def fold(b, v):
        for n in (8, 4, 2, 1):
            v = emit(b, _piece(b, v, 0, n), _piece(b, v, 1, n), n)
        return b.extract_element(v, _const(_LL.i32, 0))

    return fold


def _exp(b, x):
    low = b.fcmp_ordered("<", x, _const(_LL.F, -87.0))
    x = b.select(b.fcmp_ordered(">", x, _const(_LL.F, 88.0)), _const(_LL.F, 88.0), x)
    magic = _fma(
        b, x, _const(_LL.F, 1 / math.log(2)), _const(_LL.F, 1.5 * 2**23)
    )  # its low bits are round(x / ln 2)
    n = b.fsub(magic, _const(_LL.F, 1.5 * 2**23))
    r = _fma(b, n, _const(_LL.F, -0.693145751953125), x)  # ln 2 in two parts
    r = _fma(b, n, _const(_LL.F, -1.428606820309417e-06), r)
    y = _const(_LL.F, 1 / math.factorial(7))
    for k in range(6, -1, -1):
        y = _fma(b, y, r, _const(_LL.F, 1 / math.factorial(k)))
    power = b.shl(b.add(b.bitcast(magic, _LL.I), _const(_LL.I, 127)), _const(_LL.I, 23))
    return b.select(low, _const(_LL.F, 0.0), b.fmul(y, b.bitcast(power, _LL.F)))


def _quantise(b, p, v, inverse):
    v = _call(b, "llvm.rint.v16f32", _LL.F, b.fmul(v, _splat(b, inverse)))
    v = _call(
        b, "llvm.maxnum.v16f32", _LL.F, v, _const(_LL.F, -127.0)
    )  # also turns NaN into a number
    v = b.fptosi(_call(b, "llvm.minnum.v16f32", _LL.F, v, _const(_LL.F, 127.0)), _LL.I)
    _put(b, p, b.trunc(v, _vec(_LL.i8, 16)))
    return _call(b, "llvm.vector.reduce.add.v16i32", _LL.i32, v)


power_of_two = Word(
    "p->d",
    lambda b, n: b.bitcast(b.shl(b.add(n, _const(_LL.i64, 1023)), _const(_LL.i64, 52)), _LL.f64),
)
store_first = Word("pFp->v", _store_first)  # only the first n lanes are written
keep = Word("Fppf->F", _keep)  # lanes outside [first, last) become other
total = Word("F->f", _fold(lambda b, x, y, n: b.fadd(x, y)))
largest = Word("F->f", _fold(lambda b, x, y, n: _call(b, f"llvm.maximum.v{n}f32", x.type, x, y)))
exp = Word(
    "F->F", _exp
)  # 0 below -87, as if 88 above it; our own polynomial: the same bits on every machine
quantise = Word(
    "pFf->i", _quantise
)  # write round(v * inverse) as 16 int8 in -127..127; -> their sum
lowered = Word(
    "Bp->B", lambda b, v, n: b.sub(v, _splat(b, b.trunc(n, _LL.i8), 64))
)  # every byte less n
low_nibbles = Word("B->B", lambda b, v: b.and_(v, _const(_LL.B, 15)))
high_nibbles = Word("B->B", lambda b, v: b.lshr(v, _const(_LL.B, 4)))


def _opaque(b, n):
    return b.asm(_LL.ir.FunctionType(_LL.i64, [_LL.i64]), "", "=r,0", [n], side_effect=False)


opaque = Word(
    "p->p", _opaque
)  # the same number, unknown to the compiler: a loop of so many steps is not unrolled


# -----------------------------------------------------------------------------
# twofile/words/dots.py
# Words of integer dot products: 16 rows of 4 weights meet 4 activations. The sums are exact, so every machine gets the same.

# integer dot products: 16 rows of 4 weights meet 4 activations. The sums are exact, so every machine gets the same.


def _four(b, p):
    """The 4 bytes at p in all 16 lanes."""
    return b.bitcast(_splat(b, _get(b, p, _LL.i32)), _LL.B)


def _dot_plain(b, acc, w, x):
    w, x = b.bitcast(w, _LL.I), b.bitcast(x, _LL.I)
    for j in (0, 8, 16, 24):
        weight = b.and_(b.lshr(w, _const(_LL.I, j)), _const(_LL.I, 255))
        acc = b.add(acc, b.mul(weight, b.ashr(b.shl(x, _const(_LL.I, 24 - j)), _const(_LL.I, 24))))
    return acc


def _dot_unsigned(b, acc, w, x):
    """Weights 0..255, or for neon -128..127, times int8."""
    name, parts = {
        "amx": ("llvm.x86.avx512.vpdpbusd.512", 1),
        "avx512": ("llvm.x86.avx512.vpdpbusd.512", 1),
        "avxvnni": ("llvm.x86.avx512.vpdpbusd.256", 2),
        "neon": ("llvm.aarch64.neon.sdot.v4i32.v16i8", 4),
    }.get(_LL.isa, (None, 1))
    if not name:
        return _dot_plain(b, acc, w, x)
    return _split(b, parts, lambda acc, w, x: _call(b, name, acc.type, acc, w, x), acc, w, x)


def _maddubs(b, w, x):
    return _call(b, "llvm.x86.avx2.pmadd.ub.sw", _vec(_LL.i16, 16), w, x)


def _pairs(b, v):
    return _call(b, "llvm.x86.avx2.pmadd.wd", _vec(_LL.i32, 8), v, _const(_vec(_LL.i16, 16), 1))


def _dot(b, acc, w, p):
    if _LL.isa in ("avx2", "neon"):
        w = b.xor(w, _const(_LL.B, -128))
    if _LL.isa != "avx2":
        return _dot_unsigned(b, acc, w, _four(b, p))

    def half(
        acc, w, x
    ):  # |w| * (x with the sign of w): a pair is at most 2 * 128 * 127, which fits int16
        x = _call(b, "llvm.x86.avx2.psign.b", x.type, x, w)
        return b.add(
            acc, _pairs(b, _maddubs(b, _call(b, "llvm.abs.v32i8", w.type, w, _const(_LL.i1, 0)), x))
        )

    return _split(b, 2, half, acc, w, _four(b, p))


def _dot4(b, acc, w, p):
    if _LL.isa != "avx2":
        return _dot_unsigned(b, acc, w, _four(b, p))
    # the 8 steps of a group sum to at most 8 * 2 * 15 * 127, which fits int16
    return _split(b, 2, lambda acc, w, x: b.add(acc, _maddubs(b, w, x)), acc, w, _four(b, p))


def _offset(b, p, times):
    return _splat(b, b.mul(_get(b, p, _LL.i32), _const(_LL.i32, times)))


def _start(b, like, p):
    return _const(_LL.I, 0) if _LL.isa in ("avx2", "neon") else _offset(b, p, -128)


def _finish4(b, acc, p):
    sums = _split(b, 2, lambda v: _pairs(b, v), acc) if _LL.isa == "avx2" else acc
    return b.add(sums, _offset(b, p, -8))


def _scaled(b, acc, sums, scales, p):
    return _fma(b, b.sitofp(sums, _LL.F), b.fmul(scales, _splat(b, _get(b, p, _LL.f32))), acc)


start = Word(
    "Fa->I", _start
)  # sums before the first dot, from the group's sum of activations (int32)
dot = Word(
    "IBa->I", _dot
)  # sums + (weights - 128) * activations, once start has corrected for the 128
start4 = Word("F->N", lambda b, like: _const(_LL.N, 0))
dot4 = Word("NBa->N", _dot4)  # as dot, for weights 0..15
finish4 = Word(
    "Na->I", _finish4
)  # what the group's dot4 add up to, less 8 times its sum of activations
scaled = Word("FIFa->F", _scaled)  # acc + sums * (the rows' scales * the activations' scale)


# -----------------------------------------------------------------------------
# twofile/words/memory.py
# Words that read and write memory.

def _widen(b, h):
    """i16 holding binary16 -> float32, exactly; a scalar or a vector."""
    f32, i32 = _as(h.type, _LL.f32), _as(h.type, _LL.i32)
    if _LL.isa != "generic":
        return b.fpext(b.bitcast(h, _as(h.type, _LL.half)), f32)
    bits = b.shl(b.and_(b.zext(h, i32), _const(i32, 0x7FFF)), _const(i32, 13))
    scaled = b.bitcast(b.fmul(b.bitcast(bits, f32), _const(f32, 2.0**112)), i32)
    special = b.or_(bits, _const(i32, 0x7F800000))
    value = b.select(b.icmp_unsigned(">=", bits, _const(i32, 0x7C00 << 13)), special, scaled)
    return b.bitcast(
        b.or_(value, b.shl(b.and_(b.zext(h, i32), _const(i32, 0x8000)), _const(i32, 16))), f32
    )


def _narrow(b, f):
    """float32 -> i16 holding the nearest binary16, ties to even."""
    i32, i16 = _as(f.type, _LL.i32), _as(f.type, _LL.i16)
    if _LL.isa != "generic":
        return b.bitcast(b.fptrunc(f, _as(f.type, _LL.half)), i16)
    u = b.and_(b.bitcast(f, i32), _const(i32, 0x7FFFFFFF))
    sign = b.lshr(b.xor(b.bitcast(f, i32), u), _const(i32, 16))
    odd = b.and_(b.lshr(u, _const(i32, 13)), _const(i32, 1))
    normal = b.lshr(b.add(b.add(u, _const(i32, 0xFFF - (112 << 23))), odd), _const(i32, 13))
    tiny = b.sub(
        b.bitcast(b.fadd(b.bitcast(u, f.type), _const(f.type, 0.5)), i32), _const(i32, 126 << 23)
    )
    special = b.select(
        b.icmp_unsigned(">", u, _const(i32, 255 << 23)), _const(i32, 0x7E00), _const(i32, 0x7C00)
    )
    value = b.select(b.icmp_unsigned("<", u, _const(i32, 113 << 23)), tiny, normal)
    value = b.select(b.icmp_unsigned(">=", u, _const(i32, 143 << 23)), special, value)
    return b.trunc(b.or_(value, sign), i16)


def _brain(b, h):
    """i16 holding bfloat16 -> float32."""
    i32 = _as(h.type, _LL.i32)
    return b.bitcast(b.shl(b.zext(h, i32), _const(i32, 16)), _as(h.type, _LL.f32))


# memory: peek and poke one value; load and store vectors, the plural a tile (as wide as the first argument)
peek = Word("p->p", lambda b, p: _get(b, p, _LL.i64))
peek_u8 = Word("p->p", lambda b, p: b.zext(_get(b, p, _LL.i8), _LL.i64))
peek_i32 = Word("p->i", lambda b, p: _get(b, p, _LL.i32))
peek_f32 = Word("p->f", lambda b, p: _get(b, p, _LL.f32))
peek_f64 = Word("p->d", lambda b, p: _get(b, p, _LL.f64))
peek_f16 = Word("p->f", lambda b, p: _widen(b, _get(b, p, _LL.i16)))
peek_bf16 = Word("p->f", lambda b, p: _brain(b, _get(b, p, _LL.i16)))
poke = Word("pp->v", _put)
poke_i32 = Word("pi->v", _put)
poke_f32 = Word("pf->v", _put)
poke_f64 = Word("pd->v", _put)
poke_f16 = Word("pf->v", lambda b, p, value: _put(b, p, _narrow(b, value)))
load = Word("p->F1", lambda b, p: _get(b, p, _LL.F))
load_f16 = Word("p->F1", lambda b, p: _widen(b, _get(b, p, _LL.H)))
load_bytes = Word("p->B", lambda b, p: _get(b, p, _LL.B))
loads_f32 = Word("Fa->F", lambda b, like, p: _get(b, p, _LL.F))
loads_f16 = Word("Fa->F", lambda b, like, p: _widen(b, _get(b, p, _LL.H)))
loads_bf16 = Word("Fa->F", lambda b, like, p: _brain(b, _get(b, p, _LL.H)))
spreads = Word(
    "Fa->F", lambda b, like, p: _splat(b, _get(b, p, _LL.f32))
)  # one value, in all lanes
stores = Word("aF->v", _put)
store = Word("pF->v", _put)
store_f16 = Word("pF->v", lambda b, p, v: _put(b, p, _narrow(b, v)))
loads_i32 = Word("Fa->I", lambda b, like, p: _get(b, p, _LL.I))
store_bytes = Word("pB->v", _put)


def _prefetch(b, p):
    read, near, data = (_const(_LL.i32, n) for n in (0, 3, 1))
    _call(b, "llvm.prefetch.p0", _LL.ir.VoidType(), _ptr(b, p, _LL.i8), read, near, data)


prefetch = Word("p->v", _prefetch)  # asks for 64 bytes that will be read soon


# -----------------------------------------------------------------------------
# twofile/words/threads.py
# Words for what threads do to each other.

def _pause(b):
    if _LL.x86:
        _call(b, "llvm.x86.sse2.pause", _LL.ir.VoidType())


def _call_kernel(b, function, *args):
    """Numba's own convention: where to put the result, where to put an exception, the arguments; -> a status."""
    where = _LL.i64.as_pointer()
    kind = _LL.ir.FunctionType(_LL.i32, [where, where] + [_LL.i64] * 4)
    b.call(
        _ptr(b, function, kind),
        [_LL.cgutils.alloca_once(b, _LL.i64), _LL.ir.Constant(where, None), *args],
    )


# threads
atomic_add = Word(
    "pp->p", lambda b, p, n: b.atomic_rmw("add", _ptr(b, p, _LL.i64), n, "acq_rel")
)  # -> value before
atomic_load = Word("p->p", lambda b, p: b.load_atomic(_ptr(b, p, _LL.i64), "acquire", 8))
atomic_store = Word("pp->v", lambda b, p, n: b.store_atomic(n, _ptr(b, p, _LL.i64), "release", 8))
pause = Word("->v", _pause)  # tells the core that this is a waiting loop
yield_core = Word(
    "->v", lambda b: _call(b, "SwitchToThread" if os.name == "nt" else "sched_yield", _LL.i32)
)
call_kernel = Word("ppppp->v", _call_kernel)  # (address, record, pass, thread, threads)


# -----------------------------------------------------------------------------
# twofile/machines/amx.py
# Intel's matrix unit.

# Intel's matrix unit (AMX) has eight tiles of 16 rows of 64 bytes. Three are one step here: 16 tokens by 32 bytes of
# activations, 32 columns by 16 rows of weights, and their 16 by 16 sums; numbers 3 to 5 are a second such set.


def _tile_config(b):
    rows, widths = [16, 16, 8] * 2 + [0, 0], [64, 32, 64] * 2 + [0, 0]  # sums, activations, weights
    raw = struct.pack("<BB14x8H16x8B8x", 1, 0, *widths, *rows)
    where = _LL.cgutils.alloca_once(b, _LL.B)
    b.store(_LL.ir.Constant(_LL.B, list(raw)), where)
    _call(b, "llvm.x86.ldtilecfg", _LL.ir.VoidType(), b.bitcast(where, _LL.i8.as_pointer()))


def _tile_dot(first):
    sums, activations, weights = (first + i for i in range(3))

    def emit(b, q, q_step, w, out):
        void, number, row = _LL.ir.VoidType(), lambda n: _const(_LL.i8, n), _const(_LL.i64, 64)
        _call(b, "llvm.x86.tilezero", void, number(sums))
        _call(b, "llvm.x86.tileloadd64", void, number(activations), _ptr(b, q, _LL.i8), q_step)
        _call(b, "llvm.x86.tileloadd64", void, number(weights), _ptr(b, w, _LL.i8), row)
        _call(b, "llvm.x86.tdpbssd", void, number(sums), number(activations), number(weights))
        _call(b, "llvm.x86.tilestored64", void, number(sums), _ptr(b, out, _LL.i8), row)

    return emit


tile_config = Word("->v", _tile_config)  # before the first tile_dot of a kernel, on each thread
tile_dot = Word(
    "pppp->v", _tile_dot(0)
)  # (activations, their step, weights [8, 64] as int8, where 16 x 16 sums go)
tile_dot_too = Word("pppp->v", _tile_dot(3))
tile_release = Word(
    "->v", lambda b: _call(b, "llvm.x86.tilerelease", _LL.ir.VoidType())
)  # after the last


def _may_use_tiles():
    """Ask Linux for the matrix unit's registers: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA). Once for the process is enough."""
    return sys.platform == "linux" and ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0


# -----------------------------------------------------------------------------
# twofile/machines/host.py
# Which instruction set this machine has.

def host_isa():
    """-> (the instruction set of the words, LLVM's cpu name, its features). NUMBA_CPU_NAME and _FEATURES override the host."""
    from llvmlite import binding

    cpu, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    narrow = {"haswell": "avx2", "x86-64-v3": "avx2", "x86-64": "generic", "generic": "generic"}
    if cpu in narrow and not features:
        return narrow[cpu], cpu, ""
    cpu = cpu or binding.get_host_cpu_name()
    features = binding.get_host_cpu_features().flatten() if features is None else features
    has = {f[1:] for f in features.split(",") if f.startswith("+")}
    for isa, needs in (
        ("amx", {"amx-int8", "amx-tile", "avx512vnni", "avx512bw", "avx512vl", "f16c"}),
        ("avx512", {"avx512vnni", "avx512bw", "avx512vl", "f16c"}),
        ("avxvnni", {"avxvnni", "avx2", "fma", "f16c"}),
        ("avx2", {"avx2", "fma", "f16c"}),
        ("neon", {"dotprod"}),
    ):
        if needs <= has and (isa != "amx" or _may_use_tiles()):
            return isa, cpu, features
    return "generic", cpu, features


# ===== from words to machine code

# -----------------------------------------------------------------------------
# twofile/compiler/kernel.py
# What is compiled: kernels, and functions inlined into them.

KERNELS = {}


@dataclass(frozen=True, eq=False)
class Inline:
    """A function of words that is compiled into every kernel that calls it."""

    function: object

    def __call__(self, *args):
        raise RuntimeError("inline functions exist only inside compiled kernels")

    @functools.cached_property
    def compiled(self):
        import numba

        return numba.njit(error_model="numpy", forceinline=True)(self.function)


def inline(function):
    return Inline(function)


def kernel(function):
    """A compiled entry point (record, pass, thread, threads); all int64."""
    KERNELS[function.__name__] = lambda: function
    return function


# -----------------------------------------------------------------------------
# twofile/compiler/compile.py
# A kernel becomes object code, by numba.

def _prepare():
    """Import numba and tell it what a Word and an inline function compile to. Once, and only if needed."""
    if hasattr(_LL, "ir"):
        return
    _LL.isa, cpu, features = host_isa()
    import numba
    from llvmlite import binding, ir
    from numba.core import cgutils, registry
    from numba.extending import models, register_model, typeof_impl

    numba.config.CPU_NAME, numba.config.CPU_FEATURES = cpu, features
    numba.config.DISABLE_JIT = 0  # the words are instructions: there is no Python to run instead
    _LL.ir, _LL.cgutils, _LL.x86 = (
        ir,
        cgutils,
        binding.get_process_triple().startswith(("x86", "i686", "amd64")),
    )
    _LL.f32, _LL.f64, _LL.half = ir.FloatType(), ir.DoubleType(), ir.HalfType()
    _LL.i1, _LL.i8, _LL.i16, _LL.i32, _LL.i64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
    _LL.F, _LL.I, _LL.H, _LL.B = (
        _vec(_LL.f32, 16),
        _vec(_LL.i32, 16),
        _vec(_LL.i16, 16),
        _vec(_LL.i8, 64),
    )
    _LL.N = _vec(_LL.i16, 32) if _LL.isa == "avx2" else _LL.I

    class Tile(numba.types.Type):
        def __init__(self, letter, width):
            self.letter, self.width = letter, width
            super().__init__(f"{letter}{width}")

    @register_model(Tile)
    class TileModel(models.PrimitiveModel):
        def __init__(self, dmm, tile):
            vector = getattr(_LL, tile.letter)
            super().__init__(dmm, tile, ir.ArrayType(vector, tile.width) if tile.width else vector)

    _LL.Tile, context = Tile, registry.cpu_target.typing_context

    def kind_of_value(value, c):
        compiled = value.compiled
        context.refresh()  # an intrinsic is known from the next refresh on
        return context.resolve_value_type(compiled)

    typeof_impl.register(Word)(kind_of_value)
    typeof_impl.register(Inline)(kind_of_value)


def compile_kernel(name):
    """-> (symbol, object code) of one kernel. Takes numba about a second."""
    _prepare()
    import numba

    signature = numba.int64(*[numba.int64] * 4)
    jit = numba.njit(signature, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    compiled = jit(KERNELS[name]()).overloads[signature.args]
    outside = {f.name for f in compiled.library._final_module.functions if f.is_declaration}
    outside = {f for f in outside if not f.startswith("llvm.")} - {"sched_yield", "SwitchToThread"}
    if outside:
        raise RuntimeError(f"kernel {name} calls {outside}, which stored code cannot")
    return compiled.fndesc.llvm_func_name, compiled.library._get_compiled_object()


# -----------------------------------------------------------------------------
# twofile/compiler/kept.py
# Object code kept between runs, in a folder that is ours alone.

COMPILED = "words/ machines/ compiler/ program/ kernels/".split()  # whose rooms kernels are made of
IMPORT = re.compile(r"^ *(?:from \.|import |from [a-z]).*?(?:\([^)]*\))?\n", re.M)


def _sources():
    """The text that kernels are compiled from: a room's without its docstring, imports and blank lines, so that the package
    and the bound file share what they keep."""
    here = Path(__file__)
    if here.parent.name == "compiler":
        house = here.parent.parent
        found = {
            path.relative_to(house).as_posix(): path.read_text()
            for part in COMPILED
            for path in house.glob(f"{part}[a-z]*.py")
        }
        rooms = {name: text.split('"""', 2)[-1] for name, text in found.items()}
    else:
        parts = re.split(r"^# -{77}\n# twofile/(\S+)\n(?:#.*\n)*", here.read_text(), flags=re.M)[1:]
        rooms = {
            name: text
            for name, text in zip(parts[::2], parts[1::2])
            if name.startswith(tuple(COMPILED))
        }
    bare = lambda text: "\n".join(
        line for line in IMPORT.sub("", text).split("\n") if line and line[:7] != "# ====="
    )
    return "\n".join(f"# {name}\n{bare(text)}" for name, text in sorted(rooms.items())).encode()


def _cache_folder(host, notice):
    """A folder of ours that nobody else can write, named by all that the code depends on; None if there can be none."""
    import llvmlite

    spec = importlib.util.find_spec("numba")
    parts = [_sources(), llvmlite.__version__.encode(), repr(host).encode(), sys.platform.encode()]
    if spec and spec.origin:
        parts.append((Path(spec.origin).parent / "_version.py").read_bytes())
    key = hashlib.sha256(b"\0".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[:24]
    home = {"win32": "LOCALAPPDATA"}.get(sys.platform, "XDG_CACHE_HOME")
    default = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    try:
        top = (
            Path(
                os.environ.get("NUMBA_CACHE_DIR")
                or os.environ.get(home)
                or os.path.expanduser(default)
            )
            / "twofile"
        )
        if not top.is_absolute():
            raise OSError(f"{top} is not an absolute path")
        for folder in (
            top,
            top / key,
        ):  # whoever can write here can make this program run their code
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = folder.lstat()
            if not stat.S_ISDIR(info.st_mode) or not _only_ours(info):
                raise OSError(
                    f"{folder} is no folder, belongs to somebody else, or others can write it"
                )
        return top / key
    except (OSError, RuntimeError) as e:
        notice(
            f"kernels cannot be kept ({printable(str(e))}); set NUMBA_CACHE_DIR to a private folder to start faster"
        )
        return None


def _only_ours(info):
    """Whether a file or folder belongs to this user, and nobody else can write it."""
    return os.name != "posix" or info.st_uid == os.getuid() and not info.st_mode & 0o022


def _read_cached(folder, name, notice):
    """-> (symbol, object code), or None. The file: SHA-256 of the rest, symbol, newline, object code."""
    if folder is None:
        return None
    raw, how = (
        b"",
        os.O_RDONLY | sum(getattr(os, f"O_{x}", 0) for x in ("NOFOLLOW", "NONBLOCK", "BINARY")),
    )
    try:
        with open(folder / name, "rb", opener=lambda path, _: os.open(path, how)) as f:
            info = os.fstat(f.fileno())
            if stat.S_ISREG(info.st_mode) and info.st_size < 1 << 24 and _only_ours(info):
                raw = f.read()
    except FileNotFoundError:
        return None
    except OSError:  # a link, a folder
        pass
    if hashlib.sha256(raw[32:]).digest() != raw[:32]:
        notice(
            f"{printable(str(folder / name))} is damaged or not ours; compiling that kernel again"
        )
        return None
    symbol, _, code = raw[32:].partition(b"\n")
    return symbol.decode(), code


def _write_cached(folder, name, compiled, notice):
    if folder is None:
        return
    body = compiled[0].encode() + b"\n" + compiled[1]
    temporary = folder / f"{name}.{os.getpid()}"
    try:
        with open(temporary, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write(hashlib.sha256(body).digest() + body)
        temporary.replace(folder / name)
    except OSError as e:
        notice(f"kernel {name} cannot be kept ({printable(str(e))})")
        temporary.unlink(missing_ok=True)


# -----------------------------------------------------------------------------
# twofile/compiler/code.py
# Object code becomes addresses and functions.

class Code:
    """Machine code of kernels by name -> address. Loads it from the cache, compiles what is missing, keeps it there."""

    def __init__(self, names, notice):
        try:
            from llvmlite import binding
        except ImportError as e:
            raise ModelError(
                f"numba cannot be imported ({e}); expected it beside numpy; pip install numba"
            ) from None
        if binding.llvm_version_info < (
            20,
        ):  # older ones stop the process at what they cannot compile
            found = ".".join(map(str, binding.llvm_version_info))
            raise ModelError(
                f"llvmlite has LLVM {found}; expected 20 or newer, as with numba 0.62; pip install -U numba"
            )
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        isa, cpu, features = host_isa()
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=cpu, features=features, jit=True
        )
        self.engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        folder, found, began = _cache_folder((isa, cpu, features), notice), {}, time.perf_counter()
        for name in names:
            found[name] = _read_cached(folder, name, notice)
        missing = [name for name in names if found[name] is None]
        if missing:
            notice(f"compiling {len(missing)} kernels for {cpu} ({isa}), once ...")
        for name in missing:
            found[name] = compile_kernel(name)
            _write_cached(folder, name, found[name], notice)
        self.compile_seconds = time.perf_counter() - began if missing else 0.0
        if missing:
            kept = f"kept in {folder}" if folder else "not kept"
            notice(f"compiled in {self.compile_seconds:.1f} s, {kept}")
        for _, code in found.values():
            self.engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self.engine.finalize_object()
        self.address = {
            name: self.engine.get_function_address(symbol) for name, (symbol, _) in found.items()
        }

    def function(self, name):
        """A kernel as a Python function of four ints; it runs without the interpreter lock."""
        i64, pointer = ctypes.c_int64, ctypes.c_void_p
        compiled = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, i64, i64, i64, i64)(
            self.address[name]
        )

        def call(a, b, c, d, byref=ctypes.byref):
            result = i64()
            compiled(byref(result), None, a, b, c, d)
            return result.value

        call.engine = self.engine  # the code lives as long as its callers
        return call


# ===== a forward as data

# -----------------------------------------------------------------------------
# twofile/program/buffers.py
# Memory that kernels work in.

SPARE = 256  # bytes behind a buffer, for vectors read past the end of a row; Forward.extents() has who reads how far


class Buffer:
    """Zeroed bytes at a 64-byte boundary, with SPARE more behind them."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        self.raw = np.zeros(nbytes + 64 + SPARE, np.uint8)
        self.address = padded(self.raw.ctypes.data, 64)

    def view(self, dtype, *shape):
        start = self.address - self.raw.ctypes.data
        return (
            self.raw[start : start + np.dtype(dtype).itemsize * math.prod(shape)]
            .view(dtype)
            .reshape(shape)
        )


# -----------------------------------------------------------------------------
# twofile/program/passes.py
# The words of a record and of a pass.

# A record is 24 int64 fields; these are their byte offsets. A step is the number of bytes from one token to the next.
(
    FN,
    WAIT,
    COUNT,
    OUT,
    OUT_STEP,
    X,
    X_STEP,
    W,
    S,
    ROWS,
    COLS,
    Q,
    QS,
    QC,
    Q_STEP,
    G_STEP,
    BIAS,
    GAIN,
    ADD,
    A,
    B,
    C,
    D,
    E,
) = range(0, 192, 8)
RECORD_BYTES = 192

# A pass: what changes from one forward to the next. Addresses of int64 [n]: TOKENS, POSITIONS, SLOTS, and WANTED (which
# tokens' logits are wanted). A job for the worker threads begins with its number.
(
    N_TOKENS,
    N_WANTED,
    TOKENS,
    POSITIONS,
    SLOTS,
    WANTED,
    PROGRAM,
    N_RECORDS,
    SCRATCH,
    SCRATCH_STEP,
    N_PAIRS,
) = range(0, 88, 8)
PASS_BARRIER, PASS_JOB, PASS_STOP, PASS_DONE, PASS_OWN = (
    128,
    256,
    264,
    272,
    320,
)  # the barrier: arrived, 64 bytes on the round

# From PASS_OWN on, 64 bytes for each thread: the last job it saw, its patience.
LEAST, MOST = 4, 1024  # pauses, up to some 20 microseconds, before a waiting thread lets others run
IDLE = 10000  # looks for the next pass, some milliseconds, before a worker sleeps
AHEAD = 1024  # bytes: how far before its use a weight is asked for; the processor's own guesses stop at every page
KEYS = 64  # keys of a block: attention takes its sums in these, so that any chunking gives the same bits
CHUNK = 128  # tokens of a pass at most
WANTED_MAX = 16  # of which this many can have their logits taken


# -----------------------------------------------------------------------------
# twofile/program/player.py
# The threads that play a program.

class Workers:
    """The other threads. Each spins in compiled code for a moment after a pass, then sleeps until the next is posted."""

    def __init__(self, code, pas, threads):
        self.pas, self.words, self.code = pas, pas.view(np.int64, pas.nbytes // 8), code
        self.post_kernel, self.serve, self.play = (
            code.function(name) for name in ("post", "serve", "play")
        )
        self.wake, self.asleep, self.count = threading.Condition(), 0, threads
        self.threads = [
            threading.Thread(target=self._live, args=(t,), daemon=True) for t in range(1, threads)
        ]
        try:
            for thread in self.threads:
                thread.start()
        except RuntimeError as e:
            raise ModelError(
                f"{threads} threads: cannot be started ({e}), expected as many as cores; lower -t"
            ) from None

    def _live(self, t):
        play, job, seen = self.code.address["play"], PASS_JOB // 8, (PASS_OWN + 64 * t) // 8
        while not self.serve(play, self.pas.address, t, self.count):
            with self.wake:
                while self.words[job] == self.words[seen]:
                    self.asleep += 1
                    self.wake.wait()
                    self.asleep -= 1

    def post(self):
        with self.wake:
            self.post_kernel(self.pas.address, 0, 0, 0)
            if self.asleep:
                self.wake.notify_all()

    def settle(self):
        if self.words[PASS_DONE // 8] != self.words[PASS_JOB // 8]:
            with self.wake:
                self.wake.notify_all()
            self.play(int(self.words[PROGRAM // 8]), self.pas.address, 0, self.count)

    def stop(self):
        """End the threads; they are idle, since a pass ends on all threads at once."""
        self.settle()
        self.words[PASS_STOP // 8] = 1
        self.post()
        for thread in self.threads:
            thread.join()


# ===== what is compiled

# -----------------------------------------------------------------------------
# twofile/kernels/play.py
# The kernel that plays the others, and what threads share and wait for.

@inline
def share(n, t, threads):
    return n * t // threads, n * (t + 1) // threads


@inline
def barrier(p, own, threads):
    """Wait until all threads are here; what they wrote before is then visible to all.

    own: address of this thread's patience. It halves when letting others run was what ended the wait, because then
    they share this core, and doubles when the wait was shorter.
    """
    if threads > 1:
        round_, spins, patience = atomic_load(p + 64), 0, max(LEAST, peek(own))
        if atomic_add(p, 1) == threads - 1:
            atomic_store(p, 0)
            atomic_store(p + 64, round_ + 1)
            return
        while atomic_load(p + 64) == round_:
            if spins < patience:
                pause()
            else:
                yield_core()
            spins += 1
        if spins <= patience:
            poke(own, min(MOST, 2 * patience))
        elif spins == patience + 1:
            poke(own, patience // 2)


@kernel
def play(program, pas, t, threads):
    """The whole forward: every record in turn, all threads in each."""
    for i in range(peek(pas + N_RECORDS)):
        record = program + i * RECORD_BYTES
        call_kernel(peek(record + FN), record, pas, t, threads)
        if peek(record + WAIT) != 0:
            barrier(pas + PASS_BARRIER, pas + PASS_OWN + 64 * t + 8, threads)
    if t == 0:
        poke(pas + PASS_DONE, atomic_load(pas + PASS_JOB))
    return 0


@kernel
def post(pas, unused, t, threads):
    """Announce the pass to the workers."""
    return atomic_add(pas + PASS_JOB, 1)


@kernel
def serve(play_address, pas, t, threads):
    """A worker's life: play each pass that is posted. -> 0 when none has come for a while, 1 when told to stop."""
    quiet = 0
    while quiet < IDLE:
        job = atomic_load(pas + PASS_JOB)
        if job == peek(pas + PASS_OWN + 64 * t):
            quiet += 1
            if quiet < MOST:
                pause()
            else:
                yield_core()
        else:
            poke(pas + PASS_OWN + 64 * t, job)
            if peek(pas + PASS_STOP) != 0:
                return 1
            call_kernel(play_address, peek(pas + PROGRAM), pas, t, threads)
            quiet = 0
    return 0


@kernel
def sweep(record, pas, t, threads):
    """Read the ROWS bytes at X as fast as can be; OUT [threads, 256 bytes] takes their sum, so that it is not left out."""
    first, last = share(peek(record + ROWS) // 256, t, threads)
    acc = zeros4()
    for at in range(peek(record + X) + 256 * first, peek(record + X) + 256 * last, 256):
        acc = add(acc, loads_f32(acc, at, 64))
    stores(peek(record + OUT) + 256 * t, 64, acc)
    return 0


# -----------------------------------------------------------------------------
# twofile/kernels/rows.py
# Rows of results: as float32, or quantised for a matmul.

@inline
def put_group(record, i, g, v0, v1):
    """32 values of token i, group g of its columns: as float32 to OUT, or quantised to Q, whichever is there."""
    out = peek(record + OUT)
    if out != 0:
        out += i * peek(record + OUT_STEP) + 128 * g
        store(out, v0)
        store(out + 64, v1)
    q = peek(record + Q)
    if q != 0:
        q += i * peek(record + Q_STEP) + 32 * g
        at = i * peek(record + G_STEP) + 4 * g
        size = largest(larger(magnitude(v0), magnitude(v1)))
        inverse = np.float32(127) / size if size != np.float32(0) else np.float32(0)
        sums = quantise(q, v0, inverse) + quantise(q + 16, v1, inverse)
        poke_f32(peek(record + QS) + at, size / np.float32(127))
        poke_i32(peek(record + QC) + at, sums)


@kernel
def convert(record, pas, t, threads):
    """OUT or Q = X."""
    groups = peek(record + COLS) // 32
    first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
    for item in range(first, last):
        i, g = item // groups, item % groups
        x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
        put_group(record, i, g, load(x), load(x + 64))
    return 0


@inline
def put_rows(record, i, block, acc):
    """A tile of results: 16 rows of tokens i, i + 1, ...; times GAIN, plus BIAS, plus what stands there if ADD."""
    step = peek(record + OUT_STEP)
    out = peek(record + OUT) + i * step + 64 * block
    if peek(record + BIAS) != 0:
        acc = add(acc, load(peek(record + BIAS) + 64 * block))
    gain = splat(peek_f32(record + GAIN))
    if peek(record + ADD) != 0:
        acc = fma(acc, gain, loads_f32(acc, out, step))
    else:
        acc = mul(acc, gain)
    stores(out, step, acc)


@inline
def put_blocks(record, i, block, acc):
    """As put_rows, for a tile of four blocks of rows of one token."""
    out = peek(record + OUT) + i * peek(record + OUT_STEP) + 64 * block
    if peek(record + BIAS) != 0:
        acc = add(acc, loads_f32(acc, peek(record + BIAS) + 64 * block, 64))
    gain = splat(peek_f32(record + GAIN))
    if peek(record + ADD) != 0:
        acc = fma(acc, gain, loads_f32(acc, out, 64))
    else:
        acc = mul(acc, gain)
    stores(out, 64, acc)


# -----------------------------------------------------------------------------
# twofile/kernels/activation.py
# Functions of the feed-forward part, number by number.

@inline
def silu(v):
    return div(v, add(splat(np.float32(1)), exp(sub(zeros1(), v))))


@inline
def tanh(v):
    one = splat(np.float32(1))
    return sub(one, div(splat(np.float32(2)), add(exp(add(v, v)), one)))


@inline
def gelu_tanh(v):
    """v * Phi(v) as Hendrycks and Gimpel (2016) approximate it: v * sigmoid(1.5957691 * (v + 0.044715 * v^3))"""
    inner = mul(
        v,
        fma(mul(v, v), splat(np.float32(0.07135481282553)), splat(np.float32(1.5957691216057308))),
    )
    return div(v, add(splat(np.float32(1)), exp(sub(zeros1(), inner))))


@inline
def gelu_erf(v):
    """v * Phi(v) = max(v, 0) - |v| * Phi(-|v|); Phi by Abramowitz and Stegun 7.1.26, right to 7.5e-8."""
    size = magnitude(v)
    z = mul(size, splat(np.float32(0.7071067811865476)))
    t = div(splat(np.float32(1)), fma(z, splat(np.float32(0.3275911)), splat(np.float32(1))))
    y = splat(np.float32(1.061405429))
    y = fma(y, t, splat(np.float32(-1.453152027)))
    y = fma(y, t, splat(np.float32(1.421413741)))
    y = fma(y, t, splat(np.float32(-0.284496736)))
    y = mul(fma(y, t, splat(np.float32(0.254829592))), t)
    tail = mul(mul(splat(np.float32(0.5)), y), exp(sub(zeros1(), mul(z, z))))
    return sub(relu(v), mul(size, tail))


@inline
def sigmoid(v):
    one = splat(np.float32(1))
    return div(one, add(one, exp(sub(zeros1(), v))))


@inline
def relu(v):
    return larger(v, zeros1())


@inline
def relu2(v):
    return mul(relu(v), relu(v))


def activation(function, gated):
    """OUT or Q = function(gate) * up, X holding gate [A], then up [A]; or function(X), if not gated."""

    def activation(record, pas, t, threads):
        groups, n = peek(record + COLS) // 32, peek(record + A)
        zero = np.float32(0)
        first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
        for item in range(first, last):
            i, g = item // groups, item % groups
            x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
            v0, v1 = function(load(x)), function(load(x + 64))
            if gated:
                v0, v1 = mul(v0, load(x + 4 * n)), mul(v1, load(x + 4 * n + 64))
            put_group(
                record, i, g, keep(v0, 0, n - 32 * g, zero), keep(v1, 0, n - 32 * g - 16, zero)
            )
        return 0

    return activation


@kernel
def clamped_gated(record, pas, t, threads):
    """As activation, gated, of gpt-oss: gate * sigmoid(GAIN * gate) * (up + 1), the gate at most B, up within -B and B."""
    groups, n, zero = peek(record + COLS) // 32, peek(record + A), np.float32(0)
    alpha, limit = splat(peek_f32(record + GAIN)), splat(peek_f32(record + B))
    one, low = splat(np.float32(1)), sub(zeros1(), limit)
    first, last = share(peek(peek(record + COUNT)) * groups, t, threads)
    for item in range(first, last):
        i, g = item // groups, item % groups
        x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
        v0, v1 = zeros1(), zeros1()
        for half in range(2):
            gate = sub(zeros1(), larger(sub(zeros1(), load(x + 64 * half)), low))
            up = larger(sub(zeros1(), larger(sub(zeros1(), load(x + 4 * n + 64 * half)), low)), low)
            v = mul(div(gate, add(one, exp(sub(zeros1(), mul(gate, alpha))))), add(up, one))
            if half == 0:
                v0 = v
            else:
                v1 = v
        put_group(record, i, g, keep(v0, 0, n - 32 * g, zero), keep(v1, 0, n - 32 * g - 16, zero))
    return 0


def in_place(function):
    """X = function(X, GAIN), in place; A columns."""

    def in_place(record, pas, t, threads):
        blocks = (peek(record + A) + 15) // 16
        first, last = share(peek(peek(record + COUNT)) * blocks, t, threads)
        for item in range(first, last):
            x = peek(record + X) + item // blocks * peek(record + X_STEP) + item % blocks * 64
            store(x, function(load(x), peek_f32(record + GAIN)))
        return 0

    return in_place


@inline
def times(v, gain):
    return mul(v, splat(gain))


@inline
def capped(v, cap):
    return mul(splat(cap), tanh(div(v, splat(cap))))


# -----------------------------------------------------------------------------
# twofile/kernels/attention.py
# Attention over the cache.

# A query's state in scratch: largest score so far and fade (float32: what becomes of what was summed before), its keys
# [begin, end) (int64), 16 partial sums of weights, the weighted values. Before the states: 4 queries, 4 * 64 scores.
FADE, BEGIN, END, SUMS, VALUES = 4, 8, 16, 64, 128


def attention(loads, size):
    """OUT = softmax(q k^T) v over the cache, for the queries in X that rope() has prepared. Fields as in rope(); E = window,
    GAIN = cap of the scores or 0, W = a score of each head that takes weight and has no value (a sink; Xiao et al. 2024) or 0.

    Online softmax (Milakov and Gimelshein 2018) over fixed blocks of 64 keys. Four queries of one head of the cache, which
    are several heads' or several tokens', share the reading of their keys.
    """
    scores_one, scores_four = score(loads, size)
    values_one, values_four = blend(loads, size)

    def attention(record, pas, t, threads):
        heads, group, dim, room = (
            peek(record + A),
            peek(record + B),
            peek(record + C),
            peek(record + D),
        )
        wide, q = (dim + 15) // 16 * 16, peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
        scores, states, step = q + 16 * wide, q + 16 * wide + 1024, 4 * wide + VALUES
        n, slots, cap = peek(pas + N_TOKENS) * group, peek(pas + SLOTS), peek_f32(record + GAIN)
        tiles = (n + 3) // 4
        first, last = share(heads * tiles, t, threads)
        for item in range(first, last):
            head, at = item // tiles, item % tiles * 4
            count = min(4, n - at)
            begin, end = prepare(record, pas, head, at, q, states)
            together = count == 4
            for h in range(1, count):
                low, high = prepare(record, pas, head, at + h, q + 4 * wide * h, states + step * h)
                begin, end = min(begin, low), max(end, high)
                together = together and peek(slots + 8 * ((at + h) // group)) == peek(
                    slots + 8 * (at // group)
                )
            if together:
                lane = (peek(slots + 8 * (at // group)) * heads + head) * room
                for base in range(begin // 64 * 64, end, 64):
                    scores_four(peek(record + Q) + (lane + base) * dim * size, q, scores, dim, wide)
                    for h in range(opaque(4)):
                        soften(scores + 256 * h, states + step * h, base, cap)
                    values_four(
                        peek(record + QS) + (lane + base) * wide * size, scores, states, wide, base
                    )
            else:
                for h in range(count):
                    lane, state = (
                        (peek(slots + 8 * ((at + h) // group)) * heads + head) * room,
                        states + step * h,
                    )
                    for base in range(peek(state + BEGIN) // 64 * 64, peek(state + END), 64):
                        scores_one(
                            peek(record + Q) + (lane + base) * dim * size,
                            q + 4 * wide * h,
                            scores,
                            dim,
                        )
                        soften(scores, state, base, cap)
                        v, begin = (
                            peek(record + QS) + (lane + base) * wide * size,
                            max(0, peek(state + BEGIN) - base),
                        )
                        values_one(v, scores, state, wide, begin, min(64, peek(state + END) - base))
            for h in range(count):
                i, state = (at + h) // group, states + step * h
                out = (
                    peek(record + OUT)
                    + i * peek(record + OUT_STEP)
                    + 4 * dim * (head * group + (at + h) % group)
                )
                weight = splat(total(load(state + SUMS)))
                if peek(record + W) != 0:
                    sink = splat(peek_f32(peek(record + W) + 4 * (head * group + (at + h) % group)))
                    weight = add(weight, exp(sub(sink, splat(peek_f32(state)))))
                for j in range(0, dim, 16):
                    store_first(out + 4 * j, div(load(state + VALUES + 4 * j), weight), dim - j)
        return 0

    return attention


@inline
def prepare(record, pas, head, at, q, state):
    """Copy query at (of the tokens' queries of this head of the cache) to q, begin its state. -> its keys [begin, end)."""
    group, dim = peek(record + B), peek(record + C)
    x = (
        peek(record + X)
        + at // group * peek(record + X_STEP)
        + 4 * dim * (head * group + at % group)
    )
    for j in range(0, dim, 16):
        store(q + 4 * j, load(x + 4 * j))
        store(state + VALUES + 4 * j, zeros1())
    end, begin = peek(peek(pas + POSITIONS) + 8 * (at // group)) + 1, 0
    if peek(record + E) > 0:
        begin = max(0, end - peek(record + E))
    poke_f32(state, np.float32(-np.inf))
    poke(state + BEGIN, begin)
    poke(state + END, end)
    store(state + SUMS, zeros1())
    return begin, end


def score(loads, size):
    """-> two ways to the scores of a block of 64 keys k [dim, 64]: for a query, and for four that are 4 * wide apart."""

    def one(k, q, scores, dim):
        acc = zeros4()
        for j in range(dim):
            acc = fma(loads(acc, k + j * 64 * size, 16 * size), splat(peek_f32(q + 4 * j)), acc)
        stores(scores, 64, acc)

    def four(k, q, scores, dim, wide):
        for c in range(0, 64, 16):
            acc = zeros4()
            for j in range(dim):
                acc = fma(
                    loads(zeros1(), k + (j * 64 + c) * size, 0),
                    spreads(acc, q + 4 * j, 4 * wide),
                    acc,
                )
            stores(scores + 4 * c, 256, acc)

    return inline(one), inline(four)


@inline
def soften(scores, state, base, cap):
    """The scores of the block of keys at base become weights; those of keys that the query does not see, 0."""
    first, last, low = peek(state + BEGIN) - base, peek(state + END) - base, np.float32(-np.inf)
    poke_f32(state + FADE, np.float32(1))
    if first < 64 and last > 0:
        if cap != np.float32(0):
            for c in range(0, 256, 64):
                store(scores + c, capped(load(scores + c), cap))
        if first > 0 or last < 64:
            for c in range(0, 64, 16):
                store(scores + 4 * c, keep(load(scores + 4 * c), first - c, last - c, low))
        s0, s1, s2, s3 = load(scores), load(scores + 64), load(scores + 128), load(scores + 192)
        old = splat(peek_f32(state))
        new = splat(largest(larger(larger(larger(s0, s1), larger(s2, s3)), old)))
        s0, s1, s2, s3 = exp(sub(s0, new)), exp(sub(s1, new)), exp(sub(s2, new)), exp(sub(s3, new))
        fade = exp(sub(old, new))
        store_first(state, new, 1)
        store_first(state + FADE, fade, 1)
        store(state + SUMS, fma(load(state + SUMS), fade, add(add(s0, s1), add(s2, s3))))
        store(scores, s0)
        store(scores + 64, s1)
        store(scores + 128, s2)
        store(scores + 192, s3)


def blend(loads, size):
    """-> two ways to add a block's values v [64, wide], by their weights: for one query, keys [first, last); for four."""

    def one(v, scores, state, wide, first, last):
        fade = splat(peek_f32(state + FADE))
        poke_f32(state + FADE, np.float32(1))
        state += VALUES
        for c in range(0, wide - 63, 64):
            acc = mul(loads_f32(zeros4(), state + 4 * c, 64), fade)
            for j in range(first, last):
                acc = fma(
                    loads(acc, v + (j * wide + c) * size, 16 * size),
                    splat(peek_f32(scores + 4 * j)),
                    acc,
                )
            stores(state + 4 * c, 64, acc)
        for c in range(wide // 64 * 64, wide, 16):
            acc = mul(load(state + 4 * c), fade)
            for j in range(first, last):
                acc = fma(
                    loads(acc, v + (j * wide + c) * size, 0), splat(peek_f32(scores + 4 * j)), acc
                )
            store(state + 4 * c, acc)

    one = inline(one)

    def four(v, scores, states, wide, base):
        step, first, last = 4 * wide + VALUES, 0, 64  # [first, last): the keys that all four see
        for h in range(opaque(4)):  # unrolled, it would only take longer to compile
            first = max(first, min(64, peek(states + step * h + BEGIN) - base))
            last = min(last, peek(states + step * h + END) - base)
        last = max(first, last)
        for h in range(opaque(4)):
            begin, end = (
                peek(states + step * h + BEGIN) - base,
                peek(states + step * h + END) - base,
            )
            if begin < first and end > 0:
                one(v, scores + 256 * h, states + step * h, wide, max(0, begin), min(first, end))
        for c in range(0, wide, 16):
            acc = mul(
                loads_f32(zeros4(), states + VALUES + 4 * c, step),
                spreads(zeros4(), states + FADE, step),
            )
            for j in range(first, last):
                acc = fma(
                    loads(zeros1(), v + (j * wide + c) * size, 0),
                    spreads(acc, scores + 4 * j, 256),
                    acc,
                )
            stores(states + VALUES + 4 * c, step, acc)
        for h in range(opaque(4)):
            poke_f32(states + step * h + FADE, np.float32(1))
            end = min(64, peek(states + step * h + END) - base)
            if end > last:
                one(v, scores + 256 * h, states + step * h, wide, last, end)

    return one, inline(four)


# -----------------------------------------------------------------------------
# twofile/kernels/convolution.py
# Short convolutions over the tokens.

@inline
def convolved(record, state, position, at, u):
    """The 16 columns at byte at of a row, whose inputs are u, as the sum over the taps; u is kept for the next positions."""
    taps, row = peek(record + B), 4 * peek(record + COLS)
    ring, w = max(1, taps - 1), peek(record + W) + at + (taps - 1) * row
    acc = mul(u, load(w))
    for j in range(1, min(taps - 1, position) + 1):
        acc = fma(load(state + (position - j) % ring * row + at), load(w - j * row), acc)
    store(state + position % ring * row + at, u)
    return acc


def convolution(gated):
    """Each of A columns of X by itself as the sum of its last B inputs, weighted by the taps W [B, COLS]: silu(that) in place,
    or, gated, X holding b [A], c [A], x [A]: OUT or Q = c * that of b * x. C: the last inputs, [slot, B - 1 (or 1), COLS], E
    bytes a slot. A thread has some of the columns, and takes the tokens in turn: a sequence's must stand in its order."""

    def convolution(record, pas, t, threads):
        n, wide = peek(record + A), 4 * peek(record + A)
        first, last = share(peek(record + COLS) // 32, t, threads)
        for i in range(peek(pas + N_TOKENS)):
            state = peek(record + C) + peek(peek(pas + SLOTS) + 8 * i) * peek(record + E)
            position = peek(peek(pas + POSITIONS) + 8 * i)
            for g in range(first, last):
                x = peek(record + X) + i * peek(record + X_STEP) + 128 * g
                v0, v1 = load(x), load(x + 64)
                if gated:
                    v0, v1 = mul(v0, load(x + 2 * wide)), mul(v1, load(x + 2 * wide + 64))
                v0 = convolved(record, state, position, 128 * g, v0)
                v1 = convolved(record, state, position, 128 * g + 64, v1)
                if gated:  # beyond the columns the taps are 0
                    put_group(record, i, g, mul(v0, load(x + wide)), mul(v1, load(x + wide + 64)))
                else:
                    store_first(x, silu(v0), n - 32 * g)
                    store_first(x + 64, silu(v1), n - 32 * g - 16)
        return 0

    return convolution


# -----------------------------------------------------------------------------
# twofile/kernels/exact.py
# e^x in float64 of + and * alone.

EXP = tuple(1 / math.factorial(k) for k in range(14, -1, -1))


@inline
def exp64(x):
    """e^x for float64 x <= 0; made of + and * alone, so that it is the same on every machine."""
    x = max(x, -700.0)
    n = np.int64(math.floor(x * 1.4426950408889634 + 0.5))
    r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10
    y = 0.0
    for c in EXP:
        y = y * r + c
    return y * power_of_two(n)


# -----------------------------------------------------------------------------
# twofile/kernels/delta.py
# The gated delta rule.

@kernel
def decays(record, pas, t, threads):
    """X [tokens, 2 A], in place: b becomes sigmoid(b), a becomes exp(rate * log(1 + exp(a + bias))); W: A rates, A biases."""
    n = peek(record + A)
    first, last = share(peek(pas + N_TOKENS) * n, t, threads)
    for item in range(first, last):
        x, w = (
            peek(record + X) + item // n * peek(record + X_STEP) + 4 * (item % n),
            peek(record + W) + 4 * (item % n),
        )
        b, a = (
            np.float64(peek_f32(x)),
            np.float64(peek_f32(x + 4 * n)) + np.float64(peek_f32(w + 4 * n)),
        )
        e = exp64(-abs(b))
        poke_f32(x, np.float32((1.0 if b > 0.0 else e) / (1.0 + e)))
        e = exp64(-abs(a))
        s, sums = e / (2.0 + e), 0.0  # log(1 + e) = 2 (s + s^3 / 3 + ...), s at most 1/3
        for k in range(33, 0, -2):
            sums = sums * s * s + 1.0 / k
        poke_f32(
            x + 4 * n,
            np.float32(exp64(min(0.0, np.float64(peek_f32(w)) * (max(a, 0.0) + 2.0 * s * sums)))),
        )
    return 0


@inline
def four_rows(acc, scratch):
    """The sum of the vectors of a tile of four."""
    stores(scratch, 64, acc)
    return add(
        add(load(scratch), load(scratch + 64)), add(load(scratch + 128), load(scratch + 192))
    )


@kernel
def delta(record, pas, t, threads):
    """The gated delta rule (Yang et al. 2024): a head's state S [C keys, D values] fades, learns where it was wrong, is read:
    S = decay S; S += k (rate (v - k S)); OUT = q S. X: q and k of heads that have B heads of values each, side by side, or, if
    E, in turns; then v of all A heads. W: all rates, then all decays, of step S. Q: states [slot, head, D / 16, C, 16], begun
    anew at position 0.

    A thread has 16 columns of a head's state at a time, and takes the tokens in turn: a sequence's must stand in its order.
    """
    heads, group, keys, dim = peek(record + A), peek(record + B), peek(record + C), peek(record + D)
    pairs, blocks, scratch = (
        heads // group,
        (dim + 15) // 16,
        peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP),
    )
    first, last = share(heads * blocks, t, threads)
    for item in range(first, last):
        head, at = item // blocks, item % blocks * 16
        pair = head % pairs if peek(record + E) != 0 else head // group
        for i in range(peek(pas + N_TOKENS)):
            x, w = (
                peek(record + X) + i * peek(record + X_STEP),
                peek(record + W) + i * peek(record + S) + 4 * head,
            )
            q, k = x + 4 * keys * pair, x + 4 * keys * (pairs + pair)
            v = load(x + 4 * (2 * keys * pairs + dim * head + at))
            rate, decay = splat(peek_f32(w)), splat(peek_f32(w + 4 * heads))
            s = (
                peek(record + Q)
                + (peek(peek(pas + SLOTS) + 8 * i) * heads * blocks + item) * keys * 64
            )
            acc = zeros4()
            if peek(peek(pas + POSITIONS) + 8 * i) == 0:
                for j in range(0, keys, 4):
                    stores(s + 64 * j, 64, acc)
            for j in range(0, keys, 4):
                rows = mul(loads_f32(acc, s + 64 * j, 64), decay)
                stores(s + 64 * j, 64, rows)
                acc = fma(rows, spreads(acc, k + 4 * j, 4), acc)
            change = mul(sub(v, four_rows(acc, scratch)), rate)
            acc = zeros4()
            for j in range(0, keys, 4):
                rows = fma(spreads(acc, k + 4 * j, 4), change, loads_f32(acc, s + 64 * j, 64))
                stores(s + 64 * j, 64, rows)
                acc = fma(rows, spreads(acc, q + 4 * j, 4), acc)
            out = peek(record + OUT) + i * peek(record + OUT_STEP) + 4 * (dim * head + at)
            store_first(out, four_rows(acc, scratch), dim - at)
    return 0


# -----------------------------------------------------------------------------
# twofile/kernels/embed.py
# Rows of a matrix, by their numbers.

@inline
def weight_q8(record, row, k):
    """Element [row, k] of W."""
    groups, lane = peek(record + COLS) // 32, row % 16
    scale = peek_f16(peek(record + S) + (row // 16 * groups + k // 32) * 32 + 2 * lane)
    w = peek(record + W) + row // 16 * groups * 512 + k // 4 * 64 + 4 * lane + k % 4
    return np.float32(peek_u8(w) - 128) * scale


@inline
def weight_q4(record, row, k):
    groups, lane = peek(record + COLS) // 32, row % 16
    scale = peek_f16(peek(record + S) + (row // 16 * groups + k // 32) * 32 + 2 * lane)
    w = peek(record + W) + row // 16 * groups * 256 + k // 8 * 64 + 4 * lane + k % 4
    return np.float32((peek_u8(w) >> (k % 8 // 4 * 4)) % 16 - 8) * scale


def weight_float(peek_weight, size):
    def weight(record, row, k):
        return peek_weight(
            peek(record + W) + ((row // 16 * peek(record + COLS) + k) * 16 + row % 16) * size
        )

    return inline(weight)


def embed(weight):
    """OUT [tokens, A] = the rows of W that the ids at B of the pass name, times GAIN; added to OUT if ADD."""

    def embed(record, pas, t, threads):
        cols = peek(record + A)
        gain = peek_f32(record + GAIN)
        for i in range(peek(pas + N_TOKENS)):
            row = peek(peek(pas + peek(record + B)) + 8 * i)
            out = peek(record + OUT) + i * peek(record + OUT_STEP)
            first, last = share(cols, t, threads)
            for k in range(first, last):
                before = np.float32(0)
                if peek(record + ADD) != 0:
                    before = peek_f32(out + 4 * k)
                poke_f32(out + 4 * k, before + weight(record, row, k) * gain)
        return 0

    return embed


# -----------------------------------------------------------------------------
# twofile/kernels/experts.py
# Mixtures of experts: who is asked, what they say, by what weight.

@kernel
def route(record, pas, t, threads):
    """The router's logits X [tokens, A experts] -> B experts for each token. At OUT, tables of C pairs of token and expert, by
    expert: the token of each pair; for token i, choice j, at i * B + j: the pair, and (float32) its weight; then a count for
    each expert, and the runs: how many, and for each the expert, its first pair, how many pairs. D: the weights sum to 1."""
    experts, k, n, room = (
        peek(record + A),
        peek(record + B),
        peek(pas + N_TOKENS),
        8 * peek(record + C),
    )
    tokens = peek(record + OUT)
    pairs, weights, counts = tokens + room, tokens + 2 * room, tokens + 3 * room
    runs = counts + 8 * experts
    if t != 0:
        return 0
    for e in range(experts):
        poke(counts + 8 * e, 0)
    for i in range(n):
        x = peek(record + X) + i * peek(record + X_STEP)
        top, total, sum_ = np.float64(peek_f32(x)), 0.0, 0.0
        for e in range(experts):
            top = max(top, np.float64(peek_f32(x + 4 * e)))
        for e in range(experts):
            total += exp64(np.float64(peek_f32(x + 4 * e)) - top)
        for j in range(i * k, i * k + k):
            best = 0
            for e in range(1, experts):
                if peek_f32(x + 4 * e) > peek_f32(x + 4 * best):
                    best = e
            weight = exp64(np.float64(peek_f32(x + 4 * best)) - top) / total
            sum_ += weight
            poke_f32(x + 4 * best, np.float32(-np.inf))
            poke(pairs + 8 * j, best)
            poke_f32(weights + 8 * j, np.float32(weight))
            poke(counts + 8 * best, peek(counts + 8 * best) + 1)
        if peek(record + D) != 0:
            for j in range(i * k, i * k + k):
                poke_f32(weights + 8 * j, np.float32(np.float64(peek_f32(weights + 8 * j)) / sum_))
    at, found = 0, 0
    for e in range(experts):
        count = peek(counts + 8 * e)
        poke(counts + 8 * e, at)
        if count > 0:
            poke(runs + 8 + 24 * found, e)
            poke(runs + 16 + 24 * found, at)
            poke(runs + 24 + 24 * found, count)
            found += 1
        at += count
    poke(runs, found)
    for j in range(n * k):
        e = peek(pairs + 8 * j)
        pair = peek(counts + 8 * e)
        poke(counts + 8 * e, pair + 1)
        poke(pairs + 8 * j, pair)
        poke(tokens + 8 * pair, j // k)
    return 0


@kernel
def gather(record, pas, t, threads):
    """OUT [pairs] = the rows X of their tokens, at C; COLS bytes each."""
    first, last = share(peek(pas + N_PAIRS), t, threads)
    for pair in range(first, last):
        x = peek(record + X) + peek(peek(record + C) + 8 * pair) * peek(record + X_STEP)
        out = peek(record + OUT) + pair * peek(record + OUT_STEP)
        for at in range(0, peek(record + COLS), 4):
            poke_i32(out + at, peek_i32(x + at))
    return 0


def matmul_experts(one, four):
    """As a matmul, for pairs of token and expert that lie by expert: runs at C, ROWS of one expert, E = all experts' biases or
    0. one and four: the sums of a block of rows for one token and for four."""

    def matmul(record, pas, t, threads):
        runs, blocks = peek(record + C), peek(record + ROWS) // 16
        first, last = share(blocks, t, threads)
        steps, bias = opaque(8), peek(record + E)
        for r in range(peek(runs)):
            expert, i, left = (
                peek(runs + 8 + 24 * r),
                peek(runs + 16 + 24 * r),
                peek(runs + 24 + 24 * r),
            )
            for block in range(first, last):
                w = expert * blocks + block
                begin = zeros1()
                if bias != 0:
                    begin = load(bias + 64 * w)
                for at in range(i, i + left - 3, 4):
                    put_rows(record, at, block, add(four(record, at, w, steps), begin))
                for at in range(i + left - left % 4, i + left):
                    put_rows(record, at, block, add(one(record, at, w), begin))
        return 0

    return matmul


def experts_quantised(tile):
    def one(record, i, block):
        return tile(zeros1(), record, i, block, 8)

    def four(record, i, block, steps):
        return tile(zeros4(), record, i, block, steps)

    return matmul_experts(inline(one), inline(four))


@kernel
def combine(record, pas, t, threads):
    """OUT [tokens, A] += GAIN * the sum over each token's B pairs of weight * X [pairs, A]; at W tables of C pairs, route's."""
    groups, k = (peek(record + A) + 15) // 16, peek(record + B)
    pairs, weights = (
        peek(record + W) + 8 * peek(record + C),
        peek(record + W) + 16 * peek(record + C),
    )
    first, last = share(peek(pas + N_TOKENS) * groups, t, threads)
    for item in range(first, last):
        i, at, acc = item // groups, item % groups * 64, zeros1()
        for j in range(i * k, i * k + k):
            x = peek(record + X) + peek(pairs + 8 * j) * peek(record + X_STEP) + at
            acc = fma(load(x), splat(peek_f32(weights + 8 * j)), acc)
        out = peek(record + OUT) + i * peek(record + OUT_STEP) + at
        store(out, fma(acc, splat(peek_f32(record + GAIN)), load(out)))
    return 0


@kernel
def gated_add(record, pas, t, threads):
    """OUT [tokens, A] += GAIN * sigmoid(W [tokens, 1]) * X [tokens, A]; S is the step of W."""
    groups = (peek(record + A) + 15) // 16
    first, last = share(peek(pas + N_TOKENS) * groups, t, threads)
    for item in range(first, last):
        i, at, one = item // groups, item % groups * 64, splat(np.float32(1))
        gate = splat(peek_f32(peek(record + W) + i * peek(record + S)))
        gate = mul(div(one, add(one, exp(sub(zeros1(), gate)))), splat(peek_f32(record + GAIN)))
        out = peek(record + OUT) + i * peek(record + OUT_STEP) + at
        store(out, fma(load(peek(record + X) + i * peek(record + X_STEP) + at), gate, load(out)))
    return 0


# -----------------------------------------------------------------------------
# twofile/kernels/matmul.py
# Matrices times rows.

@inline
def tile_q8(acc, record, i, block, steps):
    """16 rows of weights times a tile of tokens from i on. steps: 8, for the 8 * 4 columns of a group."""
    groups, q_step, g_step = peek(record + COLS) // 32, peek(record + Q_STEP), peek(record + G_STEP)
    w, s = peek(record + W) + block * groups * 512, peek(record + S) + block * groups * 32
    q, at = peek(record + Q) + i * q_step, i * g_step
    qs, qc = peek(record + QS) + at, peek(record + QC) + at
    for _ in range(groups):
        sums = start(acc, qc, g_step)
        for k in range(steps):
            prefetch(w + 64 * k + AHEAD)
            sums = dot(sums, load_bytes(w + 64 * k), q + 4 * k, q_step)
        acc = scaled(acc, sums, load_f16(s), qs, g_step)
        w, s, q, qs, qc = w + 512, s + 32, q + 32, qs + 4, qc + 4
    return acc


@inline
def tile_q4(acc, record, i, block, steps):
    groups, q_step, g_step = peek(record + COLS) // 32, peek(record + Q_STEP), peek(record + G_STEP)
    w, s = peek(record + W) + block * groups * 256, peek(record + S) + block * groups * 32
    q, at = peek(record + Q) + i * q_step, i * g_step
    qs, qc = peek(record + QS) + at, peek(record + QC) + at
    for _ in range(groups):
        sums = start4(acc)
        for k in range(steps // 2):
            prefetch(w + 64 * k + AHEAD)
            pair = load_bytes(w + 64 * k)
            sums = dot4(sums, low_nibbles(pair), q + 8 * k, q_step)
            sums = dot4(sums, high_nibbles(pair), q + 8 * k + 4, q_step)
        acc = scaled(acc, finish4(sums, qc, g_step), load_f16(s), qs, g_step)
        w, s, q, qs, qc = w + 256, s + 32, q + 32, qs + 4, qc + 4
    return acc


def matmul_quantised(tile):
    """OUT [tokens, rows] = Q [tokens, cols] @ W [rows, cols].T, four tokens at a time while there are four."""

    def matmul(record, pas, t, threads):
        n = peek(peek(record + COUNT))
        first, last = share(peek(record + ROWS) // 16, t, threads)
        steps = opaque(8)  # unrolled, the wide tile's sums do not fit the registers
        for block in range(first, last):
            for i in range(0, n - 3, 4):
                put_rows(record, i, block, tile(zeros4(), record, i, block, steps))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, tile(zeros1(), record, i, block, 8))
        return 0

    return matmul


@inline
def signed_q8(w, groups, out):
    """A block of rows as the matrix unit takes it: for each group of 32 columns, [8, 64] int8."""
    for k in range(0, groups * 512, 64):
        prefetch(w + k + AHEAD)
        store_bytes(out + k, lowered(load_bytes(w + k), 128))


@inline
def signed_q4(w, groups, out):
    for k in range(0, groups * 256, 64):
        prefetch(w + k + AHEAD)
        pair = load_bytes(w + k)
        store_bytes(out + 2 * k, lowered(low_nibbles(pair), 8))
        store_bytes(out + 2 * k + 64, lowered(high_nibbles(pair), 8))


def matmul_tiles(signed, width, rest):
    """As matmul_quantised, sixteen tokens at a time on the matrix unit while there are sixteen: the same sums, so the same
    bits. width: bytes of a group of a block; rest: matmul_quantised's tile."""

    def matmul(record, pas, t, threads):
        n, groups = peek(peek(record + COUNT)), peek(record + COLS) // 32
        first, last = share(peek(record + ROWS) // 16, t, threads)
        q_step, g_step = peek(record + Q_STEP), peek(record + G_STEP)
        sums = peek(pas + SCRATCH) + t * peek(pas + SCRATCH_STEP)
        bytes_, steps = sums + 2048, opaque(8)
        if n >= 16:
            tile_config()
        for block in range(first, last):
            if n >= 16:
                signed(peek(record + W) + block * groups * width, groups, bytes_)
            for i in range(0, n - 15, 16):
                acc, w, s = zeros16(), bytes_, peek(record + S) + block * groups * 32
                q, qs = peek(record + Q) + i * q_step, peek(record + QS) + i * g_step
                tile_dot(q, q_step, w, sums)
                later = peek(record + W) + (block + 1) * groups * width + i // 16 * width // 2
                for g in range(
                    0, groups - 1, 2
                ):  # the next group's products are on their way while these are scaled
                    for k in range(
                        0, width // 2, 64
                    ):  # and the next block's weights, a quarter with each of the first tokens
                        prefetch(later + g * width + k)
                    tile_dot_too(q + 32 * g + 32, q_step, w + 512 * g + 512, sums + 1024)
                    acc = scaled(acc, loads_i32(acc, sums, 64), load_f16(s), qs, g_step)
                    after = min(g + 2, groups - 1)
                    tile_dot(q + 32 * after, q_step, w + 512 * after, sums)
                    acc = scaled(
                        acc, loads_i32(acc, sums + 1024, 64), load_f16(s + 32), qs + 4, g_step
                    )
                    s, qs = s + 64, qs + 8
                if groups % 2:
                    acc = scaled(acc, loads_i32(acc, sums, 64), load_f16(s), qs, g_step)
                put_rows(record, i, block, acc)
            for i in range(n - n % 16, n - 3, 4):
                put_rows(record, i, block, rest(zeros4(), record, i, block, steps))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, rest(zeros1(), record, i, block, 8))
        if n >= 16:
            tile_release()
        return 0

    return matmul


def sums_float(loads, size):
    """-> the sums of a block of rows, whose weights of size bytes are read by loads, for one token and for four from i on.
    Rows are summed column by column."""

    def one(record, i, block):
        cols, x, acc = peek(record + COLS), peek(record + X) + i * peek(record + X_STEP), zeros1()
        w = peek(record + W) + block * cols * 16 * size
        for k in range(cols):
            acc = fma(loads(acc, w + k * 16 * size, 0), spreads(acc, x + 4 * k, 0), acc)
        return acc

    def four(record, i, block, steps):
        cols, x_step, acc = peek(record + COLS), peek(record + X_STEP), zeros4()
        w, x = peek(record + W) + block * cols * 16 * size, peek(record + X) + i * x_step
        for k in range(cols):
            acc = fma(loads(zeros1(), w + k * 16 * size, 0), spreads(acc, x + 4 * k, x_step), acc)
        return acc

    return inline(one), inline(four)


def matmul_float(loads, size):
    """As matmul_quantised, for weights of size bytes read by loads and X in float32."""
    one, four = sums_float(loads, size)

    def matmul(record, pas, t, threads):
        n, cols = peek(peek(record + COUNT)), peek(record + COLS)
        first, last = share(peek(record + ROWS) // 16, t, threads)
        out_step, many = 16 * size, cols * 16 * size
        block = first
        while block < last:
            if (
                n < 4 and last - block >= 4
            ):  # few tokens: four blocks of rows at once, to hide the latency of fma
                w = peek(record + W) + block * many
                for i in range(n):
                    acc, x = zeros4(), peek(record + X) + i * peek(record + X_STEP)
                    for k in range(cols):
                        acc = fma(
                            loads(acc, w + k * out_step, many), splat(peek_f32(x + 4 * k)), acc
                        )
                    put_blocks(record, i, block, acc)
                block += 4
                continue
            for i in range(0, n - 3, 4):
                put_rows(record, i, block, four(record, i, block, 0))
            for i in range(n - n % 4, n):
                put_rows(record, i, block, one(record, i, block))
            block += 1
        return 0

    return matmul


# -----------------------------------------------------------------------------
# twofile/kernels/norm.py
# Norms of rows and of heads.

def norm(centred, adding):
    """OUT or Q = X / sqrt(mean(X^2) + eps) * W, or, adding, OUT += that; A = true columns, B = eps, C = address of the tokens
    to take, or 0. Centred is the layer norm (Ba et al. 2016): of X less its mean, plus BIAS if there is one."""

    def norm(record, pas, t, threads):
        groups, n = peek(record + COLS) // 32, peek(record + A)
        item, last = share(peek(peek(record + COUNT)) * groups, t, threads)
        while item < last:
            i, g = item // groups, item % groups
            stop = min(groups, g + last - item)
            item += stop - g
            token = i
            if peek(record + C) != 0:
                token = peek(peek(record + C) + 8 * i)
            x = peek(record + X) + token * peek(record + X_STEP)
            mean, sums = zeros1(), zeros1()
            if centred:
                for k in range(0, groups * 128, 64):
                    sums = add(sums, load(x + k))
                mean = splat(total(sums) / np.float32(n))
            squares = zeros1()
            for k in range(0, groups * 128, 64):
                v = load(x + k)
                if centred:
                    v = keep(sub(v, mean), 0, n - k // 4, np.float32(0))
                squares = fma(v, v, squares)
            scale = splat(
                np.float32(1) / root(total(squares) / np.float32(n) + peek_f32(record + B))
            )
            w, bias = peek(record + W), peek(record + BIAS)
            for k in range(128 * g, 128 * stop, 128):
                v0, v1 = mul(load(x + k), scale), mul(load(x + k + 64), scale)
                if centred:
                    v0, v1 = (
                        mul(sub(load(x + k), mean), scale),
                        mul(sub(load(x + k + 64), mean), scale),
                    )
                v0, v1 = mul(v0, load(w + k)), mul(v1, load(w + k + 64))
                if centred and bias != 0:
                    v0, v1 = add(v0, load(bias + k)), add(v1, load(bias + k + 64))
                if adding:
                    out = peek(record + OUT) + i * peek(record + OUT_STEP) + k
                    v0, v1 = add(v0, load(out)), add(v1, load(out + 64))
                put_group(record, i, k // 128, v0, v1)
        return 0

    return norm


@kernel
def headnorm(record, pas, t, threads):
    """X = X / sqrt(mean(X^2) + eps) * W, in place, for each of A heads of C columns; B = eps."""
    heads, n = peek(record + A), peek(record + C)
    first, last = share(peek(peek(record + COUNT)) * heads, t, threads)
    for item in range(first, last):
        at = item % heads * n * 4
        x, w = peek(record + X) + item // heads * peek(record + X_STEP) + at, peek(record + W) + at
        squares = zeros1()
        for j in range(0, n, 16):
            v = keep(load(x + 4 * j), 0, n - j, np.float32(0))
            squares = fma(v, v, squares)
        scale = splat(np.float32(1) / root(total(squares) / np.float32(n) + peek_f32(record + B)))
        for j in range(0, n, 16):
            store_first(x + 4 * j, mul(mul(load(x + 4 * j), scale), load(w + 4 * j)), n - j)
    return 0


# -----------------------------------------------------------------------------
# twofile/kernels/pick.py
# The choice of a token.

# The block that pick() needs beside the logits: its settings, then for the k best their values
# (float32), ids (int32) and sums of weights (float64). The rules of sampling that act in here are
# settings by their names in RULES, float64 each; so is the coin. k is an int64.
ACTING = "temperature", "top_p", "min_p"
SETTINGS = *ACTING, "coin", "k"
OFFSETS = *range(0, 8 * len(SETTINGS), 8), padded(8 * len(SETTINGS), 64)
PICK = namedtuple("Pick", (*SETTINGS, "best"))(*OFFSETS)  # in bytes, from the block's beginning


@inline
def insert(values, ids, found, k, value, i):
    """Put value in its place among the found best, equals by index; -> how many there are now."""
    if found == k and not value > peek_f32(values + 4 * (k - 1)):
        return found
    at = min(found, k - 1)
    while at > 0 and value > peek_f32(values + 4 * (at - 1)):
        poke_f32(values + 4 * at, peek_f32(values + 4 * (at - 1)))
        poke_i32(ids + 4 * at, peek_i32(ids + 4 * (at - 1)))
        at -= 1
    poke_f32(values + 4 * at, value)
    poke_i32(ids + 4 * at, np.int32(i))
    return min(found + 1, k)


@inline
def four_largest(p):
    return largest(larger(larger(load(p), load(p + 64)), larger(load(p + 128), load(p + 192))))


@inline
def best(logits, n, k, values, ids):
    """The k largest of n, in order; -> how many, or -1 if one is not finite. 64 at a time: few
    reach the best so far."""
    found, most = 0, zeros1()
    for i in range(0, n - 15, 16):
        most = larger(most, magnitude(load(logits + 4 * i)))
    limit = largest(most)
    for i in range(n // 16 * 16, n):
        limit += np.float32(0) * peek_f32(logits + 4 * i)  # no change, or NaN
    if not limit < np.float32(np.inf):
        return -1
    start = 0
    while start < n:
        end = min(start + 64, n)
        if (
            end - start < 64
            or found < k
            or four_largest(logits + 4 * start) > peek_f32(values + 4 * (k - 1))
        ):
            for i in range(start, end):
                found = insert(values, ids, found, k, peek_f32(logits + 4 * i), i)
        start = end
    return found


@inline
def drawn(block, values, sums, n):
    """Which of n values in falling order is chosen: top-p, min-p, temperature, then the coin."""
    top, count, total = np.float64(peek_f32(values)), n, 0.0
    for i in range(n):
        total += exp64(np.float64(peek_f32(values + 4 * i)) - top)
        poke_f64(sums + 8 * i, total)
    if peek_f64(block + PICK.top_p) < 1.0:
        count = 1
        while count < n and peek_f64(sums + 8 * (count - 1)) < peek_f64(block + PICK.top_p) * total:
            count += 1
    total = 0.0
    for i in range(count):
        below = np.float64(peek_f32(values + 4 * i)) - top
        if exp64(below) < peek_f64(block + PICK.min_p):
            count = i
            break
        total += exp64(below / peek_f64(block + PICK.temperature))
        poke_f64(sums + 8 * i, total)
    for i in range(count):
        if peek_f64(sums + 8 * i) > peek_f64(block + PICK.coin) * total:
            return i
    return count - 1


@kernel
def pick(logits, n, block, ready):
    """The id chosen from n float32 logits, or -1 if one is not finite. ready: the n best stand in
    the block already."""
    k = peek(block + PICK.k)
    values, ids = block + PICK.best, block + PICK.best + 4 * k
    found = n if ready != 0 else best(logits, n, k, values, ids)
    if found < 0:
        return -1
    at = 0
    if peek_f64(block + PICK.temperature) != 0.0:
        at = drawn(block, values, block + PICK.best + 8 * k, found)
    return np.int64(peek_i32(ids + 4 * at))


# -----------------------------------------------------------------------------
# twofile/kernels/rotation.py
# Positions as angles, and what goes into the cache of keys and values.

@inline
def sine(r):
    """sin(r) for |r| <= pi / 4, float64, by its series."""
    y, square = 0.0, r * r
    for k in range(16, 0, -2):
        y = (1.0 - y) * square / (k * (k + 1))
    return r * (1.0 - y)


@inline
def cosine(r):
    y, square = 0.0, r * r
    for k in range(15, 0, -2):
        y = (1.0 - y) * square / (k * (k + 1))
    return 1.0 - y


@kernel
def angles(record, pas, t, threads):
    """OUT: for each token and rope table, cos [A], sin [A] of position * frequency (W), times the amplitude. B = tables.

    The angle is the float32 product, as in the reference programs; its cosine and sine are our own, in float64.
    """
    half = peek(record + A)
    for i in range(peek(pas + N_TOKENS)):
        position = np.float32(peek(peek(pas + POSITIONS) + 8 * i))
        for table in range(peek(record + B)):
            w = peek(record + W) + table * half * 8
            out = peek(record + OUT) + i * peek(record + OUT_STEP) + table * half * 8
            first, last = share(half, t, threads)
            for j in range(first, last):
                angle = np.float64(position * peek_f32(w + 4 * j))
                amplitude = np.float64(peek_f32(w + 4 * (half + j)))
                turns = math.floor(angle * 0.6366197723675814 + 0.5)
                r = (
                    angle - turns * 1.5707963267341256
                )  # pi / 2 in two parts: the first product is exact
                r = r - turns * 6.077100506506192e-11
                quarter = np.int64(turns) & 3
                s, c = sine(r), cosine(r)
                if quarter & 1 == 1:
                    s, c = c, -s
                if quarter & 2 == 2:
                    s, c = -s, -c
                poke_f32(out + 4 * j, np.float32(c * amplitude))
                poke_f32(out + 4 * (half + j), np.float32(s * amplitude))
    return 0


@inline
def rotate(p, cs, half, gain):
    """One head at p, in place: pairs (j, j + half) by the angle's cos and sin at cs (0 = not at all), times gain."""
    scale = splat(gain)
    for j in range(0, half, 16):
        x, y = load(p + 4 * j), load(p + 4 * (half + j))
        a, b = x, y
        if cs != 0:
            c, s = load(cs + 4 * j), load(cs + 4 * (half + j))
            a, b = sub(mul(x, c), mul(y, s)), add(mul(y, c), mul(x, s))
        store_first(p + 4 * j, mul(a, scale), half - j)
        store_first(p + 4 * (half + j), mul(b, scale), half - j)


def rope(poke_kv, store_kv, size):
    """Rotate q and k in X (q scaled by GAIN), and put k and v into the cache.

    A = kv heads, B = queries of each, C = head_dim, D = positions of a slot; W = angles of step S, or 0; E = factors of q,
    one for each COLS positions, or 0. The caches: keys at Q [slot, head, position / 64, head_dim, 64], values at QS [slot,
    head, position, head_dim padded to 16]; or Q = 0: there are no k and v, another layer's are seen.
    """

    def rope(record, pas, t, threads):
        heads, group, dim, room = (
            peek(record + A),
            peek(record + B),
            peek(record + C),
            peek(record + D),
        )
        wide = (dim + 15) // 16 * 16
        first, last = share(peek(pas + N_TOKENS) * heads, t, threads)
        for item in range(first, last):
            i, head = item // heads, item % heads
            x = peek(record + X) + i * peek(record + X_STEP)
            k, v = (
                x + 4 * dim * (heads * group + head),
                x + 4 * dim * (heads * group + heads + head),
            )
            cs = peek(record + W)
            if cs != 0:
                cs += i * peek(record + S)
            position, gain = peek(peek(pas + POSITIONS) + 8 * i), peek_f32(record + GAIN)
            if peek(record + E) != 0:
                gain *= peek_f32(peek(record + E) + 4 * (position // peek(record + COLS)))
            for j in range(head * group, (head + 1) * group):
                rotate(x + 4 * dim * j, cs, dim // 2, gain)
            if peek(record + Q) == 0:
                continue
            if cs != 0:
                rotate(k, cs, dim // 2, np.float32(1))
            lane = (peek(peek(pas + SLOTS) + 8 * i) * heads + head) * room
            keys = peek(record + Q) + ((lane + position // 64 * 64) * dim + position % 64) * size
            values = peek(record + QS) + (lane + position) * wide * size
            for j in range(dim):
                poke_kv(keys + j * 64 * size, peek_f32(k + 4 * j))
            for j in range(0, dim, 16):
                store_kv(values + j * size, keep(load(v + 4 * j), 0, dim - j, np.float32(0)))
        return 0

    return rope


# -----------------------------------------------------------------------------
# twofile/kernels/table.py
# Kernels that are made of a template, by name.

KERNELS.update(
    {
        "matmul_q8_0": lambda: (
            matmul_tiles(signed_q8, 512, tile_q8) if _LL.isa == "amx" else matmul_quantised(tile_q8)
        ),
        "matmul_q4_0": lambda: (
            matmul_tiles(signed_q4, 256, tile_q4) if _LL.isa == "amx" else matmul_quantised(tile_q4)
        ),
        "matmul_f32": lambda: matmul_float(loads_f32, 4),
        "matmul_f16": lambda: matmul_float(loads_f16, 2),
        "matmul_bf16": lambda: matmul_float(loads_bf16, 2),
        "experts_q8_0": lambda: experts_quantised(tile_q8),
        "experts_q4_0": lambda: experts_quantised(tile_q4),
        "experts_f32": lambda: matmul_experts(*sums_float(loads_f32, 4)),
        "experts_f16": lambda: matmul_experts(*sums_float(loads_f16, 2)),
        "experts_bf16": lambda: matmul_experts(*sums_float(loads_bf16, 2)),
        "embed_q8_0": lambda: embed(weight_q8),
        "embed_q4_0": lambda: embed(weight_q4),
        "embed_f32": lambda: embed(weight_float(peek_f32, 4)),
        "embed_f16": lambda: embed(weight_float(peek_f16, 2)),
        "embed_bf16": lambda: embed(weight_float(peek_bf16, 2)),
        "rope_f32": lambda: rope(poke_f32, store, 4),
        "rope_f16": lambda: rope(poke_f16, store_f16, 2),
        "attention_f32": lambda: attention(loads_f32, 4),
        "attention_f16": lambda: attention(loads_f16, 2),
        "rmsnorm": lambda: norm(False, False),
        "rmsnorm_add": lambda: norm(False, True),
        "layernorm": lambda: norm(True, False),
        "layernorm_add": lambda: norm(True, True),
        "softcap": lambda: in_place(capped),
        "scale": lambda: in_place(times),
        "convolution": lambda: convolution(False),
        "convolution_gated": lambda: convolution(True),
        "sigmoid_gated": lambda: activation(sigmoid, True),
    }
)
for _function in (silu, gelu_tanh, gelu_erf, relu, relu2):
    _name = _function.function.__name__
    KERNELS[f"{_name}_gated"] = lambda function=_function: activation(function, True)
    KERNELS[f"{_name}_plain"] = lambda function=_function: activation(function, False)


# ===== the parts of a model

# -----------------------------------------------------------------------------
# twofile/layers/plan.py
# The tensors of a file, in order.

def tensor_plan(c):
    """[(name, shape, role)] of every tensor in file order; export.py writes exactly this list.

    Roles: "matrix" (rows = outputs; any of MATRIX_TYPES, q8_0 and q4_0 followed by NAME.s), "f32", "i32", "u8".
    The length of "tokenizer" is not known from the config: its shape is (0,).
    """
    plan = [
        ("rope", (c.n_rope, 2, c.head_dim // 2), "f32"),  # inverse frequency, amplitude
        ("window", (c.n_layers,), "i32"),  # keys a layer sees, 0 = all
        ("rope_id", (c.n_layers,), "i32"),  # which rope table, -1 = none
        *(
            [("rope2", (1, 2, c.head_dim2 // 2), "f32")] if c.head_dim2 else []
        ),  # of layers of kind ATTENTION2
        ("embed", (c.vocab_size, c.dim), "matrix"),
    ]
    plan += [("positions", (c.max_ctx, c.dim), "matrix")] if c.has("positions") else []
    plan += _norm(c, "embed_norm", c.has("embed_norm"))
    if c.ple_dim:  # every layer's part of a token's embedding for it
        wide = c.n_layers * c.ple_dim
        plan += [
            ("ple_embed", (c.vocab_size, wide), "matrix"),
            ("ple_proj", (wide, c.dim), "matrix"),
        ]
        plan += [("ple_norm.w", (c.ple_dim,), "f32")]
    for i in range(c.n_layers):
        plan += _norm(c, f"l{i}.an", not c.has("no_pre_norm"))
        plan += _mixer(c, i)
        plan += _norm(c, f"l{i}.an2", c.has("post_norm"))
        plan += _norm(c, f"l{i}.fn", not c.has("no_pre_norm"))
        if c.n_experts:  # the rows of expert after expert
            plan += _linear(c, f"l{i}.router", (c.n_experts, c.dim), "expert_bias")
            plan += _linear(
                c, f"l{i}.experts_up", (c.n_experts * 2 * c.expert_ffn, c.dim), "expert_bias"
            )
            plan += _linear(
                c, f"l{i}.experts_down", (c.n_experts * c.dim, c.expert_ffn), "expert_bias"
            )
            plan += [(f"l{i}.shared_gate", (1, c.dim), "matrix")] if c.has("shared_gate") else []
        if c.shared_ffn or not c.n_experts:
            ffn = c.shared_ffn or c.ffn(i)
            plan += _linear(
                c, f"l{i}.gate_up", (ffn if c.has("ungated") else 2 * ffn, c.dim), "gate_up_bias"
            )
            plan += _linear(c, f"l{i}.down", (c.dim, ffn), "down_bias")
        plan += _norm(c, f"l{i}.fn2", c.has("post_norm"))
        if c.ple_dim:
            plan += [
                (f"l{i}.ple_gate", (c.ple_dim, c.dim), "matrix"),
                (f"l{i}.ple_up", (c.dim, c.ple_dim), "matrix"),
            ]
            plan += _norm(c, f"l{i}.pn", True)
        plan += [(f"l{i}.scale", (1,), "f32")] if c.has("layer_scale") else []
    plan += _norm(c, "out_norm", True)
    if c.has("head"):
        plan += _linear(c, "head", (c.vocab_size, c.dim), "head_bias")
    if c.has("tokenizer"):
        plan += [("tokenizer", (0,), "u8")]
    return plan


def _mixer(c, i):
    """The part of the plan of layer i where tokens learn of each other."""
    convolved, rows, wide = c.mixed(i)
    plan = _linear(c, f"l{i}.qkv", (rows, c.dim), "qkv_bias")
    if c.attends(i):
        kv, size = c.heads(i)
        normed = c.n_heads + (kv if c.kv_layer(i) == i else 0)
        plan += [(f"l{i}.qk.w", (normed * size,), "f32")] if c.qk_norm else []
        plan += [(f"l{i}.sinks", (c.n_heads,), "f32")] if c.has("sinks") else []
    else:
        plan += [
            (f"l{i}.conv", (c.conv_len * convolved,), "f32")
        ]  # tap after tap, the last for the token itself
    if c.kind(i) == DELTA:
        plan += [
            (f"l{i}.ab", (2 * c.delta_v_heads, c.dim), "matrix"),
            (f"l{i}.decay", (2 * c.delta_v_heads,), "f32"),
        ]
        plan += [(f"l{i}.dn.w", (c.delta_v_dim,), "f32")]
    return plan + _linear(c, f"l{i}.o", (c.dim, wide), "o_bias")


def _norm(c, name, there):
    parts = ("w", "b") if c.has("norm_bias") else ("w",)
    return [(f"{name}.{part}", (c.dim,), "f32") for part in parts if there]


def _linear(c, name, shape, bias_flag):
    bias = [(f"{name}.b", shape[:1], "f32")] if c.has(bias_flag) else []
    return [(name, shape, "matrix")] + bias


# ===== a model that runs, and text

# -----------------------------------------------------------------------------
# twofile/modelfile.py
# A model file, checked and mapped.

def open_model(path):
    """Check the whole description of a model file, then map it.

    -> SimpleNamespace(path, config, tensors {name: Tensor}, model_id (hex), note, size (bytes)). Nothing but the header
    pages and the small tensors is read. Raises ModelError for every file this program could not run safely.
    """
    name = printable(str(path))
    fd, size = open_regular(path, "a model.bin")
    with os.fdopen(fd, "rb") as f:
        try:
            meta = _read_meta(f, size)
            model = _parse_meta(meta, size)
            # numpy slices of a memmap are slow, so the subclass is dropped once, here
            raw = np.asarray(np.memmap(f, np.uint8, "r"))
            if len(raw) != size:
                raise ModelError(
                    "changed while it was being opened; expected a file at rest; try again"
                )
            model.tensors = {t.name: _with_data(t, raw) for t in model.tensors}
            _check_values(model, fd)
        except ModelError as e:
            raise ModelError(f"{name}: {e}") from None
        except (OSError, ValueError) as e:
            raise ModelError(
                f"{name}: cannot be mapped ({e}); expected a readable file; check the disk"
            ) from None
    model.path, model.size = str(path), size
    return model


def _with_data(t, raw):
    return Tensor(
        t.name, t.dtype, t.shape, t.off, t.nbytes, t.sha256, raw[t.off : t.off + t.nbytes]
    )


def _parse_meta(meta, size):
    """Header, config, table and note against each other and against the plan -> namespace without data."""
    _, _, _, _, n, _, _, data_off, note_off, note_len, digest = HEADER.unpack_from(meta)
    if len(meta) != data_off or hashlib.sha256(meta[0x60:]).digest() != digest:
        raise ModelError(
            "metadata checksum does not match: the header is damaged; copy or export the file again"
        )
    if any(meta[0x60 + CONFIG.size : PAGE]):
        raise ModelError("reserved header bytes are set, expected zeros; use a newer run.py")
    end = PAGE + n * RECORD
    last = note_off + note_len
    ends_well = (
        padded(last, PAGE) == data_off and not any(meta[last:]) and (meta[last - 1] or not note_len)
    )
    if note_off != end or note_len > 1 << 20 or not ends_well:
        raise ModelError(
            f"note of {note_len:,} bytes at {note_off:,}, expected at most 1 MiB at {end:,}; export again"
        )
    c = Config.unpack(meta[0x60:PAGE])
    _check_config(c)
    tensors = _read_table(meta, n, data_off)
    if padded(tensors[-1].off + tensors[-1].nbytes, 64) != size:
        raise ModelError(
            f"tensors end at {tensors[-1].off + tensors[-1].nbytes:,} of {size:,} bytes; export again"
        )
    _check_plan(c, tensors)
    return SimpleNamespace(
        config=c,
        tensors=tensors,
        model_id=digest.hex(),
        note=meta[note_off : note_off + note_len].decode("utf-8", "replace"),
    )


def _check_plan(c, tensors):
    """The table must be what the config calls for: nothing missing, nothing more, in order."""
    found = [(t.name, t.shape, t.dtype) for t in tensors]
    kinds, want = {t.name: t.dtype for t in tensors}, []
    for name, shape, role in tensor_plan(c):
        dtype = (
            kinds.get(name)
            if role == "matrix" and kinds.get(name) in MATRIX_TYPES
            else "f32"
            if role == "matrix"
            else role
        )
        if role == "u8":
            shape = next((t.shape for t in tensors if t.name == name and len(t.shape) == 1), shape)
        want.append((name, shape, dtype))
        if dtype in ("q8_0", "q4_0"):
            want.append((name + ".s", scale_shape(shape), "f16"))
    if found != want:
        known, there = set(want), set(found)
        extra, missing = [t for t in found if t not in known], [t for t in want if t not in there]
        show = lambda rows: ", ".join(f"{n} {s} {d}" for n, s, d in rows[:3]) or "none"
        raise ModelError(
            f"tensors do not fit the config: unexpected {show(extra)}; missing {show(missing)}; export again"
        )


def _check_values(model, fd):
    """The tensors that steer the others, or multiply everything, must be finite and in range."""
    c, t = model.config, model.tensors
    # read, not mapped: the kernel reads far ahead at a page fault, which in a huge file takes seconds
    read = lambda x: os.pread(fd, x.nbytes, x.off) if hasattr(os, "pread") else x.data
    window, rope_id = (np.frombuffer(read(t[name]), "<i4") for name in ("window", "rope_id"))
    if window.min() < 0 or rope_id.min() < -1 or rope_id.max() >= c.n_rope:
        raise ModelError(
            f"window or rope_id out of range, expected 0 or more, and -1..{c.n_rope - 1}; export again"
        )
    scales = [x for x in t.values() if x.dtype == "f16" and len(x.shape) == 3]
    # reading more would take longer than opening should, and a file with holes can promise any number: verify() reads all
    scales, left = [] if sum(x.nbytes for x in scales) > 8 << 20 else scales, 32 << 20
    for tensor in [x for x in t.values() if x.dtype == "f32" and len(x.shape) != 2] + scales:
        left -= tensor.nbytes
        if left < 0:
            break
        if not np.isfinite(
            np.frombuffer(read(tensor), "<f4" if tensor.dtype == "f32" else "<f2")
        ).all():
            raise ModelError(
                f"tensor {tensor.name} holds NaN or infinity, expected finite numbers; export again"
            )


MODEL_ID = re.compile("[0-9a-fA-F]{16,64}")


def check_id(model, wanted):
    """Raises ModelError unless the model id, which the hashes of all tensors are part of, begins with wanted, and every tensor
    as it is mapped has its hash."""
    if not MODEL_ID.fullmatch(wanted):
        raise ModelError(
            f"--id: {printable(wanted)[:80]!r}, expected 16 to 64 digits of what --info shows"
        )
    path = printable(model.path)
    if not model.model_id.startswith(wanted.lower()):
        raise ModelError(
            f"{path}: model id {model.model_id}, expected {wanted.lower()}; get the file that has it"
        )
    for t in model.tensors.values():
        if hashlib.sha256(t.data).digest() != t.sha256:
            raise ModelError(
                f"{path}: checksum of {t.name} does not match its data; copy or export the file again"
            )


def verify(model):
    """Compare every tensor with its stored SHA-256; raises ModelError naming the first that differs."""
    path = printable(model.path)
    with open(
        model.path, "rb"
    ) as f:  # read, not mapped: a check of a file leaves no trace in this process's memory
        for t in model.tensors.values():
            f.seek(t.off)
            digest, finite = hashlib.sha256(), True
            for at in range(0, t.nbytes, 1 << 22):
                part = f.read(min(1 << 22, t.nbytes - at))
                if len(part) < min(1 << 22, t.nbytes - at):
                    raise ModelError(
                        f"{path}: was cut short while {t.name} was read; expected a file at rest; try again"
                    )
                digest.update(part)
                if t.dtype in ("f32", "f16"):
                    finite &= bool(
                        np.isfinite(np.frombuffer(part, "<f4" if t.dtype == "f32" else "<f2")).all()
                    )
            if digest.digest() != t.sha256:
                raise ModelError(
                    f"{path}: checksum of {t.name} does not match its data; copy or export the file again"
                )
            if not finite:
                raise ModelError(
                    f"{path}: tensor {t.name} holds NaN or infinity, expected finite numbers; export again"
                )


# -----------------------------------------------------------------------------
# twofile/forward.py
# The model recorded once as a program, played for every pass.

class Forward:
    """One model ready to run: buffers, KV cache, recorded program, worker threads.

    __call__(tokens, positions, slots, wanted) -> logits float32 [len(wanted), vocab_size], valid until the next call.
    A slot is the cache of one sequence of up to n_ctx positions.
    """

    NAMES = "token", "position", "slot", "wanted"

    def __init__(self, model, n_ctx, n_slots=1, kv="f16", threads=1, notice=print):
        c = self.config = model.config
        self.model, self.n_ctx, self.n_slots, self.threads = model, n_ctx, n_slots, threads
        self.room, self.kv = padded(n_ctx, KEYS), kv
        head_dim, size, every = (
            max(c.head_dim, c.head_dim2),
            4 if kv == "f32" else 2,
            range(c.n_layers),
        )
        self.buffers, self.nbytes, self.most = [], 0, total_memory()
        f32 = lambda n: self.buffer(4 * CHUNK * padded(n, GROUP))
        self.x = f32(c.dim)  # the residual stream
        # what the matrix qkv of a layer makes; behind that, where a gate comes before matrix o, what it is for
        widths = [c.mixed(i)[1] + (c.mixed(i)[2] if self.gated(i) else 0) for i in every]
        self.qkv, self.qkv_step = f32(max(widths)), 4 * padded(max(widths), GROUP)
        self.att, self.att2 = (
            f32(c.n_heads * c.head_dim),
            f32(c.n_heads * c.head_dim2),
        )  # what pads their rows stays zero
        self.gate_up = f32(2 * max(c.ffn_dim, c.ffn_dim2, c.shared_ffn))
        self.ab = f32(2 * c.delta_v_heads)  # of delta layers: the rates and decays of a token
        self.ple, self.ple_step = (
            f32((c.n_layers + 1) * c.ple_dim),
            4 * padded((c.n_layers + 1) * c.ple_dim, GROUP),
        )
        self.branch = f32(c.dim)  # what is normed before it joins the stream
        pairs = self.n_pairs = CHUNK * c.top_k  # of a token and an expert
        self.routes = self.buffer(8 * (3 * pairs + 4 * c.n_experts + 1))  # see route()
        self.router = f32(max(c.n_experts, 1))
        each = lambda n: self.buffer(4 * pairs * padded(n, GROUP))
        self.pair_x, self.pair_xb = (
            each(max(2 * c.expert_ffn, c.dim)),
            each(max(c.expert_ffn, c.dim)),
        )
        self.pair_q = self.buffer(pairs * padded(max(c.expert_ffn, c.dim), GROUP))
        self.pair_qs, self.pair_qc = each(max(c.expert_ffn, c.dim)), each(max(c.expert_ffn, c.dim))
        widest = max(
            c.dim, c.ffn_dim, c.ffn_dim2, c.shared_ffn, c.ple_dim, *(c.mixed(i)[2] for i in every)
        )
        self.xb = f32(widest)  # a matmul's input, if in float32
        self.q = self.buffer(
            CHUNK * padded(widest, GROUP)
        )  # a matmul's input, quantised: int8, and for each group of 32
        self.qs, self.qc = f32(widest), f32(widest)  # its scale (float32) and its sum (int32)
        self.cs, self.cs2 = f32(c.n_rope * c.head_dim), f32(c.head_dim2)
        self.logits = self.buffer(4 * WANTED_MAX * padded(c.vocab_size, 16))
        self.tempered = None  # factors of queries by position, if there are any
        # what layers know of the tokens before: keys and values of all, or the last inputs of a convolution and a state
        self.keys, self.values, self.inputs, self.states = ({} for _ in range(4))
        for i in every:
            if c.attends(i) and c.kv_layer(i) == i:
                heads, dim = c.heads(i)
                self.keys[i] = self.buffer(n_slots * heads * self.room * dim * size)
                self.values[i] = self.buffer(n_slots * heads * self.room * padded(dim, 16) * size)
            elif not c.attends(i):
                self.inputs[i], self.states[i] = (
                    self.buffer(4 * n_slots * n) for n in c.state_floats(i)
                )
        wide, tiles = padded(head_dim, 16), 2048 + 16 * padded(widest, GROUP)  # see matmul_tiles
        self.scratch_step = padded(
            max(4 * 4 * wide + 4 * 256 + 4 * (4 * wide + VALUES), tiles), 128
        )
        self.scratch = self.buffer(threads * self.scratch_step)
        self.ids = self.buffer(8 * CHUNK * 4)
        self.records, self.places, self.place = (
            [],
            [],
            "embedding",
        )  # a place: where in the model a record stands
        self.record()
        self.check_extents()
        names = {name for name, _ in self.records} | {"play", "post", "serve", "pick"}
        self.code = Code(sorted(names), notice)
        self._ready()

    def buffer(self, nbytes):
        """A Buffer of this model's; all of them together must fit this machine, before the first is touched."""
        self.nbytes += nbytes
        if self.nbytes > self.most:
            raise MemoryError(self.nbytes)
        self.buffers.append(Buffer(nbytes))
        return self.buffers[-1]

    # recording

    def record(self):
        """The forward, an operation a line. What a family lacks has no tensor, and leaves no record."""
        c, m = self.config, self.model.tensors
        window, rope_id = (m[name].data.view("<i4").tolist() for name in ("window", "rope_id"))
        self.embed(self.branch if c.has("embed_norm") else self.x, "embed", TOKENS)
        if c.has("positions"):
            self.embed(self.x, "positions", POSITIONS)
        self.angles(self.cs, "rope", c.n_rope, c.head_dim)
        if c.head_dim2:
            self.angles(self.cs2, "rope2", 1, c.head_dim2)
        if c.has("embed_norm"):
            self.norm(self.branch, "embed_norm", out=self.x)
        if c.ple_dim:
            self.layers_embeddings(self.ple)
        for i in range(c.n_layers):
            self.place = f"layer {i}"
            self.norm(self.x, f"l{i}.an", self.readers(f"l{i}.qkv", f"l{i}.ab"))
            self.matmul(self.qkv, f"l{i}.qkv", step=self.qkv_step)
            if c.kind(i) == DELTA:
                self.delta(self.qkv, i)
            att = self.att2 if c.kind(i) == ATTENTION2 else self.att
            if c.attends(i):
                if c.qk_after:
                    self.turn(self.qkv, i, rope_id[i])
                self.headnorms(self.qkv, i)
                self.rope(self.qkv, i, -1 if c.qk_after else rope_id[i])
                self.attention(att, self.qkv, i, window[i])
            if not c.parallel:
                self.join(att, f"l{i}.o", f"l{i}.an2", self.gate(self.qkv, i))
            if c.n_experts:
                self.mixture(self.x, i)
            else:
                self.norm(self.x, f"l{i}.fn", f"l{i}.gate_up")
                self.matmul(self.gate_up, f"l{i}.gate_up")
                if c.parallel:
                    self.join(self.att, f"l{i}.o", f"l{i}.an2")
                self.join(self.gate_up, f"l{i}.down", f"l{i}.fn2", self.activation)
            if c.ple_dim:
                self.layer_embedding(self.ple, i)
            if c.has("layer_scale"):
                self.scale(self.x, f"l{i}.scale")
        head, self.place = "head" if c.has("head") else "embed", "output"
        self.norm(self.x, "out_norm", head, wanted=True)
        self.matmul(self.logits, head, wanted=True)
        if c.final_cap:
            step = 4 * padded(c.vocab_size, 16)
            cap = {
                X: (self.logits, WANTED_MAX * step),
                X_STEP: step,
                A: c.vocab_size,
                GAIN: float(c.final_cap),
            }
            self.emit("softcap", cap, wanted=True)

    def mixture(self, x, i):
        """The feed-forward part of a mixture of experts: x += the chosen experts' opinions, by weight, and the shared one's."""
        c, up, down, shared = self.config, f"l{i}.experts_up", f"l{i}.experts_down", f"l{i}.gate_up"
        self.norm(x, f"l{i}.fn", self.readers(f"l{i}.router", up, f"l{i}.shared_gate", shared))
        self.matmul(self.router, f"l{i}.router")
        table, step = self.routes.address, 4 * padded(c.n_experts, GROUP)
        sizes = {A: c.n_experts, B: c.top_k, C: self.n_pairs, D: c.norm_topk}
        self.emit("route", {**sizes, X: (self.router, CHUNK * step), X_STEP: step, OUT: table})
        there, here = self._input(up), self._input(up, pairs=True)
        for to, step, width in (
            (OUT, OUT_STEP, 4),
            (Q, Q_STEP, 1),
            (QS, G_STEP, 1 / 8),
            (QC, G_STEP, 1 / 8),
        ):
            if to in here:
                fields = {
                    X: there[to],
                    X_STEP: there[step],
                    OUT: here[to],
                    OUT_STEP: here[step],
                    C: table,
                }
                self.emit("gather", {**fields, COLS: int(here[COLS] * width)}, wait=to in (OUT, QC))
        self.experts(self.pair_x, up, 2 * c.expert_ffn)
        step = 4 * padded(2 * c.expert_ffn, GROUP)
        gate = {
            **self._input(down, pairs=True),
            X: (self.pair_x, self.n_pairs * step),
            X_STEP: step,
            A: c.expert_ffn,
        }
        self.emit(f"{ACTIVATIONS[c.act]}_gated", {**gate, **self._clamp()}, count=N_PAIRS)
        self.experts(self.pair_x, down, c.dim)
        step, gain = 4 * padded(c.dim, GROUP), float(c.resid_scale or 1.0)
        out = {OUT: (x, CHUNK * step), OUT_STEP: step, A: c.dim, GAIN: gain}
        pairs = {
            B: c.top_k,
            C: self.n_pairs,
            W: table,
            X: (self.pair_x, self.n_pairs * step),
            X_STEP: step,
        }
        if c.has("shared_gate"):
            self.matmul(self.router, f"l{i}.shared_gate")
        if c.shared_ffn:
            self.matmul(self.gate_up, shared)
        self.emit("combine", {**out, **pairs})
        if c.shared_ffn:
            self.activation(self.gate_up, f"l{i}.down")
            self.matmul(
                self.branch if c.has("shared_gate") else x,
                f"l{i}.down",
                add=not c.has("shared_gate"),
            )
        if c.has("shared_gate"):
            gate = {
                W: self.router.address,
                S: 4 * GROUP,
                X: (self.branch, CHUNK * step),
                X_STEP: step,
            }
            self.emit("gated_add", {**out, **gate})

    def experts(self, out, name, rows):
        """Each pair's row of out = its expert's rows of matrix name @ its input."""
        dtype, _, _, fields = self._weights(name)
        given, step = self._input(name, pairs=True), 4 * padded(rows, GROUP)
        if OUT in given:
            given = {X: given[OUT], X_STEP: given[OUT_STEP]}
        runs = self.routes.address + 8 * (3 * self.n_pairs + self.config.n_experts)
        fields = {
            **given,
            **fields,
            OUT: (out, self.n_pairs * step),
            OUT_STEP: step,
            GAIN: 1.0,
            C: runs,
            ROWS: rows,
        }
        if name + ".b" in self.model.tensors:
            fields[E] = self._vector(name + ".b", BLOCK)
        self.emit(f"experts_{dtype}", fields, count=N_PAIRS)

    def readers(self, *names):
        return [name for name in names if name in self.model.tensors]

    def gated(self, i):
        """Whether layer i has a gate before matrix o, for what then stands behind it in the row."""
        c = self.config
        return c.kind(i) == DELTA or c.attends(i) and c.has("attn_gate")

    def gate(self, x, i):
        """-> what makes the input of matrix o from layer i's row, if it does more than to convert."""
        c, kernel = self.config, "silu_gated" if self.config.kind(i) == DELTA else "sigmoid_gated"
        if c.kind(i) == CONV:
            return lambda _, name: self.convolution(x, i, self._input(name), "_gated")
        _, rows, wide = c.mixed(i)
        fields = {X: x.address + 4 * (rows - wide), X_STEP: self.qkv_step, A: wide}
        return (
            (lambda _, name: self.emit(kernel, {**self._input(name), **fields}))
            if self.gated(i)
            else None
        )

    def convolution(self, x, i, to, kind=""):
        """Of the first columns of x, in place; or of a short convolution's layer, between its gates."""
        n, _, _ = self.config.mixed(i)
        taps, wide = self.config.conv_len, padded(n, GROUP)
        copy = self.buffer(4 * taps * wide)
        copy.view(np.float32, taps, wide)[:, :n] = self._floats(f"l{i}.conv").reshape(taps, n)
        floats, _ = self.config.state_floats(i)
        fields = {
            X: (x, CHUNK * self.qkv_step),
            X_STEP: self.qkv_step,
            W: copy.address,
            A: n,
            B: taps,
            COLS: wide,
        }
        self.emit(
            "convolution" + kind,
            {**to, **fields, C: (self.inputs[i], 4 * self.n_slots * floats), E: 4 * floats},
        )

    def delta(self, x, i):
        """A layer of the gated delta rule: q, k, v convolved, q and k of length 1, the states of its heads, their norm."""
        c, at = self.config, self.config.mixed(i)[1]
        keys, values, each = c.delta_k_heads, c.delta_v_heads, c.delta_k_dim
        step = 4 * padded(2 * values, GROUP)
        self.matmul(self.ab, f"l{i}.ab")
        rates = {
            X: (self.ab, CHUNK * step),
            X_STEP: step,
            A: values,
            W: self._vector(f"l{i}.decay", 16),
        }
        self.emit("decays", rates, wait=False)
        self.convolution(x, i, {})
        row = {
            X: x.address,
            X_STEP: self.qkv_step,
        }  # x / sqrt(sum(x^2) + 1e-6) as a norm by the mean; q also by its scale
        ones = self._constant(np.repeat([1 / each, each**-0.5], keys * each))
        self.emit("headnorm", {**row, W: ones, A: 2 * keys, B: 1e-6 / each, C: each})
        sizes = {
            A: values,
            B: values // keys,
            C: each,
            D: c.delta_v_dim,
            E: int(c.has("delta_turns")),
        }
        sizes |= {W: self.ab.address, S: step}
        state = (self.states[i], 4 * self.n_slots * c.state_floats(i)[1])
        self.emit(
            "delta", {**row, **sizes, Q: state, OUT: x.address + 4 * at, OUT_STEP: self.qkv_step}
        )
        weight = self._constant(np.tile(self._floats(f"l{i}.dn.w"), values))
        out = {
            X: x.address + 4 * at,
            X_STEP: self.qkv_step,
            W: weight,
            A: values,
            B: float(c.eps),
            C: c.delta_v_dim,
        }
        self.emit("headnorm", out)

    def layers_embeddings(self, out):
        """out = what each layer gets of the tokens, behind room for the first's gate."""
        c = self.config
        to, wide = out.address + 4 * c.ple_dim, c.n_layers * c.ple_dim
        self.convert(self.x, "ple_proj")
        self.matmul(to, "ple_proj", step=self.ple_step, gain=c.dim**-0.5)
        weight = self._constant(np.tile(self._floats("ple_norm.w") * 0.5**0.5, c.n_layers))
        norm = {
            X: to,
            X_STEP: self.ple_step,
            W: weight,
            A: c.n_layers,
            B: float(c.eps),
            C: c.ple_dim,
        }
        self.emit("headnorm", norm)
        dtype, _, _, fields = self._weights("ple_embed")
        rows = {
            A: wide,
            B: TOKENS,
            ADD: 1,
            OUT: to,
            OUT_STEP: self.ple_step,
            GAIN: (c.ple_dim / 2) ** 0.5,
        }
        self.emit(f"embed_{dtype}", {**fields, **rows})

    def layer_embedding(self, ple, i):
        """x += the layer's part of the embeddings, by a gate that x opens, put where the part of the layer before was."""
        c, at = self.config, ple.address + 4 * i * self.config.ple_dim
        self.convert(self.x, f"l{i}.ple_gate")
        self.matmul(at, f"l{i}.ple_gate", step=self.ple_step)
        fields = {X: at, X_STEP: self.ple_step, A: c.ple_dim}
        prepare = lambda _, name: self.emit(
            f"{ACTIVATIONS[c.act]}_gated", {**self._input(name), **fields}
        )
        self.join(None, f"l{i}.ple_up", f"l{i}.pn", prepare)

    def scale(self, x, name):
        step = 4 * padded(self.config.dim, GROUP)
        gain = float(self._floats(name)[0])
        self.emit("scale", {X: (x, CHUNK * step), X_STEP: step, A: self.config.dim, GAIN: gain})

    def join(self, x, name, norm, prepare=None):
        """The residual stream += matrix name @ x, normed if there is such a norm."""
        (prepare or self.convert)(x, name)
        if norm + ".w" in self.model.tensors:
            self.matmul(self.branch, name)
            self.norm(self.branch, norm, out=self.x, kind="_add")
        else:
            self.matmul(self.x, name, add=True)

    def emit(self, kernel, fields, wait=True, wanted=False, count=N_TOKENS):
        """Append a record. fields: {offset: int, float (as bits) or (Buffer, bytes that the kernel may touch)}."""
        row = [0] * (RECORD_BYTES // 8)
        row[WAIT // 8] = int(wait)
        for offset, value in fields.items():
            if isinstance(value, tuple):
                buffer, reach = value
                if reach > buffer.nbytes:
                    raise ModelError(
                        f"internal: {kernel} would touch {reach:,} of {buffer.nbytes:,} bytes; please report it"
                    )
                value = buffer.address
            row[offset // 8] = (
                struct.unpack("<i", struct.pack("<f", value))[0]
                if isinstance(value, float)
                else int(value)
            )
        row[COUNT // 8] = N_WANTED if wanted else count
        self.records.append((kernel, row))
        self.places.append(self.place)

    def _weights(self, name):
        """Fields W and S of a matrix, which open_model has checked against its shape."""
        tensor, scales = self.model.tensors[name], self.model.tensors.get(name + ".s")
        rows, cols = tensor.shape
        quantised = tensor.dtype in ("q8_0", "q4_0")
        return (
            tensor.dtype,
            rows,
            padded(cols, GROUP) if quantised else cols,
            {
                W: tensor.data.ctypes.data,
                S: scales.data.ctypes.data if scales else 0,
                ROWS: padded(rows, BLOCK),
                COLS: padded(cols, GROUP) if quantised else cols,
            },
        )

    def _vector(self, name, multiple):
        """Address of a padded copy of a float32 vector of the file."""
        return self._constant(self._floats(name), multiple)

    def _floats(self, name):
        return self.model.tensors[name].data.view("<f4")

    def _constant(self, data, multiple=16):
        """Address of a padded copy of these numbers."""
        copy = self.buffer(4 * padded(len(data), multiple))
        copy.view(np.float32, len(data))[:] = data
        return copy.address

    def _input(self, name, pairs=False):
        """Where the input of matrix name goes: fields OUT, or Q QS QC, with their steps; and the padded columns. pairs: of
        experts, by pair."""
        dtype, cols = (
            self.model.tensors[name].dtype,
            padded(self.model.tensors[name].shape[1], GROUP),
        )
        rows = self.n_pairs if pairs else CHUNK
        if dtype not in ("q8_0", "q4_0"):
            return {
                OUT: (self.pair_xb if pairs else self.xb, 4 * rows * cols),
                OUT_STEP: 4 * cols,
                COLS: cols,
            }
        step, q = cols // GROUP * 4, self.pair_q if pairs else self.q
        qs, qc = (self.pair_qs, self.pair_qc) if pairs else (self.qs, self.qc)
        places = {Q: (q, rows * cols), QS: (qs, rows * step), QC: (qc, rows * step)}
        return {**places, Q_STEP: cols, G_STEP: step, COLS: cols}

    def embed(self, out, name, ids):
        """out = rows of a matrix, those of tokens; or += those of positions."""
        dtype, _, _, fields = self._weights(name)
        dim, step = self.config.dim, 4 * padded(self.config.dim, GROUP)
        gain = float(self.config.embed_scale or 1.0) if ids == TOKENS else 1.0
        fields = {
            **fields,
            A: dim,
            B: ids,
            ADD: int(ids != TOKENS),
            OUT: (out, CHUNK * step),
            OUT_STEP: step,
            GAIN: gain,
        }
        self.emit(
            f"embed_{dtype}", fields, wait=False
        )  # each thread has its columns, in both; angles() waits

    def angles(self, out, name, tables, head_dim):
        step = 4 * tables * head_dim
        fields = {
            OUT: (out, CHUNK * step),
            OUT_STEP: step,
            W: self._vector(name, 1),
            A: head_dim // 2,
            B: tables,
        }
        self.emit("angles", fields)

    def norm(self, x, weight, name=None, wanted=False, out=None, kind=""):
        """The normed x becomes the input of matrix name (or of several), or goes to out, or is added to it. Without such a
        norm: x itself."""
        c, there = self.config, self.model.tensors
        step = 4 * padded(c.dim, GROUP)
        if weight + ".w" not in there:
            return self.convert(x, name)
        take = self.ids.address + 8 * CHUNK * 3 if wanted else 0
        fields = {
            X: (x, CHUNK * step),
            X_STEP: step,
            W: self._vector(weight + ".w", GROUP),
            A: c.dim,
            B: float(c.eps),
            C: take,
        }
        if weight + ".b" in there:
            fields[BIAS] = self._vector(weight + ".b", GROUP)
        to = {} if name else {OUT: (out, CHUNK * step), OUT_STEP: step, COLS: step // 4}
        for reader in [name] if isinstance(name, str) else name or ():
            to |= self._input(reader)
        self.emit(("layernorm" if c.norm else "rmsnorm") + kind, {**to, **fields}, wanted=wanted)

    def headnorms(self, x, i):
        """Queries and keys normed in place, each head by itself or all together; values, if there is such a norm, without
        weights."""
        c, (kv, dim), parts = self.config, self.config.heads(i), []
        queries, keys, own = c.n_heads * dim, kv * dim, c.kv_layer(i) == i
        if c.qk_norm:
            w = self._vector(f"l{i}.qk.w", 16)
            parts = [(0, queries, w), (queries, keys, w + 4 * queries)][: 1 + own]
            parts = [(*part, part[1] if c.qk_norm == 2 else dim) for part in parts]
        if c.has("v_norm") and own:
            parts.append((queries + keys, keys, self._constant(np.ones(keys)), dim))
        for part in parts:
            at, wide, w, width = part
            fields = {
                X: x.address + 4 * at,
                X_STEP: self.qkv_step,
                W: w,
                B: float(c.eps),
                C: width,
                A: wide // width,
            }
            self.emit("headnorm", fields, wait=part is parts[-1])

    def convert(self, x, name):
        """x becomes the input of matrix name, or of several."""
        fields = {}
        for reader in [name] if isinstance(name, str) else name:
            fields |= self._input(reader)
        step = 4 * fields[COLS]
        self.emit("convert", {**fields, X: (x, CHUNK * step), X_STEP: step})

    def activation(self, x, name):
        """The feed-forward's x becomes the input of matrix name."""
        c, plain, ffn = self.config, self.config.has("ungated"), self.model.tensors[name].shape[1]
        step = 4 * padded((1 if plain else 2) * ffn, GROUP)
        kernel = f"{ACTIVATIONS[c.act]}_{'plain' if plain else 'gated'}"
        self.emit(
            kernel,
            {**self._input(name), **self._clamp(), X: (x, CHUNK * step), X_STEP: step, A: ffn},
        )

    def _clamp(self):
        return {GAIN: float(self.config.act_alpha), B: float(self.config.act_limit)}

    def matmul(self, out, name, add=False, wanted=False, step=0, gain=1.0):
        """out = gain * W @ input + bias, or out += resid_scale * (…). step: if another than that of so many rows."""
        c = self.config
        dtype, rows, cols, fields = self._weights(name)
        step = step or 4 * padded(rows, 16 if wanted else GROUP)
        given = self._input(name)
        if OUT in given:
            given = {X: given[OUT], X_STEP: given[OUT_STEP]}
        out = out if isinstance(out, int) else (out, (WANTED_MAX if wanted else CHUNK) * step)
        fields = {**given, **fields, OUT: out, OUT_STEP: step, ADD: int(add)}
        fields[GAIN] = float((c.resid_scale if add else c.logit_scale if wanted else 0) or gain)
        if name + ".b" in self.model.tensors:
            fields[BIAS] = self._vector(name + ".b", BLOCK)
        self.emit(f"matmul_{dtype}", fields, wanted=wanted)

    def _heads(self, x, layer):
        """The fields that rope and attention share."""
        c, (heads, dim), seen = self.config, self.config.heads(layer), self.config.kv_layer(layer)
        size, lanes = 4 if self.kv == "f32" else 2, self.n_slots * heads * self.room
        return {
            X: (x, CHUNK * self.qkv_step),
            X_STEP: self.qkv_step,
            A: heads,
            B: c.n_heads // heads,
            C: dim,
            D: self.room,
            Q: (self.keys[seen], lanes * dim * size),
            QS: (self.values[seen], lanes * padded(dim, 16) * size),
        }

    def _angles(self, layer, table):
        """Where the angles of a layer's table are, and their step; nowhere if it has none."""
        c = self.config
        if c.kind(layer) == ATTENTION2:
            return {W: self.cs2.address if table >= 0 else 0, S: 4 * c.head_dim2}
        table += c.n_rope // 2 if 0 < c.rope_long < self.n_ctx and table >= 0 else 0
        return {
            W: self.cs.address + 4 * c.head_dim * table if table >= 0 else 0,
            S: 4 * c.n_rope * c.head_dim,
        }

    def turn(self, x, layer, table):
        """Rotate queries and keys, and no more."""
        c, (heads, _), own = (
            self.config,
            self.config.heads(layer),
            self.config.kv_layer(layer) == layer,
        )
        fields = {**self._heads(x, layer), **self._angles(layer, table), GAIN: 1.0, Q: 0, QS: 0}
        self.emit(f"rope_{self.kv}", {**fields, A: c.n_heads + heads * own, B: 1})

    def rope(self, x, layer, table):
        c, (_, dim) = self.config, self.config.heads(layer)
        gain = float(c.attn_scale or 1 / math.sqrt(dim))
        fields = {**self._heads(x, layer), **self._angles(layer, table), GAIN: gain}
        if c.kv_layer(layer) != layer:
            fields |= {Q: 0, QS: 0}
        if c.temp_beta:  # 1 + beta log(1 + n) for each n whole lengths behind a position: Llama 4's scale of queries
            n = np.arange(1, (self.n_ctx - 1) // int(c.temp_len) + 2)
            self.tempered = self.tempered or self.buffer(4 * len(n))
            self.tempered.view(np.float32, len(n))[:] = 1 + c.temp_beta * np.log(n)
            fields |= {E: self.tempered.address, COLS: int(c.temp_len)}
        self.emit(f"rope_{self.kv}", fields)

    def attention(self, out, x, layer, window):
        _, rows, wide = self.config.mixed(layer)
        step = 4 * padded(wide, GROUP)
        fields = {**self._heads(x, layer), OUT: (out, CHUNK * step), OUT_STEP: step, E: window}
        if self.gated(layer):  # behind its gate
            fields |= {OUT: x.address + 4 * rows, OUT_STEP: self.qkv_step}
        fields[GAIN] = float(self.config.attn_cap)
        if self.config.has("sinks"):
            fields[W] = self._vector(f"l{layer}.sinks", 16)
        self.emit(f"attention_{self.kv}", fields)

    def cached(self, slot, n):
        """The keys and values of a slot's first n positions (to the end of a block of 64): uint8 views [kv heads, positions,
        bytes], keys and values of layer after layer."""
        c, size = self.config, 4 if self.kv == "f32" else 2
        for i, keys in self.keys.items():
            heads, dim = c.heads(i)
            for buffer, width in ((keys, dim), (self.values[i], padded(dim, 16))):
                yield buffer.view(np.uint8, self.n_slots, heads, self.room, width * size)[
                    slot, :, : padded(n, KEYS)
                ]

    def state(self, slot):
        """What layers know that cannot be cut to fewer positions: uint8 views [bytes]; none where all layers are attention."""
        for buffer in (*self.inputs.values(), *self.states.values()):
            if buffer.nbytes:
                yield buffer.view(np.uint8, self.n_slots, buffer.nbytes // self.n_slots)[slot]

    def copy(self, source, slot, n):
        """Give a slot the first n positions of another, whose states know just these."""
        for there, here in zip(self.cached(source, n), self.cached(slot, n)):
            here[:] = there
        for there, here in zip(self.state(source), self.state(slot)):
            here[:] = there

    # checking

    def extents(self, kernel, row):
        """Yield (field, address, bytes, whether it writes them) of all that a record's kernel may touch, from the numbers that
        the kernel itself goes by. Loads of whole vectors may go on to SPARE bytes behind: at most 31 floats, in a gate."""
        c, (kind, _, dtype) = self.config, kernel.partition("_")
        get = lambda field: row[field // 8]
        many = {N_TOKENS: CHUNK, N_WANTED: WANTED_MAX, N_PAIRS: self.n_pairs}[get(COUNT)]
        at = lambda field, nbytes, writes=False: (field, get(field), nbytes, writes)
        rows = lambda field, step, last, writes=False, n=many: at(
            field, (n - 1) * get(step) + last, writes
        )
        cols, a, wide = get(COLS), get(A), 4 * padded(get(A), 16)
        given = ((Q, Q_STEP, cols), (QS, G_STEP, cols // 8), (QC, G_STEP, cols // 8))
        if kind in ("matmul", "experts", "embed"):
            lines = (
                padded(c.vocab_size if get(B) == TOKENS else self.n_ctx, BLOCK)
                if kind == "embed"
                else get(ROWS)
            )
            lines *= c.n_experts if kind == "experts" else 1
            quantised = dtype in ("q8_0", "q4_0")
            yield at(W, lines * cols * BITS[dtype] // 8)
            yield from [at(S, lines * cols // GROUP * 2)] if quantised else []
            if kind != "embed":
                yield from (
                    [rows(*place) for place in given] if quantised else [rows(X, X_STEP, 4 * cols)]
                )
            yield rows(OUT, OUT_STEP, 4 * a if kind == "embed" else 4 * get(ROWS), True)
            yield from (
                [at(E, 4 * lines), at(C, 8 + 24 * c.n_experts)][not get(E) :]
                if kind == "experts"
                else []
            )
            yield from [at(BIAS, 4 * lines)] if get(BIAS) else []
            if kind == "matmul" and quantised:  # matmul_tiles
                yield (
                    "scratch",
                    self.scratch.address,
                    (self.threads - 1) * self.scratch_step + 2048 + 16 * cols,
                    True,
                )
        elif kind in ("rope", "attention"):
            size, heads, head = 4 if dtype == "f32" else 2, get(A) * get(B), 4 * get(C)
            lanes = self.n_slots * get(A) * self.room
            yield rows(
                X,
                X_STEP,
                head * (heads + 2 * get(A) * (kind == "rope" and get(Q) != 0)),
                kind == "rope",
            )
            if get(Q):
                yield at(Q, lanes * get(C) * size, kind == "rope")
                yield at(QS, lanes * padded(get(C), 16) * size, kind == "rope")
            if kind == "attention":
                yield rows(OUT, OUT_STEP, head * heads, True)
                yield from [at(W, 4 * heads)] if get(W) else []
                state, before = (
                    4 * padded(get(C), 16) + VALUES,
                    (self.threads - 1) * self.scratch_step,
                )
                yield (
                    "scratch",
                    self.scratch.address,
                    before + 16 * padded(get(C), 16) + 16 * KEYS + 4 * state,
                    True,
                )
            else:
                yield from [rows(W, S, head)] if get(W) else []
                yield from [at(E, 4 * ((self.n_ctx - 1) // cols + 1))] if get(E) else []
        elif kind == "angles":
            yield at(W, 8 * a * get(B))
            yield rows(OUT, OUT_STEP, 8 * a * get(B), True)
        elif kind == "headnorm":
            yield rows(X, X_STEP, 4 * a * get(C), True)
            yield at(W, 4 * a * get(C))
        elif kind in ("softcap", "scale"):
            yield rows(X, X_STEP, wide, True)
        elif kind in ("convolution", "decays", "delta"):
            yield from self._extents_of_states(kind, dtype, get, at, rows, given)
        elif kind == "route":
            yield rows(X, X_STEP, 4 * a, True)
            yield at(OUT, 8 * (3 * max(get(C), CHUNK * get(B)) + 4 * a + 1), True)
        elif kind == "gather":
            yield rows(X, X_STEP, cols)
            yield at(C, 8 * self.n_pairs)
            yield rows(OUT, OUT_STEP, cols, True, self.n_pairs)
        elif kind in ("combine", "gated"):  # gated_add
            yield rows(OUT, OUT_STEP, wide, True)
            yield rows(X, X_STEP, wide, False, self.n_pairs if kind == "combine" else many)
            yield at(W, 24 * get(C)) if kind == "combine" else rows(W, S, 4)
        else:  # norms, activations and convert, which put their rows where a matmul takes them
            if kind in ("rmsnorm", "layernorm"):
                yield rows(X, X_STEP, 4 * cols, False, CHUNK)
                yield at(W, 4 * cols)
                yield from [at(BIAS, 4 * cols)] if get(BIAS) else []
                yield from [at(C, 8 * many)] if get(C) else []
            else:
                yield rows(X, X_STEP, 8 * a if kernel.endswith("_gated") else 4 * cols)
            yield from [rows(OUT, OUT_STEP, 4 * cols, True)] if get(OUT) else []
            yield from [rows(*place, True) for place in given] if get(Q) else []

    def _extents_of_states(self, kind, gated, get, at, rows, given):
        a, cols = get(A), get(COLS)
        if kind == "convolution":
            yield rows(X, X_STEP, 4 * a * (3 if gated else 1), not gated)
            yield at(W, 4 * get(B) * cols)
            yield at(C, (self.n_slots - 1) * get(E) + 4 * max(get(B) - 1, 1) * cols, True)
            yield from [rows(OUT, OUT_STEP, 4 * cols, True)] if get(OUT) else []
            yield from [rows(*place, True) for place in given] if get(Q) else []
        elif kind == "decays":
            yield rows(X, X_STEP, 8 * a, True)
            yield at(W, 8 * a)
        else:
            yield rows(X, X_STEP, 4 * (2 * get(C) * (a // get(B)) + a * get(D)))
            yield rows(W, S, 8 * a)
            yield at(Q, 4 * self.n_slots * a * get(C) * padded(get(D), 16), True)
            yield rows(OUT, OUT_STEP, 4 * a * get(D), True)
            yield (
                "scratch",
                self.scratch.address,
                (self.threads - 1) * self.scratch_step + 256,
                True,
            )

    def check_extents(self):
        """All that the records' kernels may touch lies in a buffer, or is read from a tensor of the file; else ModelError.
        Kernels look at nothing: this arithmetic, once and in Python's exact ints, is what keeps them inside."""
        places = [(b.address, b.address + b.nbytes, True) for b in self.buffers]
        places += [
            (t.data.ctypes.data, t.data.ctypes.data + t.nbytes, False)
            for t in self.model.tensors.values()
        ]
        places.sort()
        starts = [place[0] for place in places]
        for kernel, row in self.records:
            for field, address, nbytes, writes in self.extents(kernel, row):
                _, end, writable = places[bisect.bisect_right(starts, address) - 1]
                if not starts[0] <= address <= address + nbytes <= end or writes > writable:
                    where = f"field {field} of {kernel} reaches {address + nbytes - end:,} bytes too far"
                    raise ModelError(f"internal: {where}, expected none; please report it")

    # playing

    def _ready(self):
        """Put the addresses in, and start the workers."""
        self.program = np.array([row for _, row in self.records], np.int64)
        self.pas = Buffer(PASS_OWN + 64 * (self.threads + 1))
        self.pass_words = self.pas.view(np.int64, self.pas.nbytes // 8)
        for i, (name, _) in enumerate(self.records):
            self.program[i, FN // 8] = self.code.address[name]
        self.program[:, COUNT // 8] += self.pas.address
        self.program_at = self.program.ctypes.data
        self.id_rows = self.ids.view(np.int64, 4, CHUNK)
        vocab = self.config.vocab_size
        self.logit_rows = self.logits.view(np.float32, WANTED_MAX, padded(vocab, 16))[:, :vocab]
        for field, row in zip((TOKENS, POSITIONS, SLOTS, WANTED), range(4)):
            self.pass_words[field // 8] = self.ids.address + 8 * CHUNK * row
        self.pass_words[SCRATCH // 8], self.pass_words[SCRATCH_STEP // 8] = (
            self.scratch.address,
            self.scratch_step,
        )
        self.play = self.code.function("play")
        self.workers = Workers(self.code, self.pas, self.threads) if self.threads > 1 else None
        self.close = weakref.finalize(self, self.workers.stop if self.workers else int)

    def __call__(self, tokens, positions, slots, wanted):
        """One pass over at most CHUNK tokens. tokens, positions, slots: ints [n]; wanted: indices into them, at most
        WANTED_MAX. -> logits float32 [len(wanted), vocab_size], a view that the next pass overwrites. Where layers keep states,
        the tokens of a slot stand in their order, each once, from position 0 on."""
        n, c = len(tokens), self.config
        if not 0 < n <= CHUNK or len(wanted) > WANTED_MAX:
            raise ValueError(
                f"{n} tokens and {len(wanted)} logits in a pass, expected 1..{CHUNK} and up to {WANTED_MAX}"
            )
        self.settle()
        limits = c.vocab_size, self.n_ctx, self.n_slots, n
        for name, row, values, limit in zip(
            self.NAMES, self.id_rows, (tokens, positions, slots, wanted), limits
        ):
            if len(values) and not 0 <= min(values) <= max(values) < limit:
                raise ValueError(
                    f"{name} {min(values)} to {max(values)}, expected 0 to {limit - 1}"
                )
            row[: len(values)] = values
        self.pass_words[N_TOKENS // 8], self.pass_words[N_WANTED // 8] = n, len(wanted)
        self.pass_words[N_PAIRS // 8] = n * c.top_k
        self.run(self.program, self.program_at)
        return self.logit_rows[: len(wanted)]

    def run(self, program, at):
        """Play records, int64 [n, RECORD_BYTES / 8] at that address, on all threads; the pass is as it was set last. The last
        record must wait: then no thread is still at work when this returns."""
        assert program[-1, WAIT // 8]
        self.pass_words[PROGRAM // 8], self.pass_words[N_RECORDS // 8] = at, len(program)
        if self.workers:
            self.workers.post()
        self.play(at, self.pas.address, 0, self.threads)

    def settle(self):
        """Play a pass that was posted and not played, because Ctrl-C came between the two: the other threads wait in it."""
        if self.workers:
            self.workers.settle()

    def where_not_finite(self):
        """Where in the last pass a number first was none: "layer 3", "embedding" or "output"; None if all are finite. Plays
        it again, record by record: with the same tokens at the same places every pass leaves the same keys and values."""
        n, first = int(self.pass_words[N_TOKENS // 8]), 0
        stream = self.x.view(np.float32, CHUNK, padded(self.config.dim, GROUP))[
            :n, : self.config.dim
        ]
        for last in range(len(self.program)):
            if self.program[last, WAIT // 8]:
                self.run(self.program[first : last + 1], self.program_at + first * RECORD_BYTES)
                first = last + 1
                if not np.isfinite(stream).all():
                    return self.places[last]
        wanted = int(self.pass_words[N_WANTED // 8])
        return None if np.isfinite(self.logit_rows[:wanted]).all() else "output"


# -----------------------------------------------------------------------------
# twofile/tokenizer/compose.py
# Unicode's form C, in time also for long texts.

LONG = 4096  # characters of a text that is worth a search for what makes it quick


def composed(text):
    """text in Unicode's form C. unicodedata takes the square of the length of a run of combining
    marks: in a long text they are put in order first, which changes nothing."""
    from unicodedata import normalize

    if len(text) > LONG and not text.isascii():
        text = runs_of_marks().sub(in_order, text)
    return normalize("NFC", text)


@functools.cache
def runs_of_marks():
    """A pattern for long runs of combining marks."""
    from unicodedata import combining, normalize

    marks = (c for c in map(chr, range(0x300, 0x20000)) if combining(normalize("NFD", c)[0]))
    return re.compile(f"[{''.join(marks)}]{{64,}}")


def in_order(m):
    """The marks of a match, decomposed, in their canonical order."""
    from unicodedata import combining, normalize

    return "".join(sorted("".join(normalize("NFD", c) for c in m[0]), key=combining))


# -----------------------------------------------------------------------------
# twofile/tokenizer/file.py
# The sections of a tokenizer.bin.

TOKENIZER_MAGIC = b"\x89LMT\r\n\x1a\n"
TOKENIZER_HEADER = struct.Struct("<8sIIQ8IQ32s")  # 0x60 bytes, then the section table
SECTIONS = "offsets pieces prio types stops classes merges chat tests reserved".split()
SPM, BYTE_BPE = 1, 2
ADD_BOS, ADD_EOS, PREFIX, PREFIX_UNLESS, IGNORE_MERGES, BYTE_FALLBACK, NFC, EXPLICIT = (
    1 << i for i in range(8)
)
NORMAL, BYTE, CONTROL, USER, UNUSED = range(5)
LSTRIP, RSTRIP = 0x10, 0x20
# what a chat template writes around contents; see chat_parts()
CHAT = "first system after_system u2a a2u gen".split()
CHAT_TEXT, CHAT_ID, CHAT_DATE = range(3)  # kinds of its items
DATE_FORM = re.compile("[%A-Za-z ,./-]{1,32}")  # no width that fills the memory
PIECE_MAX, USER_MAX = 4096, 256  # bytes of a piece; of one that is searched for in texts
MOST_TOKENS, MOST_BYTES = 1 << 20, 64 << 20  # of a tokenizer.bin

# a section's unit in bytes, and the most bytes it may have
LIMITS = {
    "offsets": (4, 8 << 20),
    "prio": (4, 8 << 20),
    "stops": (4, 1 << 16),
    "classes": (12, 12 << 17),
    "merges": (8, 8 << 20),
    "chat": (1, 1 << 20),
    "tests": (1, 4 << 20),
}


def check_tokenizer_header(raw):
    """Raises ModelError unless raw begins as a tokenizer.bin does, is whole, and has its
    checksum."""
    if raw[:8] != TOKENIZER_MAGIC:
        known = next(
            (what for magic, what in FOREIGN if raw.startswith(magic) and "tokenizer" not in what),
            None,
        )
        found = f"this is {known}" if known else f"starts with {raw[:8]!r}" if raw else "empty"
        raise ModelError(f"{found}, expected {TOKENIZER_MAGIC!r}; was it written by export.py?")
    if len(raw) < 256:
        raise ModelError(f"{len(raw)} bytes, shorter than the 256 of a header; copy it again")
    if len(raw) > MOST_BYTES:
        raise ModelError(f"{len(raw):,} bytes, expected at most {MOST_BYTES:,}; export it again")
    _, version, endian, size, *_, digest = TOKENIZER_HEADER.unpack_from(raw)
    if version != VERSION or endian != ENDIAN:
        found = f"format version {version}, this run.py reads {VERSION}"
        raise ModelError(f"{found}; export again or use a newer run.py")
    if size != len(raw):
        found = f"file is {len(raw):,} bytes, header says {size:,} (truncated?)"
        raise ModelError(f"{found}; copy it again")
    found = hashlib.sha256(raw[:0x40] + bytes(32))
    found.update(memoryview(raw)[0x60:])
    if found.digest() != digest:
        raise ModelError("checksum does not match: the file is damaged; copy or export it again")


def tokenizer_sections(raw):
    """name -> bytes of each section, after everything that can be checked without looking inside.
    Raises ModelError."""
    check_tokenizer_header(raw)
    *_, zero, _ = TOKENIZER_HEADER.unpack_from(raw)
    table = struct.unpack_from("<20Q", raw, 0x60)
    sections, expected = {}, 256
    for name, off, length in zip(SECTIONS, table[::2], table[1::2]):
        if off != expected or off + length > len(raw):
            found = f"section {name} is at {off:,}, {length:,} bytes"
            raise ModelError(f"{found}, expected at {expected:,}; export it again")
        unit, most = LIMITS.get(name, (1, MOST_BYTES))
        if length % unit or length > most:
            wants = f"a multiple of {unit} to {most:,}"
            raise ModelError(
                f"section {name} has {length:,} bytes, expected {wants}; export it again"
            )
        sections[name], expected = raw[off : off + length], padded(off + length, 64)
    if expected != len(raw) or zero:
        found = f"sections end at {expected:,} of {len(raw):,} bytes"
        raise ModelError(f"{found}, or reserved bytes are set; export it again")
    return sections


def tokenizer_chat(raw, types):
    """The section "chat", bytes, of a file whose tokens have these types [n_vocab] -> {name of
    CHAT: [(kind, value)] or None}, {role: strips}, whether each run of text gets the prefix; or
    None, {}, True if it is empty. Raises ModelError."""
    if not raw:
        return None, {}, True
    pieces, at = {}, 4
    try:
        for name in CHAT:
            (count,), at, items = struct.unpack_from("<I", raw, at), at + 4, []
            for _ in range(0 if count == NONE else min(count, len(raw))):
                kind, length = struct.unpack_from("<II", raw, at)
                value, at = raw[at + 8 : at + 8 + length], at + 8 + length
                if kind > CHAT_DATE or len(value) != length:
                    raise ValueError
                value = struct.unpack("<I", value)[0] if kind == CHAT_ID else value.decode()
                if kind == CHAT_DATE and not DATE_FORM.fullmatch(value):
                    raise ValueError
                if kind == CHAT_ID and (value >= len(types) or types[value] & 15 != CONTROL):
                    raise ValueError
                items.append((kind, value))
            pieces[name] = None if count == NONE else items
        whole = None not in map(pieces.get, ("first", "u2a", "a2u", "gen"))
        if at != len(raw) or not whole or max(raw[:3]) > 8 or raw[3] > 1:
            raise ValueError
    except (struct.error, ValueError):
        raise ModelError("the chat section is not what export.py writes; export it again") from None
    return pieces, dict(zip(("system", "user", "assistant"), raw)), not raw[3]


def tokenizer_tests(raw):
    """[(text, ids)] of the stored self-test. Raises ModelError."""
    tests, at = [], 4
    try:
        for _ in range(struct.unpack_from("<I", raw)[0] if raw else 0):
            n_text, n_ids = struct.unpack_from("<II", raw, at)
            if n_text > 1 << 15:  # they are encoded at every start
                found = f"self-test section has a text of {n_text:,} bytes"
                raise ModelError(f"{found}, expected 32,768 at most; export it again")
            ids = struct.unpack_from(f"<{min(n_ids, len(raw))}I", raw, at + 8 + n_text)
            tests.append((raw[at + 8 : at + 8 + n_text].decode(), list(ids)))
            at += 8 + n_text + 4 * n_ids
    except (struct.error, UnicodeDecodeError):
        raise ModelError("self-test section is cut short or not text; export it again") from None
    return tests


# -----------------------------------------------------------------------------
# twofile/tokenizer/splits.py
# How text is cut before merging.

LETTER, NUMBER, SPACE = 1, 2, 3  # of class runs

# Regular expressions, one after the other on what the last one left, over a string of classes, a
# letter for each character of the text. x letter, 0 number, . other, "\n" line end, " " space, "\t"
# other white space; ' and the letters of English contractions stand for themselves, z for the long
# s, which matches s when case is ignored. From 4 on the file says the letters: A upper case, a
# lower case, x other letters, ~ marks, / itself, ! (ASCII) punctuation, # other punctuation and
# symbols; of Han and kana: k letters, m marks, K punctuation and symbols, q the rest. From 10 on
# they are sets that overlap: x letters, ! punctuation, k CJK, and X y K q # m what is in two of
# them or three.
CONTRACTIONS = r"'(?:[sSz]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
LATER = r"|[^\na-zA-Z0]?[a-zA-Z]+|0{1,%d}| ?[.']+\n*|\s*\n+|\s+(?!\S)|\s+"
ENDS = r"|\s*\n+|\s+(?!\S)|\s+"
GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?[a-zA-Z]+| ?0+| ?[.']+|\s+(?!\S)|\s+"
CASED = (
    r"[^\na-zA-Z0]?[AxSTMDLVER~]*[axstmdlverz~]+{0}"
    r"|[^\na-zA-Z0]?[AxSTMDLVER~]+[axstmdlverz~]*{0}|0{1}| ?[.'~/]+[\n/]*"
)
SPLITS = {
    0: (),  # the whole text is one piece
    1: (GPT2,),
    2: (CONTRACTIONS + LATER % 3,),  # Llama 3
    3: (CONTRACTIONS + LATER % 1,),  # Qwen 2
    4: ("0", GPT2),  # SmolLM, StarCoder 2: digits one by one
    5: (CASED.format("", "") + ENDS,),  # tekken: Mistral Nemo and later
    6: (CASED.format(f"(?:{CONTRACTIONS})?", "{1,3}") + ENDS,),  # o200k: Phi-4-mini, gpt-oss
    7: (CONTRACTIONS + r"|[^\na-zA-Z0]?[a-zA-Z~]+|0| ?[.']+\n*" + ENDS,),  # Qwen 3.5
    8: ("0{1,3}", "[kmKq]+", r"!a+|[^\naxk!#K]?[axk~m]+| ?[!#K]+\n*" + ENDS),  # DeepSeek V3
    9: ("[!']+", GPT2.replace(".'", ".'!")),  # Falcon; and then BYTE_SPLITS
    # DeepSeek LLM
    10: ("\n", r"[\tq#]?[xXy]+", r"[\tq#]?[!XK#]+", r"[\tq#]+$", "[kyKq#m]+", "[0m]"),
    11: ("\n", r"[\tq#]?[xXy]+", r"[\tq#]?[!XK#]+", "[kyKq#m]+", "[0m]"),  # DeepSeek Coder
}

# its digits are cut among bytes: the reference writes a byte as a character, and some of those
# count as numbers
BYTE_SPLITS = {9: (rb"[0-9\xb2\xb3\xb9\xbc-\xbe]+", b"[0-9]{3}")}


def cut(pattern, text, spans):
    """Yield the spans that a pattern cuts those of text into: each match, and what lies between. As
    if each span were alone."""
    for first, last in spans:
        part, at = text[first:last], 0
        for m in pattern.finditer(part):
            if m.start() > at:
                yield first + at, first + m.start()
            yield first + m.start(), first + m.end()
            at = m.end()
        if at < len(part):
            yield first + at, last


class Cutter:
    """Cuts text into the words that are merged, by number pretok of SPLITS, not 0.

    classes: u4 [runs, 3], first and last character and class. bytewise: whether words may be bytes.
    """

    def __init__(self, pretok, classes, bytewise):
        self.pretok, self.classes = pretok, classes
        self.patterns = [re.compile(pattern) for pattern in SPLITS[pretok]]
        found = BYTE_SPLITS.get(pretok, ()) if bytewise else ()
        self.byte_patterns = [re.compile(pattern) for pattern in found]

    @functools.cached_property
    def letters(self):
        """The letter that stands for each character's class in the patterns, u1 [0x110000]."""
        letters = np.full(0x110000, ord("."), np.uint8)
        old = {LETTER: "x", NUMBER: "0", SPACE: "\t"} if self.pretok < 4 else {}
        for first, last, kind in self.classes.tolist():
            letters[first : last + 1] = ord(old[kind]) if kind in old else kind
        if old:
            for ch in "stmdlverSTMDLVER' ":
                letters[ord(ch)] = ord(ch)
            letters[[0x0A, 0x0D]], letters[0x17F] = ord("\n"), ord("z")
        return letters

    def __call__(self, text):
        """Yield the words of text, str or bytes; the patterns run on a string of classes."""
        characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        classes = self.letters[characters].tobytes().decode("latin-1")
        spans = [(0, len(text))]
        for pattern in self.patterns:
            spans = cut(pattern, classes, spans)
        if not self.byte_patterns:
            for first, last in spans:
                yield text[first:last]
            return
        for first, last in spans:
            raw = text[first:last].encode("utf-8", "replace")
            parts = [(0, len(raw))]
            for pattern in self.byte_patterns:
                parts = cut(pattern, raw, parts)
            for a, b in parts:
                yield raw[a:b]


# -----------------------------------------------------------------------------
# twofile/tokenizer/contents.py
# What a tokenizer.bin says, checked.

@dataclass(eq=False)
class TokenizerFile:
    """The values of a tokenizer.bin; ids are below n_vocab, None if absent."""

    sha256: bytes  # of the whole file
    kind: int  # SPM or BYTE_BPE
    flags: int  # ADD_BOS and those beside it
    pretok: int  # a number of SPLITS
    n_vocab: int
    bos: int | None
    eos: int | None
    unk: int | None
    pad: int | None
    stops: frozenset  # ids that end a text
    pieces: list  # bytes of each token
    prio: np.ndarray  # float32 [n_vocab]: the largest is merged first
    types: np.ndarray  # u1 [n_vocab]: NORMAL to UNUSED, with LSTRIP and RSTRIP
    classes: np.ndarray  # u4 [runs, 3]: first and last character, class
    merges: np.ndarray  # u4 [merges, 2]: two ids each, the best first; used with EXPLICIT
    chat: dict | None  # see tokenizer_chat()
    strips: dict
    prefix_runs: bool
    tests: list  # [(text, ids)]


def read_tokenizer(raw):
    """The bytes of a tokenizer.bin -> TokenizerFile. Raises ModelError."""
    sections = tokenizer_sections(raw)
    _, _, _, _, kind, n, flags, pretok, *ids, _, _ = TOKENIZER_HEADER.unpack_from(raw)
    bos, eos, unk, pad = (None if i == NONE else i for i in ids[:4])
    prio, types, stops = (
        np.frombuffer(sections[name], dtype)
        for name, dtype in (("prio", "<f4"), ("types", "u1"), ("stops", "<u4"))
    )
    offsets = np.frombuffer(sections["offsets"], "<u4")
    if not 1 <= n <= MOST_TOKENS or not len(offsets) - 1 == len(prio) == len(types) == n:
        found = f"{n} tokens, {len(prio)} priorities, {len(types)} types"
        raise ModelError(f"{found}, expected as many; export it again")
    pieces = cut_pieces(sections["pieces"], offsets)
    known = (types & 0xCF).max() <= UNUSED and kind in (SPM, BYTE_BPE) and flags <= 255
    if not np.isfinite(prio).all() or not known:
        found = "unknown kind, flag or token type, or a priority that is no number"
        raise ModelError(f"{found}; does it need a newer run.py?")
    if any(i is not None and i >= n for i in (bos, eos, unk, pad, *stops.tolist())):
        raise ModelError(f"a bos, eos, unk, pad or stop id is not below {n}; export it again")
    if pretok not in SPLITS or sections["reserved"]:
        found = f"pre-tokenizer {pretok} or section is unknown"
        raise ModelError(f"{found}, expected to {max(SPLITS)}; use a newer one")
    classes = read_classes(sections["classes"])
    chat, strips, prefix_runs = tokenizer_chat(sections["chat"], types)
    return TokenizerFile(
        hashlib.sha256(raw).digest(),
        kind,
        flags,
        pretok,
        n,
        bos,
        eos,
        unk,
        pad,
        frozenset(stops.tolist()),
        pieces,
        prio,
        types,
        classes,
        np.frombuffer(sections["merges"], "<u4").reshape(-1, 2),
        chat,
        strips,
        prefix_runs,
        tokenizer_tests(sections["tests"]),
    )


def cut_pieces(blob, offsets):
    """The bytes of each token: blob from one of the offsets, u4 [n_vocab + 1], to the next."""
    sizes = np.diff(offsets.astype(np.int64))
    if offsets[0] or offsets[-1] != len(blob) or (sizes < 0).any():
        raise ModelError(f"piece offsets are not in order up to {len(blob)}; export it again")
    if sizes.max() > PIECE_MAX:
        raise ModelError(f"a piece is longer than {PIECE_MAX} bytes; export it again")
    edges = offsets.tolist()
    return [blob[a:b] for a, b in zip(edges, edges[1:])]


def read_classes(raw):
    """The runs of characters of a class, u4 [runs, 3]: first, last, class."""
    classes = np.frombuffer(raw, "<u4").reshape(-1, 3)
    first, last, kinds = classes.T
    if (first > last).any() or (last > 0x10FFFF).any() or (kinds > 255).any():
        raise ModelError("a class run ends before it starts, or past U+10FFFF; export it again")
    if int((last.astype(np.int64) - first + 1).sum()) > 4 * 0x110000:
        raise ModelError("the class runs overlap, expected each character in one; export it again")
    return classes


# -----------------------------------------------------------------------------
# twofile/tokenizer/merges.py
# A word becomes ids, by merging its neighbours.

WORD_MAX = 1 << 22  # characters that are merged at once; more would take more than a gigabyte


class Merger:
    """Words to ids, by the pieces of a TokenizerFile. Raises ModelError where a word would have
    none.

    Attributes: ids {piece: id}, bytes {byte: id}, ranks {piece: rank}, 0 is merged first, pairs
    {(piece, piece): rank} or None, complete: whether every word has ids, apart: see below.
    """

    def __init__(self, file):
        self.kind, self.flags, self.unk, self.words = file.kind, file.flags, file.unk, {}
        self.ids, self.bytes = {}, {}
        kinds = (file.types & 15).tolist()
        for i, (piece, kind) in enumerate(zip(file.pieces, kinds)):
            if kind == NORMAL:
                if not piece:
                    raise ModelError(f"token {i} is an empty piece; export it again")
                self.ids.setdefault(piece, i)
            elif kind == BYTE and len(piece) == 1:
                self.bytes.setdefault(piece[0], i)
        if self.kind == SPM:
            said = (p for p, kind in zip(file.pieces, kinds) if kind in (NORMAL, USER))
            try:
                b"\n".join(said).decode()
            except UnicodeDecodeError:
                raise ModelError(
                    "a piece is not UTF-8, as SentencePiece's are; export it again"
                ) from None
        bytewise = self.kind == BYTE_BPE
        single = self.ids if bytewise else {bytes([b]) for b in self.bytes}
        # else a run of unknown characters is one token
        self.complete = bool(self.flags & BYTE_FALLBACK or bytewise)
        if self.complete and any(bytes([b]) not in single for b in range(256)):
            raise ModelError("not all of the 256 byte tokens are there; export it again")
        ranks = np.unique(-file.prio, return_inverse=True)[1].tolist()
        self.ranks = {piece: ranks[i] for piece, i in self.ids.items()}
        self.pairs = self.explicit(file) if self.flags & EXPLICIT else None

    def explicit(self, file):
        """{(piece, piece): rank} of a file that lists its merges."""
        rows, pairs = file.merges, {}
        if len(rows) and rows.max() >= file.n_vocab:
            found = f"a merge names token {rows.max()}"
            raise ModelError(f"{found}, expected less than {file.n_vocab}; export it again")
        for rank, (a, b) in enumerate(rows.tolist()):
            pairs.setdefault((file.pieces[a], file.pieces[b]), rank)
        return pairs

    @functools.cached_property
    def apart(self):
        """A pattern for places that no merge crosses: no token spells a space, or a line end,
        behind something else. None if there are none. Long texts are cut there, to save time."""
        if self.pairs is None and self.complete:
            inside = lambda c: any(c in piece.lstrip(c) for piece in self.ids)
            cuts = [c for c in " \n" if not inside(c.encode())]
            return re.compile("|".join(f"(?<=[^{c}]){c}" for c in cuts)) if cuts else None

    def ids_of(self, word):
        """ids of a word (str or bytes), remembered if it is short."""
        ids = self.words.get(word)
        if ids is None:
            ids = self.merge(word)
            if len(word) <= 64:
                if len(self.words) >= 1 << 16:
                    self.words.clear()
                self.words[word] = ids
        return ids

    def merge(self, word):
        """ids of a word (str or bytes)."""
        raw = word if isinstance(word, bytes) else word.encode("utf-8", "replace")
        if self.flags & IGNORE_MERGES and raw in self.ids:
            return [self.ids[raw]]
        if self.kind == BYTE_BPE:
            parts = [bytes([b]) for b in raw]
        else:
            parts = [ch.encode("utf-8", "replace") for ch in word]
        if len(parts) > WORD_MAX:
            found = f"the text: a word of {len(parts):,} characters"
            raise ModelError(f"{found}, expected at most {WORD_MAX:,}; put spaces in between")
        if self.pairs is None:
            merge_neighbours(parts, lambda a, b, get=self.ranks.get: get(a + b))
        else:
            merge_neighbours(parts, lambda a, b, get=self.pairs.get: get((a, b)))
        ids = []
        for piece in parts:
            if piece is None:
                continue
            found = self.ids.get(piece)
            if found is not None:
                ids.append(found)
            elif self.flags & BYTE_FALLBACK:
                ids += [self.bytes[b] for b in piece]
            elif self.unk is not None and (not ids or ids[-1] != self.unk):
                ids.append(self.unk)  # one for a run of unknown characters, as SentencePiece
        return ids


def merge_neighbours(parts, rank):
    """Merge the neighbours of the best priority, the leftmost of equals, until none can be merged
    (Sennrich et al. 2016; the order is SentencePiece's): in a list of bytes, in place, where the
    second of two becomes None. rank(a, b): 0 is merged first, None never. A heap, so that the time
    is n log n in the length of the list."""
    n, heap = len(parts), []
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))

    def offer(i, j):
        best = rank(parts[i], parts[j])
        if best is not None:
            heapq.heappush(heap, best << 32 | i)

    for i in range(n - 1):
        offer(i, i + 1)
    while heap:
        best = heapq.heappop(heap)
        i = best & 0xFFFFFFFF
        j = after[i]
        if parts[i] is None or j >= n or rank(parts[i], parts[j]) != best >> 32:
            continue  # one of the two was merged with another since
        parts[i], parts[j] = parts[i] + parts[j], None
        k = after[i] = after[j]
        if k < n:
            before[k] = i
            offer(i, k)
        if before[i] >= 0:
            offer(before[i], i)


# -----------------------------------------------------------------------------
# twofile/tokenizer/stream.py
# Tokens in, whole characters out.

class TextStream:
    """Tokens in, whole characters out: a character may span several tokens. start: drop the space
    that encode put first. tokenizer: None where nothing is ever pushed."""

    def __init__(self, tokenizer, start=False):
        self.tokenizer, self.decoder = tokenizer, codecs.getincrementaldecoder("utf-8")("replace")
        self.strip = bool(start and tokenizer and tokenizer.flags & (PREFIX | PREFIX_UNLESS))

    def push(self, token):
        """The characters that are whole with this token, as str."""
        raw = self.tokenizer.piece(token)
        if self.strip and raw:
            self.strip, raw = False, raw.removeprefix(b" ")
        return self.decoder.decode(raw)

    def flush(self):
        """What is left at the end: U+FFFD for an unfinished character."""
        return self.decoder.decode(b"", final=True)


# -----------------------------------------------------------------------------
# twofile/tokenizer/template.py
# A conversation as a chat template writes it.

# what a template cuts off a content's side: nothing, white space, line ends; left + 3 * right
STRIPS = ("", None, "\n")


def chat_parts(messages, pieces, strips):
    """A conversation as a chat template writes it: pieces (by name of CHAT, in whatever form) and
    contents in turn.

    strips: by role, what the template cuts off a content, as in STRIPS. Raises ModelError for
    another order of roles.
    """
    roles = [
        m.get("role") if isinstance(m, dict) and isinstance(m.get("content"), str) else None
        for m in messages
    ]
    system = roles[:1] == ["system"]
    turns = [("user", "assistant")[i % 2] for i in range(len(roles) - system)]
    if roles[system:] != turns or roles[-1:] != ["user"]:
        found = ", ".join(map(str, roles[:9])) or "none"
        wants = "expected an optional system, then user and assistant in turn, the user last"
        raise ModelError(f"messages: roles {printable(found)}; {wants}")
    if system and pieces.get("system") is None:
        found = "messages: this model's template has no system message"
        raise ModelError(f"{found}; expected none; put it into the user's")
    out = [pieces["system" if system else "first"]]
    for i, m in enumerate(messages):
        right, left = divmod(strips[m["role"]], 3)
        after = {"system": "after_system", "assistant": "a2u", "user": "u2a"}[m["role"]]
        text = m["content"].lstrip(STRIPS[left]).rstrip(STRIPS[right])
        out += [text, pieces["gen" if i == len(messages) - 1 else after]]
    return out


# -----------------------------------------------------------------------------
# twofile/tokenizer/users.py
# User-defined tokens, which are searched for in text.

WHITE = re.compile(r"\s*")


class UserTokens:
    """The user-defined tokens of a TokenizerFile; ids {text: id}, empty if there are none."""

    def __init__(self, file):
        self.types = file.types
        found = [i for i in np.flatnonzero((self.types & 15) == USER).tolist() if file.pieces[i]]
        self.pieces = [file.pieces[i] for i in found]
        if found and max(map(len, self.pieces)) > USER_MAX:
            what = f"a user-defined token is longer than {USER_MAX} bytes"
            raise ModelError(f"{what}; export it again")
        self.ids, lengths = {}, {}
        for i, piece in zip(found, self.pieces):
            text = piece.decode("utf-8", "replace")
            self.ids.setdefault(text, i)
            lengths.setdefault(text[0], set()).add(len(text))
        # a dictionary for each length, not one large expression: the time must not grow with their
        # number; the longest first
        self.lengths = {ch: sorted(sizes, reverse=True) for ch, sizes in lengths.items()}
        self.starts = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

    def split(self, text):
        """text -> [what is between, id of a user-defined token, …], the longest at each place,
        without the white space that it takes."""
        parts, at, i = [], 0, 0
        while self.starts and (m := self.starts.search(text, i)):
            i = m.start()
            size = next((n for n in self.lengths[m[0]] if text[i : i + n] in self.ids), 0)
            if size:
                token = self.ids[text[i : i + size]]
                before = text[at:i]
                parts += [before.rstrip() if self.types[token] & LSTRIP else before, token]
                at = i + size
                if self.types[token] & RSTRIP:
                    at = WHITE.match(text, at).end()
            i = max(i + 1, at)
        return [*parts, text[at:]]


# -----------------------------------------------------------------------------
# twofile/tokenizer/tokenizer.py
# Text to ids and back.

class Tokenizer:
    """A tokenizer.bin: text -> ids by merging the neighbours of best priority, and ids -> text.

    source: path, or the bytes of the file. Raises ModelError if anything in it is not as the format
    says. Attributes: n_vocab, bos, eos, unk, pad (None if absent), stops (ids that end a text),
    pieces and types by id, sha256 (of the whole file), chat (what its template writes, or None),
    longest (the most characters that one token stands for; None if there is no such number).
    """

    def __init__(self, source):
        name = "tokenizer in model.bin" if isinstance(source, bytes) else printable(str(source))
        try:
            if not isinstance(source, bytes):
                source = read_small(source, "a tokenizer.bin", MOST_BYTES)
            self._load(read_tokenizer(source))
            self._check(8)
        except ModelError as e:
            raise ModelError(f"{name}: {e}" if not str(e).startswith(name) else str(e)) from None

    def _load(self, file):
        """Take what a TokenizerFile says."""
        self.sha256, self.kind, self.flags = file.sha256, file.kind, file.flags
        self.n_vocab, self.pieces, self.types = file.n_vocab, file.pieces, file.types
        self.bos, self.eos, self.unk, self.pad = file.bos, file.eos, file.unk, file.pad
        self.pretok, self.classes, self.tests = file.pretok, file.classes, file.tests
        self.chat, self.strips, self.prefix_runs = file.chat, file.strips, file.prefix_runs
        self.stops = file.stops
        self.merger, self.users = Merger(file), UserTokens(file)
        self.ids, self.ranks = self.merger.ids, self.merger.ranks
        self.cutter = None  # without patterns, a text is one word
        if SPLITS[self.pretok]:
            self.cutter = Cutter(self.pretok, self.classes, self.kind == BYTE_BPE)
        self.longest = None
        if self.merger.complete and not any(self.types & (LSTRIP | RSTRIP)):
            longest = max(map(len, [*self.ids, *self.users.pieces]), default=1)
            self.longest = longest * (4 if self.flags & NFC else 1)  # four may be composed to one

    def _check(self, count):
        """Encode the first of the stored test texts; raises ModelError if the ids are others."""
        for text, ids in self.tests[:count]:
            if self.encode(text, add_bos=False) != ids:
                found = f"self-test failed on {text[:40]!r}"
                raise ModelError(f"{found}: it does not do what its exporter saw; export it again")

    def selftest(self):
        """Encode all stored test texts; raises ModelError if one gives other ids than the reference
        did at export."""
        self._check(len(self.tests))

    def encode(self, text, add_bos=True):
        """text -> list of ids, with the begin token if the model has one and add_bos. Control
        tokens are never matched. Raises ModelError for a word that would fill the memory."""
        ids = [self.bos] if add_bos and self.flags & ADD_BOS and self.bos is not None else []
        ids += self._run(text, True)
        if add_bos and self.flags & ADD_EOS and self.eos is not None:
            ids.append(self.eos)
        return ids

    def encode_chat(self, messages):
        """[{"role": "system" (only first), "user" or "assistant" in turn, "content": str}], the
        last a user's -> ids up to where the assistant begins. Contents go through encode: they
        never become control tokens. Raises ModelError."""
        if self.chat is None:
            found = "this model was exported without a chat template"
            raise ModelError(f"{found}; expected one to chat; complete text instead")
        ids, text = [], ""
        for part in chat_parts(messages, self.chat, self.strips):
            for kind, value in [(CHAT_TEXT, part)] if isinstance(part, str) else part:
                if kind == CHAT_ID:
                    ids += [*self._run(text, self.prefix_runs or not ids), value]
                    text = ""
                else:
                    text += time.strftime(value) if kind == CHAT_DATE else value
        return ids + self._run(text, self.prefix_runs or not ids)

    def chat_form(self):
        """What the chat template writes around contents, as {name: text}; None without one."""
        shows = {CHAT_TEXT: str, CHAT_ID: self.name, CHAT_DATE: "{{today as {}}}".format}
        chat = {name: items for name, items in (self.chat or {}).items() if items is not None}
        return {
            name: "".join(shows[kind](value) for kind, value in items)
            for name, items in chat.items()
        } or None

    def markers(self):
        """The words that tell turns apart in this model's template and are no control tokens,
        sorted: a user can write them too."""
        names = ("after_system", "u2a", "a2u", "gen") if self.chat else ()
        items = [item for name in names for item in self.chat[name] or ()]
        words = {word for kind, value in items if kind == CHAT_TEXT for word in value.split()}
        return sorted(w for w in words if len(w) > 2 and (set(w) & set("<>[]{}|#") or w[-1] == ":"))

    def _run(self, text, prefix):
        """ids of a run of text between control tokens. prefix: whether it may get the space that
        some models begin with."""
        ids, ids_of = [], self.merger.ids_of
        if self.flags & NFC:
            text = composed(text)
        if self.kind == SPM:
            text = text.replace("\u2581", " ")
            spaced = self.flags & PREFIX or self.flags & PREFIX_UNLESS and text[:1] != " "
            if text and prefix and spaced:
                text = " " + text
        for part in self.users.split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                for word in self.words(part):
                    ids += ids_of(word)
        return ids

    def words(self, text):
        """The words, str or bytes, that text without user-defined tokens is merged in; an
        iterator."""
        return self.cutter(text) if self.cutter else self._whole(text)

    def _whole(self, text):
        """Yield text as one word, but a long one cut where no merge crosses."""
        at = 0
        for m in self.apart.finditer(text) if len(text) > LONG and self.apart else ():
            yield text[at : m.start()]
            at = m.start()
        if at < len(text):
            yield text[at:] if at else text

    @property
    def apart(self):
        """A pattern for places in a text that no merge crosses, or None."""
        return self.merger.apart

    def piece(self, token):
        """The bytes that a token prints; none for control tokens and ids beyond the vocabulary."""
        if token == self.unk and self.kind == SPM:
            return " \u2047 ".encode()
        if not 0 <= token < self.n_vocab or self.types[token] & 15 in (CONTROL, UNUSED):
            return b""
        return self.pieces[token]

    def name(self, token):
        """A token as people write it; control tokens by name."""
        return self.pieces[token].decode("utf-8", "replace") if 0 <= token < self.n_vocab else "?"

    def decode(self, ids):
        """ids -> str; U+FFFD stands for bytes that are not UTF-8."""
        stream = TextStream(self, start=True)
        return "".join([stream.push(i) for i in ids]) + stream.flush()


# -----------------------------------------------------------------------------
# twofile/tokenizer/find.py
# Which tokenizer a model has.

def find_tokenizer(file, path=None):
    """The Tokenizer at path, or else the one inside the model file (of open_model), or beside it;
    None if the model was exported without one. Raises ModelError if it is another model's."""
    c, inside = file.config, file.tensors.get("tokenizer")
    beside = Path(file.path).parent / "tokenizer.bin"
    if path is None and inside is not None:
        tokenizer = Tokenizer(inside.data[: MOST_BYTES + 1].tobytes())
    elif path is None and not any(c.tokenizer_sha256):
        return None  # exported without one: what lies beside it is another model's
    elif path is not None or beside.exists():
        tokenizer = Tokenizer(path or beside)
    else:
        found = f"{printable(str(beside))}: not found; expected this model's tokenizer"
        raise ModelError(f"{found}; copy it there, or name it with -z")
    if any(c.tokenizer_sha256) and tokenizer.sha256 != c.tokenizer_sha256:
        found, want = tokenizer.sha256.hex()[:16], c.tokenizer_sha256.hex()[:16]
        where = printable(str(path or (file.path if inside else beside)))
        raise ModelError(
            f"{where}: tokenizer {found}… is of another model, expected {want}…; "
            "use the one exported with it"
        )
    if tokenizer.n_vocab > c.vocab_size:
        found = f"tokenizer has {tokenizer.n_vocab} tokens, the model {c.vocab_size}"
        raise ModelError(f"{found}; use the one exported with it")
    return tokenizer


# ===== writing

# -----------------------------------------------------------------------------
# twofile/sampler.py
# Logits and one number in [0, 1) become the next id.

class Rule(NamedTuple):
    """A rule of sampling: its name here and in JSON, its flag, its number's type and range."""

    name: str
    flag: str
    kind: type
    default: float
    least: float
    most: float
    metavar: str
    help: str


# In the order of Sampling's fields. What a rule does stands in Sampler.penalised(), for those that
# change logits by what came before, or in kernels/pick.py, for those that choose.
# fmt: off
RULES = (
    Rule("temperature", "--temp", float, 0.8, 0, 100, "X",
         "temperature, 0 = most likely (default the model's, or 0.8)"),
    Rule("top_k", "--top-k", int, 40, 0, 1 << 31, "N",
         "of the N likeliest, 0 = all (default the model's, or 40)"),
    Rule("top_p", "--top-p", float, 0.95, 1e-9, 1, "X",
         "of the likeliest with this share (the model's, or 0.95)"),
    Rule("min_p", "--min-p", float, 0.05, 0, 1, "X",
         "at least X times the best chance (default 0.05)"),
    Rule("repeat_penalty", "--repeat-penalty", float, 1.0, 1e-3, 1e3, "X",
         "against recent tokens, 1 = off (default)"),
    Rule("repeat_last_n", "--repeat-last-n", int, 64, -1, 1 << 31, "N",
         "how many are recent, -1 = all (default 64)"),
)
# fmt: on


class InRange:
    """A number for each of RULES, by its name; ModelError for one out of its range."""

    def __post_init__(self):
        for rule in RULES:
            value = getattr(self, rule.name)
            if not rule.least <= value <= rule.most:
                wants = f"{rule.least:g} to {rule.most:g}"
                raise ModelError(f"{rule.name} is {value}, expected {wants}")


# How the next token is chosen: penalties, then top-k, top-p, min-p, then the temperature; 0 = the
# most likely.
Sampling = make_dataclass(
    "Sampling",
    [(rule.name, rule.kind, rule.default) for rule in RULES],
    bases=(InRange,),
    frozen=True,
    namespace={"__module__": __name__},
)


class Sampler:
    """Logits to ids, as how says, for a vocabulary of n tokens. code: a Code with the kernel
    "pick"."""

    def __init__(self, how, n, code):
        self.how, self.n, self.pick = how, n, code.function("pick")
        self.k = 1 if how.temperature == 0 else min(how.top_k or n, n)
        self.block = Buffer(PICK.best + 16 * self.k)
        self.settings = self.block.view(np.float64, PICK.best // 8)
        for name in ACTING:
            self.settings[getattr(PICK, name) // 8] = getattr(how, name)
        self.settings.view(np.int64)[PICK.k // 8] = self.k

    def __call__(self, logits, recent, coin):
        """float32 logits [n or more], the ids so far, a number in [0, 1) -> the next id, or -1 if a
        logit is not finite."""
        logits = self.penalised(logits[: self.n], recent)
        self.settings[PICK.coin // 8] = coin
        if self.k <= 1024:
            return self.pick(logits.ctypes.data, self.n, self.block.address, 0)
        # so many are faster sorted than inserted
        order = np.argsort(-logits, kind="stable")[: self.k]
        words = self.block.view(np.float32, PICK.best // 4 + 2 * self.k)[PICK.best // 4 :]
        words[: self.k], words[self.k :].view(np.int32)[:] = logits[order], order
        return self.pick(0, self.k, self.block.address, 1) if np.isfinite(logits).all() else -1

    def penalised(self, logits, recent):
        """The logits after the penalties: the same array if there are none, or else a copy."""
        how = self.how
        penalty = np.float32(how.repeat_penalty)
        if penalty == 1 or not how.repeat_last_n:
            return logits
        last = recent if how.repeat_last_n < 0 else recent[-how.repeat_last_n :]
        seen = np.unique(last).astype(np.int64)
        seen = seen[seen < self.n]
        was, logits = logits[seen], logits.copy()
        logits[seen] = np.where(was > 0, was / penalty, was * penalty)
        return logits


# -----------------------------------------------------------------------------
# twofile/chances.py
# Logits become chances.

def log_softmax(logits):
    """float32 logits [..., vocab] -> float64 log-probabilities (natural)."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def likeliest(chances, n):
    """The ids [..., n] of the n largest of chances [..., vocab], best first, equals by id."""
    if not n:
        return np.zeros((*chances.shape[:-1], 0), np.int64)
    return np.argsort(-chances, kind="stable")[..., :n]


# -----------------------------------------------------------------------------
# twofile/answers.py
# What was written, as OpenAI's objects.

def completion(w, echo=""):
    """What a Writer wrote as OpenAI's completion object, a dict, with llama-server's timings. echo:
    text to put before it."""
    began, first, last = w.clock
    reading, writing = first - began, last - first
    choice = {"text": echo + w.written, "index": 0, "logprobs": None}
    if w.logprobs is not None:
        choice["logprobs"] = logprob_lists(w)
    return {
        "id": f"cmpl-{random.getrandbits(64):016x}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": w.model_name,
        "choices": [
            {**choice, "finish_reason": "stop" if w.reason in ("eos", "stop") else "length"}
        ],
        "usage": {
            "prompt_tokens": w.n_prompt,
            "completion_tokens": w.count,
            "total_tokens": w.n_prompt + w.count,
        },
        "timings": {
            "prompt_n": w.n_prompt,
            "prompt_ms": 1000 * reading,
            "prompt_per_second": w.n_prompt / max(reading, 1e-9),
            "predicted_n": w.count,
            "predicted_ms": 1000 * writing,
            "predicted_per_second": w.count / max(writing, 1e-9),
        },
        "seed": w.seed,
        "stop_reason": w.reason,
    }


def logprob_lists(w):
    """OpenAI's legacy lists of the tokens that a Writer wrote."""
    name = w.tokenizer.name if w.tokenizer else str
    said = [c for c in w.chunks if c.token is not None]
    at = len(w.tokenizer.decode(w.ids[: w.n_prompt]))
    ends = itertools.accumulate((len(c.text) for c in said[:-1]), initial=at)
    return {
        "tokens": [name(c.token) for c in said],
        "token_logprobs": [c.logprob for c in said],
        "top_logprobs": [{name(i): chance for i, chance in c.top} for c in said],
        "text_offset": list(ends)[: len(said)],
    }


def put_prompt_first(lists, ids, logits, n_top, tokenizer):
    """Put the prompt's tokens before those of legacy lists. The first has nothing before it, so no
    chance. logits: float32 [len(ids), vocab or more], after each of ids."""
    name, chances = tokenizer.name, log_softmax(logits[:, : tokenizer.n_vocab])
    best = likeliest(chances, n_top)
    stream = TextStream(tokenizer, start=True)
    starts = itertools.accumulate((len(stream.push(i)) for i in ids[:-1]), initial=0)
    rows = [
        {name(i): float(row[i]) for i in order} for row, order in zip(chances[:-1], best.tolist())
    ]
    lists["tokens"][:0] = map(name, ids)
    lists["token_logprobs"][:0] = [None] + [float(row[i]) for row, i in zip(chances, ids[1:])]
    lists["top_logprobs"][:0] = [None] + rows
    lists["text_offset"][:0] = starts


def chat_completion(value):
    """A completion object as a chat completion object."""
    (choice,) = value["choices"]
    choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    return value | {"object": "chat.completion"}


# -----------------------------------------------------------------------------
# twofile/writer.py
# One text in the making.

@dataclass(frozen=True)
class Chunk:
    """A piece of generated text. The last one has finish_reason "eos", "stop", "length" or
    "context", and no token.

    Where asked for: logprob of the token (natural logarithm, before any sampling rule), and top,
    [(id, logprob)] of the likeliest, best first.
    """

    text: str
    token: int | None = None
    finish_reason: str | None = None
    logprob: float | None = None
    top: tuple = ()


def begun(text, stop):
    """How many characters at the end of text may be the beginning of stop."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )


class Writer:
    """One text in the making: choose() takes its next id from logits, push() turns ids into Chunks,
    which it keeps.

    model: a Model, which says what fits, and how it wants to be sampled. prompt: str or ids.
    max_tokens: None = until the end token or a full context. stop: strings that end the text and
    are not part of it. seed: int, None = random. logprobs: None, or how many of the likeliest
    tokens to tell. how: the fields of Sampling; what is left out is as the file says
    (Model.sampling), or else as there.
    Attributes: ids (all so far), n_prompt, count (new ones), limit (of those), seed, reason (None
    until it ends), chunks, clock (seconds at the start, the first token and the last), ends (ids
    that end it), worth (None until weigh()). Raises ModelError for a prompt that does not fit.
    """

    def __init__(
        self,
        model,
        prompt,
        max_tokens=None,
        stop=(),
        seed=None,
        ignore_eos=False,
        logprobs=None,
        **how,
    ):
        self.how = Sampling(**{**model.sampling, **how})
        self.stops = [s for s in ([stop] if isinstance(stop, str) else stop) if s]
        if len(self.stops) > 64 or (logprobs or 0) > 100:
            found = f"{len(self.stops)} stop strings, {logprobs or 0} logprobs"
            raise ModelError(f"{found}; expected at most 64 and 100; ask for fewer")
        ids = self.ids = model.prompt(prompt)
        room = model.n_ctx - len(ids)
        if room < 1 and max_tokens != 0:
            found = f"prompt: {len(ids)} tokens leave no room in a context of {model.n_ctx}"
            raise ModelError(f"{found}; shorten it, or raise -c")
        self.limit = room if max_tokens is None else min(max_tokens, room)
        self.at_limit = "length" if self.limit == max_tokens else "context"
        self.n_prompt, self.count, self.reason, self.worth = len(ids), 0, None, None
        self.seed = random.getrandbits(32) if seed is None else seed
        self.coin, self.clock = random.Random(self.seed % 2**64).random, [time.perf_counter()] * 3
        self.tokenizer, self.ends = model.tokenizer, set() if ignore_eos else model.ends
        # what a model can only give or tell when it has run
        self.make_sampler, self.sampler = model.sampler, None
        self.not_finite = model.not_finite
        self.model_name = os.path.basename(model.file.path)
        blank = self.tokenizer and not any(map(self.tokenizer.piece, ids))
        self.text, self.held = TextStream(self.tokenizer, start=blank), ""
        self.logprobs, self.said = logprobs, ()  # said: logprob and top of the token chosen last
        self.chunks = []

    def choose(self, logits):
        """The next id, from float32 logits [vocab_size] of its model's last pass. Raises ModelError
        if one is not finite."""
        self.clock[2] = time.perf_counter()
        if not self.count:
            self.clock[1] = self.clock[2]
        if not self.sampler:
            self.sampler = self.make_sampler(self.how)
        token = self.sampler(logits, self.ids, self.coin())
        if token < 0:
            raise self.not_finite(len(self.ids))
        if self.logprobs is not None:
            chances = log_softmax(logits[: self.sampler.n])
            best = likeliest(chances, self.logprobs).tolist()
            self.said = float(chances[token]), tuple((i, float(chances[i])) for i in best)
        return token

    def push(self, token):
        """The Chunk that a chosen id makes; None or an end token: the last Chunk."""
        if token is None or token in self.ends:
            self.reason = "eos" if self.count < self.limit else self.at_limit
            self.held += self.text.flush() if self.tokenizer else ""
            return self._keep(Chunk(self.held, None, self.reason))
        self.ids.append(token)
        self.count += 1
        self.held += self.text.push(token) if self.tokenizer else ""
        end = min((self.held.find(s) for s in self.stops if s in self.held), default=-1)
        if end >= 0:
            self.reason = "stop"
            return self._keep(Chunk(self.held[:end], None, "stop"))
        keep = max((begun(self.held, s) for s in self.stops), default=0)
        ready, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return self._keep(Chunk(ready, token, None, *self.said))

    def _keep(self, chunk):
        self.chunks.append(chunk)
        return chunk

    @property
    def written(self):
        """The text so far, without the prompt."""
        return "".join(chunk.text for chunk in self.chunks)

    def weigh(self, judge=None):
        """Set worth: what judge(text) says, or else the mean log-probability of its tokens, which
        needs logprobs."""
        said = [c.logprob for c in self.chunks if c.token is not None]
        if judge:
            self.worth = judge(self.written)
        else:
            self.worth = sum(said) / len(said) if said else -math.inf

    def completion(self, echo=""):
        """What was written as OpenAI's completion object, with llama-server's timings. echo: text
        to put before it."""
        return completion(self, echo)


# -----------------------------------------------------------------------------
# twofile/guess.py
# Guesses of what comes, and the loop that tries them.

def alike(a, b):
    """How many first entries two lists have in common."""
    n = min(len(a), len(b))
    return n if a[:n] == b[:n] else next(i for i in range(n) if a[i] != b[i])


def generate(step, prompt, stop, max_new, choose, guess=lambda ids: []):
    """Feed the ids of prompt, then yield ids until one of stop (not yielded) or max_new.

    step(ids, position, n) -> logits after each of the last n of ids, the first of which stands at
    position. guess(all ids so far) -> ids that may come next: they are fed along with the next
    token, and where they prove right their logits save a step. Since a step gives the same bits for
    many tokens as for one, guesses never change the text. Knows nothing of text, weights or the
    clock, so a test can drive it with three lines of fake model.
    """
    ids, end = list(prompt), len(prompt) + max_new
    rows, ahead = step(prompt, 0, 1), []
    while len(ids) < end:
        token = choose(rows[0])
        if token in stop:
            return
        ids.append(token)
        yield token
        rows = rows[1:] if ahead[:1] == [token] else []
        ahead = ahead[1:]
        if not len(rows) and len(ids) < end:  # the last token's logits would go unused
            ahead = guess(ids)[: min(WANTED_MAX, end - len(ids)) - 1]
            rows = step([token, *ahead], len(ids) - 1, 1 + len(ahead))


class Lookup:
    """Guesses by looking up what followed the last three tokens when they last stood in the text
    (prompt lookup decoding, Saxena 2023). It guesses further while it is right, and less and less
    often while it is wrong."""

    def __init__(self):
        self.after, self.known, self.last, self.at = {}, 3, [], 0
        self.length, self.pause, self.penalty = 3, 0, 1

    def __call__(self, ids):
        came = ids[self.at : self.at + len(self.last)]
        if self.last and came[0] != self.last[0]:
            self.length, self.pause, self.penalty = 3, self.penalty, min(64, 2 * self.penalty)
        elif self.last:
            self.length, self.penalty = min(15, 2 * self.length + 1) if came == self.last else 3, 1
        for n in range(self.known, len(ids)):
            self.after[tuple(ids[n - 3 : n])] = n
        self.known, self.last, self.at = max(3, len(ids)), [], len(ids)
        found = self.after.get(tuple(ids[-3:]))
        if found and self.pause:
            self.pause -= 1
        elif found:
            self.last = ids[found : found + self.length]
        return self.last


def line_seed(seed, name):
    """The seed of one text of many."""
    text = f"{seed}/{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")


# -----------------------------------------------------------------------------
# twofile/engine.py
# A model file on this machine: what it takes to run, and who runs it.

# the two that know what layers keep of a text: to come from forward.py


def cache_bytes(config, kv, n_ctx):
    """Of one sequence: keys and values of so many positions, and states."""
    size, total = 4 if kv == "f32" else 2, 0
    for i in range(config.n_layers):
        if not config.attends(i):
            total += 4 * sum(config.state_floats(i))
        elif config.kv_layer(i) == i:
            heads, dim = config.heads(i)
            total += heads * padded(n_ctx, KEYS) * (dim + padded(dim, 16)) * size
    return total


def has_states(config):
    """Whether layers keep states, which cannot be cut as keys and values can."""
    return not all(config.attends(i) for i in range(config.n_layers))


class Engine:
    """Makes the Forwards of a model file, as many and as large as this machine has room for.

    file: of open_model. n_ctx: most positions of a text, 0 = the model's. threads: None = the cores
    this process may use. kv: "f16" or "f32"; None = f32 for f32 models, else f16. notice: what is
    said goes there. Raises ModelError for what is out of range.
    Attributes: recurrent (whether there are states), playing (the Forward of the last pass).
    """

    def __init__(self, file, n_ctx, threads, kv, notice):
        self.file, self.name, self.notice = file, printable(file.path), notice
        most, cores = file.config.max_ctx, available_cores() if threads is None else threads
        if not 0 <= n_ctx <= most:
            found = f"context of {n_ctx} tokens, expected 1 to the {most} of {self.name}"
            raise ModelError(f"{found}; choose less")
        if not 1 <= cores <= 1024:
            wants = f"expected 1 to 1024; leave it out for {available_cores()}"
            raise ModelError(f"{cores} threads, {wants}")
        self.n_ctx, self.asked, self.threads = n_ctx or most, bool(n_ctx), cores
        self.kv = kv or ("f32" if file.tensors["embed"].dtype == "f32" else "f16")
        self.recurrent, self.playing, self.spare = has_states(file.config), None, []

    def cache_bytes(self, n_ctx):
        """What a cache of so many positions takes."""
        return cache_bytes(self.file.config, self.kv, n_ctx)

    def fit(self, places):
        """Unless a context was asked for: the model's, halved until the cache of so many texts
        takes half of memory."""
        n = self.n_ctx
        while not self.asked and n > 512 and places * self.cache_bytes(n) > total_memory() // 2:
            n //= 2
        if n < self.n_ctx:
            need = places * self.cache_bytes(self.n_ctx)
            what = f"{places} contexts" if places > 1 else "the context"
            would = f"{self.n_ctx} would take {need:,} bytes of memory"
            self.notice(f"{what} of {n} tokens; {would}; -c asks for more")
            self.n_ctx = n

    def build(self, n_ctx, places):
        """A new Forward of so many contexts, or a ModelError that says what they take."""
        need, have = places * self.cache_bytes(n_ctx), total_memory()
        try:
            if need > have:
                raise MemoryError
            return Forward(self.file, n_ctx, places, self.kv, self.threads, self.notice)
        except MemoryError as e:
            need = next((n for n in e.args if isinstance(n, int)), need)
            what, less = f"a context of {n_ctx} tokens takes", "-c or -n"
            if places > 1:
                what, less = f"{places} contexts of {n_ctx} tokens take", "-c or -np"
            raise ModelError(
                f"{what} {need:,} bytes, this machine has {have:,}; choose a smaller {less}"
            ) from None

    def borrow(self, places):
        """A Forward of so many slots, each of the whole context: a spare one, or new. It comes back
        by give_back()."""
        if not 1 <= places <= WANTED_MAX:
            found = f"{places} texts at once, expected 1 to {WANTED_MAX}"
            raise ModelError(f"{found}; choose less, the others wait")
        for n, forward in enumerate(self.spare):
            if forward.n_slots == places:
                return self.spare.pop(n)
        return self.build(self.n_ctx, places)

    def give_back(self, forward):
        """Take a Forward of borrow() for the next who wants one."""
        self.spare.append(forward)

    def play(self, forward, tokens, positions, slots, wanted):
        """A pass of one of the Forwards -> logits float32 [len(wanted), vocab_size]."""
        self.playing = forward
        return forward(tokens, positions, slots, wanted)

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        where = self.playing.where_not_finite()
        found = f"NaN or infinity at position {position}" + (f", begun in {where}" if where else "")
        return ModelError(
            f"{self.name}: {found}, expected finite logits; run --verify, copy or export it again"
        )

    def of_use(self, ids, others):
        """How many of the ids of a cache are of use for others: all that are alike; of states, all
        or none."""
        n = alike(ids, others)
        return n if not self.recurrent or n == len(ids) else 0


# -----------------------------------------------------------------------------
# twofile/session.py
# One text in the cache.

class Session:
    """One text in the cache of a Forward of an Engine: what is read again is not computed again.

    Attributes: forward (None until ready()), fed (the ids whose keys and values are in the cache),
    owner (the list they were taken from), kept (a number of those ids, and the states after them,
    since states cannot be cut as keys and values can), lock (held while a text is read on).
    """

    def __init__(self, engine):
        self.engine, self.recurrent = engine, engine.recurrent
        self.forward, self.lock = None, threading.RLock()
        self.fed, self.owner, self.kept = [], None, (0, [])

    def ready(self, n_ctx):
        """A Forward of at least n_ctx positions: the next power of two, so that growing prompts
        seldom need a new one. Raises ModelError if memory has no room for it."""
        if self.forward is None or self.forward.n_ctx < n_ctx:
            n_ctx = min(self.engine.n_ctx, max(256, 1 << (n_ctx - 1).bit_length()))
            self.forward, self.fed = self.engine.build(n_ctx, 1), []
            self.owner, self.kept = None, (0, [])
        return self.forward

    def keep(self):
        """Keep the states as they are now, so that the cache can be taken back to here."""
        self.kept = len(self.fed), [part.copy() for part in self.forward.state(0)]

    def back(self, n):
        """Take the cache back to its first n ids; where there are states, to where they were kept,
        or to nothing. -> how many are left."""
        fed = self.fed
        if n < len(fed) and self.recurrent:
            self.fed = []  # Ctrl-C may come at any time: states must not be taken for others
            n = self.kept[0] if self.kept[0] <= n else 0
            for part, before in zip(self.forward.state(0), self.kept[1] if n else []):
                part[:] = before
        if n < self.kept[0]:
            self.kept = 0, []
        del fed[n:]
        self.fed = fed
        return n

    def step(self, text, ids, position, wanted):
        """Logits after each of the last wanted of ids, which begin at position of text (a list of
        ids, of which those before position count). What the cache holds of them is not computed
        again."""
        if self.owner is not text:  # another text was here since
            ids, position, self.owner = text[:position] + ids, 0, text
        n, end = position, position + len(ids)
        while n < end - wanted and n < len(self.fed) and self.fed[n] == ids[n - position]:
            n += 1
        n = self.back(n)
        if n < position:
            ids, position = text[:position] + ids, 0
        while n < end:
            left = end - n
            # those wanted are all in the last pass; with states alone there: what comes before them
            # may be wanted again
            whole = left <= CHUNK and not (self.recurrent and left > wanted)
            size = left if whole else min(CHUNK, left - wanted)
            part = ids[n - position : n - position + size]
            rows = range(size - wanted, size) if size == left else []
            fed, self.fed = self.fed, [] if self.recurrent else self.fed
            logits = self.engine.play(self.forward, part, range(n, n + size), [0] * size, rows)
            fed += part
            self.fed, n = fed, n + size
            if self.recurrent and left - size == wanted:
                self.keep()
        return logits

    def logits(self, ids):
        """float32 [len(ids), vocab_size]: row i is the model's opinion of what follows
        ids[: i + 1]."""
        with self.lock:
            self.ready(len(ids))
            ends = [min(n + WANTED_MAX, len(ids)) for n in range(0, len(ids), WANTED_MAX)]
            return np.concatenate(
                [self.step(ids, ids[:n], 0, (n - 1) % WANTED_MAX + 1).copy() for n in ends]
            )

    def write(self, w, lookup=True):
        """Yield the Chunks of a Writer as they are made. lookup: guess what repeats; changes the
        speed, nothing else."""
        with self.lock:
            self.ready(len(w.ids) + w.limit)

        def step(ids, position, n):
            rows = self.step(w.ids, ids, position, n)
            return rows.copy() if n > 1 else rows  # more than one row outlives the lock

        # states could not forget what was guessed wrong
        guess = Lookup() if lookup and not self.recurrent else lambda ids: []
        tokens = generate(step, w.ids, w.ends, w.limit, w.choose, guess)
        while w.reason is None:
            with self.lock:
                token = next(tokens, None)
            yield w.push(token)

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        error = self.engine.not_finite(position)
        if self.recurrent:
            self.forget()  # states have seen the pass twice
        return error

    def forget(self):
        """What is in the cache is of no text."""
        self.fed = []

    def adopt(self, ids):
        """What was put into the cache is of these ids."""
        self.fed, self.owner = ids, None
        self.keep()

    def known(self, n=None):
        """-> the ids in the cache, or the first n of them, and the states after them; where there
        are states, as many ids as they were kept for."""
        if self.recurrent:
            fed, states = self.fed[: self.kept[0]], self.kept[1]
        else:
            fed, states = self.fed[:n], []
        return fed, states or list(self.forward.state(0))


# -----------------------------------------------------------------------------
# twofile/prompts.py
# What a user gives becomes ids that fit.

class Prompts:
    """Texts, ids and conversations for an Engine's model. tokenizer: None for ids alone.

    Everything here raises ModelError for what does not fit, or needs a tokenizer that is not there.
    """

    def __init__(self, engine, tokenizer):
        self.engine, self.tokenizer = engine, tokenizer

    def need_tokenizer(self):
        """The tokenizer, or a ModelError."""
        if self.tokenizer is None:
            raise ModelError(
                f"{self.engine.name}: exported without a tokenizer; "
                "expected one to read text; give ids, or -z FILE"
            )
        return self.tokenizer

    def short(self, text):
        """text, if it could fit into the context: what its length alone rules out is refused before
        it costs time or room."""
        longest, n_ctx = self.need_tokenizer().longest, self.engine.n_ctx
        least = -(-len(text) // longest) if longest else 1
        if least > n_ctx:
            found = f"prompt: {len(text):,} characters, {least:,} tokens or more"
            raise ModelError(f"{found}, expected 1 to {n_ctx}; shorten it, or raise -c")
        return text

    def tokenize(self, text, add_bos=True):
        """text -> ids, of any length."""
        return self.need_tokenizer().encode(text, add_bos)

    def conversation(self, messages):
        """[{"role", "content"}] -> ids up to where the assistant begins."""
        for m in messages if isinstance(messages, list) else ():
            if isinstance(m, dict) and isinstance(m.get("content"), str):
                self.short(m["content"])
        return self.need_tokenizer().encode_chat(messages)

    def prompt(self, given):
        """str or ids -> ids, at least one and no more than the context has room for."""
        return self.check(self.tokenize(self.short(given)) if isinstance(given, str) else given)

    def check(self, ids):
        """ids as a list of int."""
        ids, n_ctx = [int(i) for i in ids], self.engine.n_ctx
        n_vocab = self.engine.file.config.vocab_size
        wrong = [i for i in ids if not 0 <= i < n_vocab]
        if not ids or wrong or len(ids) > n_ctx:
            found = f"id {wrong[0]}" if wrong else f"{len(ids)} tokens"
            wants = f"expected 1 to {n_ctx} ids below {n_vocab}"
            raise ModelError(f"prompt: {found}, {wants}; shorten it, or raise -c")
        return ids

    def begin(self):
        """The token that stands before a text's first: begin, or else end."""
        t = self.need_tokenizer()
        found = t.bos if t.bos is not None else t.eos
        if found is None:
            what = f"{self.engine.name}: no begin and no end token"
            raise ModelError(f"{what}, expected one; give a context")
        return found


# -----------------------------------------------------------------------------
# twofile/together.py
# Many texts written at once, the weights read once for all.

def write_together(engine, writers, places):
    """Yield (Writer, Chunk) as they come; see Model.together."""
    forward, writers, more, coming = engine.borrow(places), iter(writers), True, None
    slots = Slots(engine, forward)
    try:
        while slots.active or more:
            while more and len(slots.active) < places:
                coming = coming or next(writers, 0)
                if not coming:
                    more, coming = coming is None, None
                    break
                if slots.being_read(coming):
                    break
                slots.take(coming)
                coming = None
            if slots.active:
                yield from slots.play()
    finally:
        engine.give_back(forward)


class Slots:
    """The places of a Forward: which Writer is in each (active, {slot: Writer}), and which ids its
    cache holds (fed)."""

    def __init__(self, engine, forward):
        self.engine, self.forward = engine, forward
        self.active, self.fed = {}, [[] for _ in range(forward.n_slots)]

    def common(self, w):
        """How many of the ids of each slot's cache a Writer can use."""
        return [self.engine.of_use(ids, w.ids[:-1]) for ids in self.fed]

    def end(self, w):
        """How much of a text is read before it is of use to others; states, before the last token
        of its prompt."""
        return w.n_prompt - self.engine.recurrent

    def being_read(self, coming):
        """Whether a beginning of a Writer's text is being read for another: it had better wait."""
        most = max(self.common(coming)) + KEYS
        reading = [w for slot, w in self.active.items() if len(self.fed[slot]) < self.end(w)]
        return any(
            self.engine.of_use(w.ids[: self.end(w)], coming.ids[:-1]) > most for w in reading
        )

    def take(self, w):
        """Give a Writer the free slot that holds most of its text, and what another holds of it."""
        known, places = self.common(w), range(len(self.fed))
        slot = max(set(places) - self.active.keys(), key=known.__getitem__)
        source = max(places, key=known.__getitem__)
        if known[source] > known[slot]:
            self.forward.copy(source, slot, known[source])
        self.fed[slot], self.active[slot] = w.ids[: known[source]], w

    def play(self):
        """One pass over the active Writers. -> [(Writer, Chunk)]"""
        tokens, positions, slots, ready, out = [], [], [], {}, []
        behind = lambda item: len(item[1].ids) - len(self.fed[item[0]])
        for slot, w in sorted(self.active.items(), key=behind):  # those who write first
            at = len(self.fed[slot])
            end = self.end(w) if at < self.end(w) else len(w.ids)
            part = w.ids[at : min(end, at + CHUNK - len(tokens))]
            tokens += part
            positions += range(at, at + len(part))
            slots += [slot] * len(part)
            self.fed[slot] += part
            if part and len(self.fed[slot]) == len(w.ids):
                ready[slot] = len(tokens) - 1
        logits = self.engine.play(self.forward, tokens, positions, slots, list(ready.values()))
        for slot, row in zip(ready, logits):
            w = self.active[slot]
            out.append((w, w.push(w.choose(row) if w.limit else None)))
            if w.reason is None and w.count == w.limit:
                out.append((w, w.push(None)))
            if w.reason:
                del self.active[slot]
        return out


def best_first(writers, judge):
    """Finished Writers, weighed, the best first; equals stay in their order."""
    for w in writers:
        w.weigh(judge)
    return sorted(writers, key=lambda w: -w.worth)


# -----------------------------------------------------------------------------
# twofile/scores.py
# What a model says of given texts.

class Scores:
    """Log-probabilities (natural) of texts, read in a Session; texts become ids by Prompts."""

    def __init__(self, session, prompts):
        self.session, self.prompts = session, prompts

    def score(self, ids, first=1):
        """Of ids[first:], each after all those before it -> float64 array, bool array: was it the
        likeliest of all. Raises ModelError for ids that do not fit, and logits that are no
        numbers."""
        ids, chances, greedy, session = list(ids), [], [], self.session
        self.prompts.check(ids[:-1] or ids)  # the last is never read
        with session.lock:
            session.ready(len(ids))
            for at in range(first, len(ids), WANTED_MAX):
                part = np.array(ids[at : at + WANTED_MAX])
                rows = session.step(ids, ids[: at + len(part) - 1], 0, len(part))
                if not np.isfinite(rows).all():
                    raise session.not_finite(at + int(np.isfinite(rows).all(1).argmin()))
                chances.append(np.take_along_axis(log_softmax(rows), part[:, None], 1)[:, 0])
                greedy.append(rows.argmax(1) == part)
        none = np.zeros(0), np.zeros(0, bool)
        return np.concatenate(chances or none[:1]), np.concatenate(greedy or none[1:])

    def loglikelihood(self, context, continuation):
        """See Model.loglikelihood."""
        tokenize, begin = self.prompts.tokenize, self.prompts.begin
        if isinstance(context, str):
            text = context.rstrip()
            whole = tokenize(self.prompts.short(context + continuation))
            first = len(tokenize(text))
            if not text and not first:
                whole, first = [begin(), *whole], 1
            first = min(first, len(whole) - 1) if continuation or text != context else len(whole)
        else:
            context = list(context) or [begin()]
            whole, first = context + list(continuation), len(context)
        chances, greedy = self.score(whole, first)
        return float(chances.sum()), bool(greedy.all())

    def rolling(self, text, n_ctx):
        """Of a whole text (str or ids), in windows of n_ctx; see Model.loglikelihood_rolling."""
        ids, total = [self.prompts.begin()], 0
        ids += self.prompts.tokenize(text, add_bos=False) if isinstance(text, str) else text
        for end in range(n_ctx + 1, len(ids) + n_ctx, n_ctx):
            start, first = max(0, min(end, len(ids)) - n_ctx - 1), end - n_ctx
            total += float(self.score(ids[start:end], first - start)[0].sum())
        return total

    def perplexity(self, text, n, on_window):
        """In windows of n tokens; see Model.perplexity."""
        ids, t = self.prompts.tokenize(text), self.prompts.tokenizer
        if len(ids) < 2 * n:
            found = f"perplexity: {len(ids)} tokens, expected {2 * n} or more (two windows)"
            raise ModelError(f"{found}; give more text, or -c")
        nats, n_bytes, windows = [], 0, len(ids) // n
        for i in range(windows):
            part = ids[i * n : (i + 1) * n]
            if t.flags & ADD_BOS and t.bos is not None:
                part[0] = t.bos
            nats += (-self.score(part, n // 2 + 1)[0]).tolist()
            n_bytes += sum(len(t.piece(token)) for token in part[n // 2 + 1 :])
            on_window(i + 1, windows, math.exp(np.mean(nats)))
        mean, count = np.mean(nats), len(nats)
        error = math.sqrt(max(0.0, (np.mean(np.square(nats)) - mean**2) / (count - 1)))
        return {
            "perplexity": math.exp(mean),
            "error": error * math.exp(mean),
            "tokens": count,
            "windows": windows,
            "n_ctx": n,
            "bits_per_byte": sum(nats) / math.log(2) / n_bytes,
        }


# -----------------------------------------------------------------------------
# twofile/promptcache.py
# A session on disk.

CACHE_MAGIC = b"\x89LMK\r\n\x1a\n"
# magic, version, bytes of a number, positions, model id, SHA-256 of the rest
CACHE_HEADER = struct.Struct("<8sIIQ32s32s")


def cache_head(engine, n, digest):
    """The header of a file of n positions, whose other bytes have that SHA-256."""
    width, model_id = 4 if engine.kv == "f32" else 2, bytes.fromhex(engine.file.model_id)
    return CACHE_HEADER.pack(CACHE_MAGIC, VERSION, width, n, model_id, digest)


def save_session(session, path, n=None):
    """Write what a Session holds to a file; see Model.save_cache."""
    fed, states = session.known(n)
    parts = [np.array(fed, "<u4"), *session.forward.cached(0, len(fed)), *states]
    parts = [part.tobytes() for part in parts]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    head = cache_head(session.engine, len(fed), digest.digest())
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as f:
            for part in (head, *parts):
                f.write(part)
        os.replace(temporary, path)
    except OSError as e:
        where = printable(str(path))
        raise ModelError(
            f"{where}: cannot be written ({e.strerror}); expected room for it; choose another"
        ) from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def load_session(session, path, ids):
    """Take what a file has of the beginning of ids into a Session; see Model.load_cache."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return 0
    engine, at = session.engine, CACHE_HEADER.size
    n, raw = read_session(engine, path)
    if n is None:
        return 0
    known = raw[at : at + 4 * n].view("<u4").tolist()
    same = engine.of_use(known, ids[:-1] if engine.recurrent else ids)
    room, at = padded(n, KEYS), at + 4 * n
    with session.lock:
        forward = session.ready(len(ids))
        session.forget()
        for part in forward.cached(0, same):
            heads, length, width = part.shape
            size = heads * room * width
            part[:] = raw[at : at + size].reshape(heads, room, width)[:, :length]
            at += size
        for part in forward.state(0):
            part[:] = raw[at : at + len(part)]
            at += len(part)
        session.adopt(ids[:same])
    return same


def read_session(engine, path):
    """-> positions, uint8 array of the whole file; None instead of positions, and a notice, if it
    is cut, changed or another model's. ModelError if it is no prompt cache at all."""
    where, at, max_ctx = printable(str(path)), CACHE_HEADER.size, engine.file.config.max_ctx
    most = at + 4 * max_ctx + engine.cache_bytes(max_ctx)
    raw = np.frombuffer(read_small(path, "a prompt cache", most), np.uint8)
    head = raw[:at].tobytes()
    if head[:8] != CACHE_MAGIC:
        raise ModelError(
            f"{where}: starts with {head[:8]!r}, expected a prompt cache; "
            "give another name, it would be lost"
        )
    n, found = 0, b""
    if len(head) == at:
        *_, n, _, found = CACHE_HEADER.unpack(head)
    digest = hashlib.sha256(raw[at:]).digest()
    if len(raw) != at + 4 * n + engine.cache_bytes(n) or digest != found:
        engine.notice(f"{where}: cut short or damaged; the prompt is read again")
        return None, raw
    if head != cache_head(engine, n, digest):
        engine.notice(f"{where}: of another model or type of cache; the prompt is read again")
        return None, raw
    return n, raw


# -----------------------------------------------------------------------------
# twofile/about.py
# What a model file says of itself.

def sampling_said(config):
    """The fields of Sampling that a model's makers chose, as {name: number}."""
    said = {
        "temperature": config.sample_temperature,
        "top_p": config.sample_top_p,
        "top_k": config.sample_top_k,
    }
    return {name: round(value, 6) for name, value in said.items() if value}


def about(file, n_ctx, kept, tokenizer):
    """A file of open_model as a dict of plain values. n_ctx: the context in use. kept: bytes of a
    cache of so many positions. tokenizer: its Tokenizer, or None."""
    c, t = file.config, file.tensors.values()
    matrices = [x for x in t if x.dtype in MATRIX_TYPES and len(x.shape) == 2]
    weights = [
        x for x in t if x.dtype in MATRIX_TYPES and x.name[-2:] != ".s" and x.name[:4] != "rope"
    ]
    return {
        "file": file.path,
        "bytes": file.size,
        "model_id": file.model_id,
        "architecture": printable(c.arch_tag),
        "parameters": sum(math.prod(x.shape) for x in weights),
        "type": "/".join(sorted({x.dtype for x in matrices})),
        "dim": c.dim,
        "layers": c.n_layers,
        "heads": c.n_heads,
        "kv_heads": c.n_kv_heads,
        "head_dim": c.head_dim,
        "ffn_dim": c.ffn_dim,
        "vocab_size": c.vocab_size,
        "max_ctx": c.max_ctx,
        "ctx": n_ctx,
        "memory_at_ctx": file.size + kept,
        "kv_bytes_at_ctx": kept,
        "sampling": sampling_said(c) or None,
        "tokenizer": tokenizer and tokenizer.sha256.hex(),
        "chat": tokenizer and tokenizer.chat_form(),
        "note": printable(file.note),
    }


# -----------------------------------------------------------------------------
# twofile/model.py
# What a program imports: text in, text out.

class Model:
    """A model file ready to run. Maps the file; the first forward loads or compiles the kernels.

    path: model.bin. tokenizer: a tokenizer.bin; None = the one inside the model file, or
    tokenizer.bin beside it. n_ctx: positions of the KV cache, 0 = the model's. n_threads: None =
    the cores this process may use. kv: "f16" or "f32" cache; None = f32 for f32 models, else f16.
    verbose: notices (compiling, cache) on stderr. id: the model id that the file must have, 64 hex
    digits or the first 16 or more; then every tensor is compared with its SHA-256 too.
    Raises ModelError with a message in four parts: which file, what was found, what was expected,
    what to do.
    Attributes: file (of open_model), config, name (for messages), tokenizer (or None), sampling
    (what the file says of it), n_ctx, n_threads, kv, notice, lock (held during a token).
    """

    def __init__(
        self, path, tokenizer=None, n_ctx=0, n_threads=None, kv=None, verbose=True, id=None
    ):
        self.settings = {
            "path": path,
            "tokenizer": tokenizer,
            "n_ctx": n_ctx,
            "n_threads": n_threads,
            "kv": kv,
            "verbose": verbose,
            "id": id,
        }
        self.file, self.name = open_model(path), printable(str(path))
        if id is not None:
            check_id(self.file, id)
        self.config, self.sampling = self.file.config, sampling_said(self.file.config)
        self.notice = say if verbose else lambda text: None
        self.engine = Engine(self.file, n_ctx, n_threads, kv, self.notice)
        self.n_threads, self.kv = self.engine.threads, self.engine.kv
        self.tokenizer = find_tokenizer(self.file, tokenizer)
        self.prompts, self.session = Prompts(self.engine, self.tokenizer), Session(self.engine)
        self.scores = Scores(self.session, self.prompts)
        self.fit(1)
        if self.file.size > total_memory():
            size = f"({self.file.size:,} bytes)"
            self.notice(
                f"{self.name} is larger than memory {size}: it runs at the speed of the disk"
            )

    def __getstate__(self):
        return self.settings

    def __setstate__(self, settings):
        self.__init__(**settings)

    @property
    def n_ctx(self):
        """Most positions of a text."""
        return self.engine.n_ctx

    @property
    def forward(self):
        """The Forward of one text, None before it is ready()."""
        return self.session.forward

    @property
    def fed(self):
        """The ids whose keys and values are in the cache."""
        return self.session.fed

    @property
    def lock(self):
        """Held while the cache is read or written: threads take turns, token by token."""
        return self.session.lock

    @property
    def info(self):
        """What the file says of itself, as a dict of plain values."""
        return about(self.file, self.n_ctx, self.cache_bytes(self.n_ctx), self.tokenizer)

    @property
    def ends(self):
        """The ids that end a text, a set."""
        return set(self.tokenizer.stops) if self.tokenizer else {self.config.eos}

    def ready(self, n_ctx):
        """The Forward of one text, of at least n_ctx positions; loads or compiles the kernels."""
        return self.session.ready(n_ctx)

    def cache_bytes(self, n_ctx):
        """What the cache of one text of so many positions takes, in bytes."""
        return self.engine.cache_bytes(n_ctx)

    def fit(self, places):
        """Unless a context was asked for: the model's, halved until the cache of so many texts
        takes half of memory."""
        self.engine.fit(places)

    def sampler(self, how):
        """A Sampler of this vocabulary, once a forward has run. how: Sampling."""
        n = self.tokenizer.n_vocab if self.tokenizer else self.config.vocab_size
        return Sampler(how, n, self.engine.playing.code)

    def not_finite(self, position):
        """The ModelError for logits at that position, of the pass before, that are no numbers."""
        return self.session.not_finite(position)

    # text and ids

    def need_tokenizer(self):
        """The tokenizer; ModelError if there is none."""
        return self.prompts.need_tokenizer()

    def short(self, text):
        """text, if it could fit into the context: what its length alone rules out is refused before
        it costs time or room."""
        return self.prompts.short(text)

    def tokenize(self, text, add_bos=True):
        """-> ids; with the begin token if the model has one and add_bos."""
        return self.prompts.tokenize(text, add_bos)

    def encode_chat(self, messages):
        """[{"role", "content"}] -> ids up to where the assistant begins; see
        Tokenizer.encode_chat."""
        return self.prompts.conversation(messages)

    def prompt(self, given):
        """str or ids -> ids; ModelError if they do not fit."""
        return self.prompts.prompt(given)

    def detokenize(self, ids):
        """-> str"""
        return self.need_tokenizer().decode(ids)

    # one text

    def logits(self, ids):
        """float32 [len(ids), vocab_size]: row i is the model's opinion of what follows
        ids[: i + 1]."""
        return self.session.logits(self.prompts.check(ids))

    def write(self, w, lookup=True):
        """Yield the Chunks of a Writer as they are made. lookup: guess what repeats; changes the
        speed, nothing else."""
        return self.session.write(w, lookup)

    def stream(self, prompt, max_tokens=None, lookup=True, **options):
        """Yield Chunks of the text that follows prompt; options as in Writer."""
        yield from self.write(Writer(self, prompt, max_tokens, **options), lookup)

    def generate(self, prompt, max_tokens=None, **options):
        """The text that follows prompt, as one str; options as in Writer."""
        return "".join(chunk.text for chunk in self.stream(prompt, max_tokens, **options))

    def __call__(self, prompt, max_tokens=None, echo=False, **options):
        """As generate, but -> OpenAI's completion object, a dict; with logprobs=N its legacy lists,
        for the prompt's tokens too if echo."""
        w = Writer(self, prompt, max_tokens, **options)
        for _ in self.write(w):
            pass
        text = (prompt if isinstance(prompt, str) else self.detokenize(prompt)) if echo else ""
        value = w.completion(text)
        if echo and w.logprobs is not None:
            ids, lists = w.ids[: w.n_prompt], value["choices"][0]["logprobs"]
            put_prompt_first(lists, ids, self.logits(ids), w.logprobs, self.tokenizer)
        return value

    def create_chat_completion(self, messages, max_tokens=None, **options):
        """The answer to a conversation, as OpenAI's chat completion object, a dict; options as in
        Writer."""
        return chat_completion(self(self.encode_chat(messages), max_tokens, **options))

    def save_cache(self, path, n=None):
        """Keep what layers know of what was read and written, or of its first n ids, in a file, for
        load_cache; where there are states, of as many ids as they were kept for."""
        save_session(self.session, path, n)

    def load_cache(self, path, ids):
        """Take from a file of save_cache what it has of the beginning of ids -> how many positions.
        0 if there is no such file, or it is of another model or cut or changed, which it says;
        ModelError if it is no such file at all."""
        return load_session(self.session, path, ids)

    # many texts at once

    def together(self, writers, places=8):
        """Write many texts at once, the weights read once for all: yields (Writer, Chunk) as they
        come. writers: any iterable of Writers of this model, or None for "not yet"; the next one
        takes the place of one that ends (Yu et al. 2022). Each gets the bits that it would get
        alone. A beginning that another text has in the cache is copied, and waited for while it is
        being read."""
        return write_together(self.engine, writers, places)

    def batch(self, prompts, max_tokens=None, places=8, seed=None, **options):
        """The texts that follow prompts (str or ids each), in their order, written together;
        options as in Writer. The seed of each derives from seed and its number."""
        seed = random.getrandbits(32) if seed is None else seed
        writers = [
            Writer(self, p, max_tokens, seed=line_seed(seed, n), **options)
            for n, p in enumerate(prompts)
        ]
        for _ in self.together(writers, max(1, min(places, len(writers)))):
            pass
        return [w.written for w in writers]

    def best_of(self, prompt, n, judge=None, places=8, seed=None, **options):
        """n texts that follow prompt, written together -> their finished Writers, best first, with
        .worth: what judge(text) says, or else the mean log-probability of its tokens."""
        options["logprobs"] = options.get("logprobs") or 0
        seed = random.getrandbits(32) if seed is None else seed
        writers = [
            Writer(self, prompt, seed=seed if i == 0 else line_seed(seed, i), **options)
            for i in range(n)
        ]
        for _ in self.together(writers, min(places, n)):
            pass
        return best_first(writers, judge)

    # given texts

    def score(self, ids, first=1):
        """Log-probabilities (natural) of ids[first:], each after all those before it -> float64
        array, bool array: was it the likeliest of all."""
        return self.scores.score(ids, first)

    def loglikelihood(self, context, continuation):
        """-> (log-probability of continuation after context, whether greedy sampling would write
        it). str or ids both. White space at the end of context counts to the continuation, as in
        lm-evaluation-harness."""
        return self.scores.loglikelihood(context, continuation)

    def loglikelihood_rolling(self, text):
        """Log-probability of a whole text (str or ids, of any length), each token once, in windows
        of the context, the last one full too, as in lm-evaluation-harness."""
        return self.scores.rolling(text, self.n_ctx)

    def perplexity(self, text, n_ctx=512, on_window=lambda done, windows, ppl: None):
        """As llama.cpp's llama-perplexity: windows of n_ctx tokens side by side, the second half of
        each scored -> dict of perplexity, error (its standard error), bits_per_byte, tokens
        (scored), windows, n_ctx."""
        return self.scores.perplexity(text, min(n_ctx, self.n_ctx), on_window)


# ===== the program

# -----------------------------------------------------------------------------
# twofile/front/text.py
# Text from outside, and text for a terminal.

UNSEEN = re.compile(
    "[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e0fff]"
)


def dump(value):
    """One line of JSON as bytes; what could drive a terminal is escaped, which to JSON is the same."""
    import json

    escaped = lambda m: "\\u007f" if m[0] == "\x7f" else json.dumps(m[0])[1:-1]
    return UNSEEN.sub(escaped, json.dumps(value, ensure_ascii=False)).encode() + b"\n"


TEXT_MAX = 1 << 27  # bytes of a prompt
INVISIBLE = (
    re.compile(  # tags and hidden variation selectors, zero-width characters, controls of direction
        "([\U000e0000-\U000e007f\U000e0100-\U000e01ef]|(?<=[\ufe00-\ufe0f])[\ufe00-\ufe0f])"
        "|([\u200b-\u200d\u2060-\u2064\ufeff])|([\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069])"
    )
)


def read_text(path):
    """The bytes of a file, - = stdin, without a newline at the end."""
    if path == "-":
        raw = sys.stdin.buffer.read(TEXT_MAX + 1) if sys.stdin else b""
    else:
        fd, _ = open_regular(path, "a text file")
        with os.fdopen(fd, "rb") as f:
            raw = f.read(TEXT_MAX + 1)
    if len(raw) > TEXT_MAX:
        name = "standard input" if path == "-" else printable(path)
        raise ModelError(
            f"{name}: more than {TEXT_MAX:,} bytes, expected a prompt of less; give a part of it"
        )
    return raw.removesuffix(b"\n").removesuffix(b"\r") if raw.endswith(b"\n") else raw


def as_text(raw, what):
    """bytes -> str: what is not UTF-8 becomes U+FFFD, and it says so."""
    text = raw.decode("utf-8", "replace")
    if "\ufffd" in text and text.encode() != raw:
        print(
            f"run.py: {what} is not UTF-8; bytes that are not were replaced by U+FFFD",
            file=sys.stderr,
        )
    return text


def screen(args, text):
    """text, with --clean without its invisible characters; report() tells of them."""
    if text.isascii():
        return text
    args.unseen.update(
        ("tag", "zero-width", "direction")[m.lastindex - 1] for m in INVISIBLE.finditer(text)
    )
    return INVISIBLE.sub("", text) if args.clean else text


def report(model, args, text=""):
    """Say what screen() found since the last time, and once each which marks of the template's own stand in text."""
    if args.unseen:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(args.unseen.items()))
        done = "taken out" if args.clean else "the model reads them; --clean takes them out"
        model.notice(f"{args.unseen.total()} invisible characters in the prompt ({kinds}): {done}")
        args.unseen.clear()
    marks = model.tokenizer.markers() if model.tokenizer and not args.raw else ()
    for mark in (m for m in marks if m in text and m not in args.told):
        args.told.add(mark)
        model.notice(
            f"the prompt has {printable(mark)!r}, plain text in this model's template too: it may pass for a turn"
        )


SHOWN = "\n\t\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"  # spaces of all widths


def tame(text):
    """Text for a terminal, which what a model writes must not drive."""
    return "".join(ch if ch in SHOWN else printable(ch) for ch in text)


# -----------------------------------------------------------------------------
# twofile/front/prompt.py
# The prompt, from flags, files and pipes.

def read_prompt(model, args):
    raw = (
        read_text(args.file)
        if args.file is not None
        else read_text("-")
        if args.prompt is None
        else None
    )
    if args.prompt is not None:
        raw = (raw + b"\n" if raw is not None else b"") + os.fsencode(args.prompt)
    text = screen(args, as_text(raw, "the prompt"))
    report(model, args, text)
    return text


def prompt_ids(model, args, prompt):
    """A prompt (str, or ids) -> ids: as a user's message if the model has a chat template, or else as it is."""
    if isinstance(prompt, list):
        return prompt
    tokenizer = model.need_tokenizer()
    if args.raw or not (tokenizer.chat or args.chat or args.system):
        return tokenizer.encode(model.short(prompt))
    system = [{"role": "system", "content": args.system}] if args.system else []
    return model.encode_chat([*system, {"role": "user", "content": prompt}])


# -----------------------------------------------------------------------------
# twofile/front/batch.py
# JSON lines in, JSON lines out, many texts written together.

LINE_FIELDS = {  # of a request, and of the body of one in OpenAI's form: what it must be
    **dict.fromkeys("temperature top_p min_p repeat_penalty".split(), (int, float)),
    **dict.fromkeys(
        "max_tokens max_completion_tokens n_predict top_k repeat_last_n seed logprobs".split(), int
    ),
    **{
        "prompt": (str, list),
        "messages": list,
        "stop": (str, list),
        "ignore_eos": bool,
        "id": object,
    },
    **dict.fromkeys("model user metadata".split(), object),  # which change nothing
}
LINE_MAX = 1 << 24  # bytes


def request(model, args, line, number, seed):
    """A line of JSON -> (id, Writer or ModelError, whether it is in OpenAI's form)."""
    import json

    name, openai = number, False
    try:
        if line is None:
            raise ModelError(f"expected at most {LINE_MAX:,} bytes; make the request shorter")
        value = json.loads(line)
        value = {"prompt": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            raise ModelError("expected a string or an object; write one a line")
        name = value.get("custom_id", value.get("id", number))
        openai = "body" in value
        return (
            name,
            Writer(
                model, **line_options(model, args, value["body"] if openai else value, name, seed)
            ),
            openai,
        )
    except (ValueError, RecursionError):
        error = ModelError(
            f"{line[:40].decode('utf-8', 'replace')!r} is no JSON, expected a string or an object"
        )
    except ModelError as e:
        error = e
    return name, ModelError(f"line {number}: {error}"), openai


def line_options(model, args, value, name, seed):
    """The options of Writer that a request asks for; what it leaves out is as on the command line."""
    if not isinstance(value, dict):
        raise ModelError("body: expected an object")
    for key, given in value.items():
        if key in ("n", "stream") and given in (1, False, None):
            continue
        if key not in LINE_FIELDS:
            raise ModelError(
                f"field {printable(key[:40])}: unknown, expected {', '.join(LINE_FIELDS)}"
            )
        kind = LINE_FIELDS[key]
        if kind is not object and (
            not isinstance(given, kind) or isinstance(given, bool) and kind is not bool
        ):
            raise ModelError(
                f"field {key}: {type(given).__name__}, not as expected; see the README"
            )
    if ("prompt" in value) == ("messages" in value):
        raise ModelError("expected one of prompt and messages")
    if isinstance(value.get("prompt"), list) and not all(type(i) is int for i in value["prompt"]):
        raise ModelError("field prompt: expected text, or token ids")
    if isinstance(value.get("stop"), list) and not all(isinstance(s, str) for s in value["stop"]):
        raise ModelError("field stop: expected strings")
    limits = [
        value[k] for k in ("max_tokens", "max_completion_tokens", "n_predict") if k in value
    ] or [args.n_predict]
    if limits[0] < -1 or value.get("logprobs", 0) < 0:
        raise ModelError(
            f"max_tokens is {limits[0]}, expected -1 (until the end) or more, and logprobs 0 or more"
        )
    taken = {*Sampling.__dataclass_fields__, "stop", "ignore_eos", "seed", "logprobs"}
    return {
        **{
            "stop": args.stop,
            "ignore_eos": args.ignore_eos,
            "seed": line_seed(seed, name),
            **args.how,
        },
        **{key: value[key] for key in taken & value.keys()},
        "max_tokens": None if limits[0] < 0 else limits[0],
        "prompt": asked_ids(model, args, value),
    }


def asked_ids(model, args, value):
    """The ids of a request's prompt or messages."""
    if "prompt" in value:
        asked = value["prompt"]
        return prompt_ids(model, args, screen(args, asked) if isinstance(asked, str) else asked)
    text = lambda m: isinstance(m, dict) and isinstance(m.get("content"), str)
    return model.encode_chat(
        [{**m, "content": screen(args, m["content"])} if text(m) else m for m in value["messages"]]
    )


def answer(name, found, openai):
    """What becomes of a request: found is its finished Writer, or its error -> dict."""
    failed = isinstance(found, ModelError)
    if openai:
        response = (
            None
            if failed
            else {"status_code": 200, "request_id": f"{name}", "body": found.completion()}
        )
        error = {"code": "bad_request", "message": str(found)} if failed else None
        return {"custom_id": name, "response": response, "error": error}
    if failed:
        return {"id": name, "error": str(found)}
    whole = found.completion()
    (choice,) = whole["choices"]
    kept = {key: whole[key] for key in ("stop_reason", "seed", "usage")}
    said = {"logprobs": choice["logprobs"]} if choice["logprobs"] else {}
    return {
        "id": name,
        "text": choice["text"],
        "finish_reason": choice["finish_reason"],
        **kept,
        **said,
    }


def read_lines(fd, shard, put):
    """Put (number, line) of each line that is not empty and in shard (i, n), then None; a line that is too long is None. Runs
    in a thread, so that a slow pipe stops no text; reads the descriptor itself, since a thread that waits inside sys.stdin
    breaks the end of the program."""
    number, index, parts, size = 0, 0, [], 0
    while True:
        try:
            block = os.read(fd, 1 << 16)
        except OSError as e:
            return put(
                ModelError(
                    f"--batch: cannot be read ({e.strerror}); expected lines of JSON; check the file or pipe"
                )
            )
        *lines, rest = block.split(b"\n") if block else [b"", b""]
        for line in lines:
            whole = size + len(line) <= LINE_MAX
            line, parts, size = b"".join([*parts, line]) if whole else None, [], 0
            number += 1
            if line is None or line.strip():
                if index % shard[1] == shard[0]:
                    put((number, line))
                index += 1
        size += len(rest)
        if size <= LINE_MAX:  # the rest of a longer line is not kept
            parts.append(rest)
        if not block:
            return put(None)


def open_output(path, resume):
    """-> (binary file, lines that are in it). A file is called FILE.part until it is whole; (None, 0) if it is."""
    if path is None:
        return sys.stdout.buffer, 0
    name, part = printable(path), path + ".part"
    if os.path.exists(path) and not resume:
        raise ModelError(f"{name}: exists, expected a new name; remove it first")
    if os.path.exists(path):
        return None, 0
    if os.path.exists(part) and not resume:
        raise ModelError(
            f"{name}.part: of a run that was interrupted; expected none; go on with --resume, or remove it"
        )
    try:
        f = open(part, "a+b")
    except OSError as e:
        raise ModelError(
            f"{name}.part: cannot be written ({e.strerror}); expected room there; choose another"
        ) from None
    try:
        import fcntl

        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError:
        raise ModelError(
            f"{name}.part: another run is writing it, expected none; wait, or choose another"
        ) from None
    f.seek(0)
    whole = done = 0
    for line in f:
        if line.endswith(b"\n"):
            whole, done = whole + len(line), done + 1
    f.truncate(whole)
    return f, done


def batch(model, args):
    """--batch; -> exit code: 1 if a line failed."""
    import queue

    seed = random.getrandbits(32) if args.seed is None else args.seed
    model.fit(args.parallel)
    out, skip = open_output(args.output, args.resume)
    if out is None:
        model.notice(f"{printable(args.output)}: is there already; nothing to do")
        return 0
    fd = 0 if args.batch == "-" else open_regular(args.batch, "a file of JSON lines")[0]
    lines, found, began, shown = (
        queue.Queue(32),
        {},
        time.perf_counter(),
        0.0,
    )  # found: answers that wait for their turn
    total = count_lines(fd, args.shard) if args.batch != "-" else None
    threading.Thread(target=read_lines, args=(fd, args.shard, lines.put), daemon=True).start()
    state = SimpleNamespace(asked=0, written=skip, ended=0, failed=0, prompt=0, new=0)

    def writers():
        while True:
            try:
                item = lines.get(block=state.asked == state.ended + skip)
            except queue.Empty:
                yield None  # others are being written meanwhile
                continue
            if item is None:
                return
            if isinstance(item, ModelError):
                raise item
            n, state.asked = state.asked, state.asked + 1
            if n >= skip:
                name, w, openai = request(model, args, item[1], item[0], seed)
                if isinstance(w, ModelError):
                    end(n, answer(name, w, openai))
                    state.failed += 1
                else:
                    w.turn = n, name, openai
                    yield w

    def end(n, value):
        found[n] = value
        state.ended += 1
        while state.written in found:
            out.write(dump(found.pop(state.written)))
            state.written += 1
        out.flush()

    try:
        for w, chunk in model.together(writers(), args.parallel):
            if chunk.finish_reason:
                n, name, openai = w.turn
                state.prompt, state.new = state.prompt + w.n_prompt, state.new + w.count
                end(n, answer(name, w, openai))
            now = time.perf_counter()
            if sys.stderr.isatty() and not args.quiet and now - shown > 0.5:
                shown = now
                pace = (now - began) / max(state.written - skip, 1)
                left = (
                    f", {(total - state.written) * pace:.0f} s left"
                    if total and state.ended
                    else ""
                )
                print(
                    f"\r{state.written} lines of {total or 'a pipe'}{left}   ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        if args.output:
            os.fsync(out.fileno())
            os.replace(args.output + ".part", args.output)
    except OSError as e:
        if not args.output:
            raise
        found = f"{printable(args.output)}.part: cannot be written ({e.strerror})"
        raise ModelError(
            f"{found}; expected room for the answers; free some, and go on with --resume"
        ) from None
    report(model, args)
    if not args.quiet:
        batch_stats(state, time.perf_counter() - began, seed)
    return 1 if state.failed else 0


def batch_stats(state, seconds, seed):
    rate = f"{state.new} tok {state.new / max(seconds, 1e-9):.1f} t/s"
    line = f"{state.ended} lines ({state.failed} failed) | prompt {state.prompt} tok | gen {rate} | {seconds:.2f} s"
    print(("\r" if sys.stderr.isatty() else "") + f"{line} | seed {seed}", file=sys.stderr)


def count_lines(fd, shard):
    """Lines of a shard of an open file."""
    n, block = 0, b"x"
    while block:
        block = os.read(fd, 1 << 20)
        n += block.count(b"\n")
    os.lseek(fd, 0, os.SEEK_SET)
    return -(-(n - shard[0]) // shard[1])


# -----------------------------------------------------------------------------
# twofile/front/flags.py
# The command line's flags.

def numbers(text):
    """ "128,512" -> [128, 512]"""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(
            f"{printable(text)!r}, expected whole numbers, separated by commas"
        )
    return [int(n) for n in text.split(",")]


EXAMPLES = """\
examples:
  python run.py model.bin -p "Once upon a time"
  python run.py model.bin --chat
  python run.py model.bin -f notes.txt -n 100 --temp 0
  echo "The fox said" | python run.py model.bin -q > story.txt
  python run.py model.bin -p "Is a fox red?" --choices yes no
  python run.py model.bin --batch requests.jsonl -o answers.jsonl
  python run.py model.bin --perplexity -f book.txt
  python run.py model.bin -p "A story, please" --json | jq .usage

exit codes: 0 done, 1 an error, 2 wrong usage, 130 Ctrl-C, 141 the reader of
the pipe has gone. stdout carries the text and nothing else.
"""
HABITS = {  # flags of llama2.c and llama.cpp that are something else here
    "-i": "the prompt is -p TEXT",
    "-y": "the system prompt is -sys TEXT",
    "-b": "give the model file as it is; the context is -c N",
    "--chat-template": "a template is compiled when a model is made: export.py SOURCE --chat-template FILE",
}
DASHED = "-p --prompt -r --stop -sys --system-prompt".split()  # whose values may begin with a dash


class Parser(argparse.ArgumentParser):
    def error(self, message):
        super().error(printable(message))


def make_parser():
    ap = Parser(
        prog="run.py",
        usage="run.py MODEL [options]",
        description="Write text with a language model.",
        epilog=EXAMPLES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=79),
        allow_abbrev=False,
    )
    ap.add_argument("model", nargs="?", help="a model.bin, written by export.py")
    ap.add_argument("-m", "--model", dest="model_flag", metavar="FILE", help="the same, as a flag")
    ap.add_argument(
        "-z",
        "--tokenizer",
        metavar="FILE",
        help="default: inside the model, or tokenizer.bin beside it",
    )
    ap.add_argument("--version", action="version", version=f"run.py 0.1, format {VERSION}")

    text = ap.add_argument_group("text")
    text.add_argument(
        "-p", "--prompt", metavar="TEXT", help="what to answer or continue; may begin with a dash"
    )
    text.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="read the prompt from a file, - = stdin; before -p if both",
    )
    text.add_argument(
        "-n",
        "--n-predict",
        "--max-tokens",
        type=int,
        default=-1,
        metavar="N",
        help="new tokens (default: all)",
    )
    text.add_argument(
        "-r",
        "--stop",
        action="append",
        default=[],
        metavar="STR",
        help="end before this text; repeatable",
    )
    text.add_argument("--ignore-eos", action="store_true", help="go on after the end token")
    text.add_argument("--echo", action="store_true", help="print the prompt too")
    text.add_argument(
        "--clean",
        action="store_true",
        help="take invisible characters out of prompts, and say how many",
    )
    text.add_argument("--json", action="store_true", help="one object at the end, in OpenAI's form")
    text.add_argument("--jsonl", action="store_true", help="one object a token, then that one")
    text.add_argument(
        "--logprobs",
        type=int,
        metavar="N",
        help="in JSON: log-probabilities, and the N likeliest tokens",
    )

    talk = ap.add_argument_group("conversation (of a model with a chat template)")
    talk.add_argument(
        "--chat",
        "-cnv",
        action="store_true",
        help="a conversation in the terminal; in a pipe one turn",
    )
    talk.add_argument(
        "--raw", "-no-cnv", action="store_true", help="continue the prompt itself; no template"
    )
    talk.add_argument(
        "-sys",
        "--system-prompt",
        dest="system",
        metavar="TEXT",
        help="what the model is told first",
    )
    talk.add_argument(
        "-sysf",
        "--system-prompt-file",
        dest="system_file",
        metavar="FILE",
        help="the same, from a file",
    )

    how = ap.add_argument_group("sampling")
    how.add_argument(
        "--temp",
        type=float,
        metavar="X",
        help="temperature, 0 = most likely (default the model's, or 0.8)",
    )
    how.add_argument(
        "--top-k",
        type=int,
        metavar="N",
        help="of the N likeliest, 0 = all (default the model's, or 40)",
    )
    how.add_argument(
        "--top-p",
        type=float,
        metavar="X",
        help="of the likeliest with this share (the model's, or 0.95)",
    )
    how.add_argument(
        "--min-p", type=float, metavar="X", help="at least X times the best chance (default 0.05)"
    )
    how.add_argument(
        "--repeat-penalty", type=float, metavar="X", help="against recent tokens, 1 = off (default)"
    )
    how.add_argument(
        "--repeat-last-n", type=int, metavar="N", help="how many are recent, -1 = all (default 64)"
    )
    how.add_argument(
        "-s",
        "--seed",
        type=int,
        metavar="N",
        help="same seed, same text (default: random, and reported)",
    )
    how.add_argument(
        "--best-of",
        type=int,
        metavar="N",
        help="write N texts at once, print the one the model finds likeliest",
    )
    how.add_argument(
        "--judge",
        metavar="CMD",
        help="... for which this command, given it on stdin, prints the largest number",
    )

    given = ap.add_argument_group("given texts")
    given.add_argument("--score", action="store_true", help="log-likelihood of the prompt itself")
    given.add_argument(
        "--choices",
        nargs="+",
        metavar="TEXT",
        help="print the likeliest answer to the prompt of these",
    )
    given.add_argument(
        "--perplexity",
        action="store_true",
        help="of a long prompt, as llama-perplexity's; -c sets windows",
    )

    many = ap.add_argument_group("many texts")
    many.add_argument(
        "--batch",
        metavar="FILE",
        help="JSON lines in (- = stdin), JSON lines out, many written at once",
    )
    many.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="of --batch; FILE.part until it is whole (default stdout)",
    )
    many.add_argument(
        "-np", "--parallel", type=int, default=8, metavar="N", help="at once, 1 to 16 (default 8)"
    )
    many.add_argument("--resume", action="store_true", help="go on with FILE.part")
    many.add_argument(
        "--shard", metavar="I/N", help="of N parts the I-th, from 0 (default: Slurm's array task)"
    )

    machine = ap.add_argument_group("machine")
    machine.add_argument(
        "-t", "--threads", metavar="N", help="default: the cores this process may use"
    )
    machine.add_argument(
        "-c",
        "--ctx-size",
        type=int,
        default=0,
        metavar="N",
        help="context in tokens (default: the model's)",
    )
    machine.add_argument(
        "--kv",
        choices=("f16", "f32"),
        help="type of the KV cache (default f16; f32 for f32 models)",
    )
    machine.add_argument(
        "--prompt-cache",
        metavar="FILE",
        help="keep what was computed of the prompt, and use it next time",
    )

    other = ap.add_argument_group("other")
    other.add_argument(
        "--bench", action="store_true", help="measure tokens per second; --bench -h tells more"
    )
    other.add_argument("--info", action="store_true", help="describe the model and exit")
    other.add_argument(
        "--id",
        metavar="HEX",
        help="refuse another model; 16 or more digits of what --info and export.py show",
    )
    other.add_argument(
        "--verify", action="store_true", help="check every tensor against its SHA-256 and exit"
    )
    other.add_argument(
        "--tokenize",
        action="store_true",
        help="print the prompt's tokens, an id and its text a line, and exit",
    )
    other.add_argument(
        "-q", "--quiet", action="store_true", help="nothing on stderr unless something is wrong"
    )
    other.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    return ap


def parse_args(argv):
    ap, glued = make_parser(), []
    for arg in argv:  # a value may begin with a dash, which argparse only takes behind an =
        if glued and glued[-1] in DASHED:
            glued[-1] = (
                {"-p": "--prompt", "-r": "--stop", "-sys": "--system-prompt"}.get(
                    glued[-1], glued[-1]
                )
                + "="
                + arg
            )
        elif arg in HABITS:
            ap.error(f"{arg} is {'llama.cpp' if arg[:2] == '--' else 'llama2.c'}'s; {HABITS[arg]}")
        else:
            glued.append(arg)
    args = ap.parse_args(glued)
    if args.model_flag in ("chat", "generate"):
        ap.error(
            f"-m {args.model_flag} is llama2.c's; -m is the model file, a conversation is --chat"
        )
    if (args.model is None) == (args.model_flag is None):
        ap.error("give one model file: run.py model.bin -p TEXT")
    args.model = args.model or args.model_flag
    if re.fullmatch(r"0?\.\d+|1\.0*", args.prompt or ""):
        ap.error(
            f"-p {args.prompt}: -p is the prompt, expected text; top-p is --top-p (a prompt like this can come from -f)"
        )
    if args.threads is not None and not re.fullmatch(r"\d{1,9}", args.threads):
        ap.error(
            f"-t is {printable(args.threads)}, expected a number of threads; the temperature is --temp"
        )
    args.threads = None if args.threads is None else int(args.threads)
    if args.id is not None and not MODEL_ID.fullmatch(args.id):
        ap.error(
            f"--id is {args.id[:80]!r}, expected 16 to 64 hex digits; --info prints a model's id"
        )
    args.unseen, args.told = Counter(), set()  # for report()
    check_numbers(args, ap.error)
    check_modes(args, ap.error)
    try:
        given = {
            name: getattr(args, name.replace("temperature", "temp"))
            for name in Sampling.__dataclass_fields__
        }
        args.how = {name: value for name, value in given.items() if value is not None}
        Sampling(**args.how)  # raises for a value out of range
    except ModelError as e:
        ap.error(str(e))
    return args


def check_numbers(args, error):
    for flag, value, low, means in (
        ("-n", args.n_predict, -1, "-1 (until the end), 0 (the prompt only) or more"),
        ("-c", args.ctx_size, 0, "0 (the model's) or more"),
        ("-np", args.parallel, 1, "1 to 16"),
        ("--logprobs", args.logprobs, 0, "0 or more"),
        ("--best-of", args.best_of, 1, "1 or more"),
    ):
        if value is not None and (value < low or flag == "-np" and value > WANTED_MAX):
            error(f"{flag} is {value}, expected {means}")


def check_modes(args, error):
    """One thing at a time, and flags only where they do something; where the prompt comes from."""
    modes = {
        name: getattr(args, name)
        for name in "batch chat score choices perplexity best_of info verify tokenize".split()
    }
    args.mode, *more = [name for name, value in modes.items() if value not in (None, False)] or [
        "text"
    ]
    flag = "--" + args.mode.replace("_", "-")
    if more:
        error(
            f"{flag} and --{more[0].replace('_', '-')}: expected one of them; run them one after the other"
        )
    for name, fits in (
        ("judge", ["best_of"]),
        ("output", ["batch"]),
        ("resume", ["batch"]),
        ("shard", ["batch"]),
        ("json", "text best_of score choices perplexity info".split()),
        ("jsonl", ["text"]),
        ("logprobs", "text best_of score".split()),
        ("prompt_cache", ["text"]),
        ("echo", ["text", "best_of"]),
    ):
        if getattr(args, name) not in (None, False) and args.mode not in fits:
            error(
                f"--{name.replace('_', '-')} does nothing with {flag if args.mode != 'text' else 'plain text'}; leave it out"
            )
    if args.logprobs is not None and not (args.json or args.jsonl):
        error("--logprobs needs --json or --jsonl, which have a place for them")
    if args.resume and not args.output:
        error("--resume goes on with a file; name it with -o")
    if args.raw and (args.chat or args.system or args.system_file):
        error("--raw continues text without a template; leave out --chat and the system prompt")
    if args.mode == "batch":
        args.shard = parse_shard(args.shard, error)
    terminal = sys.stdin and sys.stdin.isatty()
    no_prompt = args.prompt is None and args.file is None and terminal
    args.repl = args.chat and no_prompt and sys.stdout.isatty()
    if no_prompt and not args.repl and args.mode not in ("batch", "info", "verify"):
        error("no prompt; give -p TEXT, -f FILE, or a pipe")


def parse_shard(text, error):
    """ "1/8" -> (1, 8); None: Slurm's array, or (0, 1)."""
    if text is None:
        task, count, least = (
            os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("ID", "COUNT", "MIN")
        )
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", f"{task}/{count}"):
            return 0, 1
        text = f"{int(task) - int(least or 0)}/{count}"
    if not re.fullmatch(r"\d{1,9}/\d{1,9}", text) or not int(text.split("/")[0]) < int(
        text.split("/")[1]
    ):
        error(f"--shard is {printable(text)}, expected I/N with I from 0 to N - 1, such as 0/4")
    return tuple(map(int, text.split("/")))


# -----------------------------------------------------------------------------
# twofile/front/bench.py
# Tokens per second, as llama-bench measures them, and the machine's ceilings beside them.

def bench(argv):
    """The command line behind --bench; -> exit code."""
    ap = Parser(
        prog="run.py --bench",
        description="Tokens per second, as llama-bench measures them: random tokens, no sampling, a warm-up before.",
        allow_abbrev=False,
    )
    ap.add_argument("--bench", action="store_true", help=argparse.SUPPRESS)
    ap.add_argument("models", nargs="+", metavar="MODEL", help="one or more model.bin")
    ap.add_argument(
        "-p",
        type=numbers,
        default=[512],
        metavar="N,…",
        help="prompt lengths, 0 = none (default 512)",
    )
    ap.add_argument(
        "-n",
        type=numbers,
        default=[128],
        metavar="N,…",
        help="tokens to generate, 0 = none (default 128)",
    )
    ap.add_argument(
        "-d",
        type=numbers,
        default=[0],
        metavar="N,…",
        help="tokens in the context before (default 0)",
    )
    ap.add_argument(
        "-t",
        type=numbers,
        default=[available_cores()],
        metavar="N,…",
        help="threads (default: the cores)",
    )
    ap.add_argument("-r", type=int, default=5, metavar="N", help="repetitions (default 5)")
    ap.add_argument(
        "-o",
        choices=("md", "csv", "json", "jsonl"),
        default="md",
        help="output format (default md)",
    )
    ap.add_argument("--id", metavar="HEX", help="the model id that every MODEL must have")
    a = ap.parse_args(argv)
    if a.r < 1:
        ap.error(f"-r is {a.r}, expected 1 or more")
    rows = []
    for path in a.models:
        for threads in a.t:
            rows += bench_model(
                Model(path, n_threads=threads, id=a.id), a, lambda row: print_row(row, a.o)
            )
    if a.o == "json":
        import json

        print(json.dumps(rows, indent=2))
    return 0


def bench_model(model, a, show):
    """Every test on one model -> rows as dicts, each shown as soon as it is there."""
    c, began = model.config, time.perf_counter()
    plan = [(n, 0, d) for d in a.d for n in a.p if n] + [(0, n, d) for d in a.d for n in a.n if n]
    plan = [(min(p, c.max_ctx - d), min(n, c.max_ctx - d), d) for p, n, d in plan]
    if any(p + n < 1 for p, n, d in plan):
        raise ModelError(
            f"-d: a depth of {max(a.d)} leaves no room in a context of {c.max_ctx}; choose less"
        )
    forward = model.ready(max((p + n + d for p, n, d in plan), default=1))
    load, rows = time.perf_counter() - began - forward.code.compile_seconds, []
    ids = [random.Random(0).randrange(c.vocab_size) for _ in range(forward.n_ctx)]

    def decode(first, last, step):
        for n in range(first, last, step):
            part = ids[n : min(n + step, last)]
            forward(
                part,
                range(n, n + len(part)),
                [0] * len(part),
                [len(part) - 1] if n + step >= last or step == 1 else [],
            )

    read, tile = ceilings(forward, model.notice)
    unread = {
        "rope",
        "rope2",
        "positions",
        "positions.s",
        "ple_embed",
        "ple_embed.s",
    }  # of which a row is read
    unread |= {"embed", "embed.s"} if c.has("head") else set()
    matrices = [t for t in model.file.tensors.values() if len(t.shape) > 1 and t.name not in unread]
    part = lambda t: c.top_k / c.n_experts if ".experts_" in t.name else 1  # of a token
    head = 2 * c.vocab_size * c.dim
    ops = (
        2 * sum(math.prod(t.shape) * part(t) for t in matrices if t.name[-2:] != ".s") - head
    )  # for a token without logits
    for p, n, d in plan:
        decode(0, d, CHUNK)
        nanoseconds = []
        for _ in range(a.r + 1):
            start = time.perf_counter_ns()
            decode(d, d + p + n, CHUNK if p else 1)
            nanoseconds.append(time.perf_counter_ns() - start)
        nanoseconds = nanoseconds[1:]
        speeds = [(p + n) * 1e9 / ns for ns in nanoseconds]
        cache = model.cache_bytes(d + n // 2) if n else 0
        spread = lambda x: float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
        mean = float(np.mean(speeds))
        rows.append(
            {
                "cpu_info": cpu_name(),
                "backends": f"CPU {host_isa()[0]}",
                "model_filename": model.file.path,
                "model_type": f"{printable(c.arch_tag)} {model.info['type']}",
                "model_size": model.file.size,
                "model_n_params": model.info["parameters"],
                "n_batch": CHUNK,
                "n_threads": model.n_threads,
                "type_k": model.kv,
                "type_v": model.kv,
                "n_prompt": p,
                "n_gen": n,
                "n_depth": d,
                "test_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "avg_ns": round(np.mean(nanoseconds)),
                "stddev_ns": round(spread(nanoseconds)),
                "avg_ts": mean,
                "stddev_ts": spread(speeds),
                "samples_ns": nanoseconds,
                "samples_ts": speeds,
                "bytes_per_token": round(sum(t.nbytes * part(t) for t in matrices)) + cache
                if n
                else 0,
                "read_gbps": read / 1e9,
                "gops": mean * (ops + head / (p or 1)) / 1e9,
                "tile_gops": tile / 1e9,
                "compile_s": forward.code.compile_seconds,
                "import_s": IMPORT_SECONDS,
                "load_s": load,
                "peak_rss": peak_rss(),
            }
        )
        show(rows[-1])
    return rows


def ceilings(forward, notice):
    """-> (bytes a second that a plain reading loop gets from memory, operations a second of the matmul in cache)."""
    block = Buffer(1 << 28)
    block.raw[::4096] = 1  # pages that were never written are all the same one
    record = np.zeros(RECORD_BYTES // 8, np.int64)
    fields = [f // 8 for f in (FN, WAIT, X, ROWS, OUT)]
    code = Code(["sweep"], notice)
    record[fields] = code.address["sweep"], 1, block.address, block.nbytes, forward.logits.address
    small = next(
        row for (name, _), row in zip(forward.records, forward.program) if name.startswith("matmul")
    ).copy()
    small[ROWS // 8] = min(small[ROWS // 8], 64 * forward.threads)
    forward.pass_words[N_TOKENS // 8] = CHUNK
    times = []
    for program, work in (
        (np.stack([record]), block.nbytes),
        (np.stack([small] * 64), 128 * CHUNK * int(small[ROWS // 8] * small[COLS // 8])),
    ):
        best, spent = math.inf, 0.0
        while spent < 0.3:
            start = time.perf_counter()
            forward.run(program, program.ctypes.data)
            seconds = time.perf_counter() - start
            best, spent = min(best, seconds), spent + seconds
        times.append(work / best)
    return times


def print_row(row, form):
    """One row in that form on stdout, and its background on stderr."""
    if form == "md":
        columns = "model size params backend threads test t/s".split()
        if not getattr(print_row, "header", False):
            print(
                "| " + " | ".join(columns) + " |\n| --- | ---: | ---: | --- | ---: | --- | ---: |"
            )
        size, params = row["model_size"] / 2**20, row["model_n_params"] / 1e6
        test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        test += f" @ d{row['n_depth']}" if row["n_depth"] else ""
        speed = f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}"
        cells = [
            row["model_type"],
            f"{size:.2f} MiB",
            f"{params:.2f} M",
            row["backends"],
            row["n_threads"],
            test,
            speed,
        ]
        print("| " + " | ".join(map(str, cells)) + " |")
    elif form == "csv":
        if not getattr(print_row, "header", False):
            print(",".join(row))
        print(",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()))
    elif form == "jsonl":
        import json

        print(json.dumps(row))
    print_row.header = True
    sys.stdout.flush()
    if row["n_gen"]:
        used = row["avg_ts"] * row["bytes_per_token"] / 1e9
        work = f"{row['bytes_per_token'] / 1e6:.1f} MB a token, {used:.1f} GB/s, "
        work += f"{used / row['read_gbps']:.0%} of this machine's {row['read_gbps']:.1f}"
    else:
        work = f"{row['gops']:.0f} GOP/s, {row['gops'] / row['tile_gops']:.0%} of the tile's {row['tile_gops']:.0f}"
    times = f"import {row['import_s']:.2f} s, load {row['load_s']:.2f} s, compile {row['compile_s']:.1f} s"
    print(
        f"run.py: {work}; {times}; peak {row['peak_rss'] / 2**20:.0f} MiB; {row['cpu_info']}",
        file=sys.stderr,
    )


# -----------------------------------------------------------------------------
# twofile/front/chat.py
# A conversation in a terminal.

CHAT_HELP = """\
/help          this
/system TEXT   begin again with this system message; without TEXT: with none
/reset         begin again
/regen         another answer to your last message
/save FILE     keep the conversation as JSON
/load FILE     go on with a kept one
/stats         tokens and speed so far
/exit          leave (also Ctrl-D)
A line that ends with \\ goes on in the next. Ctrl-C stops an answer.
"""


class Chat:
    """A conversation: messages, and the commands of CHAT_HELP. say() writes to the terminal."""

    def __init__(self, model, args, say):
        self.model, self.args, self.say = model, args, say
        self.messages, self.turns, self.new, self.seconds = [], 0, 0, 0.0
        self.seed = random.getrandbits(32) if args.seed is None else args.seed
        self.begin(args.system)

    def begin(self, system):
        self.messages = [{"role": "system", "content": system}] if system else []

    def ids(self):
        """The conversation as ids, without its oldest turns if it has outgrown the context."""
        dropped, limit = 0, self.model.n_ctx
        room = (
            min(limit // 4, 256)
            if self.args.n_predict < 0
            else min(self.args.n_predict, limit // 2)
        )
        while True:
            ids = self.model.encode_chat(self.messages)
            oldest = self.messages[:1] and self.messages[0]["role"] == "system"
            if len(ids) + room <= limit or len(self.messages) - oldest < 3:
                break
            del self.messages[oldest : oldest + 2]
            dropped += 1
        if dropped:
            self.say(
                f"(the context is full: the oldest {'turn was' if dropped == 1 else f'{dropped} turns were'} forgotten)\n"
            )
        if len(ids) >= limit:
            raise ModelError(
                f"message: {len(ids)} tokens, expected less than the context of {limit}; say it shorter"
            )
        return ids

    def answer(self):
        """Write the answer to the last message. Ctrl-C keeps what is there."""
        args, w = self.args, None
        try:
            limit = None if args.n_predict < 0 else args.n_predict
            seed = line_seed(self.seed, self.turns) if self.turns else self.seed
            w = Writer(self.model, self.ids(), limit, args.stop, seed, args.ignore_eos, **args.how)
            self.turns += 1
            for chunk in self.model.write(w):
                self.say(chunk.text)
        except KeyboardInterrupt:
            self.say(" (stopped)")
        self.say("\n")
        if w and w.written:
            self.new, self.seconds = self.new + w.count, self.seconds + w.clock[2] - w.clock[1]
            self.messages.append({"role": "assistant", "content": w.written.strip()})
        else:
            self.messages.pop()

    def message(self, text):
        self.messages.append({"role": "user", "content": text})
        try:
            self.answer()
        except ModelError:
            self.messages.pop()
            raise

    def command(self, line):
        """A line that begins with a slash; -> False to leave."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit", "bye"):
            return False
        if name == "help":
            self.say(CHAT_HELP)
        elif name == "system":
            self.begin(rest)
        elif name == "reset":
            self.begin(
                self.messages[0]["content"]
                if self.messages[:1] and self.messages[0]["role"] == "system"
                else None
            )
        elif name == "regen":
            if self.messages[-1:] and self.messages[-1]["role"] == "assistant":
                self.messages.pop()
                self.answer()
            else:
                raise ModelError(
                    "/regen: there is no answer yet; expected one; say something first"
                )
        elif name == "save" and rest:
            self.save(rest)
        elif name == "load" and rest:
            self.load(rest)
        elif name == "stats":
            written = f"{self.new} written at {self.new / max(self.seconds, 1e-9):.1f} t/s"
            self.say(
                f"{len(self.model.fed)} of {self.model.n_ctx} tokens in the context, {written}, seed {self.seed}\n"
            )
        else:
            raise ModelError(
                f"/{printable(name)}: not a command, or it lacks something; expected one of /help"
            )
        return True

    def save(self, path):
        import json

        temporary = Path(f"{path}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(self.messages, indent=1), "utf-8")
            temporary.replace(path)
        except (OSError, ValueError) as e:
            with contextlib.suppress(OSError, ValueError):
                temporary.unlink()
            found = f"{printable(path)}: cannot be written ({printable(str(e))})"
            raise ModelError(f"{found}; expected a file; choose another") from None

    def load(self, path):
        import json

        try:
            messages = json.loads(read_small(path, "a kept conversation", 1 << 26))
            self.model.encode_chat(
                [*messages, {"role": "user", "content": ""}]
            )  # raises if it is none
        except (ValueError, TypeError, RecursionError):
            raise ModelError(
                f"{printable(path)}: not JSON, expected what /save wrote; give such a file"
            ) from None
        self.messages = messages


def chat(model, args):
    """--chat in a terminal; -> exit code."""
    try:
        import readline  # input() then has history and editing
    except ImportError:
        readline = None
    model.encode_chat([{"role": "user", "content": ""}])  # an error now if it cannot chat
    sys.stdin.reconfigure(errors="surrogateescape")

    def say(text):
        print(tame(text), end="", flush=True)

    talk = Chat(model, args, say)
    say(f"{os.path.basename(model.file.path)}; /help tells more, /exit leaves\n")
    going = True
    while going:
        try:
            if readline and readline.get_current_history_length() > 1000:
                readline.remove_history_item(0)
            line = input("> ")
            while line.endswith("\\"):
                line = line[:-1] + "\n" + input(". ")
            if line.startswith("/"):
                going = talk.command(line)
            elif line.strip():
                line = screen(args, as_text(os.fsencode(line), "the message"))
                report(model, args, line)
                talk.message(line)
        except KeyboardInterrupt:
            say("\n")
        except EOFError:
            say("\n")
            return 0
        except ModelError as e:
            print(f"run.py: error: {e}", file=sys.stderr)
    return 0


# -----------------------------------------------------------------------------
# twofile/front/show.py
# What is printed about a model or a given text.

def show_info(model, args):
    if args.json:
        print(dump(model.info).decode(), end="")
        return
    rows = []
    for key, value in model.info.items():
        value = value if isinstance(value, dict) else {"": value}
        rows += [(f"{key} {name}".rstrip(), part) for name, part in value.items()]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        value = (
            f"{value:,}"
            if isinstance(value, int) and value > 99999
            else "none"
            if value is None
            else printable(str(value))
        )
        print(f"{key:{width}}  {value}")


def show_tokens(model, args):
    for token in model.tokenize(read_prompt(model, args)):
        print(f"{token}\t{printable(model.tokenizer.name(token))}")


def show_score(model, args):
    """--score: the log-likelihood of the prompt, in nats."""
    text = read_prompt(model, args)
    ids = model.tokenize(model.short(text))
    if len(ids) < 2:
        raise ModelError(
            f"--score: {len(ids)} tokens, expected 2 or more (the first has nothing before it); give more text"
        )
    total, n_bytes = (
        float(model.score(ids)[0].sum()),
        sum(len(model.tokenizer.piece(i)) for i in ids[1:]),
    )
    found = {"logprob": total, "tokens": len(ids) - 1, "bytes": n_bytes}
    found["bits_per_byte"] = -total / math.log(2) / max(n_bytes, 1)
    if args.json:
        lists = model(ids, 0, echo=True, logprobs=args.logprobs or 0)["choices"][0]["logprobs"]
        sys.stdout.buffer.write(dump({**found, "logprobs": lists}))
        return
    print(f"{total:.4f}")
    if not args.quiet:
        line = (
            f"{found['tokens']} tokens, {n_bytes} bytes, {found['bits_per_byte']:.4f} bits per byte"
        )
        print(line, file=sys.stderr)


def show_choice(model, args):
    """--choices: the likeliest of them after the prompt; without a template, behind a space if no white space is there."""
    prompt = read_prompt(model, args)
    before = prompt_ids(model, args, prompt)
    plain = args.raw or not model.tokenizer.chat
    rows = []
    for choice in args.choices:
        if plain:
            gap = "" if not prompt or prompt[-1:].isspace() or choice[:1].isspace() else " "
            found = model.loglikelihood(prompt, gap + choice)[0]
        else:
            ids = model.tokenizer.encode(choice, add_bos=False)
            found = model.loglikelihood(before, ids)[0] if ids else -math.inf
        rows.append({"text": choice, "logprob": found})
    rows.sort(key=lambda row: -row["logprob"])
    if args.json:
        sys.stdout.buffer.write(dump({"choice": rows[0]["text"], "choices": rows}))
        return
    text = rows[0]["text"]
    sys.stdout.buffer.write(
        tame(text).encode() + b"\n" if sys.stdout.isatty() else os.fsencode(text) + b"\n"
    )
    if not args.quiet:
        print(
            " | ".join(f"{printable(row['text'])} {row['logprob']:.4f}" for row in rows),
            file=sys.stderr,
        )


def show_perplexity(model, args):
    began = time.perf_counter()

    def on_window(done, windows, ppl):
        if not args.quiet and sys.stderr.isatty():
            left = (time.perf_counter() - began) / done * (windows - done)
            print(
                f"\rwindow {done} of {windows}: {ppl:.4f}, {left:.0f} s left   ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    found = model.perplexity(read_prompt(model, args), args.ctx_size or 512, on_window)
    if args.json:
        sys.stdout.buffer.write(dump(found))
        return
    print(f"Final estimate: PPL = {found['perplexity']:.4f} +/- {found['error']:.5f}")
    if not args.quiet:
        where = f"{found['tokens']} tokens of {found['windows']} windows of {found['n_ctx']}"
        end = "\r" if sys.stderr.isatty() else ""
        print(
            f"{end}{found['bits_per_byte']:.4f} bits per byte, {where}, {time.perf_counter() - began:.1f} s",
            file=sys.stderr,
        )


# -----------------------------------------------------------------------------
# twofile/front/write.py
# Writing one text to stdout.

def stats(w, cached=0):
    """The line at the end, of a finished Writer."""
    began, first, last = w.clock
    rate = lambda n, s: f"{n} tok {n / max(s, 1e-9):.1f} t/s"
    known = f" ({cached} cached)" if cached else ""
    line = f"prompt {rate(w.n_prompt, first - began)}{known} | gen {rate(w.count, last - first)} | ttft {first - began:.2f} s"
    return f"{line} | stop: {w.reason} | seed {w.seed}"


def write_text(model, args):
    """Generate to stdout, each character as soon as it is whole; then the stats line on stderr."""
    prompt = read_prompt(model, args)
    ids = prompt_ids(model, args, prompt)
    if not ids:
        raise ModelError(
            "-p: the prompt is empty and the model has no begin token, expected text; give -p TEXT"
        )
    out, terminal = sys.stdout.buffer, sys.stdout.isatty()
    limit = None if args.n_predict < 0 else args.n_predict
    logprobs = 0 if args.logprobs is None and args.jsonl else args.logprobs
    options = dict(stop=args.stop, seed=args.seed, ignore_eos=args.ignore_eos, logprobs=logprobs)
    if args.mode == "best_of":
        return write_best(model, args, prompt, ids, limit, {**options, **args.how})

    def write(text):
        out.write((tame(text) if terminal else text).encode())
        out.flush()

    forward = model.ready(
        min(model.n_ctx, len(ids) + (args.n_predict if args.n_predict >= 0 else model.n_ctx))
    )
    if args.verbose:
        isa, cpu, _ = host_isa()
        cache = f"{model.kv} KV cache of {forward.n_ctx} positions, {model.cache_bytes(forward.n_ctx):,} bytes"
        model.notice(f"{isa} kernels on {cpu}, {model.n_threads} threads, {cache}")
    cached = model.load_cache(args.prompt_cache, ids) if args.prompt_cache else 0
    w = Writer(model, ids, limit, **options, **args.how)
    text = not (args.json or args.jsonl)
    if args.echo and text:
        write(prompt)
    for chunk in model.write(w):
        if text:
            write(chunk.text)
        elif args.jsonl and chunk.token is not None:
            row = {"text": chunk.text, "token": chunk.token, "logprob": chunk.logprob}
            top = [
                {"token": i, "text": model.tokenizer.name(i), "logprob": p} for i, p in chunk.top
            ]
            out.write(dump({**row, "top": top} if top else row))
            out.flush()
    if text and terminal:
        write("\n")
    elif not text:
        out.write(dump(w.completion(prompt if args.echo else "")))
    if args.prompt_cache and cached < w.n_prompt - 1:
        model.save_cache(args.prompt_cache, w.n_prompt)
    if not args.quiet:
        print(stats(w, cached), file=sys.stderr)


def write_best(model, args, prompt, ids, limit, options):
    """--best-of: the best of N texts."""
    import subprocess

    def ask(text):
        done = subprocess.run(args.judge, shell=True, input=text.encode(), stdout=subprocess.PIPE)
        try:
            return float(done.stdout)
        except ValueError:
            said = printable(done.stdout[:40].decode("utf-8", "replace"))
            raise ModelError(
                f"--judge: printed {said!r}, exit code {done.returncode}; expected a number; try it"
            ) from None

    judge = ask if args.judge else None
    places = min(args.parallel, args.best_of)
    model.fit(places)
    found = model.best_of(ids, args.best_of, judge, places, max_tokens=limit, **options)
    best, echo = found[0], prompt if args.echo else ""
    if args.json:
        rows = [
            {"text": w.written, "worth": w.worth, "stop_reason": w.reason, "seed": w.seed}
            for w in found
        ]
        sys.stdout.buffer.write(dump(best.completion(echo) | {"best_of": rows}))
    else:
        text = echo + best.written
        sys.stdout.buffer.write((tame(text) + "\n" if sys.stdout.isatty() else text).encode())
    if not args.quiet:
        worths = ", ".join(f"{w.worth:.4g}" for w in found[:8]) + (", …" if len(found) > 8 else "")
        print(f"{stats(best)} | best of {len(found)}: {worths}", file=sys.stderr)


# -----------------------------------------------------------------------------
# twofile/front/main.py
# The program: flags, modes, signals, exit codes.

def main(argv=None):
    """Run the command line; -> exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if "--bench" in argv:
            return bench(argv)
        args = parse_args(argv)
        if args.system_file is not None:
            args.system = as_text(read_text(args.system_file), "the system prompt")
        elif args.system is not None:
            args.system = as_text(os.fsencode(args.system), "the system prompt")
        args.system = args.system and screen(args, args.system)
        model = Model(
            args.model,
            args.tokenizer,
            args.ctx_size,
            args.threads,
            args.kv,
            not args.quiet,
            args.id,
        )
        if args.mode == "verify":
            verify(model.file)
            print(
                f"{printable(args.model)}: all {len(model.file.tensors)} tensors match their SHA-256"
            )
        elif args.mode == "batch":
            return batch(model, args)
        elif args.repl:
            return chat(model, args)
        else:
            modes = {
                "info": show_info,
                "tokenize": show_tokens,
                "score": show_score,
                "choices": show_choice,
            }
            {**modes, "perplexity": show_perplexity}.get(args.mode, write_text)(model, args)
        sys.stdout.flush()
    except ModelError as e:
        sys.stdout.flush()
        print(f"run.py: error: {e}", file=sys.stderr)
        return 1
    except MemoryError:
        text = "-c, -n or -f: what they ask for takes more memory than there is; expected room for it; choose less"
        print(f"run.py: error: {text}", file=sys.stderr)
        return 1
    return 0


def come_again(swallowed):
    """What Ctrl-C or SIGTERM raise while an object is being freed goes no further: the signal is sent once more, soon."""
    number = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(swallowed.exc_type)
    if number is None:
        return sys.__unraisablehook__(swallowed)
    threading.Timer(0.01, os.kill, (os.getpid(), number)).start()


def launch():
    """The program: streams, signals, then main(); never returns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.unraisablehook = come_again
    with contextlib.suppress(OSError):
        while (
            os.open(os.devnull, os.O_RDWR) < 3
        ):  # a closed stream's number would go to the next file, and be read as one
            pass
    sys.stderr = sys.stderr or open(
        os.devnull, "w"
    )  # closed by 2>&-; print would take stdout instead
    try:
        if sys.stdout is None:
            raise OSError(9, "it is closed")
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        code = main()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is near
        code = 130
        if sys.stdout.isatty():
            print()
    except OSError as e:
        code = 141 if isinstance(e, BrokenPipeError) else 1  # run.py … | head is no error
        if code == 1:
            text = f"standard output cannot be written ({e.strerror}); expected room for the text; free some"
            print(f"run.py: error: {text}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # all is said; the end of Python takes some milliseconds
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    launch()
