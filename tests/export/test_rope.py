"""Tables of frequencies."""

import numpy as np
import pytest

from twofile.export.rope import rope_table
from twofile.export.sources.huggingface import hub_source


def test_rope_scaling():
    """linear divides all frequencies; llama3's as transformers computes it (values of Llama 3.2 1B)."""
    plain = rope_table(64, 500000.0)[0, 0]
    assert np.allclose(rope_table(64, 500000.0, {"type": "linear", "factor": 4.0})[0, 0], plain / 4)
    s = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    got, wavelength = rope_table(64, 500000.0, s)[0, 0], 2 * np.pi / plain
    assert np.allclose(got[wavelength < 8192 / 4], plain[wavelength < 8192 / 4])
    assert np.allclose(got[wavelength > 8192], plain[wavelength > 8192] / 32)
    between = (wavelength >= 8192 / 4) & (wavelength <= 8192)
    assert between.any() and ((got < plain) & (got > plain / 32))[between].all()


# inverse frequencies and amplitudes of heads of 16 columns, by transformers 5.24
CARD = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}  # of Qwen 2.5
FACTORS = dict(short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], long_factor=[1.0, 2, 3, 4, 5, 6, 7, 8.0])
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
PLAIN = [1.0, 0.3162278, 0.1, 0.03162278, 0.01, 0.003162278, 0.001, 0.0003162278]
SHORT = [1.0, 0.2874798, 0.08333334, 0.02432521, 0.007142857, 0.002108185, 0.000625, 0.0001860163]
LONG = [1.0, 0.1581139, 0.03333334, 0.007905695, 0.002, 0.0005270463, 0.0001428571, 3.952847e-05]
FAR = [1.0, 0.2702961, 0.07306, 0.01974783, 0.005337763, 0.001442777, 0.000389977, 0.0001054093]
CARDS = {  # what config.json says; positions; those that turn as short ones; the tables; their amplitude
    "yarn of a card": (
        dict(rope_theta=1e6, max_position_embeddings=32768, rope_scaling=CARD),
        (131072, 0),
        [[1.0, 0.1778279, 0.03162278, 0.00421756, 0.0005, 4.445699e-05, 7.905694e-06, 1.405853e-06]],
        1.138629436111989,
    ),
    "yarn of a card, saved again": (
        dict(max_position_embeddings=32768, rope_parameters={**CARD, "rope_type": "yarn", "rope_theta": 1e6}),
        (131072, 0),
        [[1.0, 0.1778279, 0.03162278, 0.00421756, 0.0005, 4.445699e-05, 7.905694e-06, 1.405853e-06]],
        1.138629436111989,
    ),
    "yarn of a card, where the long context is said too": (
        dict(rope_theta=1e6, max_position_embeddings=131072, rope_scaling=CARD),
        (131072, 0),
        [[1.0, 0.1778279, 0.03162278, 0.00421756, 0.0005, 4.445699e-05, 7.905694e-06, 1.405853e-06]],
        1.138629436111989,
    ),
    "yarn, of what it does not say": (
        dict(max_position_embeddings=4096, rope_scaling={"rope_type": "yarn", "factor": 8.0}),
        (32768, 0),
        [[1.0, 0.3162278, 0.1, 0.02470529, 0.005625, 0.001087033, 0.000125, 3.952847e-05]],
        1.2079441541679836,
    ),
    "yarn, by how much it does not say": (
        dict(max_position_embeddings=8192, rope_scaling={"type": "yarn", "original_max_position_embeddings": 1024}),
        (8192, 0),
        [[1.0, 0.3162278, 0.078125, 0.01778781, 0.0034375, 0.0003952847, 0.000125, 3.952847e-05]],
        1.2079441541679836,
    ),
    "yarn, of what it says twice": (
        dict(max_position_embeddings=512, original_max_position_embeddings=64)
        | dict(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128)),
        (512, 0),
        [[1.0, 0.2371708, 0.05, 0.007905695, 0.0025, 0.0007905695, 0.00025, 7.905695e-05]],
        1.138629436111989,
    ),
    "dynamic": (
        dict(max_position_embeddings=128, rope_scaling={"type": "dynamic", "factor": 2.0}),
        (256, 128),
        [PLAIN, FAR],
        1.0,
    ),
    "dynamic that adds nothing": (
        dict(max_position_embeddings=128, rope_scaling={"rope_type": "dynamic", "factor": 1.0}),
        (128, 0),
        [PLAIN],
        1.0,
    ),
    "llama3, of what it does not say": (
        dict(max_position_embeddings=64, rope_scaling=LLAMA3),
        (64, 0),
        [[1.0, 0.2443846, 0.01304226, 0.003952847, 0.00125, 0.0003952847, 0.000125, 3.952847e-05]],
        1.0,
    ),
    "su": (
        dict(max_position_embeddings=256, original_max_position_embeddings=64, rope_scaling={"type": "su", **FACTORS}),
        (256, 64),
        [SHORT, LONG],
        1.1547005383792517,
    ),
    "su by another name": (
        dict(max_position_embeddings=256, original_max_position_embeddings=64, rope_scaling={"type": "yarn", **FACTORS}),
        (256, 64),
        [SHORT, LONG],
        1.1547005383792517,
    ),
    "longrope of a length it does not say": (
        dict(max_position_embeddings=64, rope_scaling={"type": "longrope", "factor": 4.0, **FACTORS}),
        (256, 64),
        [SHORT, LONG],
        1.1547005383792517,
    ),
    "longrope with a factor": (
        dict(max_position_embeddings=256, original_max_position_embeddings=64)
        | dict(rope_scaling={"type": "longrope", "factor": 2.0, **FACTORS}),
        (256, 64),
        [SHORT, LONG],
        1.0801234497346435,
    ),
    "linear, as Vicuna of 16k has it": (
        dict(max_position_embeddings=64, max_sequence_length=256, rope_scaling={"type": "linear", "factor": 4.0}),
        (256, 0),
        [[x / 4 for x in PLAIN]],
        1.0,
    ),
    "default": (dict(max_position_embeddings=128, rope_scaling={"type": "default"}), (128, 0), [PLAIN], 1.0),
    "null": (dict(max_position_embeddings=128, rope_scaling=None, partial_rotary_factor=0.5), (128, 0), [PLAIN], 1.0),
    "of pictures, in a text": (
        dict(max_position_embeddings=128, rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]}),
        (128, 0),
        [PLAIN],
        1.0,
    ),
}


