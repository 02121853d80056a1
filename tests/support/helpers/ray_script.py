"""The same small run on Ray with each of some numbers of workers.

    python -m helpers.ray_script FOLDER WORKERS... [KEY=JSON...]

Writes ``FOLDER/results.json``: number of workers -> run folder.
"""

import json
import sys
from pathlib import Path

import fedprune.simulations.runs.run
from fedprune.simulations.runs.api import simulate
from helpers.small_runs import PARTIAL, small_settings


def main():
    fedprune.simulations.runs.run._report = lambda folder: None
    base, results = Path(sys.argv[1]), {}
    changes = dict(word.split("=", 1) for word in sys.argv[2:] if "=" in word)
    wanted = {key: json.loads(value) for key, value in changes.items()} or PARTIAL
    for workers in (word for word in sys.argv[2:] if "=" not in word):
        changes = wanted | {"run.engine": "ray", "run.workers": int(workers)}
        done = simulate(config=small_settings(base / workers, changes))
        results[workers] = str(done.directory)
    (base / "results.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
