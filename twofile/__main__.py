"""python -m twofile model.bin -p "Once upon a time"."""

from .front.main import launch

launch()
