"""The text of a configuration with the help and the default of every key."""

import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from fedprune.common.config import Config, toml_value, wanted
from fedprune.common.config.json_schema import SCHEMA_FILE
from fedprune.simulations.scaffold.template import Template

_WIDTH = 86  # characters of a comment, without "# "


def commented_config(template: Template) -> str:
    """Return a configuration with the help and the default of every key.

    Its first line names the schema to editors.
    """
    parts = [f"#:schema ./{SCHEMA_FILE}\n{template.head}"]
    for name in Config.model_fields:
        section = getattr(Config(), name)
        summary = (type(section).__doc__ or "").splitlines()[0]
        lines = [f"[{name}]  # {summary}"]
        for key, value in section:
            help_ = type(section).model_fields[key].description or ""
            chosen = template.values.get((name, key))
            lines += _entry((name, key), value, help_, chosen)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _entry(
    key: tuple[str, ...], value: object, help_: str, chosen: object = None
) -> Iterator[str]:
    """Yield the lines of one key: its help, and its default or chosen value.

    A table that is too wide for a line has a line for each of its own keys.
    """
    name, choices = ".".join(key[1:]), wanted(key)
    if choices.startswith("one of"):
        help_ += f" {choices[0].upper()}{choices[1:]}."
    for line in textwrap.wrap(help_, _WIDTH):
        yield f"# {line}"
    if chosen is not None:
        yield f"{name} = {toml_value(chosen)}"
        return
    if value is None:  # TOML has no value for a key that is off
        yield f"# {name} = (left out)"
        return
    line = f"#{name} = {toml_value(value)}"
    if len(line) <= _WIDTH or not isinstance(value, BaseModel):
        yield line
        return
    for inner, default in value:
        inner_help = type(value).model_fields[inner].description or ""
        yield from _entry((*key, inner), default, inner_help)
