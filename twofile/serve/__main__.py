"""python -m twofile.serve model.bin, which is python -m twofile serve model.bin."""

from .main import launch_server

launch_server()
