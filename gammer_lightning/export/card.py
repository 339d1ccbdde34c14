"""The model card of a bundle: what it was trained on, how it was judged, where its limits are, who allows what."""

from collections.abc import Mapping

from gammer_lightning.data.clips.clip import is_microfaces
from gammer_lightning.data.clips.datasets import dataset_of
from gammer_lightning.deploy.facts import BundleFacts, BundleFile
from gammer_lightning.escapes import markdown_cell
from gammer_lightning.evaluation.folds import INNER, LEAKY, PROTOCOLS
from gammer_lightning.evaluation.results import MICROFACES_NOTE
from gammer_lightning.faces.graph import REGIONS
from gammer_lightning.reports.tables import markdown_table, mean_and_std

METRICS = {"uf1": "UF1", "uar": "UAR", "accuracy": "accuracy"}
INPUTS = {
    "apex": "magnified apex",
    "difference": "difference of the magnified apex from the onset",
    "both": "magnified apex and the difference of the magnified apex from the onset",
}
"""What patches show, in words."""
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
    classes = ", ".join(map(markdown_cell, facts.classes))
    datasets = ", ".join(dataset_of(name).title for name in facts.datasets)
    lines = [
        f"# {markdown_cell(facts.run.name)}: micro-expressions by motion magnification",
        "",
        f"{len(facts.classes)} classes ({classes}), trained on {datasets}.",
        "",
    ]
    for title, section in sections.items():
        if section:
            lines += [f"## {title}", "", *section, ""]
    return "\n".join(lines)


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
        f"landmarks ({', '.join(facts.regions)}; {facts.graph} graph) of the {INPUTS[facts.input]}.",
    ]


def _training(facts: BundleFacts) -> list[str]:
    run = facts.run
    magnifier = facts.magnifier
    folder = f"{markdown_cell(run.name)}/{markdown_cell(run.folder)}"
    commit = markdown_cell(str(run.commit))
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
    training = facts.training
    text = f"{training.clips} clips of {training.subjects} subjects, "
    if facts.clips == training.clips:
        text += "which are those that were judged"
    else:
        text += f"of which {facts.clips} were judged"
    if facts.protocol == PROTOCOLS[INNER]:
        text += "; the subjects of one outer fold were left out"
    return text


def _results(facts: BundleFacts) -> list[str]:
    mean = facts.metrics.mean
    std = facts.metrics.std
    seeds = facts.metrics.seeds
    spread = "mean ± standard deviation over seeds" if seeds > 1 else "one seed: no spread"
    rows = [[METRICS.get(key, key), mean_and_std(mean[key], std[key])] for key in mean]
    notes = ["", MICROFACES_NOTE] if any(map(is_microfaces, facts.datasets)) else []
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
    text = f"Trained and judged at alpha {least:g} to {largest:g}; beyond, nothing is known."
    unused = sorted(set(REGIONS) - set(facts.regions))
    if unused and "all" not in facts.regions:
        text += f" It does not look at: {', '.join(unused)}."
    return text


def _licences(facts: BundleFacts) -> list[str]:
    notes = []
    for name in facts.datasets:
        if not is_microfaces(name):
            dataset = dataset_of(name)
            notes.append(f"{dataset.title}: {dataset.get}. Research use; ask its owners about weights.")
    if any(map(is_microfaces, facts.datasets)):
        notes.append("microfaces: generated; its two default portraits are in the public domain, others need not be.")
    weights = "The code and the shipped weights `st-memm-small`: Apache-2.0."
    return [LANDMARK_NOTE, *notes, weights]


def _files(files: Mapping[str, BundleFile]) -> list[str]:
    rows = []
    for name, file in files.items():
        batch = str(file.batch or "-")
        size = f"{file.bytes / 1e6:.2f}"
        rows.append([name, file.graph, file.precision, batch, size, f"`{file.sha256[:16]}`"])
    return markdown_table(["file", "graph", "precision", "batch", "MB", "SHA-256"], rows)
