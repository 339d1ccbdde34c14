"""``gammer demo``: the whole pipeline on the embedded benchmark, through the same code as the other verbs."""

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from gammer_lightning.commands.options import whole
from gammer_lightning.shipped import ROOT

EXPERIMENTS = ROOT / "experiments"
CONDITIONS = {
    "raw": (1.0, [1]),
    "alpha 5": (5.0, [8, 10, 12, 15]),
}  # name -> evaluation alpha, training alphas


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gammer demo``."""
    parser.add_argument("--out", default="demo", help="folder of its data, cache and runs (default: %(default)s)")
    parser.add_argument("--subjects", type=whole(2, 1000), default=12, help="pseudo-subjects (default: %(default)s)")
    parser.add_argument("--clips-per-class", type=whole(1, 1000), default=2, help="per subject (default: %(default)s)")
    parser.add_argument("--epochs", type=whole(1, 1_000_000), default=30, help="of recognition (default: %(default)s)")
    parser.add_argument(
        "--steps", type=whole(1, 1_000_000), default=30, help="of magnifier training (default: %(default)s)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Run the demo and print its table."""
    from gammer_lightning.files import check_writable

    started = time.monotonic()
    out = Path(arguments.out)
    check_writable(out)
    runs = out / "runs" / time.strftime("%Y%m%d-%H%M%S")
    _step("1/4 microfaces: clips of known motion, in CASME II's layout")
    _synthesize(out / "microfaces", arguments)
    _step(f"2/4 pretraining ST-MEMM: {arguments.steps} steps, to show the path; recognition uses the shipped weights")
    _train_magnifier(runs / "magnify", arguments.steps)
    for number, (name, alphas) in enumerate(CONDITIONS.items(), 3):
        _step(f"{number}/4 GAM-MER, leave one subject out, {name}")
        _recognize(runs / name.replace(" ", ""), out, arguments.epochs, *alphas)
    print(table(runs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"figures: {runs}/*/figures   clips: {out / 'microfaces' / 'contact_sheet.png'}")
    print(f"{time.monotonic() - started:.0f} s, {peak:.1f} GB at most")


def _step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def _synthesize(root: Path, arguments: argparse.Namespace) -> None:
    from gammer_lightning.commands import data_synthesize

    parser = argparse.ArgumentParser()
    data_synthesize.add_arguments(parser)
    size = [f"--subjects={arguments.subjects}", f"--clips-per-class={arguments.clips_per_class}"]
    data_synthesize.main(parser.parse_args([f"--out={root}", *size]))


def _train_magnifier(run: Path, steps: int) -> None:
    from gammer_lightning.training.fit import fit
    from gammer_lightning.training.settings import magnify

    config = str(EXPERIMENTS / "magnify_small.yaml")
    short = [f"--trainer.limit_train_batches={steps}", "--data.val_samples=12", "--trainer.max_epochs=1"]
    fit(magnify(), ["-c", config, "--out", str(run), *short])


def _recognize(run: Path, out: Path, epochs: int, eval_alpha: float, train_alphas: Sequence[float]) -> None:
    from gammer_lightning.training.fit import fit
    from gammer_lightning.training.settings import recognize

    settings = {
        "data.roots.microfaces": out / "microfaces",
        "data.cache": out / "cache",
        "data.eval_alpha": eval_alpha,
        "data.train_alphas": list(train_alphas),
        "trainer.max_epochs": epochs,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    config = str(EXPERIMENTS / "recognize_microfaces.yaml")
    fit(recognize(), ["-c", config, "--out", str(run), *flags])


def table(runs: Path) -> str:
    """The demo's table: a row a condition, mean and standard deviation over seeds, from the runs' results.json."""
    from gammer_lightning.evaluation.results import MICROFACES_NOTE
    from gammer_lightning.evaluation.run_results import RESULTS, RunResults
    from gammer_lightning.reports.tables import markdown_table, mean_and_std

    results: dict[str, RunResults] = {}
    for name in CONDITIONS:
        path = runs / name.replace(" ", "") / RESULTS
        results[name] = RunResults.from_file(path, "run the demo again")
    rows = []
    for name, scores in results.items():
        cells = [mean_and_std(scores.mean[score], scores.std[score]) for score in ("uf1", "uar", "accuracy")]
        rows.append([name, *cells])
    lines = ["", *markdown_table(["input of GAM-MER", "UF1", "UAR", "accuracy"], rows)]
    first = next(iter(results.values()))
    note = (
        f"{first.clips} clips, {first.subjects} subjects, leave one subject out, {len(first.seeds)} seeds "
        "(mean ± standard deviation)."
    )
    return "\n".join([*lines, "", note, MICROFACES_NOTE, ""])
