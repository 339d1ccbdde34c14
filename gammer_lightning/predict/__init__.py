"""Prediction and magnification of videos, folders of frames and cameras, as streams.

The package can be called: ``gammer_lightning.predict(run, video)`` is `gammer_lightning.predict.pipeline.predict`.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from gammer_lightning.deploy.bundle import Bundle
    from gammer_lightning.predict.prediction import Prediction


class _CallablePackage(ModuleType):
    """A package that is the function, too: the import of a submodule sets the name `predict` to the package."""

    def __call__(
        self, run: "Bundle | str | Path", video: "str | Path", out: "str | Path | None" = None, **settings: Any
    ) -> "Prediction":
        """Spot, magnify and classify the expressions of a video's face; as `pipeline.predict`.

        Args:
            run: A run folder or an exported bundle, or what `load_run` returns for it.
            video: Path of a video or a folder of images, or the number of a camera.
            out: Folder for the outputs; None writes nothing.
            **settings: Those of `pipeline.predict`, e.g. ``alpha=10``.

        Raises:
            GammerError: As `pipeline.predict` does.
        """
        from gammer_lightning.predict.pipeline import predict

        return predict(run, video, out, **settings)


sys.modules[__name__].__class__ = _CallablePackage
