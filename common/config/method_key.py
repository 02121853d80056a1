"""Keys of the configuration whose values name methods."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import KINDS
from fedprune.common.methods.method import Kind
from fedprune.common.methods.registry import (
    check_name,
    find_all,
    forget_loaded,
    methods,
    names,
    own_code,
)

if TYPE_CHECKING:
    from fedprune.common.config.schema import Config

_OWN_CODE = "^.+:[^:]{1,100}$"  # file.py:function or module:function


class NoMethod(ValueError):  # noqa: N818 - pydantic turns a ValueError into its own
    """A value that names no method of its kind."""


@dataclass(frozen=True, slots=True)
class MethodKey:
    """Annotation of a key that chooses a method of a kind."""

    kind: Kind

    def __get_pydantic_core_schema__(
        self,
        source: Any,  # noqa: ANN401 - pydantic's own signature
        handler: GetCoreSchemaHandler,
    ) -> CoreSchema:
        """Return the schema of the type with a check of the method's name."""
        return core_schema.no_info_after_validator_function(
            self._checked, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the JSON schema of the key: the methods, their sums, own code."""
        forms: list[dict[str, object]] = [{"enum": list(names(self.kind))}]
        if self.kind.sums:
            term = "|".join(methods(self.kind))  # letters, digits, ":" and "-"
            forms.append({"pattern": rf"^({term})(\+({term}))+$"})
        forms.append({"pattern": _OWN_CODE})
        return {**handler(core), "anyOf": forms}

    def describe(self) -> str:
        """Return the valid values of the key in words."""
        known = ", ".join(f'"{name}"' for name in names(self.kind))
        several = ', several as "a+b"' if self.kind.sums else ""
        return f'one of {known}{several}, or your own "file.py:function"'

    def _checked(self, name: str) -> str:
        try:
            check_name(self.kind, name)
        except ConfigError as error:
            raise NoMethod(str(error)) from error
        return name


def named_methods(config: "Config") -> Iterator[tuple[Kind, str]]:
    """Yield each kind of methods with the value of its key."""
    for kind in KINDS:
        value: Any = config
        for name in kind.key.split("."):
            value = getattr(value, name)
        yield kind, str(value)


def own_methods(config: "Config") -> dict[str, str]:
    """Return the user's own functions that a configuration names, by key."""
    found = {kind.key: own_code(kind, value) for kind, value in named_methods(config)}
    return {key: reference for key, reference in found.items() if reference}


def load_methods(config: "Config") -> None:
    """Load the methods that a configuration names, so that errors appear at the start.

    Raises:
        ConfigError: If a function is missing, or has a parameter that is not an input
            of its kind.
    """
    forget_loaded()
    for kind, value in named_methods(config):
        find_all(kind, value)
