"""`gammer sweep ...` whose rows are run by fake_fit.py: a supervisor to be stopped and killed."""

import os
import sys
from pathlib import Path

from gammer_lightning import cli
from gammer_lightning.sweep.queue import child, lease, storage, study, supervisor

if __name__ == "__main__":
    child.ENTRY = (sys.executable, str(Path(__file__).with_name("fake_fit.py")))
    supervisor.LOOK = 0.2
    if "GAMMER_TEST_GRACE" in os.environ:
        storage.GRACE = int(os.environ["GAMMER_TEST_GRACE"])
        storage.HEARTBEAT = lease.HEARTBEAT = 1
        lease.FENCE, lease.WATCH = storage.GRACE - 1, 0.1
        study.SUSPECT_SECONDS = 2
    sys.exit(cli.main(["sweep", *sys.argv[1:]]))
