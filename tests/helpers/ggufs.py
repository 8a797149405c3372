"""GGUFs of Llama's shape with random weights, of any types."""

import numpy as np

FLOATS = {  # where the float16 of a block are: its scale, and what comes off or on in such scales
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "IQ3_S": (0,),
    "IQ2_XXS": (0,),
    "TQ2_0": (64,),
}
MIDDLE = {"Q4_1": -7.5, "Q5_1": -15.5, "Q2_K": 1.5, "Q4_K": 7.5, "Q5_K": 15.5}


def random_blocks(rng, kind, rows, cols):
    """Blocks of a gguf type of random bits, their weights about as large as those of a model; uint8 [rows, bytes]."""
    import gguf
    from gguf.quants import dequantize

    if kind.name in ("F32", "F16", "BF16"):
        x = rng.standard_normal((rows, cols), np.float32) / np.float32(cols**0.5)
        return gguf.quants.quantize(x, kind).view(np.uint8).reshape(rows, -1)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (rows * cols // block, size), np.uint8)

    def scaled(scale):
        for at, times in zip(FLOATS[kind.name], (1, MIDDLE.get(kind.name))):
            raw[:, at : at + 2] = np.array([scale * times], "<f2").view(np.uint8)

    scaled(1.0)
    scaled(1 / float(np.std(dequantize(raw[:64], kind))) / cols**0.5)
    return raw.reshape(rows, -1)


def random_llama(path, c, kinds, arch="llama", seed=0):
    """A GGUF of the sizes of a Config, without a vocabulary; kinds: name of a matrix -> of a type of gguf. -> path"""
    import gguf

    q, kv, rng = c.heads.n * c.heads.size, c.heads.kv * c.heads.size, np.random.default_rng(seed)
    w = gguf.GGUFWriter(str(path), arch)
    w.add_context_length(c.max_ctx)
    w.add_embedding_length(c.dim)
    w.add_block_count(c.n_layers)
    w.add_feed_forward_length(c.ffn.width)
    w.add_head_count(c.heads.n)
    w.add_head_count_kv(c.heads.kv)
    w.add_layer_norm_rms_eps(c.norms.eps)
    w.add_key_length(c.heads.size)
    w.add_value_length(c.heads.size)
    w.add_rope_dimension_count(c.heads.size)
    w.add_vocab_size(c.vocab_size)
    w.add_string("tokenizer.ggml.model", "no_vocab")
    if c.experts:
        w.add_expert_count(c.experts.n)
        w.add_expert_used_count(c.experts.chosen)
        w.add_expert_feed_forward_length(c.experts.width)

    def matrix(name, *shape):
        kind = gguf.GGMLQuantizationType[kinds(f"{name}.weight").upper()]
        raw = random_blocks(rng, kind, int(np.prod(shape[:-1])), shape[-1])
        w.add_tensor(f"{name}.weight", raw.reshape(*shape[:-1], -1), raw_dtype=kind)

    def ones(name):
        w.add_tensor(f"{name}.weight", np.ones(c.dim, np.float32))

    matrix("token_embd", c.vocab_size, c.dim)
    ones("output_norm")
    if c.output.own:
        matrix("output", c.vocab_size, c.dim)
    for i in range(c.n_layers):
        ones(f"blk.{i}.attn_norm")
        ones(f"blk.{i}.ffn_norm")
        matrix(f"blk.{i}.attn_q", q, c.dim)
        matrix(f"blk.{i}.attn_k", kv, c.dim)
        matrix(f"blk.{i}.attn_v", kv, c.dim)
        matrix(f"blk.{i}.attn_output", c.dim, q)
        if c.experts:
            matrix(f"blk.{i}.ffn_gate_inp", c.experts.n, c.dim)
            matrix(f"blk.{i}.ffn_gate_exps", c.experts.n, c.experts.width, c.dim)
            matrix(f"blk.{i}.ffn_up_exps", c.experts.n, c.experts.width, c.dim)
            matrix(f"blk.{i}.ffn_down_exps", c.experts.n, c.dim, c.experts.width)
        else:
            matrix(f"blk.{i}.ffn_gate", c.ffn.width, c.dim)
            matrix(f"blk.{i}.ffn_up", c.ffn.width, c.dim)
            matrix(f"blk.{i}.ffn_down", c.dim, c.ffn.width)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path
