"""The registry of methods: names, needs, code of one's own, and what the wire says."""

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.codec.examples import SETTINGS, make_plan
from helpers.methods import all_methods

from fedprune.common import codec
from fedprune.common.codec.fields import SETTINGS as FIELDS
from fedprune.common.config import (
    Config,
    load_config,
    load_methods,
    own_methods,
    parse_config,
    wanted,
)
from fedprune.common.config.method_key import named_methods
from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.methods import registry
from fedprune.common.methods.kinds import (
    AGGREGATION,
    CHOICE,
    CONSENSUS,
    IMPORTANCE,
    KINDS,
    MASK,
    PENALTY,
    SCHEDULE,
)
from fedprune.common.methods.method import Side
from fedprune.common.methods.registry import (
    check_name,
    find,
    find_all,
    method,
    methods,
    names,
    own_code,
    parts,
    resolve,
    wire_name,
)

ALL = all_methods(KINDS)
ON_THE_WIRE = {"importance": IMPORTANCE, "penalty": PENALTY, "choice": CHOICE}


@pytest.fixture
def blank(monkeypatch):
    """A registry that forgets what a test registers."""
    methods(IMPORTANCE)  # searches the package
    copied = {kind: dict(known) for kind, known in registry._registered.items()}
    monkeypatch.setattr(registry, "_registered", copied)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working folder with code of one's own: ``own(text)`` writes mine.py."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def chosen(config):
    """Return the value of each key that chooses a method."""
    return {kind.key: value for kind, value in named_methods(config)}


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("title", ALL)
def test_every_method_is_named_described_and_asks_for_inputs_of_its_kind(title):
    found = ALL[title]
    assert re.fullmatch(r"[a-z0-9][a-z0-9:-]*", found.name)
    assert found.name not in {registry.OFF}
    assert not found.name.startswith(registry.OWN)
    assert found.summary.endswith(".")
    assert found.needs
    assert found.needs <= {*found.kind.inputs}
    assert not found.own


def test_every_kind_has_a_key_of_its_own_whose_default_is_registered():
    keys = [kind.key for kind in KINDS]
    assert len({*keys}) == len(keys) == len({kind.name for kind in KINDS})
    for kind, value in named_methods(Config()):
        assert {*parts(kind, value)} <= {*methods(kind)}, kind.name
        assert methods(kind), kind.name
        for name in (*names(kind), *parts(kind, value)):
            check_name(kind, name)


def test_the_parameters_say_what_a_function_needs(blank):
    @method(IMPORTANCE)
    def my_score(products, draws, power=2.0):
        """Anything."""
        return products.sum(axis=0) ** power + draws

    found = find(IMPORTANCE, "my-score")
    assert found.needs == {"products", "draws"}
    assert found.summary == "Anything."
    # It is called with these alone, whatever else there is.
    given = {"products": 3.0, "draws": 1.0, "weights": None, "power": 9.0}
    with pytest.raises(AttributeError):
        found(**given)
    assert my_score.__name__ == "my_score"


@pytest.mark.parametrize(
    ("needs", "side"),
    [
        ("weights", Side.SERVER),
        ("draws", Side.SERVER),
        ("weights, draws", Side.SERVER),
        ("products", Side.CLIENT),
        ("activations, weights", Side.CLIENT),
        ("loss_changes, draws", Side.CLIENT),
    ],
)
def test_a_criterion_runs_on_the_side_that_has_its_inputs(own, needs, side):
    own(f"def f({needs}):\n    return 0\n")
    assert find(IMPORTANCE, "mine.py:f").side is side


def test_an_unknown_parameter_is_refused_with_the_one_that_was_meant(own):
    own("def f(product):\n    return product\n")
    with pytest.raises(ConfigError, match="asks for 'product'") as caught:
        find(IMPORTANCE, "mine.py:f")
    said = one_line(caught)
    assert "did you mean 'products'?" in said
    assert "a function for prune.importance may ask for products, product_sums" in said


