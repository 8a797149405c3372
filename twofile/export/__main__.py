"""python -m twofile.export SOURCE -o model.bin."""

from .main import launch

launch()
