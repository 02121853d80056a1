"""Configurations that are published with their figures, as TOML files."""

from pathlib import Path

FOLDER = Path(__file__).parent
LENET = FOLDER / "mnist-lenet5.toml"
MANY_CLIENTS = FOLDER / "mnist-100-clients.toml"