# Code that is no method -> words of the refusal.
NO_METHODS = {
    "def f(weights, x): ...": "may ask for",
    "def f(*args): ...": "takes '*args' without a name",
    "def f(**inputs): ...": "takes '**inputs' without a name",
    "def f(weights, /): ...": "takes 'weights' without a name",
    "class f:\n    def __init__(self, weights): ...": "is a class",
    "async def f(weights): ...": "is an async function",
    "def f(weights):\n    yield 1": "is a generator",
    "async def f(weights):\n    yield 1": "is an async generator",
    "def f(weights=None): ...": "'weights' has a default",
}


@pytest.mark.parametrize(("text", "words"), NO_METHODS.items(), ids=NO_METHODS)
def test_what_is_no_function_of_named_inputs_is_refused(own, text, words):
    own(text)
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        find(IMPORTANCE, "mine.py:f")
    one_line(caught)


def test_an_error_in_own_code_names_the_key_and_the_line(own):
    own("def inner(x):\n    return x + undefined\n\ndef f(weights):\n    inner(1)\n")
    with pytest.raises(ConfigError) as caught:
        find(IMPORTANCE, "mine.py:f")(weights=None)
    said = one_line(caught)
    assert said.startswith("prune.importance 'mine.py:f' failed at ")
    assert "mine.py:2: NameError: name 'undefined' is not defined" in said


def test_own_code_cannot_write_to_what_it_is_handed(own):
    own("def f(scores):\n    scores[0] = 1.0\n    return scores[0]\n")
    votes = np.zeros((2, 3))
    with pytest.raises(ConfigError, match=r"mine\.py:2: ValueError: .*read-only"):
        find(CONSENSUS, "mine.py:f")(scores=votes, num_examples=None)
    assert votes.flags.writeable
    assert not votes.any()


MISFITS = {
    "nothing": (IMPORTANCE, "", "asks for nothing"),
    "two measurements": (IMPORTANCE, "products, loss_changes", "loss_changes, prod"),
    "no threshold": (PENALTY, "channels", "asks for channels"),
    "two things to shrink": (PENALTY, "channels, scales, threshold", "want channels"),
    "a gate with a threshold": (PENALTY, "uniform, threshold", "want channels"),
    "both sums and rows": (AGGREGATION, "total, deltas", "want total; or deltas and"),
    "who sent, but not what": (AGGREGATION, "sent", "asks for sent"),
}


@pytest.mark.parametrize(("kind", "needs", "words"), MISFITS.values(), ids=MISFITS)
def test_inputs_that_do_not_go_together_are_refused(own, kind, needs, words):
    own(f"def f({needs}): ...\n")
    with pytest.raises(ConfigError, match=words) as caught:
        find(kind, "mine.py:f")
    assert "want" in one_line(caught)


def test_a_registered_function_that_does_not_fit_its_kind_is_refused(blank):
    with pytest.raises(ConfigError, match="'f' asks for 'weihgts'; did you mean 'wei"):

        @method(IMPORTANCE)
        def f(weihgts): ...

    assert "f" not in methods(IMPORTANCE)


def test_the_same_name_twice_is_refused(blank):
    with pytest.raises(ValueError, match="importance 'l1' is registered twice"):

        @method(IMPORTANCE)
        def l1(weights): ...

    @method(SCHEDULE, "l1")  # of another kind
    def straight(progress, end): ...

    with pytest.raises(ValueError, match="schedule 'l1' is registered twice"):

        @method(SCHEDULE, "l1")
        def bent(progress, end): ...

    assert methods(SCHEDULE)["l1"].function is straight


@pytest.mark.parametrize("name", ["a+b", "none", "own:f", "A b", "x.py:f", "a\nb"])
def test_a_name_that_would_mean_something_else_is_refused(blank, name):
    with pytest.raises(ValueError, match="cannot be called"):

        @method(PENALTY, name)
        def f(channels, threshold): ...


def test_a_sum_of_penalties_is_its_terms_in_order():
    found = find_all(PENALTY, "l1+group+bn-l1")
    assert [one.name for one in found] == ["l1", "group", "bn-l1"]
    assert find_all(PENALTY, "none") == ()
    assert parts(PENALTY, "none") == ()
    assert parts(IMPORTANCE, "l1+l2") == ("l1+l2",)  # of no other kind


