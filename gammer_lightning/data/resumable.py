"""How synthetic data sets are written: by several processes, into a folder that a stopped run can be taken up in."""

import json
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.files import read_cached_json, write_text
from gammer_lightning.locks import locked
from gammer_lightning.processes import interrupts_held, start_worker

PNG_END, JPEG_END = b"IEND\xaeB`\x82", b"\xff\xd9"
"""Last bytes of a whole image file."""


@contextmanager
def claimed(path: Path, manifest: dict, contents: Collection[str]) -> Iterator[bool]:
    """Hold the folder of ``path`` for this process, new or as a run of the same settings left it, its scraps removed.

    Args:
        path: The manifest; it is named after what the folder holds.
        manifest: The settings that its bytes follow from, as JSON.
        contents: Names of what else is written into the folder.

    Yields:
        Whether what lies there was made with these settings. It was not where the manifest is damaged; then everything
        is to be made again.

    Raises:
        GammerError: If the folder holds something else, or another process holds it.
    """
    _is_ours(path, manifest, contents)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent, "folder"):
        is_ours = _is_ours(path, manifest, contents)
        for scrap in list(path.parent.rglob(".*.tmp*")):
            if scrap.is_dir():
                shutil.rmtree(scrap)
            else:
                scrap.unlink()
        if not is_ours:
            write_text(path, json.dumps(manifest, indent=2) + "\n")
        yield is_ours


def _is_ours(path: Path, manifest: dict, contents: Collection[str]) -> bool:
    """Return whether a folder was made with these settings; refuse one that holds something else."""
    out = path.parent
    recorded = read_cached_json(path)
    if recorded:
        is_foreign = recorded != json.loads(json.dumps(manifest))
    elif out.is_dir():  # the manifest is damaged, or there is none
        allowed = {path.name, *contents} if path.exists() else set()
        is_foreign = any(file.name not in allowed for file in out.glob("[!.]*"))
    else:
        is_foreign = out.exists()
    if is_foreign:
        raise GammerError(
            f"{out} is not empty and was not made with these settings",
            f"{path.stem} is written to a new or empty folder, or taken up where the same command stopped",
            f"give another folder, e.g. --out {out}-2, or remove this one: rm -r {out}",
        )
    return bool(recorded)


@contextmanager
def process_map(workers: int, initializer: Callable[[], None]) -> Iterator[Callable]:
    """Yield a ``map`` that works in this process, or in several, each of which calls ``initializer`` first.

    Where the block fails or is stopped, it ends once the workers have written what they are at; where this process is
    killed, they are killed, too.
    """
    if workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of torch and OpenCV
    with ProcessPoolExecutor(workers, context, start_worker, (pickle.dumps(initializer),)) as pool:

        def run(function: Callable, items: Iterable) -> Iterator:
            with interrupts_held():
                return pool.map(function, items)

        try:
            yield run
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def ends_with(path: Path, end: bytes) -> bool:
    """Return whether a regular file has these last bytes, which a file cut off by a full disk or a power cut lacks."""
    if not path.is_file() or path.stat().st_size < len(end):
        return False
    with path.open("rb") as file:
        file.seek(-len(end), os.SEEK_END)
        return file.read() == end


def finish(results: Iterable, total: int, what: str) -> None:
    """Wait for the results of a map, with a progress bar that counts ``what``."""
    for _ in tqdm(results, what, total, disable=total == 0):
        pass
