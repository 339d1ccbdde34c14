"""What a prediction costs: time and parameters of the deployed network."""

import time
from statistics import median

import torch
from pytorch_lightning.plugins.precision import Precision

from gammer_lightning.data.recognition_data import RecognitionData
from gammer_lightning.models.recognizer import Recognizer, count_parameters

REPEATS = 30


def deployment_costs(
    network: Recognizer, data: RecognitionData, device: torch.device, precision: Precision
) -> dict[str, float]:
    """Measure the deployed network and its input, one clip at a time.

    Args:
        network: The deployed network, in evaluation mode and on the device.
        data: The DataModule after its setup.
        device: The device of the network and of the magnifier.
        precision: The Trainer's precision, in which the network runs.

    Returns:
        ``latency_ms``, the median time of the network for one clip; ``input_ms``, that of the clip's input from the
        crops of onset and apex on; and ``parameters``, the number of trainable values.
    """
    clip = precision.convert_input(torch.zeros(1, *data.input_shape, device=device))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        with torch.no_grad(), precision.forward_context():
            network(clip).argmax(-1).item()  # waits for a GPU, too
        times.append(1000 * (time.perf_counter() - start))
    return {
        "latency_ms": median(times),
        "input_ms": data.time_input(device),
        "parameters": float(count_parameters(network)),
    }