def test_two_gates_are_refused_before_the_first_round():
    config = load_config(None, {"client.penalty": "l0+l1+targeted-dropout"})
    with pytest.raises(ConfigError, match="of l0 and targeted-dropout at most") as said:
        load_methods(config)
    one_line(said)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (PENALTY, "l1+lasso"),
        (PENALTY, "l1+"),
        (PENALTY, "none+l1"),
        (PENALTY, ""),
        (PENALTY, "L1"),
        (IMPORTANCE, "l1+l2"),
        (IMPORTANCE, "none"),
        (CONSENSUS, "own:mean"),
        (SCHEDULE, " cubic"),
    ],
)
def test_a_value_that_names_no_method_is_refused_when_a_configuration_is_read(
    kind, value
):
    if value.startswith("own:"):  # a module called own would be one's own
        with pytest.raises(ConfigError, match="own"):
            find(kind, value)
        return
    with pytest.raises(ConfigError, match="want one of") as caught:
        load_config(None, {kind.key: value})
    said = one_line(caught)
    for name in names(kind):
        assert f'"{name}"' in said
    assert 'or your own "file.py:function"' in said


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_configuration_takes_every_name_and_a_slip_gets_a_hint(kind):
    for name in names(kind):
        config = load_config(None, {kind.key: name})
        assert chosen(config)[kind.key] == name
        assert f'"{name}"' in wanted(tuple(kind.key.split(".")))
    longest = max(names(kind), key=len)
    with pytest.raises(ConfigError, match=f'did you mean "{longest}"'):
        load_config(None, {kind.key: f"{longest}x"})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_code_is_named_when_a_configuration_is_read_and_not_loaded(kind, own):
    reference = "nowhere.py:f"
    config = load_config(None, {kind.key: reference})
    assert own_methods(config) == {kind.key: reference}
    with pytest.raises(ConfigError, match=r"there is no file 'nowhere\.py'") as caught:
        load_methods(config)
    one_line(caught)
    own("open('executed', 'w').close()\n", "nowhere.py")
    load_config(None, {kind.key: reference})
    assert not own("", "other.py").with_name("executed").exists()


def test_what_a_configuration_names_is_loaded_from_its_own_folder(own, tmp_path):
    (tmp_path / "project").mkdir()
    text = "def f(weights):\n    return weights.mean(abs)\n"
    own(text, "project/mine.py")
    file = own('[prune]\nimportance = "mine.py:f"\n', "project/fedprune.toml")
    config = load_config(file)
    assert config.prune.importance == f"{tmp_path / 'project' / 'mine.py'}:f"
    found = find(IMPORTANCE, config.prune.importance)
    assert found.own
    assert found.needs == {"weights"}
    load_methods(config)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_files_and_folders_that_are_called_like_a_method_change_nothing(kind, own):
    for name in names(kind):
        own("", "readme").with_name(name.partition(":")[0]).mkdir(exist_ok=True)
    folder = own("", "readme").parent
    (folder / "elsewhere").mkdir(exist_ok=True)
    section, _, key = kind.key.rpartition(".")
    for name in names(kind):
        file = own(f'[{section}]\n{key} = "{name}"\n', "fedprune.toml")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder / "elsewhere")
            assert chosen(load_config(file))[kind.key] == name


WRONG = {
    "no function": ("x = 1\n", "mine.py:f", "no function named 'f'"),
    "no callable": ("f = 1\n", "mine.py:f", "something not callable named 'f'"),
    "near": ("def score(weights): ...\n", "mine.py:scor", "did you mean 'score'"),
    "broken": ("1 / 0\n", "mine.py:f", "failed: ZeroDivisionError"),
    "no module": ("", "no_such_module:f", "cannot import 'no_such_module'"),
    "no signature": ("f = max\n", "mine.py:f", "does not say its parameters"),
}


@pytest.mark.parametrize(("text", "reference", "words"), WRONG.values(), ids=WRONG)
def test_code_that_is_not_there_or_fails_is_refused_in_one_line(
    own, text, reference, words
):
    own(text)
    config = load_config(None, {"prune.importance": reference})
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load_methods(config)
    one_line(caught)


