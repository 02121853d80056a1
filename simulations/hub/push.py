"""``fedprune push``: the final network of a run to a repository of the hub."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedprune.common.artifacts import LABELS_FILE
from fedprune.common.errors import ConfigError
from fedprune.common.text import and_more, printable
from fedprune.simulations.hub.bundle import MODEL_FILES, Bundle, sha256
from fedprune.simulations.hub.repository import Repository, default_api

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MESSAGE = "A network that FedPrune pruned"
_LABELS = 10  # that a listing shows


def push_bundle(
    bundle: Bundle, repo: str, *, public: bool, api: "HfApi | None" = None
) -> dict[str, object]:
    """Send the files of a bundle in one commit.

    Args:
        bundle: The files.
        repo: OWNER/NAME; made when absent, private unless ``public``.
        public: Whether it may be readable by everybody.
        api: The library's client; None = as the user has set it up.

    Returns:
        ``repo, commit, digest, private``.

    Raises:
        ConfigError: If the extra or a right is missing, or the repository is public
            and ``public`` is not set.
        FedPruneError: If the hub does not take it.
    """
    place = Repository(api or default_api(), repo)
    place.make(private=not public)
    held = place.look()
    if not held.private and not public:
        msg = f"{repo} is public, and everybody could read the network: want --public, "
        raise ConfigError(msg + "or another repository; nothing was sent")
    ours = (*MODEL_FILES, LABELS_FILE)
    gone = [name for name in ours if name in held.names and name not in bundle.files]
    commit = place.write(bundle.files, gone, _MESSAGE)
    return {
        "repo": repo,
        "commit": commit,
        "digest": bundle.digest,
        "private": held.private,
    }


def file_rows(bundle: Bundle) -> list[dict[str, object]]:
    """Return name, bytes and SHA-256 of each file that leaves."""
    return [
        {"name": name, "bytes": len(data), "sha256": sha256(data)}
        for name, data in bundle.files.items()
    ]


def listing(bundle: Bundle) -> list[str]:
    """Return what leaves as lines of text."""
    lines = [
        f"{row['bytes']:>13,}  {str(row['sha256'])[:16]}  {row['name']}"
        for row in file_rows(bundle)
    ]
    total = sum(map(len, bundle.files.values()))
    lines = [f"{'bytes':>13}  {'sha256':<16}  file", *lines, f"{total:>13,}  in all"]
    if bundle.labels:
        shown = and_more([printable(name, 40) for name in bundle.labels], _LABELS)
        lines.append(f"names of classes in them: {shown}")
    lines.append(f"digest for pull: {bundle.digest}")
    return lines


def describe_run(run: Path, bundle: Bundle) -> dict[str, object]:
    """Return what a dry run prints with ``--json``."""
    return {
        "run": str(run),
        "files": file_rows(bundle),
        "labels": list(bundle.labels),
        "digest": bundle.digest,
        "card": bundle.card,
    }
