"""``fedprune init``: a configuration with every key, and what belongs to it."""

import json
from collections.abc import Mapping
from pathlib import Path

from fedprune.common.config.json_schema import SCHEMA_FILE, config_schema
from fedprune.common.errors import ConfigError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import make_folder
from fedprune.simulations.scaffold.config_text import commented_config
from fedprune.simulations.scaffold.template import CONFIG, Template
from fedprune.simulations.scaffold.templates import OWN, TEMPLATES


def find_template(name: str) -> Template:
    """Return the template of a name, "" = that of a network of one's own.

    Raises:
        ConfigError: With the names that exist.
    """
    if not name:
        return OWN
    if name not in TEMPLATES:
        msg = f'--template: found "{name}", want one of {", ".join(TEMPLATES)}'
        raise ConfigError(msg)
    return TEMPLATES[name]


def write_project(directory: Path, template: Template = OWN) -> list[Path]:
    """Write ``fedprune.toml`` and what belongs to it into a folder, made when absent.

    Returns:
        The files and folders in it, the configuration first.

    Raises:
        ConfigError: If one of them exists (nothing is written then), or the folder
            cannot be made or written to.
    """
    files = _content(template)
    tops = [directory / name for name in dict.fromkeys(Path(x).parts[0] for x in files)]
    for path in tops:
        if path.exists():
            message = f"{path} exists and is not overwritten; want another folder"
            raise ConfigError(message)
    make_folder(directory)
    for name, data in files.items():
        make_folder((directory / name).parent)
        write_bytes_atomic(directory / name, data, durable=False)
    return tops


def schema_text() -> str:
    """Return the JSON schema of a configuration as text."""
    return f"{json.dumps(config_schema(), indent=1)}\n"


def _content(template: Template) -> Mapping[str, bytes]:
    """Return every file of a project, name -> content."""
    texts = {CONFIG: commented_config(template), **template.files}
    files = {name: text.encode() for name, text in texts.items()}
    return {**files, **template.data(), SCHEMA_FILE: schema_text().encode()}