@pytest.mark.parametrize("value", ["mine.py:", ":f", "mine.py:f g", "mine.py:1f"])
def test_a_reference_that_is_none_is_refused_when_it_is_read(value):
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"prune.importance": value})
    one_line(caught)


def test_two_keys_may_name_functions_of_one_file(own):
    own("def f(weights): ...\ndef g(progress, end): ...\n")
    config = load_config(
        None, {"prune.importance": "mine.py:f", "prune.schedule": "mine.py:g"}
    )
    load_methods(config)
    assert own_methods(config) == {
        "prune.importance": "mine.py:f",
        "prune.schedule": "mine.py:g",
    }


def test_a_configuration_with_code_of_ones_own_reads_back_equal(own):
    from fedprune.common.config import config_to_toml

    config = load_config(None, {kind.key: "mine.py:f" for kind in KINDS})
    assert parse_config(config_to_toml(config)) == config


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_wire_says_a_registered_name_as_it_is_and_of_code_the_function_alone(kind):
    for name in names(kind):
        assert wire_name(kind, name) == name
        assert resolve(kind, name, "secret/mine.py:f") == name
    assert wire_name(kind, "/home/me/secret/mine.py:f") == "own:f"
    assert wire_name(kind, "package.secret:f") == "own:f"


def test_the_wire_says_a_sum_as_it_is():
    assert wire_name(PENALTY, "bn-l1+group") == "bn-l1+group"
    assert own_code(PENALTY, "bn-l1+group") == ""


def test_own_code_of_a_message_is_what_this_sides_configuration_names():
    assert resolve(IMPORTANCE, "own:f", "here/mine.py:f") == "here/mine.py:f"
    assert resolve(IMPORTANCE, "own:f", "package.module:f") == "package.module:f"


@pytest.mark.parametrize(
    ("told", "own"),
    [
        ("own:g", "mine.py:f"),
        ("own:f", "taylor"),
        ("own:f", "mine.py:ff"),
        ("own:mine.py:f", "mine.py:f"),
        ("own:evil.py:f", "mine.py:f"),
        ("own:", "taylor"),
    ],
)
def test_a_message_cannot_choose_a_file_or_another_function(told, own):
    with pytest.raises(PayloadError, match=r"prune\.importance.*sender's own function"):
        resolve(IMPORTANCE, told, own)


@pytest.mark.parametrize("field", ON_THE_WIRE)
def test_the_wire_carries_every_registered_name_and_own_functions(field):
    kind = ON_THE_WIRE[field]
    known = set(names(kind)) - set(kind.others)  # what does the work travels
    for name in (*sorted(known), "own:f", "own:_score2"):
        plan = replace(make_plan(), settings=replace(SETTINGS, **{field: name}))
        found = codec.decode_plan(codec.encode_plan(plan), 1 << 20)
        assert getattr(found.settings, field) == name


@pytest.mark.parametrize("field", ON_THE_WIRE)
@pytest.mark.parametrize(
    "value",
    [
        "lasso",
        "mine.py:f",
        "os:abort",
        "own:",
        "own:mine.py:f",
        "own:f g",
        "own:1f",
        "own:f+own:g",
        "own:../x",
        "+",
        "n:m",
        b"taylor",
        7,
        None,
        ["taylor"],
    ],
    ids=repr,
)
def test_a_name_that_no_client_knows_is_refused_by_the_codec(field, value):
    with pytest.raises(PayloadError, match=f"settings.{field}"):
        FIELDS[field](value, f"settings.{field}")


def test_only_the_importance_of_a_message_may_be_empty():
    assert FIELDS["importance"]("", "settings.importance") == ""
    for field in ("penalty", "choice"):
        with pytest.raises(PayloadError, match=f"settings.{field}"):
            FIELDS[field]("", f"settings.{field}")


def test_masks_of_n_of_m_are_no_code():
    assert own_code(MASK, "n:m") == ""
    assert own_methods(load_config(None, {"prune.mask.kind": "n:m"})) == {}
