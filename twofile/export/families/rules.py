"""How families read config.json and a GGUF's metadata: what they share."""

from ...errors import ModelError, printable
from ...format.fields import ATTENTION, CONVOLUTION, DELTA, MANY_KINDS

NEEDED = object()


def first_of(j, *keys, otherwise=None):
    """The first of these keys that is there and not null. Raises KeyError if none is and there is
    nothing to take otherwise."""
    found = next((j[k] for k in keys if j.get(k) is not None), otherwise)
    if found is NEEDED:
        raise KeyError(keys[0])
    return found


def as_it_is(j):
    return j


def nothing(j):
    return {}


def biased(qkv=False, o=False, mlp=False, norm=False, head=False):
    """-> what gives the parts of a model that have biases. Each is said by a key of config.json,
    or always so."""
    parts = dict(qkv=qkv, o=o, mlp=mlp, norm=norm, head=head)

    def those(j):
        return {part for part, key in parts.items() if key is True or (key and j.get(key))}

    return those


# which layers see a window only: rule(settings, layer)


def never(j, layer):
    return False


def but_every_fourth(j, layer):
    return bool(layer % 4)


def every(j, layer):
    return True


def every_second(j, layer):
    return layer % 2 == 0


def three_of_four(j, layer):
    return bool((layer + 1) % 4)


def five_of_six(j, layer):
    return bool((layer + 1) % j.get("sliding_window_pattern", 6))


def beyond_some(j, layer):
    return bool(j.get("use_sliding_window")) and layer >= j.get("max_window_layers", 0)


def slides(j, layer, otherwise):
    """Whether a layer sees a window only: as layer_types says, or by the family's rule."""
    kinds = j.get("layer_types") if otherwise is not never else None
    return kinds[layer] == "sliding_attention" if kinds else otherwise(j, layer)


def window_size(size):
    if not 0 <= int(size) < 1 << 31:
        raise ModelError(
            f"a sliding window of {size}, expected 0 to 2^31 - 1; is the configuration damaged?"
        )
    return int(size)


def tempered(beta, length):
    """Queries grow with the logarithm of their position, as Llama 4's."""
    return dict(temp_beta=float(beta), temp_len=float(length)) if beta else {}


def layer_kinds(full=ATTENTION, rule=lambda j, i: "full_attention"):
    """-> what gives the kind of each layer, as layer_types says, or by the family's rule."""
    known = {
        "full_attention": full,
        "sliding_attention": ATTENTION,
        "conv": CONVOLUTION,
        "linear_attention": DELTA,
    }

    def kinds(j, n):
        said = j.get("layer_types") or [rule(j, i) for i in range(n)]
        if len(said) != n or n > MANY_KINDS or set(said) - set(known):
            odd = sorted({printable(str(kind)) for kind in said} - set(known))
            found = ", ".join(odd) or f"{len(said)} of {n}"
            wants = f"{', '.join(known)} for each of at most {MANY_KINDS} layers"
            raise ModelError(f"config.json: layer_types: {found}; expected {wants}")
        return bytes(known[kind] for kind in said)

    return kinds
