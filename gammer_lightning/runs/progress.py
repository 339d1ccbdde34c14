"""What a run tells the supervisor of its sweep: epochs done, and what it needs when memory is short."""

TRIAL_VARIABLE = "GAMMER_SWEEP_TRIAL"
"""In the environment of a row's process: JSON with study, storage, trial_id."""


PROGRESS = "progress.json"
"""In the run folder: epochs done and planned."""


CHUNK_ADVICE = "e.g. --model.member_chunk={}"
"""How a recognition run that is short of memory says what might fit."""
