"""The configuration of a run folder, with the trust check of its code."""

from contextlib import suppress
from pathlib import Path
from shlex import quote

from fedprune.common.config import Config, load_config
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.trust import check_code, named_code, record_code
from fedprune.common.user_code import PYTHON
from fedprune.server.runs.folder import RunFolder


def run_config(
    folder: RunFolder,
    *,
    trust_code: bool = False,
    factory: bool = False,
    task: bool = False,
    server: Path | None = None,
) -> Config:
    """Return the configuration of a run folder, its code checked.

    Args:
        folder: The run folder, from any source.
        trust_code: Allow its code even if no command of this user started the run.
        factory: Whether the caller makes the network, so that its name does not count.
        task: Whether the caller has the task, so that ``task.use`` does not count.
        server: Folder of a server: code recorded for it counts too.

    Raises:
        ConfigError: If it is not a configuration, or names untrusted code.
    """
    config = folder.own(load_config(folder.config))
    named = named_code(config, factory=factory, task=task)
    check_code(folder.path, folder.run_id, named, trust_code=trust_code, server=server)
    return config


def resume_command(
    path: Path | str, program: str = "simulate", server: Path | None = None
) -> str:
    """Return the command that resumes a run, with the options that this run needs.

    Args:
        path: The run folder.
        program: The subcommand.
        server: Folder of a server: code recorded for it counts too.
    """
    words = f"fedprune {program} --resume {quote(str(path))}"
    with suppress(FedPruneError):
        folder = RunFolder.open(Path(path))
        chosen = load_config(folder.config).task
        if PYTHON in (chosen.use, chosen.model):
            words += " --use FILE.py:NAME"
        try:
            run_config(folder, server=server)
        except ConfigError:
            words += " --trust-code"
    return words


def admit(folder: RunFolder, server: Path, *, trust_code: bool) -> RunFolder:
    """Record the code of a run for the server of a folder.

    Anyone who reaches Flower can start a run; the code that it may execute is recorded
    in the operator's own state folder, by the operator's commands alone.

    Raises:
        ConfigError: If it names untrusted code.
    """
    config = run_config(folder, trust_code=trust_code, server=server)
    record_code(folder.run_id, named_code(config), server)
    return folder
