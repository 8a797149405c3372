"""The arrays of a family become our tensors."""

import numpy as np

from ...errors import ModelError, printable
from ...format.fields import ATTENTION, ATTENTION2
from ..arrays import Mx, Rows, to_float32
from ..oldconfig import CONV, FLAGS


def head_order(dim, rotated, interleaved):
    """Which column of a head stands at each place of ours, where pair j is (j, j + dim / 2) and the rotated pairs are first."""
    half, turn = dim // 2, rotated // 2
    pairs = (
        (np.arange(0, rotated, 2), np.arange(1, rotated, 2))
        if interleaved
        else (np.arange(turn), np.arange(turn, rotated))
    )
    rest = np.arange(rotated, dim)
    return np.concatenate((pairs[0], rest[: half - turn], pairs[1], rest[half - turn :]))


class Family:
    """The arrays of a model under its source's names, and how they become run.py's tensors. settings: as in FAMILIES."""

    def __init__(self, label, arrays, names, settings=None):
        self.label, self.arrays, self.names = label, arrays, names
        get = {"norm": "rms", "shift": 0, "skip": (), **(settings or {})}.get
        self.settings, self.layered, self.shift = get, get("norm") == "layer", get("shift")
        self.skip = (*get("skip"), "rotary_emb.inv_freq")
        # the first layer of attention; whether the second kind's values are its keys
        self.first, self.k_is_v = 0, False

    def look(self, kinds):
        """Learn which layer shows what layers of attention have, and whether the second kind's values are its keys."""
        self.first = next((i for i, kind in enumerate(kinds) if kind in (ATTENTION, ATTENTION2)), 0)
        second = kinds.find(ATTENTION2)
        self.k_is_v = second >= 0 and self.names["wv"].format(second) not in self.arrays

    def has(self, key, bias=False):
        """Whether the first layer of attention has this tensor."""
        name = (self.names.get(key) or "").format(self.first, 0)
        return (
            bool(name) and (name.removesuffix("weight") + "bias" if bias else name) in self.arrays
        )

    def take(self, key, shape, layer=0, bias=False, expert=0):
        name = (self.names.get(key) or key).format(layer, expert)
        name = name.removesuffix("weight") + "bias" if bias else name
        if name not in self.arrays:
            raise ModelError(f"tensor {name} is missing; expected {shape}; is the source complete?")
        turned = (
            self.settings("turned")
            and len(shape) == 2
            and key not in ("embed", "positions", "head")
        )
        array = self.arrays[name].T if turned else self.arrays[name]
        if tuple(array.shape) != shape:
            raise ModelError(
                f"tensor {name} is {array.shape}, expected {shape}; do config and weights belong together?"
            )
        self.left.discard(name)
        return array

    def qkv(self, layer, bias=False):
        """Parts of q, k and v, and of the gate if there is one: (array, order of its rows)."""
        c, (kv_heads, hd) = self.config, self.config.heads(layer)
        tail, q, kv = () if bias else (c.dim,), c.n_heads * hd, kv_heads * hd
        if self.names.get("wqkv"):
            array, rows = self.take("wqkv", (q + 2 * kv, *tail), layer, bias), np.arange(q + 2 * kv)
            # each kv head's queries, then its key and its value
            groups = rows.reshape(kv_heads, -1, hd)
            parts = (
                (groups[:, :-2], groups[:, -2], groups[:, -1])
                if self.settings("grouped")
                else np.split(rows, [q, q + kv])
            )
            parts = [(array, part.reshape(-1)) for part in parts]
        elif c.has("attn_gate"):  # each head's queries, then its gate
            parts = [
                (self.take(w, (n, *tail), layer), np.arange(n))
                for w, n in (("wq", 2 * q), ("wk", kv), ("wv", kv))
            ]
            array, rows = parts[0][0], parts[0][1].reshape(c.n_heads, 2, hd)
            parts = [(array, rows[:, 0].reshape(-1)), *parts[1:], (array, rows[:, 1].reshape(-1))]
        else:
            value = "wk" if self.k_is_v and c.kind(layer) == ATTENTION2 else "wv"
            there = (("wq", q), ("wk", kv), (value, kv))[: 3 if c.kv_layer(layer) == layer else 1]
            parts = [(self.take(w, (n, *tail), layer, bias), np.arange(n)) for w, n in there]
        return [(array, self.turned(rows, hd)) for array, rows in parts[:2]] + parts[2:]

    def turned(self, rows, head_dim):
        """Rows of heads in our order of a head's columns."""
        return rows.reshape(-1, head_dim)[:, self.orders[head_dim]].reshape(-1)

    def gate_up(self, layer, bias=False):
        c, tail = self.config, () if bias else (self.config.dim,)
        ffn = c.shared_ffn or c.ffn(layer)
        if self.names.get("w13"):
            return [self.take("w13", (2 * ffn, *tail), layer, bias)]
        return [
            self.take(w, (ffn, *tail), layer, bias)
            for w in ("w1", "w3")
            if w == "w3" or not c.has("ungated")
        ]

    def norm(self, out, key, layer=0, to=None):
        """A norm's weight, and its bias if it has one, into out."""
        to, c = to or f"l{layer}.{key}", self.config
        if self.settings("ones"):
            out[to + ".w"] = np.ones(c.dim, np.float32)
            return
        out[to + ".w"] = to_float32(np.asarray(self.take(key, (c.dim,), layer))) + bool(
            self.settings("plus_one")
        )
        if c.has("norm_bias"):
            out[to + ".b"] = self.take(key, (c.dim,), layer, True)

    def head_norms(self, layer):
        """float32 [columns of q and k]: the weight of each."""
        c, (kv, head_dim), parts = self.config, self.config.heads(layer), []
        for key, heads in (("qn", c.n_heads), ("kn", kv))[: 2 if c.kv_layer(layer) == layer else 1]:
            n = heads * head_dim
            if self.settings("qk_ones"):
                parts.append(np.ones(n, np.float32))
                continue
            w = to_float32(np.asarray(self.take(key, (n if c.qk_norm == 2 else head_dim,), layer)))
            parts.append(
                np.resize(w, n)[self.turned(np.arange(n), head_dim)]
                + bool(self.settings("plus_one"))
            )
        return np.concatenate(parts)

    def tensors(self, config, rotated):
        """-> {run.py's name: Rows or vector}; refuses what is missing, left over or of another shape."""
        c = self.config = config
        self.left = {name for name in self.arrays if not name.endswith(self.skip)}
        for i in range(c.n_layers - c.kv_shared, c.n_layers):
            # some files have what these layers do not use
            self.left -= {(self.names.get(key) or "").format(i) for key in ("wk", "wv", "kn")}
        self.orders = {c.head_dim2: np.arange(c.head_dim2)}
        self.orders[c.head_dim] = head_order(
            c.head_dim, rotated, bool(self.settings("interleaved"))
        )
        out = {"embed": Rows(self.take("embed", (c.vocab_size, c.dim)))}
        if c.has("positions"):
            out["positions"] = Rows(
                self.take("positions", (c.max_ctx + self.shift, c.dim))[self.shift :]
            )
        if c.has("embed_norm"):
            self.norm(out, "embed_norm", to="embed_norm")
        if c.ple_dim:
            wide = c.n_layers * c.ple_dim
            out["ple_embed"] = Rows(self.take("ple_embed", (c.vocab_size, wide)))
            out["ple_proj"] = Rows(self.take("ple_proj", (wide, c.dim)))
            out["ple_norm.w"] = self.take("ple_norm", (c.ple_dim,))
        for i in range(c.n_layers):
            self.layer(out, i)
        self.norm(out, "out_norm", to="out_norm")
        if c.has("head"):
            out["head"] = Rows(self.take("head", (c.vocab_size, c.dim)))
        if c.has("head_bias"):
            out["head.b"] = self.take("head", (c.vocab_size,), bias=True)
        if self.left:
            some = ", ".join(printable(name)[:60] for name in sorted(self.left)[:3])
            text = f"{len(self.left)} tensors were not used: {some}; expected a plain {self.label}; is it another architecture?"
            raise ModelError(text)
        return out

    def layer(self, out, i):
        c = self.config
        for key, there in (("an", not c.has("no_pre_norm")), ("an2", c.has("post_norm"))):
            for name in (key, key.replace("a", "f")) if there else ():
                self.norm(out, name, i)
        if c.attends(i):
            out[f"l{i}.qkv"] = Rows(*self.qkv(i))
            if c.qk_norm:
                out[f"l{i}.qk.w"] = self.head_norms(i)
            out[f"l{i}.o"] = Rows(self.take("wo", (c.dim, c.mixed(i)[2]), i))
        else:
            self.convolution(out, i)
        if c.n_experts:
            self.experts(out, i)
        if c.shared_ffn or not c.n_experts:
            out[f"l{i}.gate_up"] = Rows(*self.gate_up(i))
            out[f"l{i}.down"] = Rows(self.take("w2", (c.dim, c.shared_ffn or c.ffn(i)), i))
        if c.ple_dim:
            out[f"l{i}.ple_gate"] = Rows(self.take("ple_gate", (c.ple_dim, c.dim), i))
            out[f"l{i}.ple_up"] = Rows(self.take("ple_up", (c.dim, c.ple_dim), i))
            self.norm(out, "pn", i)
        if c.has("layer_scale"):
            out[f"l{i}.scale"] = self.take("scale", (1,), i)
        whole = lambda parts: Rows(*parts).read(0, Rows(*parts).shape[0])
        if c.has("qkv_bias"):
            out[f"l{i}.qkv.b"] = whole(self.qkv(i, True))
        if c.has("o_bias"):
            out[f"l{i}.o.b"] = self.take("wo", (c.dim,), i, True)
        if c.has("gate_up_bias"):
            out[f"l{i}.gate_up.b"] = whole(self.gate_up(i, True))
        if c.has("down_bias"):
            out[f"l{i}.down.b"] = self.take("w2", (c.dim,), i, True)

    def convolution(self, out, i):
        """A layer that convolves: between two gates, or before the gated delta rule."""
        c, (convolved, rows, wide) = self.config, self.config.mixed(i)
        whole = lambda key, shape: to_float32(self.take(key, shape, i))
        taps = (convolved, c.conv_len) if self.settings("flat") else (convolved, 1, c.conv_len)
        out[f"l{i}.conv"] = np.ascontiguousarray(
            whole("conv", taps).reshape(convolved, -1).T
        ).reshape(-1)
        out[f"l{i}.o"] = Rows(self.take("out", (c.dim, wide), i))
        if c.kind(i) == CONV:
            out[f"l{i}.qkv"] = Rows(self.take("mix", (rows, c.dim), i))
            return
        heads, pairs = c.delta_v_heads, c.delta_k_heads
        if self.names.get("qkvz"):  # each key head's query, key, values and gates
            order, cuts = (
                np.arange(rows).reshape(pairs, -1),
                np.cumsum([c.delta_k_dim, c.delta_k_dim, wide // pairs]),
            )
            array = self.take("qkvz", (rows, c.dim), i)
            out[f"l{i}.qkv"] = Rows(
                *((array, part.reshape(-1)) for part in np.split(order, cuts, axis=1))
            )
        else:
            out[f"l{i}.qkv"] = Rows(
                self.take("mix", (convolved, c.dim), i), self.take("z", (wide, c.dim), i)
            )
        if self.names.get("ba"):
            order, array = (
                np.arange(2 * heads).reshape(pairs, 2, -1),
                self.take("ba", (2 * heads, c.dim), i),
            )
            out[f"l{i}.ab"] = Rows(*((array, order[:, part].reshape(-1)) for part in (0, 1)))
        else:
            out[f"l{i}.ab"] = Rows(
                self.take("b", (heads, c.dim), i), self.take("a", (heads, c.dim), i)
            )
        rates = whole("rates", (heads,))
        rates = rates if self.settings("flat") else -np.exp(rates)
        out[f"l{i}.decay"] = np.concatenate((rates, whole("dt", (heads,))))
        out[f"l{i}.dn.w"] = whole("dn", (c.delta_v_dim,))

    def experts(self, out, i):
        """The router, and the matrices of all experts one after the other: stored each by itself, or in one of three dims."""
        c, n, ffn = self.config, self.config.n_experts, self.config.expert_ffn
        out[f"l{i}.router"] = Rows(self.take("router", (n, c.dim), i))
        if self.label == "GptOss":
            self.gpt_oss(out, i)
        elif self.names.get("e13") and (
            not self.names.get("e1") or self.names["e13"].format(i) in self.arrays
        ):
            down = self.take("e2s" if self.names.get("e2s") else "e2", (n, c.dim, ffn), i)
            up = self.take("e13", (n, 2 * ffn, c.dim), i)
            out[f"l{i}.experts_up"], out[f"l{i}.experts_down"] = (
                Rows(up.reshape(-1, c.dim)),
                Rows(down.reshape(-1, ffn)),
            )
        else:
            each = lambda e: (self.take(w, (ffn, c.dim), i, expert=e) for w in ("e1", "e3"))
            out[f"l{i}.experts_up"] = Rows(*(part for e in range(n) for part in each(e)))
            out[f"l{i}.experts_down"] = Rows(
                *(self.take("e2", (c.dim, ffn), i, expert=e) for e in range(n))
            )
            if c.has("expert_bias"):
                up = [
                    to_float32(np.asarray(self.expert_bias(w, (n, ffn), i))) for w in ("e1", "e3")
                ]
                out[f"l{i}.experts_up.b"] = np.concatenate(up, axis=1).reshape(-1)
                out[f"l{i}.experts_down.b"] = to_float32(
                    np.asarray(self.expert_bias("e2", (n, c.dim), i))
                ).reshape(-1)
                out[f"l{i}.router.b"] = self.take("router", (n,), i, True)
        if c.has("sinks") and self.names.get("sinks"):
            out[f"l{i}.sinks"] = self.take("sinks", (c.n_heads,), i)
        if c.has("shared_gate"):
            out[f"l{i}.shared_gate"] = Rows(self.take("shared_gate", (1, c.dim), i))

    def expert_bias(self, key, shape, i):
        """Of all experts in one, beside matrices that gguf_arrays took apart."""
        return self.take(self.names[key].replace("{}.weight", "bias").format(i), shape)

    def gpt_oss(self, out, i):
        """Experts with biases, gate and up in alternate rows, stored [expert, columns, rows], or as MXFP4 [expert, rows, …]."""
        c, n, ffn, at = (
            self.config,
            self.config.n_experts,
            self.config.expert_ffn,
            f"model.layers.{i}.",
        )
        turn = np.concatenate((np.arange(0, 2 * ffn, 2), np.arange(1, 2 * ffn, 2)))
        for ours, theirs, rows, order in (
            ("up", "gate_up", 2 * ffn, turn),
            ("down", "down", c.dim, np.arange(c.dim)),
        ):
            name, cols = f"{at}mlp.experts.{theirs}_proj", c.dim if ours == "up" else ffn
            if name + "_blocks" in self.arrays:
                values = self.take(name + "_blocks", (n, rows, cols // 32, 16))
                each = list(map(Mx, values, self.take(name + "_scales", (n, rows, cols // 32))))
            else:
                each = [array.T for array in self.take(name, (n, cols, rows))]
            out[f"l{i}.experts_{ours}"] = Rows(*((array, order) for array in each))
            bias = to_float32(np.asarray(self.take(name + "_bias", (n, rows))))
            out[f"l{i}.experts_{ours}.b"] = np.ascontiguousarray(bias[:, order]).reshape(-1)
        out[f"l{i}.router.b"] = self.take("router", (n,), i, True)
        out[f"l{i}.sinks"] = self.take(at + "self_attn.sinks", (c.n_heads,))

    def flags(self, tied):
        on = {
            "head": not tied,
            "qkv_bias": self.has("wqkv" if self.names.get("wqkv") else "wq", True),
            "o_bias": self.has("wo", True),
            "gate_up_bias": self.has("w13" if self.names.get("w13") else "w3", True),
            "down_bias": self.has("w2", True),
            "head_bias": not tied and self.has("head", True),
            "norm_bias": not self.settings("ones") and self.has("out_norm", True),
            "ungated": not any(self.names.get(key) for key in ("w1", "w13", "router")),
            "shared_gate": self.has("shared_gate"),
            "expert_bias": self.has("router", True),
            "sinks": self.label == "GptOss" or self.has("sinks"),
            "post_norm": self.has("an2"),
            "no_pre_norm": not self.names.get("an"),
            "positions": self.has("positions"),
            "embed_norm": bool(self.settings("embed_norm")),
            "attn_gate": bool(self.settings("gated")),
            "v_norm": bool(self.settings("v_norm")),
            "layer_scale": self.has("scale"),
            "delta_turns": bool(self.settings("in_turns")),
        }
        return sum(FLAGS[name] for name, there in on.items() if there)

    def qk_norm(self, head_dim):
        if not self.has("qn"):
            return int(bool(self.settings("qk_ones")))
        return 1 if self.arrays[self.names["qn"].format(self.first)].shape == (head_dim,) else 2
