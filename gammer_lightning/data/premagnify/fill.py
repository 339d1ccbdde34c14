"""Pre-magnification: every clip's apex at every alpha, once, as a cache of PNG files that people can look at.

    CACHE/<dataset>/<subject>/<clip>/<key>/onset.png, alpha_1.png (the raw apex), alpha_5.png, ..., face.json

The key names all that decides the pixels: both frames, the magnifier, the crop's geometry and this code.
``face.json`` holds the landmarks and the sha256 of every image. It is written last, so an image counts only
once it is recorded there; whatever is missing, half-written or altered is done again. A lock on the entry
lets several processes fill one cache together.
"""

import copy
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.premagnify.cache import ONSET, RAW, CacheEntry, image_name
from gammer_lightning.errors import GammerError
from gammer_lightning.faces.alignment import Face, crop, find_face
from gammer_lightning.files import (
    check_writable,
    disk_errors,
    read_image,
)
from gammer_lightning.magnifiers import check_alphas, load_magnifier
from gammer_lightning.pixels import to_floats, to_uint8
from gammer_lightning.processes import start_loader_worker


@dataclass(frozen=True)
class PremagnifyReport:
    """What a run did.

    Attributes:
        clips: Number of clips asked for.
        done: How many of them were not complete before.
        seconds: Time taken.
        cache: Root of the cache.
        assumed: Those it did in which no face was detected, so that the whole frame stands for its box.
        still: Those it did in which nothing moves: onset and apex are the same picture.
    """

    clips: int
    done: int
    seconds: float
    cache: Path
    assumed: tuple[str, ...] = ()
    still: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line for the terminal, and one more where faces were assumed, or nothing moves."""
        if not self.done:
            return f"nothing to do: all {self.clips} clips are in {self.cache} ({self.seconds:.1f} s)"
        rate = self.done / self.seconds
        ready = self.clips - self.done
        text = f"{self.done} clips magnified, {ready} were there; {rate:.2f} clips/s; look at {self.cache}"
        for clips, outcome in (
            (self.assumed, "no face detected in {} tight crops, whose whole frame was taken for its box"),
            (self.still, "nothing moves in {} clips, whose onset and apex are the same picture; have a look at them"),
        ):
            text += f"\n{outcome.format(len(clips))}: {', '.join(clips)}" if clips else ""
        return text


def premagnify(
    clips: Sequence[Clip],
    alphas: Sequence[float],
    magnifier_name: str,
    cache: str | Path,
    *,
    device: str = "auto",
    devices: int = 1,
    workers: int = 0,
    progress: bool = True,
) -> PremagnifyReport:
    """Fill the cache with the crops of onset, raw apex and the apex magnified at each alpha.

    One clip is magnified at a time, with all its alphas, so that its pixels never depend on its neighbours
    in a batch: a run that was killed and taken up again writes the same bytes.

    Args:
        clips: Clips of any data sets.
        alphas: Magnification factors.
        magnifier_name: As in `load_magnifier`.
        cache: Root of the cache.
        device: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        devices: Number of devices, each with its share of the clips.
        workers: Processes per device that read frames and find faces ahead; 0: none, and one where there are several
            devices.
        progress: Whether to draw a progress bar.

    Raises:
        GammerError: If a frame, face, alpha, magnifier or device is not usable, or the cache cannot be written. Clips
            that cannot be used are named together at the end, after all others are done.
    """
    started = time.monotonic()
    places = find_devices(device, devices)
    alphas = check_alphas(alphas)
    magnifier = load_magnifier(magnifier_name)
    pairs = _Pairs(clips, magnifier.fingerprint, cache, alphas)
    todo = [index for index in range(len(clips)) if pairs.is_incomplete(index)]
    assumed: list[str] = []
    still: list[str] = []
    if todo:
        check_writable(Path(cache))
        workers_per_device = max(workers, 1) if len(places) > 1 else workers
        loader = DataLoader(
            Subset(pairs, todo),
            batch_size=None,
            num_workers=workers_per_device * len(places),
            worker_init_fn=start_loader_worker,
        )
        complete = len(clips) - len(todo)
        bar = tqdm(total=len(clips), initial=complete, desc="pre-magnify", unit="clip", disable=not progress)
        with bar:
            work = _Work(loader, alphas, bar)
            work.run([copy.deepcopy(magnifier).to(place).eval() for place in places], places)
        _raise_together(work.errors, len(clips))
        assumed = work.assumed
        still = work.still
    seconds = time.monotonic() - started
    return PremagnifyReport(len(clips), len(todo), seconds, Path(cache), tuple(assumed), tuple(still))


def find_devices(kind: str, count: int) -> list[torch.device]:
    """Return the devices to magnify on.

    Args:
        kind: ``"cpu"``, ``"gpu"``, or ``"auto"`` for a GPU where there is one.
        count: How many.

    Raises:
        GammerError: If this machine has no such device, or fewer.
    """
    if kind not in ("auto", "cpu", "gpu"):
        raise GammerError(f"device {kind!r}", "it is auto, cpu or gpu", "choose one of them")
    gpu = None
    if kind != "cpu":
        gpu = torch.accelerator.current_accelerator(check_available=True)
    if kind == "gpu" and gpu is None:
        raise GammerError(
            "device gpu", "this machine has no GPU that torch can use", "choose cpu, or see `gammer doctor`"
        )
    available = torch.accelerator.device_count() if gpu else os.cpu_count() or 1
    if not 1 <= count <= available:
        unit = "GPUs" if gpu else "CPU cores"
        raise GammerError(
            f"{count} devices", f"1 or more, and this machine has {available} {unit}", f"at most {available}"
        )
    if gpu is None:
        return [torch.device("cpu")] * count
    return [torch.device(gpu.type, index) for index in range(count)]


@dataclass(frozen=True)
class _CropPair:
    """The crops of a clip's onset and apex, uint8 ``(256, 256, 3)``, and where their magnified images go."""

    entry: CacheEntry
    face: Face
    onset: np.ndarray
    apex: np.ndarray


