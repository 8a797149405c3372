"""The names of a folder's tensors, whoever saved them."""

import re

from ...errors import ModelError, printable

# parts of a name that programs put around a part of a model, and before all of it
AROUND = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
BEFORE = ("module.", "base_model.model.")
MERGE = "merge it (merge_and_unload of peft) and save the model again"
ADAPTED = re.compile(r"\.(lora_[A-Za-z_]+|base_layer|modules_to_save)(\.|$)")


def unwrapped(arrays):
    """{name: array} without what torch.compile, FSDP, DDP and peft put into names. ModelError if an
    adapter is among them that no one has merged."""
    adapted = [name for name in arrays if ADAPTED.search(name)]
    if adapted:
        found = f"{len(adapted)} tensors of an adapter: {printable(adapted[0])[:80]}"
        raise ModelError(f"{found}; expected a model alone; {MERGE}")

    def plain(name):
        name = ".".join(part for part in name.split(".") if part not in AROUND)
        while name.startswith(BEFORE):
            name = name.removeprefix(BEFORE[0]).removeprefix(BEFORE[1])
        return name

    return renamed(arrays, plain)


def family_names(form, arrays):
    """{name: array} under the names of the whole model, where all stand behind another prefix or
    are those of its base class, which lack the first part."""
    anchors = [name for name in (form.names.embed, form.names.out_norm) if name]
    for anchor in anchors:
        for whole, lacked in ((anchor, ""), (anchor.removeprefix(form.base), form.base)):
            ends = [name for name in arrays if name == whole or name.endswith("." + whole)]
            if whole in arrays or len(ends) == 1:
                before = "" if whole in arrays else ends[0].removesuffix(whole)
                return completed(form, arrays, before, lacked)
    return arrays


def completed(form, arrays, before, lacked):
    """{name: array} without what stands before names, with what they lack."""
    head = form.names.head.removesuffix("weight")

    def whole(name):
        name = name.removeprefix(before)
        return name if name.startswith(head) else lacked + name

    return renamed(arrays, whole) if before or lacked else arrays


def renamed(arrays, change):
    """{new name: array}; ModelError if two become one."""
    out = {}
    for name, array in arrays.items():
        new = change(name)
        if new in out:
            found = f"tensor {printable(new)[:80]} stands twice, once under a longer name"
            raise ModelError(f"{found}; expected each once; save the model again")
        out[new] = array
    return out
