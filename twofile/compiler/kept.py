"""Object code kept between runs, in a folder that is ours alone."""

import hashlib
import importlib
import os
import re
import stat
import sys
from pathlib import Path

from ..errors import printable
from ..files import replaced

COMPILED = ("words/", "machines/", "compiler/", "program/", "kernels/", "format/types.py")
BANNER = f"# {'-' * 77}\n# twofile/"  # of a room in the bound file: its name, what it is for
# A room's docstring and imports, which the bound file has in another form.
HEAD = re.compile(r'\A""".*?"""\n(?:\n|(?:from [.\w]+ )?import (?:\([^)]*\))?[^\n]*\n)*', re.S)


def sources():
    """The text of the rooms that kernels are made of (bytes), from behind their imports: the same
    in the package and in the bound file, which share what they keep. Raises OSError where it cannot
    be read."""
    here = Path(globals().get("__file__", ""))
    texts = _rooms(here.parent.parent) if here.name == "kept.py" else _bound(here)
    if not all(any(name.startswith(part) for name in texts) for part in COMPILED):
        raise OSError(f"{here} is not beside the source of the kernels")
    return "\n".join(f"# {name}\n{text}" for name, text in sorted(texts.items())).encode()


def _rooms(house):
    """{name: text} from the package."""
    texts = {}
    for part in COMPILED:
        place = house / part
        for path in place.rglob("[a-z]*.py") if place.is_dir() else [place]:
            name, text = path.relative_to(house).as_posix(), path.read_text("utf-8")
            texts[name] = HEAD.sub("", text, count=1).strip("\n")
    return texts


def _bound(path):
    """{name: text} from the bound file."""
    texts = {}
    for part in path.read_text("utf-8").split(BANNER):
        name, _, text = part.partition("\n")
        if name.startswith(COMPILED):
            text = text.partition("\n\n")[2]  # behind the banner
            texts[name] = text.partition("\n# =====")[0].strip("\n")  # before that of a floor
    return texts


def _loaded():
    try:
        return sources()
    except OSError:
        return None


LOADED = _loaded()  # now, not when they are compiled: by then somebody may have edited a room


def _key(host):
    """All that the code depends on, as 24 digits; host: machine, cpu, features. Raises OSError."""
    import llvmlite

    spec = importlib.util.find_spec("numba")
    if LOADED is None:
        raise OSError("the source of the kernels cannot be read")
    parts = [LOADED, llvmlite.__version__.encode(), repr(host).encode(), sys.platform.encode()]
    if spec and spec.origin:
        parts.append((Path(spec.origin).parent / "_version.py").read_bytes())
    return hashlib.sha256(b"\0".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[:24]


def _top():
    """Where this user keeps what can be made again. Raises OSError, RuntimeError."""
    home = {"win32": "LOCALAPPDATA"}.get(sys.platform, "XDG_CACHE_HOME")
    default = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    chosen = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get(home)
    top = Path(chosen or os.path.expanduser(default)) / "twofile"
    if not top.is_absolute():
        raise OSError(f"{top} is not an absolute path")
    return top


def cache_folder(host, notice):
    """A folder of ours that nobody else can write, named by all that the code depends on; None if
    there can be none. host: machine, cpu, features."""
    try:
        top = _top()
        kept = top / _key(host)
        for folder in (top, kept):  # whoever can write here can make this program run their code
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = folder.lstat()
            if not stat.S_ISDIR(info.st_mode) or not _only_ours(info):
                raise OSError(
                    f"{folder} is no folder, belongs to somebody else, or others can write it"
                )
        return kept
    except (OSError, RuntimeError) as e:
        notice(
            f"kernels cannot be kept ({printable(str(e))}); "
            "set NUMBA_CACHE_DIR to a private folder to start faster"
        )
        return None


def _only_ours(info):
    """Whether a file or folder belongs to this user, and nobody else can write it."""
    return os.name != "posix" or info.st_uid == os.getuid() and not info.st_mode & 0o022


def read_cached(folder, name, notice):
    """-> (symbol, object code), or None. The file: SHA-256 of the rest, symbol, newline, object
    code."""
    if folder is None:
        return None
    flags = [getattr(os, f"O_{x}", 0) for x in ("NOFOLLOW", "NONBLOCK", "BINARY")]
    raw, how = b"", os.O_RDONLY | sum(flags)
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
        where = printable(str(folder / name))
        notice(f"{where} is damaged or not ours; compiling that kernel again")
        return None
    symbol, _, code = raw[32:].partition(b"\n")
    return symbol.decode(), code


def write_cached(folder, name, compiled, notice):
    """Keep (symbol, object code) of a kernel; does nothing without a folder."""
    if folder is None:
        return
    body = compiled[0].encode() + b"\n" + compiled[1]
    try:
        with replaced(folder / name, 0o600) as f:
            f.write(hashlib.sha256(body).digest() + body)
    except OSError as e:
        notice(f"kernel {name} cannot be kept ({printable(str(e))})")
