"""Copies experiments/, sweeps/ and notebooks/ into the built package; everything else is in setup.cfg."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("experiments", "sweeps", "notebooks")


class BuildWithShippedFiles(build_py):
    """``build_py`` that adds the folders to the package's data, where ``gammer_lightning.shipped`` finds them.

    An editable install needs no copies: its package lies beside the folders.
    """

    def run(self):
        """Build the package with the folders."""
        if not self.editable_mode:
            folders = {path.parent for name in FOLDERS for path in Path(name).rglob("*") if _is_shipped(path)}
            target = Path(self.build_lib, "gammer_lightning/shipped_files")
            self.data_files = [
                *self.data_files,
                *(
                    ("gammer_lightning", str(folder), str(target / folder), _names(folder))
                    for folder in sorted(folders)
                ),
            ]
        super().run()


def _is_shipped(path: Path) -> bool:
    return path.suffix in (".yaml", ".ipynb") and ".ipynb_checkpoints" not in path.parts


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if _is_shipped(path))


setup(cmdclass={"build_py": BuildWithShippedFiles})
