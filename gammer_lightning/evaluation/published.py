"""The paper's Tables 1 and 2 as data: the figures that it prints of itself and of others.

They come from many protocols, and those of the paper itself from a split that is not leave-one-subject-out: its
accuracies fit no standard clip count. They are there to be looked at, never as targets.

Source: Wu et al. 2024, Tables 1 and 2.
"""

from collections.abc import Iterable, Sequence
from typing import Any

DATASETS = {"casme2": "CASME II", "samm": "SAMM", "smic": "SMIC-HS"}
# System: accuracy and F1 on CASME II, SAMM, SMIC-HS; None where the paper has N/A.
TABLES: dict[int, dict[str, Sequence[float | None]]] = {
    3: {
        "LBP-TOP": (0.7026, 0.7429, 0.3954, 0.4102, 0.2000, 0.5280),
        "Bi-WOOF": (0.7805, 0.8026, 0.5211, 0.5139, 0.5727, 0.5829),
        "CapsuleNet": (0.7068, 0.7018, 0.6209, 0.5989, 0.5820, 0.5877),
        "SSSN": (0.7119, 0.7151, 0.5662, 0.4513, 0.6341, 0.6329),
        "DSSN": (0.7080, 0.7300, 0.5735, 0.4664, 0.6341, 0.6462),
        "OFF-ApexNet": (0.8764, 0.8680, 0.5409, 0.5409, 0.6817, 0.6695),
        "Graph-TCN": (0.8648, 0.8871, 0.8050, 0.7657, None, None),
        "AU-GACN": (0.7120, 0.3550, 0.7020, 0.4330, None, None),
        "GACNN": (0.8966, 0.8695, 0.9098, 0.8463, None, None),
        "micron-BERT": (0.9034, 0.8914, None, None, 0.8580, 0.8384),
        "SelfME": (0.9078, 0.9290, None, None, 0.6970, 0.7012),
        "GAM-MM-MER": (0.9157, 0.9122, 0.9125, 0.9134, 0.8622, 0.8710),
    },
    5: {
        "LBP-TOP": (0.3968, 0.3589, 0.3556, 0.3589),
        "LBP-SIP": (0.4656, 0.4480, None, None),
        "STLBP-IP": (0.6397, 0.6125, None, None),
        "Bi-WOOF": (0.5789, 0.6100, None, None),
        "CNN-LSTM": (0.6098, None, None, None),
        "SSSN": (0.7119, 0.7151, 0.5662, 0.4513),
        "DSSN": (0.7078, 0.7297, 0.5735, 0.4644),
        "Graph-TCN": (0.7398, 0.7246, 0.7500, 0.6985),
        "AU-GACN": (0.7427, 0.7047, 0.7426, 0.7045),
        "GACNN": (0.8252, 0.7517, 0.8971, 0.8365),
        "micron-BERT": (0.8553, 0.8348, 0.8386, 0.8475),
        "C3DBed": (0.7764, 0.7520, 0.8126, 0.8067),
        "GAM-MM-MER": (0.8609, 0.8655, 0.8788, 0.8817),
    },
}
MEGC = {
    **dict.fromkeys(("LBP-TOP", "Bi-WOOF", "OFF-ApexNet"), "UF1 / UAR of MEGC 2019"),
    **dict.fromkeys(("CapsuleNet", "micron-BERT", "SelfME"), "UF1 / UAR of MEGC 2019 (as we remember them)"),
}
"""Systems whose figures for three classes are no accuracy and F1, whatever the paper prints above them."""
TABLE_CLASSES = {"table1": 3, "table2": 5}
METRICS = "metrics"
"""Key beside a row's published figures: their names, where they are not accuracy and F1."""
REMARK = "remark"
"""Key beside a row's published figures: a remark on them."""
TEXTS = (METRICS, REMARK)
REMARKS = {
    3: {"SSSN": "the paper prints the same figures of SSSN for three and for five classes"},
    5: {
        "SSSN": "the paper prints the same figures of SSSN for three and for five classes",
        "GAM-MM-MER": "the paper's text has .9024 for GAM-MM-MER's F1 on SAMM",
    },
}
NOTES = {
    3: "* printed as accuracy and F1, but they are UF1 and UAR of MEGC 2019 (of three of them from memory).",
    5: "",
}


def paper_figures(name: str, rows: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what a table of the paper says of some rows, as `gammer_lightning.sweep.spec.Sweep.published` has it.

    Args:
        name: ``table1`` or ``table2``.
        rows: Names of rows; those that bear no system's name have no figures.
    """
    classes = TABLE_CLASSES[name]
    published: dict[str, dict[str, Any]] = {}
    for system in rows:
        if system in TABLES[classes]:
            figures = TABLES[classes][system]
            pairs = zip(figures[::2], figures[1::2], strict=True)
            datasets = zip(DATASETS, pairs, strict=False)  # no SMIC-HS of five classes
            published[system] = {f"{dataset}_{classes}": list(pair) for dataset, pair in datasets}
            if classes == 3 and system in MEGC:
                published[system][METRICS] = MEGC[system]
            if system in REMARKS[classes]:
                published[system][REMARK] = REMARKS[classes][system]
    return published
