"""Mistakes with ports, folders, certificates, names and packages of a machine."""

from fedprune.simulations.benchmarks.kit.mistakes.mistake import (
    HERE,
    USAGE,
    mistake,
    settings,
    with_network,
    works,
)
from fedprune.simulations.benchmarks.kit.mistakes.places import (
    finished_run,
    letters,
    old_project,
    other_server,
    used_port,
    used_state,
    without,
)
from fedprune.simulations.benchmarks.kit.mistakes.play import PYTHON

_PORT = f"127.0.0.1:{HERE}"
_CLIENT = ("client", "--server", _PORT, "--id", "a")

OF_MACHINES = (
    works(
        "48 a path that is not ASCII",
        with_network(
            "Recurrent", f"task.data=npz:{HERE}/größe.npz", f"run.dir={HERE}/runs"
        ),
        f"run: {HERE}/runs/",
        place=letters,
    ),
    mistake(
        "+ a port in use",
        ("serve", "--listen", _PORT, "--insecure"),
        USAGE,
        f"--listen: {_PORT} is in use by another process",
        place=used_port,
    ),
    mistake(
        "+ a port in use, of a live page",
        ("simulate", "--watch", "--watch-at", _PORT),
        USAGE,
        f"--watch-at: cannot listen at {_PORT}: Address already in use",
        "want another port",
        place=used_port,
    ),
    mistake(
        "+ a state folder in use",
        ("serve", "--listen", _PORT, "--insecure", "--state", f"state-{HERE}"),
        USAGE,
        f"state-{HERE} is in use by process ",
        "want another --state",
        place=used_state,
    ),
    mistake(
        "+ a state folder in use, of a client",
        (*_CLIENT, "--insecure", "--state", f"state-{HERE}"),
        USAGE,
        f"state-{HERE} is in use by process ",
        "want another --state",
        place=used_state,
    ),
    mistake(
        "+ a certificate of another authority",
        (*_CLIENT, "--tls", "ours/clients/a"),
        USAGE,
        f"the certificate of {_PORT} is refused: unable to get local issuer",
        "ours/clients/a/ca.crt; copy the ca.crt of this server",
        place=other_server,
    ),
    works(
        "+ import fedprune beside client.py and common",
        (PYTHON, "-c", "import fedprune; print(fedprune.load_config().task.model)"),
        "small-resnet",
        place=old_project,
    ),
)

OF_EXTRAS = (
    mistake(
        "79 hf: without its extra",
        settings("task.model=hf:prajjwal1/bert-tiny"),
        USAGE,
        "model 'hf:prajjwal1/bert-tiny' needs 'transformers', which is not installed",
        "run: pip install 'fedprune[hf]'",
        place=without("transformers"),
    ),
    mistake(
        "+ timm: without its extra",
        settings("task.model=timm:resnet18"),
        USAGE,
        "model 'timm:resnet18' needs 'timm', which is not installed",
        "run: pip install 'fedprune[",
        place=without("timm"),
    ),
    mistake(
        "+ data of the Hub without its extra",
        settings("task.data=hf-dataset:own/set"),
        USAGE,
        "'datasets', which is not installed; run: pip install 'fedprune[hf]'",
        place=without("datasets"),
    ),
    mistake(
        "+ hf: for data",
        settings("task.data=hf:own/set"),
        USAGE,
        "there is no data source 'hf:own/set'; did you mean 'hf-dataset:own/set'?",
    ),
    mistake(
        "+ a tracker without its extra",
        settings('run.track=["mlflow"]'),
        USAGE,
        "run.track: mlflow needs 'mlflow', which is not installed",
        "run: pip install 'fedprune[mlflow]'",
        place=without("mlflow"),
    ),
    mistake(
        "+ ONNX without its extra",
        ("export", HERE, "--format", "onnx"),
        USAGE,
        "ONNX needs 'onnx', which is not installed; run: pip install 'fedprune[onnx]'",
        place=without("onnx", finished_run),
    ),
    mistake(
        "+ OpenVINO without its extra",
        ("export", HERE, "--format", "openvino"),
        USAGE,
        "OpenVINO needs 'openvino', which is not installed",
        "run: pip install 'fedprune[openvino]'",
        place=without("openvino", finished_run),
    ),
    mistake(
        "+ tune without its extra",
        ("tune", "config.toml"),
        USAGE,
        "fedprune tune needs 'optuna', which is not installed",
        "run: pip install 'fedprune[tune]'",
        place=without("optuna"),
    ),
)
