"""JSON schema of a configuration, for editors: keys, types, ranges, choices and help.

It says of each key alone what a run accepts.  Checks that need two keys (a cohort above
the number of clients) are those of a run: an editor cannot make them.
"""

from collections.abc import Iterator
from typing import Any

from fedprune.common.config.schema import Config

SCHEMA_FILE = "fedprune.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def config_schema() -> Schema:
    """Return the schema of ``fedprune.toml`` as a JSON object (draft 2020-12)."""
    found: Schema = Config.model_json_schema()
    for name, inner in _schemas("", found):
        _without_null(inner)
        if name != "properties":
            inner.pop("title", None)
    return {"$schema": DIALECT, **found, "title": "fedprune.toml"}


def _schemas(name: str, value: object) -> Iterator[tuple[str, Schema]]:
    """Yield every object inside of a schema with its key, inner ones first."""
    if isinstance(value, list):
        for item in value:
            yield from _schemas("", item)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _schemas(key, item)
        yield name, value


def _without_null(schema: Schema) -> None:
    """Remove, in place, null, which TOML cannot write, and the defaults of tables."""
    default = schema.get("default", "")
    if default is None or isinstance(default, dict):
        del schema["default"]
    kinds = schema.get("anyOf")
    if not isinstance(kinds, list) or {"type": "null"} not in kinds:
        return
    kinds.remove({"type": "null"})
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])
