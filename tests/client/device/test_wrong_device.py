"""A device whose data or network do not fit is refused before it is admitted."""

from pathlib import Path

import numpy as np
import pytest
from helpers.wrong.files import with_network

from fedprune.client.device import node
from fedprune.client.device.task import device_task, try_device
from fedprune.common.errors import FedPruneError

CONFIG, DATA = 2, 3  # exit codes
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 6)).astype(np.float32), np.arange(60) % 3
KEYS = {"model": "mlp", "clients": 3, "outputs": 4, "input_shape": [6]}
ROUNDS = {"cohort": 3, "minimum": 1}


def device(keys=None, table=None, **arrays):
    """Write a device's configuration and data; return its node's configuration."""
    whole = {"x_train": X, "y_train": Y, "x_test": X[:9], "y_test": Y[:9]} | arrays
    np.savez("own.npz", **whole)
    lines = ["[task]", *(f"{k} = {v!r}" for k, v in (KEYS | (keys or {})).items())]
    lines += ["[rounds]", *(f"{k} = {v!r}" for k, v in ROUNDS.items())]
    Path("fedprune.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        node.CLIENT_ID: "edge-01",
        node.CONFIG: "fedprune.toml",
        node.DATA: "npz:own.npz",
        node.SHARE: "",
        node.STATE: "state",
    } | (table or {})


def with_faults():
    """Write a device's configuration with a section that is for simulations."""
    found = device()
    path = Path("fedprune.toml")
    path.write_text(path.read_text() + "[faults]\nhang = 0.5\n", encoding="utf-8")
    return found


ENDS = {"model": "net.py:make"}
# Name: device, exit code, part of the message with the cause, part with the mend.
WRONG = {
    "faults of a simulation": (with_faults, CONFIG,
        "faults.hang: faults are for simulations", "want none in the"),
    "no file": (lambda: device(table={node.DATA: "npz:none.npz"}), CONFIG,
        "there is no file 'none.npz'", "looked at "),
    "inputs of another shape": (lambda: device({"input_shape": [7]}), DATA,
        "have shape [6]; task.input_shape is [7]", "give that of the data"),
    "classes beyond the outputs": (lambda: device({"outputs": 2}), DATA,
        "needs 3 outputs; task.outputs is 2", "want as many"),
    "classes as floats": (lambda: device(y_train=Y + 0.0, y_test=Y[:9] + 0.0), DATA,
        "the targets are floats", "give integer classes"),
    "classes for a squared error": (lambda: device({"loss": "mse"}), DATA,
        "the targets are integers", "want 'cross-entropy'"),
    "NaN": (lambda: device(x_train=X * np.nan), DATA,
        "is not finite in float32, in 60 of 60", "replace such values"),
    "no example in its share": (
        lambda: device(table={node.SHARE: "2/3"}, x_train=X[:3], y_train=0 * Y[:3]),
        DATA, "edge-01 has no example of npz:own.npz", "want"),
    "no example of its name": (
        lambda: device({"partition.kind": "natural"}, clients=np.array(["a"] * 60)),
        DATA, "edge-01 has no example of npz:own.npz", "want"),
    "a network that gives two outputs": (
        lambda: with_network("lambda y: (y, y)") or device(ENDS), CONFIG,
        "returns a tuple of 2", "let forward return the outputs alone"),
    "a network with too few outputs": (
        lambda: with_network("lambda y: y[:, :3]") or device(ENDS), CONFIG,
        "gives 3 outputs", "want 4, an output for each class"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "code", "cause", "mend"), WRONG.values(), ids=WRONG)
def test_a_wrong_device_is_one_line_before_it_joins(
    made, code, cause, mend, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = made()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FedPruneError) as caught:
        try_device(device_task(found))
    message = str(caught.value)
    assert cause in message
    assert mend in message
    assert caught.value.exit_code == code
    assert len(message.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