def llama(**config):
    """A Llama of one layer, four heads of 16 columns -> its Source."""
    sizes = dict(hidden_size=64, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4, vocab_size=8)
    arrays = {"model.embed_tokens.weight": (8, 64), "lm_head.weight": (8, 64), "model.norm.weight": (64,)}
    at = "model.layers.0."
    arrays |= {f"{at}self_attn.{x}_proj.weight": (64, 64) for x in "qkvo"}
    arrays |= {f"{at}mlp.{x}_proj.weight": (8, 64) for x in ("gate", "up")} | {f"{at}mlp.down_proj.weight": (64, 8)}
    arrays |= {f"{at}{x}_layernorm.weight": (64,) for x in ("input", "post_attention")}
    j = dict(architectures=["LlamaForCausalLM"], rope_theta=1e4, **sizes)
    return hub_source({**j, **config}, {name: np.ones(shape, np.float32) for name, shape in arrays.items()})


@pytest.mark.parametrize("name", CARDS)
def test_what_cards_tell_people_to_add(name, capsys):
    """The angles of transformers, and the context that they are for."""
    config, (max_ctx, long), tables, amplitude = CARDS[name]
    source = llama(**config)
    assert (source.config.max_ctx, source.config.rope.long) == (max_ctx, long)
    assert source.rope.shape == (len(tables), 2, 8)
    assert np.allclose(source.rope[:, 0], tables, rtol=2e-6) and np.allclose(source.rope[:, 1], amplitude, rtol=1e-6)
    assert ("turns as trained" in capsys.readouterr().err) == (len(tables) == 2 and "dynamic" in name)


def test_dynamic_is_the_formula_at_the_longest_context():
    """Its twin in float64: the base that transformers takes for a text of the longest length."""
    table = rope_table(
        16, 1e4, {"rope_type": "dynamic", "factor": 6.0, "original_max_position_embeddings": 32768}, None, 196608
    )
    base = 1e4 * (6.0 * 196608 / 32768 - 5) ** (16 / 14)
    assert np.allclose(table[1, 0], [base ** (-i / 8) for i in range(8)], rtol=1e-7)
    assert np.array_equal(table[0], rope_table(16, 1e4)[0])