class _Pairs(torch.utils.data.Dataset):
    """Clips as crops; a clip that is complete as None, an unusable one as its error."""

    def __init__(self, clips: Sequence[Clip], fingerprint: str, cache: str | Path, alphas: Sequence[float]):
        self.clips = clips
        self.fingerprint = fingerprint
        self.cache = cache
        self.alphas = alphas

    def __len__(self) -> int:
        return len(self.clips)

    def is_incomplete(self, index: int) -> bool:
        try:
            entry = CacheEntry(self.clips[index], self.fingerprint, self.cache)
            return bool(entry.missing(self.alphas))
        except GammerError:
            return True

    def __getitem__(self, index: int) -> _CropPair | GammerError | None:
        clip = self.clips[index]
        try:
            entry = CacheEntry(clip, self.fingerprint, self.cache)
            if not entry.missing(self.alphas):
                return None
            onset = read_image(clip.frame(clip.onset))
            apex = read_image(clip.frame(clip.known_apex))
            face = find_face(onset, str(clip.frame(clip.onset)), clip.cropped)
            if onset.shape != apex.shape:
                sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (onset, apex))
                raise GammerError(
                    f"onset and apex of {clip.key} measure {sizes} px",
                    "all frames of a clip have one size",
                    "extract the clip's frames again",
                )
        except GammerError as error:  # a worker would lose its parts on the way to the main process
            return error
        return _CropPair(entry, face, crop(onset, face), crop(apex, face))


