"""TypedDict, of the package that pydantic takes it from before Python 3.12."""

import contextlib
import sys
from typing import TYPE_CHECKING, TypedDict

from .errors import STARTED

if not TYPE_CHECKING and sys.version_info < (3, 12) and not STARTED:  # 6 ms
    with contextlib.suppress(ImportError):
        from typing_extensions import TypedDict  # noqa: F401
