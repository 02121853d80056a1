from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fedprune.common.config import (
    Budget,
    Client,
    Config,
    ControlName,
    Partition,
    Prune,
    Run,
    Task,
    config_digest,
    config_to_toml,
    expand_sweep,
    load_config,
    parse_config,
)
from fedprune.common.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch):
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)


def write(folder, text):
    path = folder / "fedprune.toml"
    path.write_text(text, encoding="utf-8")
    return path


def every_field(model, prefix=()):
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from every_field(info.annotation, (*prefix, name))
        yield (*prefix, name), info


shares = st.floats(min_value=0, max_value=1, exclude_min=True)
# TOML is UTF-8, which has no surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
configs = st.builds(
    Config,
    task=st.builds(
        Task,
        model=texts.filter(bool),
        data_dir=texts,
        partition=st.builds(Partition, alpha=shares),
        ignore=st.lists(texts, max_size=3).map(tuple),
    ),
    client=st.builds(Client, lr=shares, strength=st.floats(0, 1e300)),
    prune=st.builds(
        Prune, budget=st.builds(Budget, params=shares, flops=st.none() | shares)
    ),
    run=st.builds(
        Run,
        seed=st.integers(0, 2**63 - 1),
        controls=st.permutations(get_args(ControlName)).map(
            lambda names: tuple(names[:3])
        ),
    ),
)


@pytest.mark.slow
@given(configs)
def test_a_written_configuration_reads_back_equal(config):
    assert parse_config(config_to_toml(config)) == config


def test_no_file_gives_the_defaults():
    assert load_config(None) == Config()


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert load_config(write(tmp_path, "")) == Config()


def test_every_key_has_a_default_and_a_description():
    for path, info in every_field(Config):
        assert not info.is_required(), path
        assert len(path) == 1 or info.description, path


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().run.seed = 1


def test_overrides_win_over_the_file(tmp_path):
    path = write(tmp_path, "[rounds]\nwarmup = 7\nfinal = 8\n")
    config = load_config(path, ["rounds.warmup=9"])
    assert (config.rounds.warmup, config.rounds.final) == (9, 8)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("client.penalty=l1", "client", "penalty", "l1"),
        ('client.penalty="l1"', "client", "penalty", "l1"),
        ("client.lr=1", "client", "lr", 1.0),
        ("client.lr = 1e-3", "client", "lr", 1e-3),
        ("run.controls=[]", "run", "controls", ()),
        ("run.deterministic=true", "run", "deterministic", True),
        ("task.data_dir=", "task", "data_dir", ""),
        ("task.data_dir=/a b/c", "task", "data_dir", "/a b/c"),
        ("task.data_dir=a=b", "task", "data_dir", "a=b"),
        ('task.ignore=["fc", "conv"]', "task", "ignore", ("fc", "conv")),
        ("prune.budget.flops=0.5", "prune", "budget", Budget(flops=0.5)),
    ],
)
def test_an_override_is_a_toml_value_or_a_bare_word(override, section, key, value):
    assert getattr(getattr(load_config(None, [override]), section), key) == value


def test_overrides_may_be_a_mapping():
    config = load_config(None, {"rounds.warmup": 9, "client.penalty": "none"})
    assert (config.rounds.warmup, config.client.penalty) == (9, "none")


def test_a_given_budget_replaces_the_default_as_a_whole(tmp_path):
    path = write(tmp_path, "[prune]\nbudget = { channel_density = 0.5 }\n")
    assert load_config(path).prune.budget == Budget(channel_density=0.5)


