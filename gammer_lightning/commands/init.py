"""``gammer init``: writes the package's experiments, sweeps and notebooks into a folder, to be changed there."""

import argparse
from pathlib import Path

from gammer_lightning.files import replacing
from gammer_lightning.shipped import FOLDERS, ROOT, shipped_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer init``."""
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path("."), help="default: here")


def main(arguments: argparse.Namespace) -> None:
    """Write every file that is not there yet; a file that is there stays as it is."""
    written, skipped = 0, 0
    for folder in FOLDERS:
        for file in shipped_files(folder):
            target = arguments.folder / file
            if target.exists():
                skipped += 1
                continue
            with replacing(target, sync=False) as temporary:
                temporary.write_bytes((ROOT / file).read_bytes())
            written += 1
    names = ", ".join(f"{folder}/" for folder in FOLDERS)
    print(f"{names} in {arguments.folder}: {written} files written, {skipped} kept as they are")
    change_folder = "" if arguments.folder.resolve() == Path.cwd() else f"cd {arguments.folder} && "
    print(f"next: {change_folder}gammer sweep run sweeps/table4_alpha.yaml --dry-run")
