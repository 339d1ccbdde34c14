"""Stands in for `gammer TASK fit` where only a sweep's supervisor is tested: a run of five short epochs, resumable.

It leaves what the supervisor reads of a run folder, and a file VIOLATION where two processes work on one run, or one
works on a run that had ended. `SweptModule` has the settings that say how it behaves: seconds of an epoch, the metric
that it logs, and at which epoch it fails, how many times, with which exit code.
"""

import fcntl
import json
import os
import shlex
import sys
import time
from pathlib import Path

from gammer_lightning.files import replacing

EPOCHS = 5


def write(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


def record_of(run):
    return Path(str(run).split("-member_chunk")[0] + ".failures")


def failures(run):
    path = record_of(run)
    return int(path.read_text()) if path.exists() else 0


def main(argv):
    flags = dict(word.split("=", 1) for word in argv if word.startswith("--") and "=" in word)
    resumed = "--resume" in argv
    run = Path(argv[argv.index("--resume" if resumed else "--out") + 1])
    lock = os.open(f"{run}.lock", os.O_CREAT | os.O_RDWR)  # beside the folder, which may be cleared
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        Path(f"{run}.VIOLATION two processes").touch()
    if (run / "ended").exists():
        Path(f"{run}.VIOLATION ran again").touch()
    if not resumed:
        (run / "command.txt").write_text(shlex.join(["gammer", *argv]) + "\n")
        chunk = flags.get("--model.member_chunk")
        write(run / "config.yaml", json.dumps({"model": {"member_chunk": chunk and int(chunk)}}))
        write(run / "env.json", json.dumps({"task": argv[0], "finished": False}))
    else:
        flags = dict(w.split("=", 1) for w in shlex.split((run / "command.txt").read_text()) if "=" in w)
    last = run / "checkpoints" / "last.ckpt"
    done = int(last.read_text()) if last.exists() else 0
    for epoch in range(done + 1, EPOCHS + 1):
        time.sleep(float(flags.get("--model.sleep", 0.02)))
        if int(flags.get("--model.fail", 0)) == epoch and failures(run) < int(flags.get("--model.times", 1)):
            record_of(run).write_text(str(failures(run) + 1))
            if epoch == 1:  # as the real fit does where nothing began
                (run / "config.yaml").unlink()
            chunk = int(flags.get("--model.member_chunk", 16)) // 2
            advice = f", e.g. --model.member_chunk={min(8, chunk)}" if argv[0] == "recognize" and chunk else ""
            print(f"error: trouble\n  rule: none\n  next: lower it{advice}", flush=True)
            return int(flags.get("--model.exit", 1))
        with (run / "epochs.txt").open("a") as lines:
            lines.write(f"{epoch}\n")
        write(last, str(epoch))
        write(run / "progress.json", json.dumps({"epoch": epoch, "of": EPOCHS}))
    score = flags.get("--model.score", 0.25)
    (run / "metrics.csv").write_text(f"epoch,train_loss,val_loss\n1,0.9,\n{EPOCHS},0.5,{score}\n")
    write(run / "env.json", json.dumps({"task": argv[0], "finished": True}))
    (run / "ended").touch()  # last, or a kill in between would let the run go on rightly, yet look wrong
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
