"""The commands of the hub: push, pull."""

from pathlib import Path
from typing import Annotated

import typer

from fedprune.common.text import printable
from fedprune.server.cli import AsJson
from fedprune.simulations.runs.session import print_json

app = typer.Typer()

Repo = Annotated[
    str, typer.Argument(metavar="OWNER/NAME", help="Repository of the hub.")
]

_MB = 1 << 20


@app.command()
def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    repo: Repo,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would leave; send nothing.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="For everybody, not for you alone.")
    ] = False,
    licence: Annotated[
        str, typer.Option("--license", metavar="ID", help="Such as apache-2.0.")
    ] = "",
    fpz: Annotated[
        bool, typer.Option("--fpz", help="Send the small form of the network, too.")
    ] = False,
    use: Annotated[
        str, typer.Option(metavar="FILE.py:NAME", help="Its own network, for --fpz.")
    ] = "",
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run code that the run names.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print only the commit; of a dry run nothing."
        ),
    ] = False,
) -> None:
    """Send the final network of a run and its card to the Hugging Face hub."""
    from fedprune.common.tasks.own import load_given
    from fedprune.simulations.hub.bundle import make_bundle
    from fedprune.simulations.hub.push import describe_run, listing, push_bundle
    from fedprune.simulations.hub.repository import check_repo

    check_repo(repo)
    bundle = make_bundle(
        run,
        repo,
        licence=licence,
        packed=fpz,
        factory=load_given(use) if use else None,
        trust_code=trust_code,
    )
    found = describe_run(run, bundle)
    shown = not as_json and not quiet
    if shown:
        print("\n".join(listing(bundle)))
    if dry_run:
        if as_json:
            print_json({**found, "sent": False})
        elif shown:
            print(f"nothing was sent; README.md would be:\n\n{bundle.card}", end="")
        return
    sent = push_bundle(bundle, repo, public=public)
    if as_json:
        print_json({**found, **sent, "sent": True})
        return
    kind = "private" if sent["private"] else "public"
    words = f"sent to {repo} ({kind}): " if shown else ""
    print(f"{words}{printable(sent['commit'])}")


@app.command()
def pull(
    repo: Repo,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where they go.")],
    revision: Annotated[
        str, typer.Option(metavar="NAME", help="Branch, tag or commit.")
    ] = "main",
    digest: Annotated[
        str, typer.Option(metavar="HEX", help="As push printed it.")
    ] = "",
    max_mb: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="Largest model file.")
    ] = 1024,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only the paths.")
    ] = False,
) -> None:
    """Read a network of the Hugging Face hub, check it, and write it into a folder."""
    from fedprune.simulations.hub.pull import pull as pull_files

    found = pull_files(
        repo, directory, revision=revision, digest=digest, most=max_mb * _MB
    )
    if as_json:
        print_json(found)
        return
    files = found["files"]
    for path in files if isinstance(files, list) else ():
        print(path if quiet else f"wrote {path}")
    if quiet:
        return
    print(f"commit {found['commit']}, digest {found['digest']}")
    if found["own_code"]:
        print("its network is made by code that is not in the files: factory=...")
