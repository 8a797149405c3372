"""What pyproject.toml cannot say: the bundled model, at the top here, is inside of the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLED = "model.bin", "tokenizer.bin"


class WithModel(build_py):
    """twofile/bundled/ of what is built has the two files; an editable install finds them here."""

    def run(self):
        built = Path(self.build_lib, "twofile")
        if not self.editable_mode and built.exists():
            shutil.rmtree(built)  # of an older build, whose files would go into the wheel too
        super().run()
        if not self.editable_mode:
            folder = built / "bundled"
            self.mkpath(str(folder))
            for name in BUNDLED:
                self.copy_file(name, str(folder / name))


setup(cmdclass={"build_py": WithModel})
