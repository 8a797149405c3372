"""The command twofile, also as python -m twofile: twofile -p "Once upon a time"."""

import sys

from .command.main import command_line


def main():
    """The command; never returns."""
    command_line(sys.argv[1:])


if __name__ == "__main__":
    main()
