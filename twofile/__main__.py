"""python -m twofile model.bin -p "Once upon a time"; python -m twofile serve model.bin."""

import sys

from .front.main import launch


def main():
    """The command twofile, whose first word may be serve."""
    if sys.argv[1:2] == ["serve"]:
        from .serve.main import launch_server

        launch_server(sys.argv[2:])
    launch()


if __name__ == "__main__":
    main()
