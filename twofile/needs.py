"""What must be there before anything else: Python and numpy, new enough."""

import os
import sys

CALLED = "twofile" if __name__.startswith("twofile.") else "run.py"  # what it is called in messages
STARTED = (  # run as a program, not imported by one
    __name__ == "__main__"
    or sys.argv[:1] == ["-m"]
    or [os.path.basename(path) for path in sys.argv[:1]] == ["twofile"]  # the script of pip install
)


def lacking(found):
    """End the program with what is missing, in one line; an import with an ImportError."""
    if not STARTED:
        raise ImportError(found)
    sys.exit(f"{CALLED}: error: {found}")


try:
    import numpy as np
except ImportError:
    lacking("the package numpy is not installed; expected numpy and numba; pip install numpy numba")
except KeyboardInterrupt:
    if not STARTED:
        raise
    sys.exit(130)
if sys.version_info < (3, 10) or int(np.__version__.split(".")[0]) < 2:
    lacking(
        f"Python {sys.version.split()[0]} with numpy {np.__version__}; "
        "expected 3.10 and 2.0, or newer; update them"
    )
