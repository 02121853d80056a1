"""The configuration of a run folder: its code runs only if it is this user's own."""

from pathlib import Path

from fedprune.common.config import Config, load_config
from fedprune.common.trust import check_code, named_code, record_code
from fedprune.server.runs.folder import RunFolder


def run_config(
    folder: RunFolder,
    *,
    trust_code: bool = False,
    factory: bool = False,
    server: Path | None = None,
) -> Config:
    """Return what a run folder says is to be run.

    Args:
        folder: The run folder, which may come from anywhere.
        trust_code: Let it name code even if no command of this user started it here.
        factory: Whether the caller makes the network, so that its name does not count.
        server: Folder of a server: what it may carry out counts too.

    Raises:
        ConfigError: If it is no configuration, or names code of somebody else's.
    """
    config = folder.own(load_config(folder.config))
    named = named_code(config, factory=factory)
    check_code(folder.path, folder.run_id, named, trust_code=trust_code, server=server)
    return config


def admit(folder: RunFolder, server: Path, *, trust_code: bool) -> RunFolder:
    """Let the server of a folder run what its operator names.

    A run is started through Flower, by whoever reaches it; what it would run is
    written down in the operator's own state folder, by his commands alone.

    Raises:
        ConfigError: If it names code of somebody else's.
    """
    config = run_config(folder, trust_code=trust_code, server=server)
    record_code(folder.run_id, named_code(config), server)
    return folder
