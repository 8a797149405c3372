"""The model recorded once as a program, played for every pass."""

import bisect
import math
import struct
import weakref

import numpy as np

from .compiler.code import Code
from .errors import ModelError
from .files import padded
from .format.config import ACTIVATIONS, ATTENTION2, CONV, DELTA
from .format.types import BITS, BLOCK, GROUP
from .kernels.attention import VALUES
from .kernels.table import KERNELS
from .machine import total_memory
from .program.buffers import Buffer
from .program.passes import (
    ADD,
    BIAS,
    CHUNK,
    COLS,
    COUNT,
    FN,
    G_STEP,
    GAIN,
    KEYS,
    N_PAIRS,
    N_RECORDS,
    N_TOKENS,
    N_WANTED,
    OUT,
    OUT_STEP,
    PASS_OWN,
    POSITIONS,
    PROGRAM,
    Q_STEP,
    QC,
    QS,
    RECORD_BYTES,
    ROWS,
    SCRATCH,
    SCRATCH_STEP,
    SLOTS,
    TOKENS,
    WAIT,
    WANTED,
    WANTED_MAX,
    X_STEP,
    A,
    B,
    C,
    D,
    E,
    Q,
    S,
    W,
    X,
)
from .program.player import Workers


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
        self.code = Code([KERNELS[name] for name in sorted(names)], notice)
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
