"""How synthetic data sets are written: by several processes, into a folder that a stopped run can be taken up in."""

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from gammer_lightning.errors import GammerError
from gammer_lightning.files import replacing
from gammer_lightning.processes import interrupts_held, start_worker


def claim(path: Path, manifest: dict) -> None:
    """Make the folder of ``path`` ours, or take up what a run of the same settings left; sweep away its scraps.

    Args:
        path: The manifest; it is named after what the folder holds.
        manifest: The settings that its bytes follow from, as JSON.

    Raises:
        GammerError: If the folder holds something else.
    """
    text = json.dumps(manifest, indent=2) + "\n"
    out, ours = path.parent, path.is_file() and path.read_text() == text
    if not ours and out.exists() and (not out.is_dir() or any(out.glob("[!.]*"))):
        raise GammerError(
            f"{out} is not empty and was not made with these settings",
            f"{path.stem} is written to a new or empty folder, or taken up where the same command stopped",
            f"give another folder, e.g. --out {out}-2, or remove this one: rm -r {out}",
        )
    for scrap in list(out.rglob(".*.tmp*")):
        shutil.rmtree(scrap) if scrap.is_dir() else scrap.unlink()
    with replacing(path) as temporary:
        temporary.write_text(text)


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


def finish(results: Iterable, total: int, what: str) -> None:
    """Wait for the results of a map, with a progress bar that counts ``what``."""
    for _ in tqdm(results, what, total, disable=total == 0):
        pass
