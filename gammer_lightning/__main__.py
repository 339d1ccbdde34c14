"""``python -m gammer_lightning``: the ``gammer`` command."""

import sys

from gammer_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
