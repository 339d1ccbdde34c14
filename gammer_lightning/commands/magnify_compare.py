"""`gammer magnify compare`: magnifiers side by side, on one clip (the paper's Figs. 1 and 9) and by one protocol."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from tqdm import tqdm

from gammer_lightning.data.clips.clip import Clip
from gammer_lightning.data.clips.datasets import find_root, read_datasets
from gammer_lightning.data.microfaces.facial_actions import UNIT_COLUMNS
from gammer_lightning.data.microfaces.truth import load_performance, render_pair, true_frames
from gammer_lightning.data.motion.datamodule import MotionPairs
from gammer_lightning.data.motion.render import SUBPIXEL_MOTIONS
from gammer_lightning.errors import GammerError
from gammer_lightning.escapes import spreadsheet_cell
from gammer_lightning.evaluation.magnification import as_text, protocol_row, score_microfaces
from gammer_lightning.files import check_writable, read_image, replacing
from gammer_lightning.machine import git_state, interleaved
from gammer_lightning.magnifiers import Magnifier, load_magnifier
from gammer_lightning.pixels import to_floats

MAGNIFIERS = ("st-memm-small", "eulerian", "phase", "lagrangian", "none")
ALPHAS = (5.0, 8.0, 10.0, 12.0, 15.0, 20.0)
SHOWN_MOTIONS = (0.04, 0.10, 0.32, 1.0)  # px, of the table; compare.csv has all
SIDE, REPEATS = 256, 5
RANGES = {"clips": (1, 100_000), "scenes": (1, 1000), "size": (32, 1024)}
"""Least and largest values of options."""
TILE = 100  # px, width of a frame in the figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gammer magnify compare`."""
    parser.add_argument(
        "--magnifiers",
        nargs="+",
        default=MAGNIFIERS,
        metavar="NAME",
        help="names, run folders or checkpoints (default: all that need no training)",
    )
    parser.add_argument("--root", help="folder of the clips (default: data/microfaces)")
    parser.add_argument("--dataset", default="microfaces", help="what they are; others have no exact truth")
    parser.add_argument("--clip", metavar="KEY", help="clip that is drawn (default: microfaces' strongest expression)")
    parser.add_argument(
        "--clips", type=int, default=6, help="clips with exact truth that are scored (default: %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=2, help="scenes of the sub-pixel test (default: %(default)s)")
    parser.add_argument("--size", type=int, default=SIDE, help="their side in px (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/magnify/compare"), help="folder (default: %(default)s)")


def main(args: argparse.Namespace) -> None:
    """Run `gammer magnify compare`.

    Raises:
        GammerError: A magnifier, the clips or the clip cannot be found, or a number is out of range.
    """
    for name, (least, largest) in RANGES.items():
        value = getattr(args, name)
        if not least <= value <= largest:
            raise GammerError(f"--{name} {value}", f"a number from {least} to {largest:,}", "leave it out")
    check_writable(args.out)  # now, not after the minutes of scoring
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    magnifiers = {name: load_magnifier(name).to(device) for name in dict.fromkeys(args.magnifiers)}
    has_truth = args.dataset == "microfaces"
    root = find_root(args.dataset, args.root or ("data/microfaces" if has_truth else None))
    clips = read_datasets({args.dataset: root})
    clip = find_clip(clips, args.clip, root if has_truth else None)
    with torch.inference_mode():
        picture = draw(clip, magnifiers, root if has_truth else None, device)
        times = frame_times(magnifiers, device)
        tables = [score_subpixel(magnifiers, args.scenes, args.size, device)]
        if has_truth:
            num_clips = min(args.clips, len(clips))
            indices = np.linspace(0, len(clips) - 1, num_clips).round().astype(int)
            tables.append(score_truth(magnifiers, root, [clips[index] for index in indices], device))
    scores = pd.concat(tables, ignore_index=True)
    scores["ms"] = scores.magnifier.map(times)
    print(write(args.out, picture, scores, _conditions(args, clip, device)))


