"""python -m twofile.export SOURCE -o model.bin."""

from .main import launch_exporter

launch_exporter()
