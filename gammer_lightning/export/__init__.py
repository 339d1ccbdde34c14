"""A trained run as files for production: ONNX, TensorRT, and the bundle that says how they are used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gammer_lightning.deploy.bundle import Bundle, load_bundle

__all__ = ["Bundle", "load_bundle"]


def __getattr__(name: str) -> Any:
    """Import the bundle when it is asked for, so that ``gammer export --help`` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gammer_lightning.deploy import bundle

    return getattr(bundle, name)
