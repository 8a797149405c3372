"""
A program with a model inside. Prints an answer, a choice, and three short texts written together.

    python examples/embed.py [QUESTION]
"""

import os
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("TWOFILE", Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(FOLDER))

import run  # noqa: E402

try:
    model = run.Model(FOLDER / "model.bin", verbose=False)
    question = sys.argv[1] if len(sys.argv) > 1 else "Tell me a story about a fox."
    if model.tokenizer and model.tokenizer.chat:
        answer = model.create_chat_completion([{"role": "user", "content": question}], max_tokens=60, seed=1)
        print(answer["choices"][0]["message"]["content"])
    else:
        print(model.generate(question, max_tokens=60, seed=1))

    colours = ["red", "blue", "green"]
    print("The fox is", max(colours, key=lambda c: model.loglikelihood("The fox is", " " + c)[0]))

    for text in model.batch(["The fox", "The hen", "The cat"], max_tokens=12, seed=1):
        print(repr(text))
except run.ModelError as e:
    sys.exit(f"embed.py: {e}")
