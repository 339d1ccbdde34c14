"""Bundles written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock
from safetensors.torch import save_file

from gammer_lightning.deploy.bundle import BUNDLE, MEASURED, WEIGHTS, Bundle, _digest, is_same_model, read_facts
from gammer_lightning.deploy.facts import BundleFacts, BundleFile, GraphFile
from gammer_lightning.deploy.finished_run import FinishedRun
from gammer_lightning.errors import GammerError
from gammer_lightning.files import remove_stale, replacing, sha256_of, write_json, write_text
from gammer_lightning.magnifiers.trained import save_st_memm


def save_networks(source: FinishedRun, folder: Path) -> None:
    """Write both networks as safetensors, so that a bundle alone can run in PyTorch and be exported again."""
    save_st_memm(source.magnifier.network, source.magnifier.network.preset, folder / WEIGHTS["st_memm"])
    weights = {key: value.contiguous() for key, value in source.recognizer.state_dict().items()}
    with replacing(folder / WEIGHTS["gam_mer"]) as temporary:
        save_file(weights, temporary, metadata={"model": "GAM-MER"})


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling of ``folder`` that takes its place, old files and all, only if the block succeeds."""
    with replacing(folder) as staged:
        staged.mkdir(parents=True)
        yield staged
        aside = staged.with_name(staged.name + ".old")
        if folder.exists():
            os.replace(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside a bundle's, deleted afterwards; what killed exports left is swept away."""
    if any(folder.parent.glob(f".{folder.name}.*.tmp*")):
        with _locked(folder):
            for aside in folder.parent.glob(f".{folder.name}.*.tmp.old"):  # killed while a new bundle took its place
                if folder.exists():
                    shutil.rmtree(aside)
                else:
                    os.replace(aside, folder)
            remove_stale(folder)
    with tempfile.TemporaryDirectory(".tmp", f".{folder.name}.{os.getpid()}-", folder.parent) as staged:
        yield Path(staged)


def _locked(folder: Path) -> FileLock:
    return FileLock(folder.parent / f".{folder.name}.lock")


def write_bundle(folder: Path, staged: Path, facts: BundleFacts, files: Mapping[str, GraphFile]) -> Bundle:
    """Make a bundle of what lies in a staging folder, and of the old bundle's other files of the same weights.

    Args:
        folder: The bundle's folder, as it will be; other exports of it wait meanwhile.
        staged: Folder of the new files.
        facts: What bundle.json says, without files.
        files: What each new file holds.
    """
    from gammer_lightning.export.card import model_card

    with _locked(folder), replacing_folder(folder) as new:
        for path in staged.iterdir():
            shutil.copyfile(path, new / path.name)
        old = _old_facts(folder, facts)
        entries = _kept_files(folder, new, old.files, files) if old else {}
        for name, file in files.items():
            path = new / name
            entries[name] = BundleFile(**asdict(file), sha256=sha256_of(path), bytes=path.stat().st_size)
        fp16 = old.fp16 | facts.fp16 if old else facts.fp16
        facts = replace(facts, files=dict(sorted(entries.items())), fp16=fp16)
        record = facts.as_dict()
        write_json(new / BUNDLE, record | {"digest": _digest(record)})
        write_text(new / "MODEL_CARD.md", model_card(facts))
    return Bundle(folder, facts)


def _old_facts(folder: Path, facts: BundleFacts) -> BundleFacts | None:
    """Return the facts of the folder's bundle, without files where it has none; None if it is of other weights."""
    try:
        old = read_facts(folder)
    except GammerError:
        return replace(facts, files={}, fp16={})
    return old if is_same_model(old, facts.as_dict()) else None


def _kept_files(
    folder: Path, new: Path, old: Mapping[str, BundleFile], files: Mapping[str, GraphFile]
) -> dict[str, BundleFile]:
    """Copy the old bundle's files that are whole, and no plan of an ONNX file that changed.

    What `gammer bench export` measured of these weights is copied, too, but is none of the bundle's own files.
    """
    whole = {}
    for name, file in old.items():
        if name not in files and (folder / name).is_file() and sha256_of(folder / name) == file.sha256:
            whole[name] = file
    hashes = {file.sha256 for file in whole.values()}
    hashes |= {sha256_of(new / name) for name in files}
    still_valid = {}
    for name, file in whole.items():
        if file.onnx_sha256 is None or file.onnx_sha256 in hashes:
            still_valid[name] = file
    measurements = [name for name in MEASURED if (folder / name).is_file()]
    for name in (*still_valid, *measurements):
        shutil.copyfile(folder / name, new / name)
    return still_valid
