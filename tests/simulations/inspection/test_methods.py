"""The listing of methods says all that an author of one has to know."""

import json

import pytest

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.methods import registry
from fedprune.common.methods.kinds import IMPORTANCE, KINDS, PENALTY, SCHEDULE
from fedprune.common.methods.registry import method, methods
from fedprune.simulations.inspection.methods import (
    as_data,
    as_markdown,
    as_text,
    kinds_of,
    options_of,
    values_of,
)

KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture
def added(monkeypatch):
    """A criterion with options and a law, in a registry that forgets it."""
    methods(IMPORTANCE)  # searches the package
    copied = {name: dict(known) for name, known in registry._registered.items()}
    monkeypatch.setattr(registry, "_registered", copied)

    @method(IMPORTANCE, laws=("scales",))
    def my_score(weights, power=2.0, rule="mean"):
        """Anything."""

    return methods(IMPORTANCE)["my-score"]


def listing(kind):
    return "\n".join(as_text([kind]))


def data_of(kind):
    """Return what ``--json`` prints of a kind."""
    return json.loads(json.dumps(as_data([kind])))[kind.key]


@KIND
def test_a_kind_is_found_by_its_name_and_by_its_key(kind):
    assert kinds_of(kind.name) == kinds_of(kind.key) == (kind,)
    assert kinds_of("") == KINDS


def test_an_unknown_kind_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match="did you mean 'penalty'"):
        kinds_of("penalti")


@KIND
def test_the_listing_of_a_kind_has_every_input_and_every_set_that_goes_together(kind):
    text, data = listing(kind), data_of(kind)
    assert data["inputs"] == {name: one.text for name, one in kind.inputs.items()}
    for name, given in kind.inputs.items():
        assert f"  {name:<20} {given.text}" in text
    found = [
        (frozenset(row["required"]), frozenset(row["optional"]))
        for row in data["together"]
    ]
    assert found == [*kind.forms]
    for row in data["together"]:
        line = f"  {', '.join(row['required'])}"
        if row["optional"]:
            line += f", and maybe {', '.join(row['optional'])}"
        assert line in text.splitlines()
    assert ("any of these go together" in text) == (not kind.forms)
    assert data["returns"] == kind.returns
    assert text.endswith(kind.returns)


@KIND
def test_every_method_is_listed_with_side_needs_and_laws(kind):
    rows, table = data_of(kind)["methods"], "\n".join(as_markdown([kind]))
    assert [*rows] == [*methods(kind)]
    for name, one in methods(kind).items():
        assert rows[name]["side"] == one.side.value
        assert {*rows[name]["needs"]} == one.needs
        assert tuple(rows[name]["laws"]) == one.laws
        line, *_ = [x for x in listing(kind).splitlines() if x.startswith(f"  {name} ")]
        assert all(law in line for law in one.laws)
        assert f"| `{kind.key}` | `{name}` |" in table


def test_options_of_a_function_are_listed_with_their_defaults(added):
    assert options_of(added) == {"power": "2.0", "rule": "'mean'"}
    assert data_of(IMPORTANCE)["methods"]["my-score"]["options"] == options_of(added)
    line = "  my-score             Anything. [server; weights; options power=2.0, "
    assert f"{line}rule='mean'; laws scales]" in listing(IMPORTANCE)


@KIND
def test_the_forms_of_a_value_are_those_that_a_configuration_takes(kind):
    values = values_of(kind)
    assert data_of(kind)["values"] == [*values]
    assert {"NAME", "module:function", "file.py:function"} <= {*values}
    assert ("none" in values) == kind.optional == ("switches it off" in listing(kind))
    assert ("a+b" in values) == kind.sums == ("  a+b " in listing(kind))
    first, second, *_ = (name for name in methods(kind) if ":" not in name)
    for form, value in (("none", "none"), ("a+b", f"{first}+{second}")):
        if form in values:
            load_config(None, {kind.key: value})
        else:
            with pytest.raises(ConfigError):
                load_config(None, {kind.key: value})


def test_what_a_sum_may_have_once_is_said():
    assert data_of(PENALTY)["once"] == ["uniform"]
    assert "in a+b at most one may ask for uniform" in listing(PENALTY)
    assert "at most one" not in listing(SCHEDULE)


def test_inputs_stand_in_the_order_of_their_kind():
    first, *_ = data_of(IMPORTANCE)["together"]
    assert first["optional"] == ["activations", "weights", "draws"]
