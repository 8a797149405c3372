"""What users of the llm command do.        LLM_USER_PATH=FOLDER python with_llm.py URL LOCKED SMALL"""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import llm

URL, LOCKED, _ = sys.argv[1:]
MODELS = f"""\
- model_id: stories
  model_name: model
  api_base: "{URL}/v1"
  api_key_name: none
- model_id: locked
  model_name: model
  api_base: "{LOCKED}/v1"
  api_key_name: ours
- model_id: begins
  model_name: model
  api_base: "{URL}/v1"
  completion: true
- model_id: kind
  model_name: talker
  api_base: "{URL}/v1"
"""
(Path(os.environ["LLM_USER_PATH"]) / "extra-openai-models.yaml").write_text(MODELS)


def command(*args, code=0):
    done = subprocess.run([sys.executable, "-m", "llm", *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done
    return done.stderr if code else done.stdout


def option(**how):
    return [word for name, value in how.items() for word in ("-o", name, str(value))]


ask = ("-m", "stories", "Tell me a story about a fox.", *option(max_tokens=16, seed=3), "--key", "none")
assert "stories" in command("models", "list")
one = command(*ask, "--no-stream")
assert one.strip() and command(*ask) == one
assert "." not in command("-m", "stories", "A fox", *option(max_tokens=200, stop="."), "--key", "none")
assert command("-m", "begins", "Once upon a time", *option(max_tokens=12, seed=5), "--key", "none").strip()
command("-m", "kind", "Hello", "-s", "Be kind.", *option(max_tokens=5), "--key", "none")
assert command("-c", "And then?", *option(max_tokens=5), "--key", "none", "-m", "kind") is not None
assert "wrong API key" in command("-m", "locked", "A fox", "--key", "a wrong key", code=1)
command("keys", "set", "ours", "--value", "a-key-of-tests")
assert command("-m", "locked", "A fox", *option(max_tokens=5)).strip()
response = llm.get_model("stories").prompt("Tell me a story about a fox.", max_tokens=16, seed=3, key="none")
assert "".join(response) == one.removesuffix("\n")
print(f"llm {importlib.metadata.version('llm')}: prompts, streams, a conversation, completions, keys, its Python API")
