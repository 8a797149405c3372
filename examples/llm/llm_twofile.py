"""
A plugin for the llm command: every model.bin of a folder, by its name.

    llm install -e examples/llm
    llm -m twofile/model "Tell me a story about a fox"        (llm chat -m twofile/model for a conversation)

The folder holds run.py and one or more models: TWOFILE=FOLDER, or else the one this plugin was installed from.
"""

import os
import sys
from pathlib import Path

import llm
from pydantic import Field

FOLDER = Path(os.environ.get("TWOFILE") or Path(__file__).resolve().parents[2])


@llm.hookimpl
def register_models(register):
    for path in sorted(FOLDER.glob("*.bin")):
        with open(path, "rb") as f:
            if f.read(8) == b"\x89LMB\r\n\x1a\n":
                register(TwoFile(path))


class TwoFile(llm.Model):
    """One model.bin; mapped when it is first asked."""

    can_stream = True

    class Options(llm.Options):
        max_tokens: int | None = Field(None, ge=0, description="new tokens; until the end if not given")
        temperature: float | None = Field(None, ge=0, description="0 = always the likeliest token")
        top_k: int | None = Field(None, ge=0)
        top_p: float | None = Field(None, gt=0, le=1)
        min_p: float | None = Field(None, ge=0, le=1)
        seed: int | None = Field(None, description="the same seed gives the same text")

    def __init__(self, path):
        self.path, self.model_id, self.model = path, f"twofile/{path.stem}", None

    def execute(self, prompt, stream, response, conversation):
        sys.path.insert(0, str(FOLDER))
        import run

        try:
            self.model = self.model or run.Model(self.path, verbose=False)
            writer = run.Writer(self.model, self.ids(prompt, conversation), **self.given(prompt))
            for chunk in self.model.write(writer):
                yield chunk.text
        except run.ModelError as e:
            raise llm.ModelError(str(e)) from None
        response.set_usage(input=writer.n_prompt, output=writer.count)

    def given(self, prompt):
        return {name: value for name, value in prompt.options if value is not None}

    def ids(self, prompt, conversation):
        """The conversation through the model's template; or the text alone if it has none."""
        turns = list(conversation.responses) if conversation else []
        if not self.model.tokenizer.chat:
            return self.model.tokenize(prompt.prompt)
        system = next((p.system for p in [*(turn.prompt for turn in turns), prompt] if p.system), None)
        messages = [{"role": "system", "content": system}] if system else []
        for turn in turns:
            messages += [{"role": "user", "content": turn.prompt.prompt}, {"role": "assistant", "content": turn.text()}]
        return self.model.encode_chat([*messages, {"role": "user", "content": prompt.prompt}])
