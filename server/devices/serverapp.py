"""``flwr-serverapp`` of a FedPrune server: runs the installed code and no other.

Flower runs any code in a submitted run's app bundle.  This command replaces Flower's on
the search path of the server's executor, and refuses a run that brings code.

The server's only file that imports undocumented names of Flower (``flwr.superlink``);
they may move in any minor release, so the dependency is ``flwr>=1.41,<1.42``, and
a new Flower is tried here and in ``client/executor.py`` first.
"""

from importlib import import_module
from typing import Any

from flwr.superlink.cli.flwr_serverapp import flwr_serverapp

from fedprune.common.flower.bundle import check_app
from fedprune.common.system.logs import plain_logs
from fedprune.common.system.processes import end_with_parent


def main() -> None:
    """Run the server's app of one run, as Flower's own command does.

    It ends with the server's executor, so that a killed server leaves no process that
    locks the run folder and waits for ever.
    """
    end_with_parent()
    plain_logs()
    # Flower's package hides this module behind the function of the same name.
    runtime: Any = import_module("flwr.superlink.runtime.run_serverapp")
    install = runtime.install_from_fab

    def checked(fab: bytes, *arguments: object, **options: object) -> object:
        check_app(fab)
        return install(fab, *arguments, **options)

    runtime.install_from_fab = checked
    flwr_serverapp()


if __name__ == "__main__":
    main()
