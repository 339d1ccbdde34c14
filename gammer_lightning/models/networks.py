"""The recognition networks by name, imported when they are asked for."""

import difflib
from collections.abc import Sequence
from importlib import import_module

import torch

from gammer_lightning.errors import GammerError
from gammer_lightning.models.recognizer import Recognizer

NETWORKS = {
    "gam_mer": "gam_mer.GamMer",
    "off_apexnet": "baselines.off_apexnet.OffApexNet",
    "sssnet": "baselines.sssnet.SSSNet",
    "sssn": "baselines.sssn.SSSN",
    "dssn": "baselines.sssn.DSSN",
    "ststnet": "baselines.ststnet.STSTNet",
    "graph_tcn": "baselines.graph_tcn.GraphTCN",
    "au_gacn": "baselines.au_gacn.AuGacn",
    "gacnn": "baselines.gacnn.Gacnn",
    "fgrmer": "baselines.fgrmer.Fgrmer",
    "c3dbed": "baselines.c3dbed.C3DBed",
    "capsulenet": "baselines.capsulenet.CapsuleNet",
    "cnn_lstm": "baselines.cnn_lstm.CnnLstm",
    "micron_bert": "baselines.micron_bert.MicronBert",
    "selfme": "baselines.selfme.SelfME",
    "r2plus1d": "baselines.r2plus1d.R2Plus1D",
    "resnet18": "baselines.resnet18.ResNet18",
    "linear_svm": "baselines.linear_svm.LinearSvm",
    "rbf_svm": "baselines.rbf_svm.RbfSvm",
}
"""Value of ``model.network``: module and class below ``gammer_lightning.models``."""


def network_class(name: str) -> type[Recognizer]:
    """Return the class of a network.

    Raises:
        GammerError: If no network has that name.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        raise GammerError(
            f"model.network {name!r}",
            f"one of {', '.join(NETWORKS)}",
            f"did you mean {near[0]}?" if near else "model.network gam_mer",
        )
    module, _, kind = NETWORKS[name].rpartition(".")
    return getattr(import_module(f"gammer_lightning.models.{module}"), kind)


def build_without_memory(name: str, num_classes: int, input_shape: Sequence[int]) -> Recognizer:
    """Build a network without memory for its weights, to see whether it takes an input.

    Raises:
        GammerError: If it does not.
    """
    with torch.device("meta"):
        return network_class(name)(num_classes, tuple(input_shape))
