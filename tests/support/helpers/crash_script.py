"""Runs that kill themselves with SIGKILL at a chosen moment, and their resumption.

    python -m helpers.crash_script FOLDER [SETTINGS]

With settings, a JSON object, only the moments of
``fedprune.simulations.engines.faults``; without, the moments of ``LATE`` are those of a
run with a control.  Runs once undisturbed, which imports and warms everything, and
forks for each of the other runs.
Writes ``FOLDER/results.json``: for each case the signal that ended the first process,
and the run folder.
"""

import json
import sys
from pathlib import Path

import fedprune.client.rounds.train
import fedprune.server.runs.checkpoint
import fedprune.server.runs.loop
import fedprune.server.runs.record.rounds
import fedprune.simulations.runs.run
from fedprune.simulations.engines.faults import (
    MOMENTS,
    before_rename,
    completed,
    forked,
    nth_call,
)
from fedprune.simulations.runs.api import simulate
from helpers.small_runs import only_run, small_settings

UNDISTURBED = "undisturbed"
CONTROLLED = "undisturbed, with a control"
LATE = ("in the control run", "when all rounds are done")


def half_a_line(_append, path, line):
    with path.open("a", encoding="utf-8") as file:
        file.write(line[: len(line) // 2])


def truncate_newest(folder):
    newest = max((folder / "checkpoints").glob("main-round-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-100])


def flip_newest(folder):
    newest = max((folder / "checkpoints").glob("main-round-*.safetensors"))
    data = bytearray(newest.read_bytes())
    data[-100] ^= 1
    newest.write_bytes(data)


# Each arms a trap in the process that is to die.
TRAPS = MOMENTS | {
    "in the first step of all": lambda: nth_call(
        fedprune.client.rounds.train, "_step", 1
    ),
    "while a residual is written": lambda: before_rename("round-0", 10),
    "before a part of a checkpoint is renamed": lambda: before_rename("main-part-", 4),
    "before a checkpoint's journal line": lambda: nth_call(
        fedprune.server.runs.checkpoint, "_append_line", 3
    ),
    "in the middle of a journal line": lambda: nth_call(
        fedprune.server.runs.checkpoint, "_append_line", 3, half_a_line
    ),
    "when a cut is logged and not yet kept": lambda: nth_call(
        fedprune.server.runs.record.rounds, "_log_cut", 1, completed
    ),
    "in the control run": lambda: nth_call(fedprune.client.rounds.train, "_step", 300),
    "when all rounds are done": lambda: nth_call(
        fedprune.simulations.runs.run, "write_models", 1
    ),
}
# What befalls the run folder of a run that died late, before it is resumed.
DAMAGES = {
    "a truncated newest checkpoint": truncate_newest,
    "a flipped bit in the newest checkpoint": flip_newest,
}


def play(folder, trap, damage, changes):
    def start():
        trap()
        simulate(config=small_settings(folder, changes))

    ended = forked(start)
    run = only_run(folder)
    left = sorted(path.name for path in run.rglob("*") if path.is_file())
    damage(run)
    resumed = forked(lambda: simulate(resume_from=run))
    return {"ended": ended, "left": left, "resumed": resumed, "run": str(run)}


def main():
    fedprune.simulations.runs.run._report = lambda folder: None
    base = Path(sys.argv[1])
    given = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    controlled = {"run.controls": ["dense"]}
    late = TRAPS["right after the round of a cut"]
    traps = MOMENTS if given else TRAPS
    cases = {name: (trap, lambda run: None) for name, trap in traps.items()}
    whole = {UNDISTURBED: given}
    if not given:
        cases |= {name: (late, damage) for name, damage in DAMAGES.items()}
        whole |= {CONTROLLED: controlled}
    results = {
        name: {
            "run": str(simulate(config=small_settings(base / name, changes)).directory)
        }
        for name, changes in whole.items()
    }
    for number, (name, (trap, damage)) in enumerate(cases.items()):
        changes = controlled if name in LATE else given
        results[name] = play(base / str(number), trap, damage, changes)
    (base / "results.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
