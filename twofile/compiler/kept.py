"""Object code kept between runs, in a folder that is ours alone."""

import hashlib
import importlib.util
import os
import re
import stat
import sys
from pathlib import Path

from ..errors import printable

COMPILED = "words/ machines/ compiler/ program/ kernels/".split()  # whose rooms kernels are made of
IMPORT = re.compile(r"^ *(?:from \.|import |from [a-z]).*?(?:\([^)]*\))?\n", re.M)


def _sources():
    """The text that kernels are compiled from: a room's without its docstring, imports and blank lines, so that the package
    and the bound file share what they keep."""
    here = Path(__file__)
    if here.parent.name == "compiler":
        house = here.parent.parent
        found = {
            path.relative_to(house).as_posix(): path.read_text()
            for part in COMPILED
            for path in house.glob(f"{part}[a-z]*.py")
        }
        rooms = {name: text.split('"""', 2)[-1] for name, text in found.items()}
    else:
        parts = re.split(r"^# -{77}\n# twofile/(\S+)\n(?:#.*\n)*", here.read_text(), flags=re.M)[1:]
        rooms = {
            name: text
            for name, text in zip(parts[::2], parts[1::2])
            if name.startswith(tuple(COMPILED))
        }
    bare = lambda text: "\n".join(
        line for line in IMPORT.sub("", text).split("\n") if line and line[:7] != "# ====="
    )
    return "\n".join(f"# {name}\n{bare(text)}" for name, text in sorted(rooms.items())).encode()


def _cache_folder(host, notice):
    """A folder of ours that nobody else can write, named by all that the code depends on; None if there can be none."""
    import llvmlite

    spec = importlib.util.find_spec("numba")
    parts = [_sources(), llvmlite.__version__.encode(), repr(host).encode(), sys.platform.encode()]
    if spec and spec.origin:
        parts.append((Path(spec.origin).parent / "_version.py").read_bytes())
    key = hashlib.sha256(b"\0".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[:24]
    home = {"win32": "LOCALAPPDATA"}.get(sys.platform, "XDG_CACHE_HOME")
    default = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    try:
        top = (
            Path(
                os.environ.get("NUMBA_CACHE_DIR")
                or os.environ.get(home)
                or os.path.expanduser(default)
            )
            / "twofile"
        )
        if not top.is_absolute():
            raise OSError(f"{top} is not an absolute path")
        for folder in (
            top,
            top / key,
        ):  # whoever can write here can make this program run their code
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = folder.lstat()
            if not stat.S_ISDIR(info.st_mode) or not _only_ours(info):
                raise OSError(
                    f"{folder} is no folder, belongs to somebody else, or others can write it"
                )
        return top / key
    except (OSError, RuntimeError) as e:
        notice(
            f"kernels cannot be kept ({printable(str(e))}); set NUMBA_CACHE_DIR to a private folder to start faster"
        )
        return None


def _only_ours(info):
    """Whether a file or folder belongs to this user, and nobody else can write it."""
    return os.name != "posix" or info.st_uid == os.getuid() and not info.st_mode & 0o022


def _read_cached(folder, name, notice):
    """-> (symbol, object code), or None. The file: SHA-256 of the rest, symbol, newline, object code."""
    if folder is None:
        return None
    raw, how = (
        b"",
        os.O_RDONLY | sum(getattr(os, f"O_{x}", 0) for x in ("NOFOLLOW", "NONBLOCK", "BINARY")),
    )
    try:
        with open(folder / name, "rb", opener=lambda path, _: os.open(path, how)) as f:
            info = os.fstat(f.fileno())
            if stat.S_ISREG(info.st_mode) and info.st_size < 1 << 24 and _only_ours(info):
                raw = f.read()
    except FileNotFoundError:
        return None
    except OSError:  # a link, a folder
        pass
    if hashlib.sha256(raw[32:]).digest() != raw[:32]:
        notice(
            f"{printable(str(folder / name))} is damaged or not ours; compiling that kernel again"
        )
        return None
    symbol, _, code = raw[32:].partition(b"\n")
    return symbol.decode(), code


def _write_cached(folder, name, compiled, notice):
    if folder is None:
        return
    body = compiled[0].encode() + b"\n" + compiled[1]
    temporary = folder / f"{name}.{os.getpid()}"
    try:
        with open(temporary, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write(hashlib.sha256(body).digest() + body)
        temporary.replace(folder / name)
    except OSError as e:
        notice(f"kernel {name} cannot be kept ({printable(str(e))})")
        temporary.unlink(missing_ok=True)
