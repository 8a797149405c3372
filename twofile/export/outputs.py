"""Files written under another name until they are whole."""

import contextlib
import errno
import glob
import os
import re
import stat
from pathlib import Path

from ..errors import ModelError, printable
from ..format.foreign import SOUND, kind_of_file
from .settings import first_bytes

HOME = Path(__file__).resolve().parents[2]
BUNDLED = (HOME / "model.bin", HOME / "tokenizer.bin")  # where this is a checkout
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class Outputs:
    """Files that appear under their names together and whole, or not at all.

    overwrite: whether a file that is there already is replaced, if it was asked for by name.
    """

    def __init__(self, overwrite):
        self.overwrite, self.places, self.asides, self.begun = overwrite, [], [], []

    def open(self, path, flag="-o", named=True):
        """A binary file to write, which becomes path when all are whole. flag: what names it;
        named: whether it did. ModelError, before anything is written, where that cannot be."""
        replaces = self.overwrite and named
        try:
            refuse_place(path, flag)
            if os.path.lexists(path) and not replaces:
                raise there_already(path, flag, named)
            path = Path(os.path.realpath(path)) if replaces else path  # a link stays one
            f = self.begin(path)
            if path.exists():
                os.chmod(f.name, stat.S_IMODE(path.stat().st_mode))
        except OSError as e:
            raise unwritten(path, e, flag) from None
        self.places.append((Path(f.name), path, f, replaces, flag))
        return f

    def aside(self, path):
        """A binary file to write that is only needed meanwhile, called like path; drop() ends it,
        or the end of all. OSError where it cannot be."""
        self.asides.append(self.begin(path))
        return self.asides[-1]

    def begin(self, path):
        """A file of opened(). Its name is noted before: a signal may come when it is there."""
        self.begun.append(temporary_of(path))
        try:
            return opened(path)
        except OSError:
            self.begun.pop()  # it may be another's
            raise

    def drop(self, f):
        """Remove a file of aside()."""
        f.close()
        with contextlib.suppress(OSError):  # a system that keeps what is mapped: the end does it
            os.unlink(f.name)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        done = []
        try:
            if failure is None:
                self.put(done)
        except BaseException as e:
            for path in done:  # what was put where nothing was
                path.unlink(missing_ok=True)
            if isinstance(e, OSError):
                _, path, _, _, flag = self.places[0]
                raise unwritten(path, e, flag) from None
            raise
        finally:
            for f in [*(f for _, _, f, *_ in self.places), *self.asides]:
                with contextlib.suppress(OSError):  # a full disk again; the error is on its way
                    f.close()
            for temporary in self.begun:
                with contextlib.suppress(OSError):
                    temporary.unlink()

    def put(self, done):
        """All under their names. done: gets the names that were free."""
        for _, _, f, *_ in self.places:
            f.flush()
            os.fsync(f.fileno())
            f.close()
        for temporary, path, _, replaces, flag in sorted(self.places, key=lambda row: row[3]):
            if replaces:
                os.replace(temporary, path)
            else:
                put_where_nothing_is(temporary, path, flag)
                done.append(path)
        if os.name == "posix":
            for parent in {path.parent for _, path, *_ in self.places}:
                folder = os.open(parent, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)


def opened(path):
    """A binary file to write, called path and the number of this process; those of processes that
    are dead are removed. OSError where it cannot be."""
    for stale in path.parent.glob(glob.escape(path.name) + ".*"):
        # what stood aside, too; the ending tells it from another output of this process
        found = re.fullmatch(r"(\.\w+)?\.tmp(\d+)", stale.name[len(path.name) :], re.A)
        pid = found and int(found[2])
        # in a container the next export may have the number of the dead one
        if found and (not alive(pid) or pid == os.getpid() and not found[1]):
            stale.unlink(missing_ok=True)
    how = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return open(temporary_of(path), "wb", opener=lambda name, _: os.open(name, how, 0o644))


def temporary_of(path):
    """What path is called until it is whole."""
    return path.with_name(f"{path.name}.tmp{os.getpid()}")


def put_where_nothing_is(temporary, path, flag):
    """Rename, unless another program has made such a file meanwhile: that is a ModelError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise there_already(path, flag, True) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise there_already(path, flag, True) from None
        os.replace(temporary, path)


def refuse_place(path, flag):
    """ModelError where no file can be put."""
    where = f"{flag} {printable(str(path))}"
    if not path.parent.is_dir():
        raise ModelError(f"{where}: its folder does not exist; expected one that does; create it")
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise ModelError(f"{where}: is {what}; expected the name of a file; choose another {flag}")


PARTS = (".safetensors", ".pth", ".pt", ".gguf", ".json", ".model")  # of a folder, by their names


def refuse_inputs(args, places):
    """ModelError for an output that is an input, a part of one, or the other output. places:
    [(flag, path)], the first of -o."""
    inputs = {"the source": args.source, "--tokenizer": args.tokenizer}
    inputs["--chat-template"] = args.chat_template
    inputs |= {"--calibrate": args.calibrate, "--imatrix": args.imatrix}
    for flag, path in places:
        wrong = [name for name, at in inputs.items() if at and same_file(path, Path(at))]
        what = f"is {wrong[0]} itself" if wrong else args.source and part(path, Path(args.source))
        if not what and flag != "-o" and same_file(path, places[0][1]):
            what = "is named twice"
        if what:
            found = f"{flag} {printable(str(path))}: {what}"
            raise ModelError(f"{found}; expected another file; choose another {flag}")


def part(path, source):
    """How an output looks like a part of a source, or None."""
    whole, there = os.path.isdir(source), os.path.isfile(path)
    if not same_file(path.parent, source if whole else source.parent):
        return None
    what, kind = there and kind_of_file(first_bytes(path, "a file")) or ("", "")
    if whole:
        if path.suffix in PARTS or path.name.startswith("pytorch_model"):
            return "is named as a part of the source"
        if there and kind not in ("model", "tokenizer"):
            return "is a part of the source"
    elif kind in SOUND and kind not in ("model", "tokenizer", "cache"):
        return f"is {what}, as sources are"
    return None


def same_file(a, b):
    try:
        return os.path.samefile(a, b)
    except OSError:  # one is not there
        return os.path.realpath(a) == os.path.realpath(b)


def there_already(path, flag, named):
    """ModelError of an output that exists."""
    advice = f"choose another {flag}, or --overwrite"
    if not named:
        advice = "give one with -o"
    elif Path(os.path.realpath(path)) in BUNDLED:  # nobody would get it back
        advice = f"it came with this program; choose another {flag}"
    found = f"{printable(str(path))}: exists already; expected a new name"
    return ModelError(f"{found}; {advice}")


def unwritten(path, e, flag="-o"):
    """ModelError of an OSError while path is written."""
    found = f"{printable(str(path))}: cannot be written ({printable(e.strerror or str(e))})"
    advice = "free space or " if e.errno in FULL else ""
    return ModelError(f"{found}; nothing was changed; {advice}choose another {flag}")


def check_room(f, size):
    """OSError unless there is room for so many bytes on the disk of an open file."""
    if hasattr(os, "fstatvfs"):
        disk = os.fstatvfs(f.fileno())
        free = disk.f_frsize * (disk.f_bavail if os.geteuid() else disk.f_bfree)
        if disk.f_blocks and free < size:
            found = f"No space left on device: it takes {size:,} bytes, {free:,} are free"
            raise OSError(errno.ENOSPC, found)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
