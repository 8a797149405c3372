"""Meta's folders: params.json and consolidated parts."""

from ...errors import ModelError, printable
from ..arrays import Columns, Rows, of_numbers
from ..damage import reading, theirs
from ..rope import rope_table
from ..settings import read_json
from .llama2c import llama2c
from .weights import PICKLED, load_weights

STRETCHED = dict(
    rope_type="llama3",
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)


def read_meta(path, allow_pickle):
    """Meta's own files: params.json and consolidated.*.pth, which hold a slice of every matrix
    each -> Source."""
    p, files = read_json(path / "params.json"), sorted(path.glob("consolidated.*.pth"))
    if not files:
        found = f"{printable(str(path))}: no consolidated.*.pth beside params.json"
        raise ModelError(f"{found}; finish the download")
    if not allow_pickle:
        raise ModelError(f"{printable(str(path))}: {files[0].name}, {PICKLED}")
    shards = [load_weights(f) for f in files]
    if any(set(shard) != set(shards[0]) for shard in shards):
        found = f"{printable(str(path))}: shards with other names"
        raise ModelError(f"{found}; expected one model; download it again")
    with theirs("params.json: ", "; expected the sizes of a Llama; is it complete?"):
        dim, heads = int(p["dim"]), int(p["n_heads"])
        arrays = joined(shards, dim)
        theta, eps = float(p.get("rope_theta", 10000.0)), float(p.get("norm_eps", 1e-5))
        kv = int(p.get("n_kv_heads") or heads)
        ffn = arrays["layers.0.feed_forward.w1.weight"].shape[0]
        vocab = arrays["tok_embeddings.weight"].shape[0]
        shape = (dim, ffn, int(p["n_layers"]), heads, kv, vocab)
    stretched = bool(p.get("use_scaled_rope"))
    usual = 131072 if stretched else 8192 if theta > 1e5 else 4096
    with reading():
        max_ctx = int(p.get("max_seq_len") or usual)
    tied = "output.weight" not in arrays
    source = llama2c("Meta's checkpoint", arrays, shape, tied, max_ctx, theta, eps)
    source.folder = path
    if stretched:  # 3.2's two sizes, and 3.1's; params.json does not say
        factor = 32.0 if dim in (2048, 3072) else 8.0
        source.rope = rope_table(dim // heads, theta, {**STRETCHED, "factor": factor})
    if vocab == 128256:
        source.config = source.config.changed(bos=128000, eos=128001)
    return source


def joined(shards, dim):
    """{name: array} of all shards together. Some matrices are cut by columns, others by rows."""
    arrays = {}
    for name, array in shards[0].items():
        parts = [shard[name] for shard in shards]
        across = name.endswith(("wo.weight", "w2.weight")) or (
            "embeddings" in name and array.shape[1] * len(parts) == dim
        )
        if array.ndim < 2 or len(parts) == 1 or not of_numbers(array):
            arrays[name] = array
        else:
            arrays[name] = Columns(parts) if across else Rows(*parts)
    return {name: array for name, array in arrays.items() if not name.endswith("rope.freqs")}
