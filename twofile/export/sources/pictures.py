"""Models that see pictures: the model of text inside them."""

from ..families.table import FAMILIES
from ..say import say

# or hear sounds, or guess at tokens further ahead: what the names of such weights begin with
OTHER_SENSES = (
    "vision_tower.",
    "multi_modal_projector.",
    "visual.",
    "audio_tower.",
    "embed_vision.",
    "embed_audio.",
    "mtp.",
)
OTHER_SENSES += tuple("model." + name for name in OTHER_SENSES)


def text_part(j, arrays):
    """config.json and arrays of a model that sees pictures -> those of the model of text inside it;
    of any other, as they are."""
    label = (j.get("architectures") or [""])[0]
    there = [f.hub for f in FAMILIES if f.hub and f.hub.pictures]
    base = "ForConditionalGeneration", "Model"  # a model that does not write
    forms = [form for form in there if label in (form.pictures, form.pictures.replace(*base))]
    if not forms or not isinstance(j.get("text_config"), dict):
        return j, arrays
    text, form = j["text_config"], forms[0]
    if len(forms) > 1:  # the type of the inner one tells
        kind = text["model_type"]
        form = next((f for f in forms if f.short.lower() == kind), None)
    ids = {k: j[k] for k in ("eos_token_id", "bos_token_id") if k in j}
    tie = {k: j[k] for k in ("tie_word_embeddings",) if k in j}
    kept = {
        inside(name): array for name, array in arrays.items() if not name.startswith(OTHER_SENSES)
    }
    left = len(arrays) - len(kept)
    say(f"{left} tensors of pictures are left out: the model of text alone is exported")
    defaults = form.pictures_defaults if form else {}
    inner = form.label if form else None
    return {**defaults, **tie, **text, **ids, "architectures": [inner]}, kept


def inside(name):
    """A weight's name in the model of text: old files, and those of transformers 5."""
    name = name.removeprefix("language_model.")
    return name.replace("model.language_model.", "model.", 1)
