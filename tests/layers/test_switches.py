"""Every kind of layer and every switch against the slow twins, and the same bits in any pieces."""

import numpy as np
import pytest

from helpers.logits import SILENT, closeness, passes, some_ids
from helpers.models import make_model, mend
from helpers.switches import SWITCHES
from twins.forward import slow_logits
from twins.weights import read_tensors
from twofile.format.config import Config, unpack_config
from twofile.forward import Forward
from twofile.model import Model
from twofile.modelfile import open_model


@pytest.mark.parametrize("dtype", ["f32", "q8_0"])
@pytest.mark.parametrize("name", SWITCHES)
def test_switches_equal_the_twin_and_give_the_same_bits(name, dtype, tmp_path):
    path, found = make_model(tmp_path / "m.bin", dtype, **SWITCHES[name]), {}
    config, ids = open_model(path).config, some_ids(90)
    want = slow_logits(config, read_tensors(path), np.array(ids), int8=dtype == "q8_0")
    for threads, chunk in ((1, 1), (1, 64), (2, 64), (3, 7)):
        forward = Forward(open_model(path), 200, 1, "f32", threads, SILENT)
        found[threads, chunk] = passes(forward, ids, chunk)
        forward.close()
    errors = np.abs(found[1, 1] - want).max(1) / want.std()
    if dtype == "f32":
        assert errors.max() <= 1e-4 and closeness(found[1, 1], want)[0] <= 1e-5
    else:  # where float32 and float64 fall to the two sides of a half, an activation differs by one of 127
        assert (errors <= 1e-4).mean() >= 0.9 and errors.max() <= 0.1, errors
    assert len({x.tobytes() for x in found.values()}) == 1


@pytest.mark.parametrize(
    "sizes",
    [
        {"head_dim": 64, "n_heads": 4, "n_kv_heads": 1},
        {"head_dim": 80, "n_heads": 2, "n_kv_heads": 2},
        {"head_dim": 2, "n_heads": 3, "n_kv_heads": 3},
        {"dim": 1, "ffn_dim": 1, "vocab_size": 4, "n_layers": 1},
    ],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_other_shapes_and_scales(tmp_path, sizes, scaled):
    """Wide heads, one kv head, the smallest of everything; tied, without biases; with the multipliers of some families."""
    path = make_model(tmp_path / "s.bin", "f32", bias=False, head=False, **sizes)
    if scaled:
        raw = bytearray(path.read_bytes())
        c = Config(**unpack_config(bytes(raw[0x60 : 0x60 + 512])))
        c = c.changed(embed_scale=3.0, resid_scale=0.5, logit_scale=0.25, attn_scale=0.3)
        raw[0x60 : 0x60 + 512] = c.pack()
        path.write_bytes(mend(raw))
    m = Model(path, verbose=False)
    ids = some_ids(70, m.config.vocab_size)
    rms, largest = closeness(m.logits(ids), slow_logits(m.config, read_tensors(path), np.array(ids)))
    assert rms <= 1e-5 and largest <= 1e-4
