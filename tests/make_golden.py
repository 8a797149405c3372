"""Write the reference logits of tinystories-656k: python tests/make_golden.py ../shared/checkpoints/tinystories-656k

Needs torch and transformers. The result, tests/golden/tinystories-656k.npz, is small and committed: ids [48] and float32
logits [48, 2048] of transformers, float32 weights, eager attention.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers

folder = sys.argv[1]
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
ids = np.random.default_rng(0).integers(3, model.config.vocab_size, 48)
ids[0] = 1
with torch.no_grad():
    logits = model(torch.tensor(ids)[None]).logits[0].numpy()
out = Path(__file__).parent / "golden" / "tinystories-656k.npz"
out.parent.mkdir(exist_ok=True)
np.savez_compressed(out, ids=ids, logits=logits)
print(f"{out.name}: torch {torch.__version__}, transformers {transformers.__version__}")
