"""`gammer` with the tiny task behind its verbs: what a sweep's row runs where its real fit is tested."""

import sys
from pathlib import Path

from gammer_lightning import cli
from gammer_lightning.training import settings

sys.path.insert(0, str(Path(__file__).parent))  # rows run without the folder of their script
from tiny_task import TinyData, TinyModule

if __name__ == "__main__":
    settings.magnify = lambda: settings.Task("magnify", TinyModule, TinyData)
    sys.exit(cli.main(sys.argv[1:]))
