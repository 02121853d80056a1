"""Places of data sources: checks of their names and paths, before anything is loaded.

Nothing heavy is imported, so that a wrong name or path is refused at once.
"""

import os
from pathlib import Path

from fedprune.common.config import Config
from fedprune.common.data.hf_dataset.opening import PREFIX, check_name
from fedprune.common.data.optional import check_optional
from fedprune.common.errors import ConfigError
from fedprune.common.user_code import DATA_KINDS, check_reference, did_you_mean

DATA_VARIABLE = "FEDPRUNE_DATA"
SKLEARN = ("digits", "diabetes")
PARQUET = ("mnist", "cifar10")

KNOWN = (*SKLEARN, *PARQUET)
_HUB = ("hf", "huggingface", "datasets")  # what others call data sets of the Hub


def check_early(config: Config) -> None:
    """Refuse a data source that does not exist, before anything heavy is imported.

    A task of the user's own (``task.use``) may have data of its own.

    Raises:
        ConfigError: If the source is unknown, or its file or folder is not there.
    """
    if not config.task.use:
        check_source(config.task.data, config.task.data_dir)


def check_source(source: str, data_dir: str) -> None:
    """Check a data source before anything is loaded; no user code is run.

    Args:
        source: As for ``fedprune.common.data.sources.load_dataset``.
        data_dir: Folder of parquet data, or empty for ``FEDPRUNE_DATA``.

    Raises:
        ConfigError: If the name is unknown, a path does not exist, or a package is
            not installed.
    """
    prefix, colon, rest = source.partition(":")
    if source in SKLEARN:
        check_optional("sklearn", "scikit-learn")
    elif source in PARQUET:
        _check_parquet(source, data_dir)
    elif colon and prefix in DATA_KINDS:
        _check_path(prefix, rest)
    else:
        _check_code(source)


def find_folder(name: str, data_dir: str) -> Path:
    """Return the folder of ``name``'s parquet files.

    Searched in ``<data_dir>/<name>`` and ``<data_dir>``, each with and without the
    hub's ``data`` folder.

    Args:
        name: Name of the data set.
        data_dir: The folder, or empty for the environment's ``FEDPRUNE_DATA``.

    Raises:
        ConfigError: If no folder is given or it has no such files.
    """
    root = data_dir or os.environ.get(DATA_VARIABLE, "")
    if not root:
        msg = (
            f"data '{name}' is read from parquet files: set task.data_dir or the "
            f"environment variable {DATA_VARIABLE} to the folder that has "
            f"{name}/train.parquet and {name}/test.parquet"
        )
        raise ConfigError(msg)
    base = Path(root).expanduser()
    folders = [base / name, base / name / "data", base, base / "data"]
    for folder in folders:
        if shards(folder, "train"):
            return folder
    msg = (
        f"there is no train.parquet (nor train-00000-of-*.parquet) for data '{name}' "
        f"in {', '.join(str(folder) for folder in folders)}; set task.data_dir or "
        f"{DATA_VARIABLE}"
    )
    raise ConfigError(msg)


def shards(folder: Path, split: str) -> list[Path]:
    """Return the parquet files of a split: ``split.parquet``, or its shards, sorted."""
    whole = folder / f"{split}.parquet"
    return (
        [whole] if whole.is_file() else sorted(folder.glob(f"{split}-*-of-*.parquet"))
    )


def _check_parquet(name: str, data_dir: str) -> None:
    check_optional("pyarrow", "pyarrow")
    check_optional("PIL", "pillow")
    find_folder(name, data_dir)


def _check_path(prefix: str, rest: str) -> None:
    if prefix == PREFIX:
        check_name(rest)
        return
    if prefix == "parquet":
        check_optional("pyarrow", "pyarrow")
    if prefix in ("parquet", "folder"):
        check_optional("PIL", "pillow")
    path = Path(rest).expanduser()
    _check_exists(path, wanted_file=prefix == "npz")
    for split in ("train", "test") if prefix == "parquet" else ():
        if not shards(path, split):
            msg = f"there is no {split}.parquet (nor {split}-00000-of-*.parquet) in "
            msg += str(path)
            raise ConfigError(msg)


def _check_exists(path: Path, *, wanted_file: bool) -> None:
    if not (path.is_file() if wanted_file else path.is_dir()):
        msg = f"there is no {'file' if wanted_file else 'folder'} '{path}' (looked at "
        msg += f"{path.resolve()})"
        raise ConfigError(msg)


def _check_code(source: str) -> None:
    try:
        check_reference(source)
    except ConfigError as error:
        prefix, _, rest = source.partition(":")
        near = did_you_mean(prefix, (*KNOWN, *DATA_KINDS))
        if prefix in _HUB:
            near = f"; did you mean '{PREFIX}:{rest}'?"
        msg = (
            f"there is no data source '{source}'{near} ({error}; "
            f"known: {', '.join(KNOWN)}, npz:FILE, folder:DIR, parquet:DIR, "
            f"{PREFIX}:NAME_OR_PATH, module:function, file.py:function)"
        )
        raise ConfigError(msg) from error
