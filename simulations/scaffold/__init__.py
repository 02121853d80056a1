"""``fedprune init``: projects to start from, one template a file."""

from fedprune.simulations.scaffold.config_text import commented_config
from fedprune.simulations.scaffold.project import (
    find_template,
    schema_text,
    write_project,
)
from fedprune.simulations.scaffold.template import Template
from fedprune.simulations.scaffold.templates import DEVICES, OWN, TEMPLATES

__all__ = [
    "DEVICES",
    "OWN",
    "TEMPLATES",
    "Template",
    "commented_config",
    "find_template",
    "schema_text",
    "write_project",
]
