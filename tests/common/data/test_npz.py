import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprune.common.data import npz
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import DataError


def load(source):
    return load_dataset(str(source), data_dir="", fold=0)


ARRAYS = {
    "x_train": np.arange(24.0).reshape(6, 4),
    "y_train": np.array([0, 1, 2, 0, 1, 2]),
    "x_test": np.arange(8.0).reshape(2, 4),
    "y_test": np.array([2, 1]),
}


def npy(array, claim=""):
    """Return npy bytes, with another header when ``claim`` is given."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array))
    data = buffer.getvalue()
    if not claim:
        return data
    length = int.from_bytes(data[8:10], "little")
    header = claim.encode().ljust(length - 1) + b"\n"
    start = data[:8] + len(header).to_bytes(2, "little")
    return start + header + data[10 + length :]


def write_zip(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def test_an_npz_file_gives_its_arrays(tmp_path):
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", **ARRAYS, notes=np.zeros(1))
        dataset = load(f"npz:{tmp_path / 'a.npz'}")
        assert (dataset.train.inputs == ARRAYS["x_train"]).all()
        assert (dataset.test.targets == ARRAYS["y_test"]).all()


def test_an_npz_file_in_fortran_order_or_big_endian_reads_the_same(tmp_path):
    other = {**ARRAYS, "x_train": np.asfortranarray(ARRAYS["x_train"].astype(">f4"))}
    np.savez(tmp_path / "a.npz", **other)
    dataset = load(f"npz:{tmp_path / 'a.npz'}")
    assert (dataset.train.inputs == ARRAYS["x_train"]).all()
    assert dataset.train.inputs.flags.c_contiguous


def claim(descr="<f8", shape="(6, 4)"):
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"


FORGED = {
    "a pickled object": (npy(np.array([None])), "no Python objects"),
    "text": (npy(np.full((6, 4), "ab")), "want plain numbers"),
    "a huge shape": (npy(ARRAYS["x_train"], claim(shape="(6, 1 << 60)")), "cannot be"),
    "more than there is": (
        npy(ARRAYS["x_train"], claim(shape="(6, 9999999999)")),
        "states",
    ),
    "less than there is": (
        npy(ARRAYS["x_train"], claim(shape="(5, 4)")),
        "states 160 ",
    ),
    "negative lengths": (npy(ARRAYS["x_train"], claim(shape="(-6, -4)")), "states"),
    "items without size": (
        npy(ARRAYS["x_train"], claim(descr="|V0", shape="(9999999999,)")),
        "want plain numbers",
    ),
    "a wider type": (npy(ARRAYS["x_train"], claim(descr="<f16")), "states 384 bytes"),
    "no header": (b"", "cannot be read"),
    "another magic": (b"PICKLE" + npy(ARRAYS["x_train"])[6:], "cannot be read"),
    "version 3": (b"\x93NUMPY\x03\x00" + npy(ARRAYS["x_train"])[8:], "3, 0"),
    "half an array": (
        npy(ARRAYS["x_train"])[:-9],
        "states 192 bytes of data; found",
    ),
}


@pytest.mark.parametrize(("data", "message"), FORGED.values(), ids=FORGED)
def test_a_forged_array_is_refused_by_file_and_name(tmp_path, data, message):
    good = {name: npy(array) for name, array in ARRAYS.items()}
    path = write_zip(tmp_path / "a.npz", **{**good, "x_train": data})
    with pytest.raises(DataError, match=message) as caught:
        load(f"npz:{path}")
    assert str(path) in str(caught.value)
    assert "x_train" in str(caught.value)


def zeros(path, save, rows=100_000):
    save(path, **{**ARRAYS, "x_train": np.zeros((rows, 4))})
    return path


def test_a_file_that_unfolds_to_far_more_than_it_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "FREE_BYTES", 1 << 16)
    path = zeros(tmp_path / "a.npz", np.savez_compressed)
    most = max(1 << 16, 64 * path.stat().st_size)
    with pytest.raises(DataError, match=f"decompress to 3200.*; want at most {most}: "):
        load(f"npz:{path}")
    monkeypatch.setattr(npz, "_read_member", lambda archive, path, name: name)
    npz.read_npz(zeros(path, np.savez))  # as it advises
    monkeypatch.setattr(npz, "MAX_BYTES", 1 << 20)
    with pytest.raises(DataError, match="want at most 1048576: "):
        npz.read_npz(path)


def test_many_arrays_of_one_file_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "FREE_BYTES", 1 << 20)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **dict.fromkeys(ARRAYS, np.zeros(100_000)))
    with pytest.raises(DataError, match="its arrays decompress to 3200"):
        load(f"npz:{path}")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_unfolds_without_looking_at_its_size_is_refused(tmp_path, method):
    good = {name: npy(array) for name, array in ARRAYS.items()}
    path = write_zip(tmp_path / "a.npz", method, **good)
    with pytest.raises(DataError, match=r"'x_train'.*want stored or deflated"):
        load(f"npz:{path}")


def test_a_missing_array_is_told_with_what_there_is(tmp_path):
    np.savez(tmp_path / "a.npz", x=ARRAYS["x_train"], y=ARRAYS["y_train"])
    with pytest.raises(
        DataError, match="has x, y, but no x_train, y_train, x_test, y_test;"
    ):
        load(f"npz:{tmp_path / 'a.npz'}")


@given(st.data())
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_damaged_npz_file_is_read_or_refused_and_nothing_else(tmp_path, data):
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    content = content[: data.draw(st.integers(len(content) - 30, len(content)))]
    (tmp_path / "b.npz").write_bytes(content)
    try:
        dataset = load(f"npz:{tmp_path / 'b.npz'}")
    except DataError as error:
        assert "b.npz" in str(error)  # noqa: PT017 - both outcomes are allowed
    else:
        assert len(dataset.train) == 6
