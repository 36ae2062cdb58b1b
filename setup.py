"""Puts the recipes, which lie beside the source, into the package that is installed; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """The package with ``conf/`` as ``hrtem/conf``."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("conf", Path(self.build_lib) / "hrtem" / "conf", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