def find_clip(clips: Sequence[Clip], key: str | None, truth: Path | None) -> Clip:
    """Return the clip of a key, or that of the strongest expression.

    Args:
        clips: All clips.
        key: Key, with or without the data set's name.
        truth: The microfaces folder, whose expressions' strengths are known, or None.

    Raises:
        GammerError: There is no such clip, it has no apex, or a key is needed.
    """
    if key is None and truth is not None:
        return max(clips, key=lambda clip: _strength(truth, clip))
    for clip in clips:
        if key in (clip.key, f"{clip.subject}/{clip.name}") and clip.apex is not None:
            return clip
    raise GammerError(
        f"no clip {key} with an apex" if key else "no clip is chosen",
        f"a clip is named by --clip, such as {clips[0].key}",
        "gammer data check lists the clips",
    )


def _strength(root: Path, clip: Clip) -> float:
    performance = load_performance(root, f"sub{clip.subject}/{clip.name}")
    change = performance.at(performance.apex) - performance.at(performance.onset)
    return float(np.abs(change)[: len(UNIT_COLUMNS)].sum())


def draw(clip: Clip, magnifiers: dict[str, Magnifier], truth: Path | None, device: torch.device) -> Figure:
    """Draw a clip's onset, raw apex and magnified apexes, a row a magnifier and the exact truth last.

    Args:
        clip: The clip, whose recorded frames are magnified.
        magnifiers: By name; "none" has no row, since it shows the raw apex.
        truth: The microfaces folder, where the clip is of one.
        device: Where to magnify.
    """
    numbers = (clip.onset, clip.known_apex) if truth is None else true_frames(truth, clip.key)
    frames = [read_image(clip.frame(number)) for number in numbers]
    onset, apex = (to_floats(frame, device)[None] for frame in frames)
    rows = {}
    for name, magnifier in tqdm(magnifiers.items(), "figure", unit="magnifier"):
        if name != "none":
            magnified = magnifier(onset, apex, ALPHAS)[:, 0]
            rows[name] = torch.cat([onset, apex, magnified]).cpu().numpy()
    if truth is not None:
        true_onset, true_apex, true_magnified, _ = render_pair(truth, clip.key, ALPHAS)
        rows["exact truth"] = np.concatenate([true_onset[None], true_apex[None], true_magnified])
    return _grid(rows, f"{clip.key}, {clip.emotion}")


def _grid(rows: dict[str, np.ndarray], title: str) -> Figure:
    columns = ["onset", "raw apex", *(f"α = {alpha:g}" for alpha in ALPHAS)]
    height, width = next(iter(rows.values())).shape[-2:]
    dpi = 100
    tile_width = TILE / dpi
    tile_height = TILE / dpi * height / width
    size = (tile_width * len(columns) + 0.4, tile_height * len(rows) + 0.5)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure(size, dpi, layout=layout)
    figure.suptitle(title, fontsize=8, parse_math=False)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(Path(name).name, fontsize=7, parse_math=False)
        for ax, image in zip(axes, images, strict=True):
            ax.imshow(image.transpose(1, 2, 0).clip(0, 1))
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, column in zip(grid[0], columns, strict=True):
        ax.set_title(column, fontsize=7, pad=2)
    return figure


def frame_times(magnifiers: dict[str, Magnifier], device: torch.device) -> dict[str, float]:
    """Return the median time in ms of a 256x256 pair at one alpha, by magnifier, measured in turns."""
    generator = torch.Generator(device).manual_seed(0)
    onset, apex = torch.rand(2, 1, 3, SIDE, SIDE, device=device, generator=generator)
    steps = {name: partial(magnify, onset, apex, [10.0]) for name, magnify in magnifiers.items()}
    return {row["name"]: row["ms"] for row in interleaved(steps, REPEATS, device.type)}


