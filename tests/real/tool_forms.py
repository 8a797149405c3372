"""
Chat templates of a folder, their forms for tools compiled: a row each.    python tests/real/tool_forms.py FOLDER

FOLDER: of NAME.jinja; the source of llama.cpp has some seventy in models/templates. A template for tools alone (NAME ends in
tool_use) is tried beside a plain one. Each row says how tools, calls and results are written, or why they cannot be.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from twofile.errors import ModelError  # noqa: E402
from twofile.export import template as templates  # noqa: E402
from twofile.export.tooltemplate import compile_tools  # noqa: E402

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
PLAIN = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLACES = {"S": "first", "U": "before the user's first message", "L": "before the user's last message"}
WAYS = {16: "as Python shows it", 17: "as Python shows it", 32: "as TypeScript", 33: "as Python's types", 255: "by fields"}


def row(path):
    text = path.read_text()
    try:
        chat = templates.compile_chat(PLAIN if path.stem.endswith("tool_use") else text, SPECIAL)
        form = compile_tools(text, SPECIAL, chat[:3])
    except ModelError as e:
        return f"no: {e}"
    if form is None:
        return "knows no tools"
    told = WAYS.get(form.told, "JSON" if form.told < 4 else "JSON, indented")
    calls = "several calls" if form.several else "one call"
    traits = [f"tools {told} {PLACES[form.place]}", calls, "text beside" if form.beside else "alone"]
    traits += ["ids"] * ("I" in form.call + form.back) + ["results quoted"] * form.quoted + ["thoughts stay"] * form.keeps
    return "yes: " + ", ".join(traits)


def main():
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    templates.say = lambda text: None
    rows = [(path.stem, row(path)) for path in sorted(Path(sys.argv[1]).glob("*.jinja"))]
    for name, says in rows:
        print(f"{name:50} {says}")
    print(f"{sum(says.startswith('yes') for _, says in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
