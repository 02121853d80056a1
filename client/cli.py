"""The command line of a device: client, run-model."""

import json
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated

import typer

from fedprune.common.data.places import check_source
from fedprune.common.errors import ConfigError
from fedprune.common.flower.payload import check_client_name
from fedprune.common.system.paths import check_model_path, check_readable
from fedprune.common.text import as_json as as_json_value
from fedprune.common.text import printable, say

app = typer.Typer()

_PORTS = 65536


@app.command()
def client(
    server: Annotated[
        str,
        typer.Option("--server", metavar="HOST:PORT", help="The server's address."),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.toml]", help="The same as the server's."),
    ] = None,
    id_: Annotated[
        str,
        typer.Option(
            "--id", metavar="NAME", help='This device; "" = a free one of --tls.'
        ),
    ] = "",
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="Replaces task.data.")
    ] = "",
    partition: Annotated[
        str, typer.Option(metavar="K/N", help="Train on part K of N of the data.")
    ] = "",
    tls: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The copy of clients/NAME: ca.crt, node.key."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No encryption, no node key.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The device's own folder.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when the final network has arrived.")
    ] = False,
) -> None:
    """Take part in a federation with this machine's own data."""
    from fedprune.client.device.node import parse_share
    from fedprune.client.device.service import Device, DeviceService
    from fedprune.common.system.claim import PLACE

    if (tls is None) != insecure:
        message = "want --tls DIR (clients/NAME of fedprune certs), or --insecure"
        raise ConfigError(message)
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < _PORTS:
        message = f'--server: found "{server}", want HOST:PORT'
        raise ConfigError(message)
    parse_share(partition)
    if insecure:
        print("warning: --insecure: nothing is encrypted", file=sys.stderr)
    if os.geteuid() == 0:
        print("warning: a client needs no root; use a user of its own", file=sys.stderr)
    folder = str(state or f"fedprune-client-{PLACE}")
    with ExitStack() as stack:
        name = id_ or stack.enter_context(_claim(tls, folder))
        check_client_name(name)
        keys = tls if id_ or tls is None else tls / name
        own = Device(
            client_id=name,
            config=file,
            data=data if id_ else data.replace(PLACE, name),
            share=partition,
            host=host.strip("[]"),
            port=int(port),
            tls=keys.resolve() if keys else None,
            state=Path(folder.replace(PLACE, name)).resolve(),
        )
        own.check()
        DeviceService(own, once=once).run()


def _claim(keys: Path | None, state: str) -> AbstractContextManager[str]:
    """Return the context that holds a free client id.

    Raises:
        ConfigError: If there are no keys to choose from.
    """
    from fedprune.common.system.claim import claimed

    if keys is None:
        message = "--insecure needs --id NAME"
        raise ConfigError(message)
    say("without --id: the first client of --tls that is free")
    return claimed(keys, state)


@app.command("run-model")
def run_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The network.")],
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="As task.data; else your task's.")
    ] = "",
    data_dir: Annotated[
        str, typer.Option(metavar="DIR", help="As task.data_dir.")
    ] = "",
    use: Annotated[
        str, typer.Option(metavar="FILE.py:NAME", help="Your own task or network.")
    ] = "",
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run code that the file names.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Examples.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print predictions only.")
    ] = False,
) -> None:
    """Run a network on the test part of a data source, or of your own task."""
    check_model_path(model)
    check_readable(model, "want a file such as the final.safetensors of a client")
    if data:
        check_source(data, data_dir)
    from fedprune.client.device.predict import predict
    from fedprune.client.device.prediction_table import prediction_lines
    from fedprune.common.tasks.own import load_given

    found = predict(
        model,
        data,
        data_dir=data_dir,
        limit=count,
        own=load_given(use) if use else None,
        trust_code=trust_code,
    )
    if found.warning:
        print(f"warning: {printable(found.warning)}", file=sys.stderr)
    if as_json:
        value = as_json_value(found.value)
        print(json.dumps({"predictions": found.rows, found.metric: value}, indent=2))
        return
    if quiet:
        for row in found.rows:
            print(row.get("prediction", row.get(found.metric)))
    else:
        print("\n".join(prediction_lines(found.rows)))
        print(f"{found.metric} {found.value:.4f} over {len(found.rows)} examples")
