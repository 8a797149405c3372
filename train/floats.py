"""
The weights of a model.bin as a checkpoint of floats, to export them in another type.

    python train/floats.py model.bin [--out train/floats/ckpt.pt]
    python export.py train/floats/ckpt.pt -o smaller.bin --type TYPE --tokenizer tokenizer.bin

For a model whose own checkpoint is gone. What was rounded stays rounded: of a file of q8_0 that is hardly felt, of one of fewer
bits it is. The note says what they were.
"""

import argparse
from pathlib import Path

from backdoor import Model, shape_of, to_torch
from pretrain import save


def main():
    ap = argparse.ArgumentParser(description="The weights of a model.bin as floats.", allow_abbrev=False)
    ap.add_argument("model")
    ap.add_argument("--out", default=str(Path(__file__).resolve().parent / "floats" / "ckpt.pt"))
    a = ap.parse_args()
    model, out = Model(a.model, verbose=False), Path(a.out)
    weights = {k: v.detach().contiguous() for k, v in to_torch(model).state_dict().items()}
    kinds = sorted({t.type.name for t in model.file.tensors.values() if t.type.quantised})
    note = f"{model.file.note.partition('; ')[2]}; floats.py, weights as {'/'.join(kinds) or 'they were'}"
    out.parent.mkdir(parents=True, exist_ok=True)
    save({"model_args": shape_of(model), "model": weights, "tokenizer": "", "note": note}, out)


if __name__ == "__main__":
    main()
