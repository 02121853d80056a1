"""One repository of the Hugging Face hub: the seam between FedPrune and its library.

The library finds the token (``hf auth login``, ``HF_TOKEN``) and the address of the hub
(``HF_ENDPOINT``) itself; neither passes through here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.common.text import first_line, not_installed, printable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,99}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DENIED = (401, 403)
_WAIT_S = 60.0


def check_repo(repo: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        ConfigError: With the form that is wanted.
    """
    owner, slash, name = repo.partition("/")
    parts = [owner, name] if slash else [owner]
    good = all(_NAME.fullmatch(part) for part in parts)
    if not good or len(repo) > 96 or "--" in repo or ".." in repo:  # noqa: PLR2004 - the hub's limit
        shown = printable(repr(repo), 120)
        msg = f"REPO is {shown}; want OWNER/NAME of the Hugging Face hub, such as "
        msg += "me/digits-small"
        raise ConfigError(msg)


def check_revision(revision: str) -> None:
    """Refuse what is no branch, tag or commit.

    Raises:
        ConfigError: With what is wanted.
    """
    if not _REVISION.fullmatch(revision) or ".." in revision:
        msg = f"--revision is {printable(repr(revision), 120)}; want a branch, tag or "
        raise ConfigError(msg + "commit, such as main")


def default_api() -> "HfApi":
    """Return the library's client.

    Raises:
        ConfigError: If the extra is missing.
    """
    if find_spec("huggingface_hub") is None:
        raise ConfigError(not_installed("the hub", "huggingface_hub", "hub"))
    from huggingface_hub import HfApi  # noqa: PLC0415 - an extra, and slow to load

    return HfApi()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Content of a repository at one commit.

    Attributes:
        commit: Its commit, 40 hex digits; "" = it is empty.
        names: Names of its files.
        private: Whether only its owner reads it.
    """

    commit: str
    names: tuple[str, ...]
    private: bool


class Repository:
    """A repository of networks.

    Args:
        api: The library's client.
        name: OWNER/NAME.
    """

    def __init__(self, api: "HfApi", name: str) -> None:
        check_repo(name)
        self._api, self.name = api, name

    def make(self, *, private: bool) -> None:
        """Make it, where it does not exist."""
        with _told(f"cannot make {self.name}"):
            self._api.create_repo(self.name, private=private, exist_ok=True)

    def look(self, revision: str = "main") -> Held:
        """Return what it holds at a revision."""
        check_revision(revision)
        with _told(f"cannot read {self.name} at {revision}"):
            info = self._api.model_info(self.name, revision=revision)
        commit = str(info.sha or "")
        if commit and not _COMMIT.fullmatch(commit):
            msg = f"{self.name}: the hub names the commit {printable(repr(commit), 80)}"
            raise IntegrityError(msg)
        names = tuple(str(item.rfilename) for item in info.siblings or ())
        return Held(commit=commit, names=names, private=bool(info.private))

    def write(
        self, files: Mapping[str, bytes], gone: Sequence[str], message: str
    ) -> str:
        """Write files and remove others, in one commit.

        Returns:
            The address of the commit.
        """
        from huggingface_hub import (  # noqa: PLC0415 - as default_api
            CommitOperationAdd,
            CommitOperationDelete,
        )

        steps: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=data)
            for name, data in files.items()
        ]
        steps += [CommitOperationDelete(path_in_repo=name) for name in gone]
        with _told(f"cannot write to {self.name}"):
            done = self._api.create_commit(
                self.name, operations=steps, commit_message=message
            )
        return str(done.commit_url)

    def read(self, name: str, commit: str, most: int) -> bytes:
        """Return the bytes of a file.

        Args:
            name: The file.
            commit: As ``look`` returned it.
            most: Most bytes; reading ends there.

        Raises:
            IntegrityError: If it has more.
            FedPruneError: If it cannot be read.
        """
        from huggingface_hub import hf_hub_url  # noqa: PLC0415 - as default_api

        utils: Any = import_module("huggingface_hub.utils")
        url = hf_hub_url(self.name, name, revision=commit, endpoint=self._api.endpoint)
        headers = utils.build_hf_headers(token=self._api.token)
        headers["Accept-Encoding"] = "identity"  # so that what comes is bounded
        found = bytearray()
        with (
            _told(f"cannot read {name} of {self.name}"),
            utils.get_session().stream(
                "GET", url, headers=headers, timeout=_WAIT_S
            ) as reply,
        ):
            utils.hf_raise_for_status(reply)
            for chunk in reply.iter_bytes():
                found += chunk
                if len(found) > most:
                    msg = f"{self.name}: {name} has more than {most} bytes"
                    raise IntegrityError(msg)
        return bytes(found)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn errors of the library, which differ between its versions, into one line."""
    try:
        yield
    except FedPruneError:
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        msg = f"{what}: {first_line(error, kind=True)}"
        if status in _DENIED:
            msg += '; log in with "hf auth login", or set HF_TOKEN to a token that may'
            raise ConfigError(msg) from error
        raise FedPruneError(msg) from error
