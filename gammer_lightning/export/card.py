"""The model card of a bundle: what it was trained on, how it was judged, where its limits are, who allows what."""

from collections.abc import Mapping

from gammer_lightning.data.clips.datasets import DATASETS
from gammer_lightning.deploy.facts import BundleFacts, BundleFile
from gammer_lightning.escapes import markdown_cell
from gammer_lightning.evaluation.folds import INNER, LEAKY, PROTOCOLS
from gammer_lightning.evaluation.results import MICROFACES_NOTE
from gammer_lightning.faces.graph import REGIONS
from gammer_lightning.reports.tables import markdown_table, mean_and_std

METRICS = {"uf1": "UF1", "uar": "UAR", "accuracy": "accuracy"}
LIMITS = (
    "One upright, frontal face, about 40 px wide or more; the onset shows the same face before it moves.",
    "Clips of a laboratory at a high frame rate (CASME II: 200 a second). At 25 to 30 frames a second a "
    "micro-expression lasts a handful of frames, and may be missed.",
    "Magnification shows noise, blinks and head motion larger, too; a magnified frame is no photograph of anything.",
    "An expression is not an emotion, and a class is not what somebody feels or means. Not for decisions about people.",
)
LANDMARK_NOTE = (
    "Faces are aligned with dlib's 68-point landmark model, trained on iBUG 300-W, whose licence excludes commercial "
    "use. The model is not part of this bundle; commercial use needs another one, or iBUG's permission."
)

JUDGED_NOTE = "Each clip was judged by a network that had not seen its subject."
NOTES = {
    PROTOCOLS[LEAKY]: "**This protocol leaks: each clip was judged by a network that had trained on it at other "
    "alphas.**",
    PROTOCOLS[INNER]: f"{JUDGED_NOTE} **This is validation: settings may have been chosen by it.**",
}
SEEN_NOTE = (
    "The exported network has trained on all the clips that were judged, so its own score on them says nothing and is "
    "not given."
)
HALF_NOTE = (
    "Each layer's result is rounded to fp16 there, as in TensorRT, whose sums inside a layer may differ. onnxruntime, "
    "which the files are compared with first, computes most of an fp16 file at fp32 on a CPU: that shows little more "
    "than the rounding of the weights."
)


def model_card(facts: BundleFacts) -> str:
    """Return MODEL_CARD.md for what bundle.json says."""
    sections = {
        "Use": _use(facts),
        "Training": _training(facts),
        "Results": _results(facts),
        "Half precision": _half(facts),
        "Limits": [f"- {line}" for line in (_alpha_limit(facts), *LIMITS)],
        "Licences": [f"- {line}" for line in _licences(facts)],
        "Files": _files(facts.files),
    }
    body = [line for title, lines in sections.items() if lines for line in (f"## {title}", "", *lines, "")]
    classes = ", ".join(map(markdown_cell, facts.classes))
    head = f"{len(facts.classes)} classes ({classes}), trained on {_datasets(facts)}"
    return "\n".join(
        [
            f"# {markdown_cell(facts.run.name)}: micro-expressions by motion magnification",
            "",
            f"{head}.",
            "",
            *body,
        ]
    )


def _datasets(facts: BundleFacts) -> str:
    return ", ".join(DATASETS[name].title for name in facts.datasets)


def _use(facts: BundleFacts) -> list[str]:
    return [
        "```python",
        "import gammer_lightning",
        "",
        'gammer_lightning.predict("this/folder", "video.mp4", out="out")',
        "```",
        "",
        f"ST-MEMM (`{facts.magnifier.preset}`) magnifies the motion from an onset to an apex frame by alpha "
        f"{facts.alpha:g}; GAM-MER classifies {facts.patch_size} px patches around {len(facts.nodes)} of 68 "
        f"landmarks ({', '.join(facts.regions)}; {facts.graph} graph) of the {_shown(facts)}.",
    ]


def _shown(facts: BundleFacts) -> str:
    difference = "difference of the magnified apex from the onset"
    return {"apex": "magnified apex", "difference": difference, "both": f"magnified apex and the {difference}"}[
        facts.input
    ]


