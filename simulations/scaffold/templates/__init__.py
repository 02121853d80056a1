"""The templates of ``fedprune init --template``: name -> template."""

from fedprune.simulations.scaffold.template import Template
from fedprune.simulations.scaffold.templates.devices import DEVICES
from fedprune.simulations.scaffold.templates.own import OWN
from fedprune.simulations.scaffold.templates.tabular import TABULAR
from fedprune.simulations.scaffold.templates.text import TEXT
from fedprune.simulations.scaffold.templates.vision import VISION

TEMPLATES: dict[str, Template] = {
    "vision": VISION,
    "text": TEXT,
    "tabular": TABULAR,
    "devices": DEVICES,
}

__all__ = ["DEVICES", "OWN", "TEMPLATES"]
