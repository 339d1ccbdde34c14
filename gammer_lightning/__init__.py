"""Micro-expression recognition by learned motion magnification, on PyTorch Lightning.

The public names are imported when they are first used, so that ``import gammer_lightning`` takes no time::

    import gammer_lightning as gl

    data = gl.MagnifiedClips({"microfaces": "data/microfaces"}, eval_alpha=10)
    task = gl.RecognizeTask(seeds=[0])
    run = gl.fit(task, data, name="mine", max_epochs=40)
    prediction = gl.predict(run.path, "face.mp4", out="predictions/face")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gammer_lightning.data.clips.clip import Clip
    from gammer_lightning.data.clips.datasets import read_datasets
    from gammer_lightning.data.datamodule import MagnifiedClips
    from gammer_lightning.data.motion.datamodule import MotionPairs
    from gammer_lightning.deploy.bundle import load_bundle as load_run
    from gammer_lightning.errors import GammerError
    from gammer_lightning.inference.pipeline import predict
    from gammer_lightning.magnifiers import load_magnifier
    from gammer_lightning.models.gam_mer import GamMer
    from gammer_lightning.models.st_memm import STMEMM
    from gammer_lightning.tasks.magnify import MagnifyTask
    from gammer_lightning.tasks.recognize import RecognizeTask
    from gammer_lightning.training.python_fit import fit

__version__ = "0.1.0"

__all__ = [
    "STMEMM",
    "Clip",
    "GamMer",
    "GammerError",
    "MagnifiedClips",
    "MagnifyTask",
    "MotionPairs",
    "RecognizeTask",
    "__version__",
    "fit",
    "load_magnifier",
    "load_run",
    "predict",
    "read_datasets",
]

_LOCATIONS = {
    "STMEMM": "models.st_memm.STMEMM",
    "Clip": "data.clips.clip.Clip",
    "GamMer": "models.gam_mer.GamMer",
    "GammerError": "errors.GammerError",
    "MagnifiedClips": "data.datamodule.MagnifiedClips",
    "MagnifyTask": "tasks.magnify.MagnifyTask",
    "MotionPairs": "data.motion.datamodule.MotionPairs",
    "RecognizeTask": "tasks.recognize.RecognizeTask",
    "fit": "training.python_fit.fit",
    "load_magnifier": "magnifiers.load_magnifier",
    "load_run": "deploy.bundle.load_bundle",
    "predict": "inference.pipeline.predict",
    "read_datasets": "data.clips.datasets.read_datasets",
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562).

    Raises:
        AttributeError: If there is no such name.
    """
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _LOCATIONS[name].rpartition(".")
    value = getattr(import_module(f"gammer_lightning.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