def _training(facts: BundleFacts) -> list[str]:
    run, magnifier = facts.run, facts.magnifier
    folder, commit = f"{markdown_cell(run.name)}/{markdown_cell(run.folder)}", markdown_cell(str(run.commit))
    alphas = ", ".join(f"{alpha:g}" for alpha in facts.train_alphas)
    lines = [
        f"- Data: {_trained_on(facts)}.",
        f"- Input while training: alpha {alphas}. {run.epochs} epochs, fixed beforehand.",
        f"- Magnifier: `{markdown_cell(magnifier.name)}`, fingerprint `{markdown_cell(magnifier.fingerprint)[:16]}`.",
        f"- Run `{folder}`, commit `{commit}`; exported by gammer-lightning {facts.package}, commit `{facts.commit}`.",
    ]
    if magnifier.replaced:
        trained_with = markdown_cell(magnifier.trained_with)
        lines.append(f"- **GAM-MER was trained on frames of another magnifier, `{trained_with}`.**")
    return lines


def _trained_on(facts: BundleFacts) -> str:
    evaluated, trained = facts.clips, facts.training
    which = "which are those that were judged" if evaluated == trained.clips else f"of which {evaluated} were judged"
    left_out = "; the subjects of one outer fold were left out" if facts.protocol == PROTOCOLS[INNER] else ""
    return f"{trained.clips} clips of {trained.subjects} subjects, {which}{left_out}"


def _results(facts: BundleFacts) -> list[str]:
    mean, std, seeds = facts.metrics.mean, facts.metrics.std, facts.metrics.seeds
    spread = "mean ± standard deviation over seeds" if seeds > 1 else "one seed: no spread"
    rows = [[METRICS.get(key, key), mean_and_std(mean[key], std[key])] for key in mean]
    notes = ["", MICROFACES_NOTE] if "microfaces" in facts.datasets else []
    return [
        f"Protocol: {markdown_cell(facts.protocol)}. {facts.clips} clips of {facts.subjects} subjects were "
        f"judged; SHA-256 of their list `{markdown_cell(facts.clips_sha256)}`. {seeds} seed(s), {spread}.",
        "",
        *markdown_table(["", "pooled over folds"], rows),
        "",
        f"{NOTES.get(facts.protocol, JUDGED_NOTE)} {SEEN_NOTE}",
        *notes,
    ]


def _half(facts: BundleFacts) -> list[str]:
    """Return what fp16 changes; nothing where that was not measured."""
    if not facts.fp16:
        return []
    headings = ["computed by", "predictions that change", "largest change of a probability", "of a pixel, of 1"]
    rows = [
        [name, f"{change.changed} of {change.clips}", f"{change.probability:.4f}", f"{change.frame:.4f}"]
        for name, change in facts.fp16.items()
    ]
    return [
        f"The run's clips magnified at alpha {facts.alpha:g}, cut and classified, against PyTorch fp32; all finite:",
        "",
        *markdown_table(headings, rows),
        "",
        HALF_NOTE,
    ]


def _alpha_limit(facts: BundleFacts) -> str:
    least, largest = facts.alpha_range
    unused = sorted(set(REGIONS) - set(facts.regions)) if "all" not in facts.regions else []
    blind = f" It does not look at: {', '.join(unused)}." if unused else ""
    return f"Trained and judged at alpha {least:g} to {largest:g}; beyond, nothing is known.{blind}"


def _licences(facts: BundleFacts) -> list[str]:
    licensed = [name for name in facts.datasets if name != "microfaces"]
    notes = [
        f"{DATASETS[name].title}: {DATASETS[name].get}. Research use; ask its owners about weights."
        for name in licensed
    ]
    if "microfaces" in facts.datasets:
        notes.append("microfaces: generated; its two default portraits are in the public domain, others need not be.")
    weights = "The code and the shipped weights `st-memm-small`: Apache-2.0."
    return [LANDMARK_NOTE, *notes, weights]


def _files(files: Mapping[str, BundleFile]) -> list[str]:
    rows = [
        [name, file.graph, file.precision, str(file.batch or "-"), f"{file.bytes / 1e6:.2f}", f"`{file.sha256[:16]}`"]
        for name, file in files.items()
    ]
    return markdown_table(["file", "graph", "precision", "batch", "MB", "SHA-256"], rows)
