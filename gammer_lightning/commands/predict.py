"""`gammer predict`: expressions in videos, folders of frames and cameras."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import printable, without_passwords
from gammer_lightning.files import check_name

if TYPE_CHECKING:
    from gammer_lightning.deploy.bundle import Bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gammer predict`."""
    parser.add_argument("bundle", type=Path, help="folder of an exported bundle, or a finished run")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="video, folder of frames, or number of a camera (0, 1, ...)"
    )
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder; each input gets one in it")
    parser.add_argument("--alpha", type=float, help="magnification factor; default: the bundle's")
    parser.add_argument("--backend", choices=("torch", "onnx", "tensorrt"), default="torch")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        default="fp32",
        help="bf16: torch alone, a third less time per frame on processors with AMX (default: %(default)s)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the best there is")
    parser.add_argument("--window", type=float, default=0.5, help="seconds of a window (default: 0.5)")
    parser.add_argument(
        "--hop", type=float, help="seconds between windows, a tenth of a frame's or more; default: half a window"
    )
    parser.add_argument("--onset", type=int, help="place of the onset frame, counted from 0; with --apex")
    parser.add_argument("--apex", type=int, help="place of the apex frame")
    parser.add_argument("--face", type=float, nargs=2, metavar=("X", "Y"), help="a point on the face that is meant, px")
    parser.add_argument("--fps", type=float, default=200.0, help="frames a second of a folder (default: 200)")
    parser.add_argument("--limit", type=float, metavar="S", help="stop after S seconds of the input, e.g. of a camera")


def main(args: argparse.Namespace) -> int:
    """Run `gammer predict`; an input that cannot be used does not keep the others from being done."""
    names = [_name(text) for text in args.inputs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise GammerError(
            f"two inputs are called {twice}",
            "each input gets a folder of its name below --out",
            "predict them one after the other, each with its own --out DIR",
        )
    from gammer_lightning.deploy.bundle import load_bundle
    from gammer_lightning.inference.pipeline import check_settings

    check_settings(args.alpha, args.window, args.hop, args.onset, args.apex, args.face, args.fps, args.limit)
    bundle = load_bundle(args.bundle)
    code = 0
    for text, name in zip(args.inputs, names, strict=True):
        try:
            is_stopped = _predict_input(bundle, text, name, args)
            if is_stopped:
                return 130
        except GammerError as error:
            if len(args.inputs) == 1:
                raise
            print(printable(without_passwords(f"error: {error}")), file=sys.stderr)
            code = error.exit_code
    return code


def _name(text: str) -> str:
    """Return the name of an input's folder below --out, in which what is not printable is ``_``.

    Raises:
        GammerError: It is no name of a folder: too long, or ``..``.
    """
    is_camera = text.isdecimal() and not Path(text).exists()
    name = f"camera{text}" if is_camera else Path(text).resolve().stem
    printable_name = "".join(sign if sign.isprintable() and sign != "\\" else "_" for sign in name)
    return check_name(printable_name, f"the name of the folder for the input {text}")


def _predict_input(bundle: "Bundle", text: str, name: str, args: argparse.Namespace) -> bool:
    """Predict one input, print a summary of its predictions, and return whether Ctrl-C stopped it."""
    from gammer_lightning.inference.pipeline import predict

    settings = ("alpha", "backend", "precision", "device", "window", "hop", "onset", "apex", "face", "fps", "limit")
    options = {setting: getattr(args, setting) for setting in settings}
    result = predict(bundle, text, args.out / name, progress=True, **options)
    windows = f"{len(result.windows)} windows"
    reasons = [window.note for window in result.windows if window.note]
    if reasons:
        windows += f" ({len(reasons)} without a prediction: {', '.join(sorted(set(reasons)))})"
    print(f"{result.input}: {result.frames} frames, {windows}, {result.speed:.1f} frames/s, {result.backend}")
    strongest = result.strongest
    if strongest:
        share = strongest.probabilities.max()
        print(
            f"  strongest motion {strongest.onset_time:.2f} to {strongest.apex_time:.2f} s: "
            f"{result.name(strongest)} {share:.0%}"
        )
    for note in result.notes:
        print(f"  note: {note}")
    print(f"  look at {printable(str(result.paths['page']))}")
    return result.stopped
