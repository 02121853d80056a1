"""Mistakes in settings and in commands."""

from fedprune.simulations.benchmarks.kit.mistakes.mistake import (
    BROKEN,
    DATA,
    USAGE,
    mistake,
    settings,
)

CONFIGURATION = (
    mistake(
        "0 unknown key",
        settings("task.mdel=x"),
        USAGE,
        "task.mdel: unknown key",
        'did you mean "task.model"?',
    ),
    mistake(
        "1 unknown key in a file",
        ("simulate", "unknown.toml"),
        USAGE,
        "unknown.toml:3: task.mdel",
        "did you mean",
    ),
    mistake(
        "2 wrong type in a file",
        ("simulate", "wrong-type.toml"),
        USAGE,
        "wrong-type.toml:2: task.clients",
        "want an integer",
    ),
    mistake(
        "5 a name with a typo",
        settings("prune.importance=tailor"),
        USAGE,
        'found "tailor"',
        'did you mean "taylor"?',
    ),
    mistake(
        "6 text without quotes",
        ("simulate", "unquoted.toml"),
        USAGE,
        "unquoted.toml:2",
        "a text stands in quotes",
    ),
    mistake(
        "7 a file of Notepad",
        ("simulate", "notepad.toml"),
        USAGE,
        "notepad.toml:2: run.seed: found -1",
    ),
    mistake(
        "14 a command with a typo",
        ("simulte",),
        USAGE,
        "No such command 'simulte'",
        "Did you mean 'simulate'?",
    ),
    mistake(
        "17 a GPU that is not there",
        settings("run.device=cuda:99"),
        USAGE,
        "run.device is 'cuda:99'",
        "want 'auto'",
    ),
    mistake(
        "19 a budget that cannot be met",
        settings("prune.budget.params=0.001"),
        USAGE,
        "budget params = 0.001 cannot be met",
        "0.0169 of the dense one",
        "prune.width_multiple",
    ),
    mistake(
        "20 a budget in per cent",
        settings("prune.budget.params=30"),
        USAGE,
        "found 30, want a number, > 0 and <= 1",
    ),
    mistake(
        "21 more clients than data",
        settings("task.clients=5000"),
        USAGE,
        "at most one for each of the 1437 training examples",
    ),
    mistake(
        "22 a cohort beyond the clients",
        settings("task.clients=4"),
        USAGE,
        "rounds.cohort: found 10 (the default), want <= task.clients = 4",
    ),
    mistake(
        "23 data without its folder",
        settings("task.data=mnist"),
        USAGE,
        "set task.data_dir or the environment variable FEDPRUNE_DATA",
    ),
    mistake(
        "25 data with a typo",
        settings("task.data=cifar"),
        USAGE,
        "did you mean 'cifar10'?",
    ),
    mistake(
        "49 a name that is not ASCII",
        settings("run.name=größe"),
        USAGE,
        'found "größe"',
        "letters, digits",
    ),
    mistake(
        "70 a network with a typo",
        settings("task.model=resnet50"),
        USAGE,
        "there is no model 'resnet50'",
        "did you mean 'resnet18'?",
        "'timm:NAME'",
    ),
    mistake(
        "75 fewer outputs than classes",
        settings("task.outputs=5"),
        DATA,
        "'digits' needs 10 outputs; task.outputs is 5",
    ),
    mistake(
        "77 a file in place of the folder",
        settings("run.dir=a-file"),
        USAGE,
        "cannot make the run folder a-file/",
    ),
    mistake(
        "89 workers below none",
        ("simulate", "--workers", "-1"),
        USAGE,
        "--workers -1: run.workers: found -1, want an integer, >= 0",
    ),
    mistake(
        "a tracker with a typo",
        settings('run.track=["mlfow"]'),
        USAGE,
        'found "mlfow"',
        'did you mean "mlflow"?',
    ),
)

COMMANDS = (
    mistake(
        "80 a Ray cluster that is not up",
        ("simulate", "--ray-address", "127.0.0.1:9"),
        USAGE,
        'Ray address "127.0.0.1:9": nothing answers',
        "is the cluster up",
    ),
    mistake(
        "81 no run to resume",
        ("simulate", "--resume", "runs/nope"),
        USAGE,
        "runs/nope: no such run folder",
    ),
    mistake(
        "83 a picture in place of a model",
        ("inspect", "sizes/a/0.png"),
        BROKEN,
        "is a picture; want a model",
    ),
    mistake(
        "87 an unknown format",
        ("export", "runs/x", "--format", "caffe"),
        USAGE,
        '--format: found "caffe", want one of',
    ),
    mistake(
        "88 init twice",
        ("init", "fedprune-project"),
        USAGE,
        "exists and is not overwritten",
    ),
    mistake(
        "+ settings beside --resume",
        ("simulate", "--resume", "x", "--set", "run.seed=1"),
        USAGE,
        "--resume uses the run's own configuration",
    ),
    mistake(
        "+ no HOST:PORT to listen at",
        ("serve", "--listen", "x", "--insecure"),
        USAGE,
        '--listen: found "x", want HOST:PORT',
    ),
    mistake(
        "+ neither TLS nor --insecure",
        ("serve",),
        USAGE,
        "want --tls DIR",
        "or --insecure",
    ),
    mistake(
        "+ a device without its keys",
        ("client", "--server", "h:1", "--id", "a", "--tls", "nope"),
        USAGE,
        "ca.crt is missing; copy clients/a of the folder that fedprune certs made",
    ),
    mistake(
        "+ a report of no run", ("report", "nope"), USAGE, "nope: no such run folder"
    ),
    mistake(
        "+ run-model without a model",
        ("run-model", "nope.safetensors"),
        USAGE,
        "nope.safetensors is missing",
        "want a file such as",
    ),
    mistake(
        "+ a sweep of single values",
        ("simulate", "--sweep"),
        USAGE,
        "--sweep: no key has a list of values",
    ),
    mistake(
        "+ a list without --sweep",
        settings("run.seed=[0, 1]"),
        USAGE,
        "a sweep: use --sweep",
    ),
    mistake(
        "+ no file to inspect",
        ("inspect",),
        USAGE,
        "Missing argument 'RUN|FILE...'",
        "see fedprune inspect --help",
    ),
    mistake(
        "+ a server that is not running", ("status", "--state", "nope"), USAGE, "nope"
    ),
)
