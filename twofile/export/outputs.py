"""Files written under another name until they are whole."""

import os

from ..errors import ModelError, printable


class Outputs:
    """Files that appear under their names together and whole, or not at all."""

    def __init__(self, overwrite):
        self.overwrite, self.pairs = overwrite, []

    def open(self, path):
        if path.exists() and not self.overwrite:
            found = f"{printable(str(path))}: exists already; expected a new name"
            raise ModelError(f"{found}; choose another -o, or --overwrite")
        for stale in path.parent.glob(path.name + ".tmp*"):
            pid = stale.name[len(path.name) + 4 :]
            # in a container the next export may have the number of the dead one
            if pid.isdecimal() and (int(pid) == os.getpid() or not alive(int(pid))):
                stale.unlink(missing_ok=True)
        temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
        how = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        f = os.fdopen(os.open(temporary, how, 0o644), "wb")
        self.pairs.append((temporary, path, f))
        return f

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        try:
            if failure is None:
                for _, _, f in self.pairs:
                    f.flush()
                    os.fsync(f.fileno())
                    f.close()
                for temporary, path, _ in self.pairs:
                    os.replace(temporary, path)
                if os.name == "posix" and self.pairs:
                    folder = os.open(self.pairs[0][1].parent, os.O_RDONLY)
                    os.fsync(folder)
                    os.close(folder)
        finally:
            for temporary, _, f in self.pairs:
                try:
                    f.close()
                except OSError:
                    pass  # a full disk again; the error that counts is already on its way
                temporary.unlink(missing_ok=True)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
