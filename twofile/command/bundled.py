"""Where the model lies that comes with the program."""

from pathlib import Path


def bundled():
    """The path of the bundled model, its tokenizer beside it; None if it is gone. An installed
    package has it inside, a checkout at its top."""
    package = Path(__file__).resolve().parent.parent
    places = package / "bundled" / "model.bin", package.parent / "model.bin"
    return next((str(place) for place in places if place.exists()), None)