class _Work:
    """Incomplete clips, magnified and written by a thread a device; a clip that another process holds comes last."""

    def __init__(self, items: Iterable[_CropPair | GammerError | None], alphas: Sequence[float], bar: tqdm):
        self.items = iter(items)
        self.alphas = alphas
        self.bar = bar
        self.lock = threading.Lock()
        self.is_stopped = False
        self.errors: list[GammerError] = []
        self.assumed: list[str] = []
        self.still: list[str] = []

    def run(self, magnifiers: Sequence[nn.Module], places: Sequence[torch.device]) -> None:
        """Do all clips; where one device fails or the user stops it, the others end the clip they are at."""
        if len(places) == 1:
            self._share(magnifiers[0], places[0])
            return
        with ThreadPoolExecutor(len(places)) as pool:
            try:
                shares = [
                    pool.submit(self._share, magnifier, place)
                    for magnifier, place in zip(magnifiers, places, strict=True)
                ]
                wait(shares, return_when=FIRST_EXCEPTION)
            finally:
                self.is_stopped = True
        for share in shares:
            share.result()

    @torch.inference_mode()
    def _share(self, magnifier: nn.Module, place: torch.device) -> None:
        busy = []
        for item in self._take():
            if isinstance(item, GammerError):
                self.errors.append(item)
            elif item is not None and not self._fill(item, magnifier, place, timeout=0):
                busy.append(item)
        for pair in busy:
            self._fill(pair, magnifier, place, timeout=-1)

    def _take(self) -> Iterator[_CropPair | GammerError | None]:
        """Yield the clips that no other thread took, and count each once it is done."""
        while True:
            with self.lock:
                if self.is_stopped:
                    return
                try:
                    item = next(self.items)
                except StopIteration:
                    return
            yield item
            with self.lock:
                self.bar.update()

    def _fill(self, pair: _CropPair, magnifier: nn.Module, place: torch.device, timeout: float) -> bool:
        """Complete an entry; return False if another process holds its lock for over ``timeout`` s."""
        folder = pair.entry.folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(folder / ".lock", timeout=timeout):
                    self._complete(pair, magnifier, place)
            except Timeout:
                return False
        return True

    def _complete(self, pair: _CropPair, magnifier: nn.Module, place: torch.device) -> None:
        """Magnify and write the images that an entry lacks; the caller holds its lock."""
        missing = pair.entry.missing(self.alphas)
        if not missing:
            return
        if not pair.face.detected:
            self.assumed.append(pair.entry.clip.key)
        if np.array_equal(pair.onset, pair.apex):
            self.still.append(pair.entry.clip.key)
        images = self._magnify(pair, magnifier, place)
        pair.entry.write(pair.face, {name: images[name] for name in missing})

    def _magnify(self, pair: _CropPair, magnifier: nn.Module, place: torch.device) -> dict[str, np.ndarray]:
        """Return all images of the entry by name, uint8 ``(256, 256, 3)``."""
        onset = to_floats(pair.onset)[None].to(place)
        apex = to_floats(pair.apex)[None].to(place)
        magnified = magnifier(onset, apex, self.alphas)[:, 0]
        are_finite = magnified.isfinite().flatten(1).all(1).tolist()
        if not all(are_finite):
            is_finite = dict(zip(self.alphas, are_finite, strict=True))
            alphas = ", ".join(f"{alpha:g}" for alpha in self.alphas if not is_finite[alpha])
            raise GammerError(
                f"the magnifier returned NaN or infinity for {pair.entry.clip.key} at alpha {alphas}",
                "images are finite; motion is magnified at most some 100 times",
                "choose smaller alphas; where it happens at those, train the magnifier again, or choose another",
            )
        images = dict(zip(map(image_name, self.alphas), to_uint8(magnified), strict=True))
        images[ONSET] = pair.onset
        images[image_name(RAW)] = pair.apex
        return images


def _raise_together(errors: list[GammerError], clips: int) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        listed = "".join(f"\n    {error.what}" for error in errors[:10])
        more = f"\n    and {len(errors) - 10} more" if len(errors) > 10 else ""
        what = f"{len(errors)} of {clips} clips cannot be used:{listed}{more}"
        raise GammerError(what, errors[0].rule, errors[0].next_step)
