"""Pure networks, no Lightning: one file a network."""

import warnings

warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated")  # torch-geometric's import
