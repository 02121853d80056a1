"""Files that do not fit, written into the working folder."""

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from helpers.pictures import pictures, png, write_folder
from helpers.wrong.doors import Door, X, Y

OWN = Path("own.npz")
CODE = Path("own.py")
TOKENS = """\
def fails(texts):
    raise ValueError("first\\nsecond")

def letters(texts):
    return [[1] for _ in texts]

def ragged(texts):
    return {"input_ids": [[1, 2]] * len(texts), "attention_mask": [[1]] * len(texts)}
"""


def npz(**changes):
    """Return a function that writes arrays; None leaves one out."""
    whole = {"x_train": X, "y_train": Y, "x_test": X[:9], "y_test": Y[:9]} | changes

    def write():
        np.savez(OWN, **{name: x for name, x in whole.items() if x is not None})

    return write


def pickled():
    """Write an array of Python objects, which only pickle can read."""
    np.savez(
        OWN,
        **{name: np.array([{}, {}]) for name in ("x_train", "y_train", "x_test")},
        y_test=Y,
    )


def truncated():
    """Write the first half of a file."""
    npz()()
    whole = OWN.read_bytes()
    OWN.write_bytes(whole[: len(whole) // 2])


def damaged():
    """Write a zip file whose arrays are cut short."""
    buffer = io.BytesIO()
    np.save(buffer, X)
    with ZipFile(OWN, "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", buffer.getvalue()[:-100])


def folders(**counts):
    """Return a function that writes images: number of each folder, "__" for "/"."""
    return lambda: write_folder(
        Path("pics"), {name.replace("__", "/"): count for name, count in counts.items()}
    )


def flat():
    """Write images without a folder for each class."""
    Path("pics").mkdir()
    for number, picture in enumerate(pictures(4)):
        Path("pics", f"{number}.png").write_bytes(png(picture))


def with_file(name, data):
    """Return a function that writes two classes of images and one file more."""

    def write():
        write_folder(Path("pics"), {"cat": 6, "dog": 6})
        path = Path("pics", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    return write


def text(name, content):
    """Return a function that writes a text file."""
    return lambda: Path(name).write_text(content, encoding="utf-8")


def saved(**columns):
    """Return a function that writes a data set of the library ``datasets``."""

    def write():
        from helpers.hf_data import save

        save(Path("set"), train=columns, test=columns)
        CODE.write_text(TOKENS, encoding="utf-8")

    return write


def door(enter, made):
    """Return a door of any kind, with the function that writes its files."""
    return Door(enter=enter, files=made)


def with_network(end):
    """Write ``net.py:make``, a network of 6 features whose outputs end in another way.

    Args:
        end: Text of a function of the outputs, float32[n, 4].
    """
    Path("net.py").write_text(
        "from torch import nn\n\n\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        f"        return ({end})(super().forward(x))\n\n\n"
        "def make():\n"
        "    return Net(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))\n",
        encoding="utf-8",
    )
