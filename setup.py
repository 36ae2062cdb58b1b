"""Build step that copies the recipes in ``conf/`` into the installed package; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Build command that copies ``conf/`` to ``hrtem/conf``."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("conf", Path(self.build_lib) / "hrtem" / "conf", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