def score_subpixel(magnifiers: dict[str, Magnifier], scenes: int, size: int, device: torch.device) -> pd.DataFrame:
    """Run the sub-pixel test of `gammer magnify test`: d = .04 to 1 px, alpha = 10 / d, images of no training.

    Args:
        magnifiers: By name.
        scenes: Scenes of each motion.
        size: Side of the scenes in px.
        device: Where to magnify.

    Returns:
        A row for each magnifier and motion (see `protocol_row`).
    """
    data = MotionPairs(test_scenes=scenes, test_size=size, num_workers=0)
    data.setup("test")
    rows = []
    batches = tqdm(data.test_dataloader()[0], "sub-pixel test", unit="motion")
    for motion, scene in zip(SUBPIXEL_MOTIONS, batches, strict=True):
        batch = data.on_after_batch_transfer({key: value.to(device) for key, value in scene.items()}, 0)
        alpha = float(batch["alpha"][0])
        for name, magnify in magnifiers.items():
            frame = magnify(batch["onset"], batch["apex"], [alpha])[0]
            row = {"magnifier": name, "test": "sub-pixel", "value": motion}
            rows.append(row | protocol_row(frame, batch))
    return pd.DataFrame(rows)


def score_truth(
    magnifiers: dict[str, Magnifier], root: Path, clips: Sequence[Clip], device: torch.device
) -> pd.DataFrame:
    """Compare all with the exact truth of microfaces; rows as of `score_microfaces`, its input as the test."""
    tables = []
    for name, magnify in magnifiers.items():
        table = score_microfaces(magnify, root, clips, device).rename(columns={"input": "test"})
        tables.append(table.assign(magnifier=name))
    return pd.concat(tables)


def summary(scores: pd.DataFrame) -> str:
    """Return two Markdown tables: the sub-pixel test with times, and the true apexes of microfaces."""
    subpixel = scores[scores.test == "sub-pixel"]
    gains = subpixel.pivot(index="magnifier", columns="value", values="gain")
    table = gains[list(SHOWN_MOTIONS)].rename(columns="d {:g}".format)
    table["all d"] = gains.mean(axis=1)
    times = subpixel.groupby("magnifier").ms.first().loc[table.index]
    table["ms"] = [f"{time:.0f}" for time in times]
    order = list(dict.fromkeys(scores.magnifier))
    heading = "Sub-pixel test (d px, alpha = 10 / d): SSIM gained over the apex itself; ms for a pair of 256x256 px"
    parts = [heading, as_text(table.loc[order].reset_index())]
    for test in ("clean", "recorded"):
        rows = scores[scores.test == test]
        if rows.empty:
            continue
        wide = rows.pivot(index="magnifier", columns="alpha", values=["gain", "psnr"]).loc[order]
        wide["psnr"] = wide["psnr"].map("{:.2f}".format)
        headings = {"gain": "SSIM gain", "psnr": "dB"}
        wide.columns = [f"{headings[measure]} α {alpha:g}" for measure, alpha in wide.columns]
        parts += [f"microfaces, {test} frames, against true magnified apexes", as_text(wide.reset_index())]
    return "\n\n".join(parts) + "\n"


def _conditions(args: argparse.Namespace, clip: Clip, device: torch.device) -> str:
    git = git_state() or {}
    commit = str(git.get("commit"))[:8]
    return (
        f"Drawn: {clip.key}; {args.scenes} scenes of {args.size} px, {args.clips} clips; {device.type}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, commit {commit}"
    )


def write(out: Path, picture: Figure, scores: pd.DataFrame, conditions: str) -> str:
    """Write compare.png, compare.csv and compare.md into a folder; return the text."""
    text = f"{summary(scores)}\n{conditions}\n"
    with replacing(out / "compare.png") as temporary:
        picture.savefig(temporary)
    with replacing(out / "compare.csv") as temporary:
        scores.map(spreadsheet_cell).to_csv(temporary, index=False, float_format="%.5g")
    with replacing(out / "compare.md") as temporary:
        temporary.write_text(text)
    return f"{text}\n{out}/compare.png, compare.csv, compare.md"