def test_the_environment_fills_an_empty_data_folder_only(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPRUNE_DATA", "/from/environment")
    path = write(tmp_path, '[task]\ndata_dir = "/from/file"\n')
    assert load_config(None).task.data_dir == "/from/environment"
    assert load_config(path).task.data_dir == "/from/file"


def test_parsing_a_text_does_not_look_at_the_environment(monkeypatch):
    monkeypatch.setenv("FEDPRUNE_DATA", "/from/environment")
    assert parse_config("") == Config()


def test_files_beside_the_configuration_are_found_from_any_folder(tmp_path):
    (tmp_path / "net.py").touch()
    (tmp_path / "data.npz").touch()
    (tmp_path / "fast.json").touch()
    (tmp_path / "images").mkdir()
    text = '[task]\nmodel = "net.py:make"\ndata = "npz:data.npz"\n'
    text += 'use = "net.py:Mine"\n'
    text += 'data_dir = "images"\n[prune]\nlatency_table = "fast.json"\n'
    path = write(tmp_path, text)
    task = load_config(path).task
    assert task.data_dir == str(tmp_path / "images")
    assert load_config(path).prune.latency_table == str(tmp_path / "fast.json")
    assert task.model == f"{tmp_path / 'net.py'}:make"
    assert task.use == f"{tmp_path / 'net.py'}:Mine"
    assert task.data == f"npz:{tmp_path / 'data.npz'}"


def test_the_working_folder_comes_before_the_folder_of_the_configuration(
    tmp_path, monkeypatch
):
    (tmp_path / "project").mkdir()
    for folder in (tmp_path, tmp_path / "project"):
        (folder / "net.py").touch()
    path = write(tmp_path / "project", '[task]\nmodel = "net.py:make"\n')
    monkeypatch.chdir(tmp_path)
    assert load_config(path).task.model == "net.py:make"


@pytest.mark.parametrize(
    "override",
    [
        "run.dir=elsewhere",
        "run.name=other",
        "run.engine=inprocess",
        "run.workers=7",
        "run.state_limit_mb=1",
        "task.data_dir=/other",
        "device.max_bytes=2048",
        "prune.latency_table=fast.json",
    ],
)
def test_the_digest_ignores_what_cannot_change_a_result(override):
    config = load_config(None, [override])
    assert config != Config()
    assert config_digest(config) == config_digest(Config())


@pytest.mark.parametrize(
    "override",
    [
        "run.seed=1",
        "client.lr=0.1",
        "prune.budget.params=0.3",
        "task.partition.alpha=1",
    ],
)
def test_the_digest_changes_with_what_can_change_a_result(override):
    assert config_digest(load_config(None, [override])) != config_digest(Config())


def test_a_sweep_is_the_product_and_the_last_key_varies_fastest(tmp_path):
    path = write(tmp_path, "[run]\nseed = [0, 1]\n")
    runs = expand_sweep(path, ['client.penalty=["none", "l1"]', "rounds.warmup=1"])
    assert [(c.run.seed, c.client.penalty) for _, c in runs] == [
        (0, "none"),
        (0, "l1"),
        (1, "none"),
        (1, "l1"),
    ]
    assert runs[1][0] == "run.seed=0,client.penalty=l1"
    assert {config.rounds.warmup for _, config in runs} == {1}


def test_runs_of_a_sweep_have_different_names():
    runs = expand_sweep(None, ["client.lr=[0.1, 0.2]", "run.name=mine"])
    assert [config.run.name for _, config in runs] == [
        "mine-client.lr-0.1",
        "mine-client.lr-0.2",
    ]


def test_a_sweep_may_go_over_tables_and_over_lists():
    tables = expand_sweep(None, ["prune.budget=[{ params = 0.5 }, { flops = 0.5 }]"])
    assert [config.prune.budget for _, config in tables] == [
        Budget(params=0.5),
        Budget(flops=0.5),
    ]
    lists = expand_sweep(None, ['task.ignore=[[], ["fc"]]'])
    assert [config.task.ignore for _, config in lists] == [(), ("fc",)]


def test_nothing_swept_is_one_run_without_a_label():
    assert expand_sweep(None) == [("", Config())]


def test_a_sweep_checks_every_run():
    with pytest.raises(ConfigError, match=r"rounds\.cohort: found 11, want <= "):
        expand_sweep(None, ["rounds.cohort=[10, 11]"])


def test_a_sweep_over_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"client\.lr: found \[\], want a number"):
        expand_sweep(None, ["client.lr=[]"])


def test_the_rounds_add_up():
    rounds = Config().rounds
    assert rounds.total == 5 + 4 * (2 + 2) + 14


def test_a_limit_that_is_left_out_is_a_comment_of_the_toml():
    assert "\n# max_accuracy_drop = (off)\n" in config_to_toml(Config()) + "\n"
    limited = load_config(None, {"prune.max_accuracy_drop": 0.02})
    assert "\nmax_accuracy_drop = 0.02\n" in config_to_toml(limited)
    for config in (Config(), limited):
        assert parse_config(config_to_toml(config)) == config
    assert config_digest(limited) != config_digest(Config())


def test_a_limit_on_the_accuracy_needs_validation_parts():
    limit = {"prune.max_accuracy_drop": 0.02, "client.validation": 0.0}
    with pytest.raises(ConfigError, match=r"want none: client\.validation = 0"):
        load_config(None, limit)


def test_a_limit_on_the_accuracy_needs_fine_tune_rounds():
    limit = {"prune.max_accuracy_drop": 0.02, "rounds.finetune": 0}
    with pytest.raises(ConfigError, match=r"max_accuracy_drop: found 0\.02, want none"):
        load_config(None, limit)
    assert load_config(None, limit | {"rounds.cuts": 0}).rounds.finetune == 0


def test_a_limit_on_the_accuracy_is_no_negative_number():
    with pytest.raises(ConfigError, match=r"max_accuracy_drop: found -1, want a num"):
        load_config(None, {"prune.max_accuracy_drop": -1})
