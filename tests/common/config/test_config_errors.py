import re

import pytest

from fedprune.common.config import load_config
from fedprune.common.config.explain import find_line
from fedprune.common.errors import ConfigError

# name -> (TOML text, what the whole message is after the file's name)
BAD_FILES = {
    "a misspelt key": (
        "[rounds]\n\ncohrt = 3\n",
        ':3: rounds.cohrt: unknown key; did you mean "rounds.cohort"?',
    ),
    "a misspelt section": (
        "[round]\nwarmup = 3\n",
        ':1: round: unknown key; did you mean "rounds"?',
    ),
    "a key of another section": (
        "[task]\nmomentum = 0.9\n",
        ':2: task.momentum: unknown key; did you mean "client.momentum"?',
    ),
    "a key without a section": (
        "seed = 3\n",
        ':1: seed: unknown key; did you mean "run.seed"?',
    ),
    "a key that resembles none": (
        "[distill]\nzzz = 1\n",
        ":2: distill.zzz: unknown key; [distill] has teacher, weight, temperature",
    ),
    "a key of an inline table": (
        '[task]\npartition = { kind = "iid", alfa = 1 }\n',
        ':2: task.partition.alfa: unknown key; did you mean "task.partition.alpha"?',
    ),
    "a key of a table of its own": (
        "[prune.budget]\nparam = 0.5\n",
        ':2: prune.budget.param: unknown key; did you mean "prune.budget.params"?',
    ),
    "a word that is neither true nor false": (
        "[prune]\nreconstruct = 'maybe'\n",
        ':2: prune.reconstruct: found "maybe", want one of true, false, "auto"',
    ),
    "a truth value in quotes": (
        "[prune]\nreconstruct = 'True'\n",
        (
            ':2: prune.reconstruct: found "True", want one of true, false, "auto"; did '
            "you mean true, without quotes?"
        ),
    ),
    "a number in place of a truth value": (
        "[prune]\nreconstruct = 1\n",
        ':2: prune.reconstruct: found 1, want one of true, false, "auto"',
    ),
    "a choice that is none": (
        "[client]\npenalty = 'bnl1'\n",
        (
            ':2: client.penalty: found "bnl1", want one of "none", "bn-l1", '
            '"group", "l0", "l1", "targeted-dropout", "auto", several as "a+b", or '
            'your own "file.py:function"; did you mean "bn-l1"?'
        ),
    ),
    "a string for a number": (
        '[client]\nlr = "0.1"\n',
        ':2: client.lr: found "0.1", want a number, > 0',
    ),
    "a fraction for an integer": (
        "[rounds]\nwarmup = 3.0\n",
        ":2: rounds.warmup: found 3.0, want an integer, >= 0",
    ),
    "true for an integer": (
        "[rounds]\nwarmup = true\n",
        ":2: rounds.warmup: found true, want an integer, >= 0",
    ),
    "a number for true or false": (
        "[run]\ndeterministic = 1\n",
        ":2: run.deterministic: found 1, want true or false",
    ),
    "not a number": (
        "[client]\nlr = nan\n",
        ":2: client.lr: found nan, want a number, > 0, finite",
    ),
    "a density of 0": (
        "[update]\nupdate_density = 0\n",
        ":2: update.update_density: found 0, want a number, > 0 and <= 1",
    ),
    "a density above 1": (
        "[prune]\nbudget = { params = 0.5, flops = 1.5 }\n",
        ":2: prune.budget.flops: found 1.5, want a number, > 0 and <= 1",
    ),
    "a momentum of 1": (
        "[client]\nmomentum = 1\n",
        ":2: client.momentum: found 1, want a number, >= 0 and < 1",
    ),
    "an unknown optimiser": (
        '[client]\noptimizer = "rmsprob"\n',
        (
            ':2: client.optimizer: found "rmsprob", want one of "sgd", "adam", '
            '"adamw", "rmsprop"; did you mean "rmsprop"?'
        ),
    ),
    "a server's optimiser that is a client's": (
        '[server]\noptimizer = "sgd"\n',
        (
            ':2: server.optimizer: found "sgd", want one of "none", "momentum", '
            '"adam", "yogi"'
        ),
    ),
    "a weight decay below 0": (
        "[client]\nweight_decay = -1\n",
        ":2: client.weight_decay: found -1, want a number, >= 0",
    ),
    "a value for a section": (
        "client = 3\n",
        (
            ":1: client: found 3, want a table with epochs, batch, optimizer, lr, "
            "lr_schedule, lr_rewind, momentum, weight_decay, proximal, precision, "
            "clip, penalty, strength, validation, score_examples"
        ),
    ),
    "a value for a table": (
        "[task]\npartition = 'iid'\n",
        (
            ':2: task.partition: found "iid", want a table with kind, alpha, classes, '
            "column"
        ),
    ),
    "a list for a number": (
        "[client]\nlr = [0.1, 0.2]\n",
        (
            ":2: client.lr: found a list [0.1, 0.2], want a number, > 0; several "
            "values are a sweep: use --sweep"
        ),
    ),
    "numbers for names": (
        "[task]\nignore = [1]\n",
        ":2: task.ignore: found 1, want a list of strings",
    ),
    "an empty model": (
        "[task]\nmodel = ''\n",
        ':2: task.model: found "", want a string, not empty',
    ),
    "a run's name with a slash": (
        "[run]\nname = 'a/b'\n",
        (
            ':2: run.name: found "a/b", want a string of letters, digits, ".", "_", '
            '"-", 100 at most'
        ),
    ),
    "a tracker": (
        "[run]\ntrack = ['mlfow']\n",
        (
            ':2: run.track: found "mlfow", want a list, each one of "tensorboard", '
            '"mlflow", "wandb"; did you mean "mlflow"?'
        ),
    ),
    "an empty budget": (
        "[prune]\nbudget = {}\n",
        (
            ":2: prune.budget: found no limit, want one or more of params, flops, "
            "channel_density, latency, bytes"
        ),
    ),
    "a cohort larger than all clients": (
        "[rounds]\ncohort = 11\n",
        ":2: rounds.cohort: found 11, want <= task.clients = 10",
    ),
    "fewer clients than the default cohort": (
        "[task]\nclients = 4\n",
        ": rounds.cohort: found 10 (the default), want <= task.clients = 4",
    ),
    "a minimum larger than the cohort": (
        "[rounds]\ncohort = 4\n",
        ":1: rounds.minimum: found 5 (the default), want <= rounds.cohort = 4",
    ),
    "a cut without a sparsify round": (
        "[rounds]\nsparsify = 0\n",
        ":2: rounds.sparsify: found 0, want >= 1, since rounds.cuts = 4 is not 0",
    ),
    "no round at all": (
        "[rounds]\nwarmup = 0\ncuts = 0\nfinal = 0\n",
        ":4: rounds.final: found no round at all, want warmup + cuts + final >= 1",
    ),
    "a density out of reach": (
        "[prune]\nbudget = { channel_density = 0.1 }\n",
        (
            ":2: prune.budget.channel_density: found 0.1, want >= 0.1296: less is out "
            "of reach of 4 cuts by prune.step_cap = 0.4"
        ),
    ),
    "two errors": (
        "[client]\nlr = 0\nbatch = 0\n",
        ":3: client.batch: found 0, want an integer, >= 1 and <= 16777216 (and 1 more)",
    ),
    "a key given twice": (
        "[client]\nlr = 1\nlr = 2\n",
        ":3: not valid TOML: ",
    ),
    "broken TOML": ("[client\n", ":1: not valid TOML: "),
}

# --set argument -> what the message holds
BAD_OVERRIDES = {
    "client.lr": '--set client.lr: found no "=", want --set key=value',
    "client.lr=fast": '--set client.lr=fast: client.lr: found "fast", want a number',
    "lr=1": 'found the key "lr", want section.key; did you mean "client.lr"?',
    "client..lr=1": 'found the key "client..lr", want section.key',
    "client.lrs=1": 'client.lrs=1: client.lrs: unknown key; did you mean "client.lr"',
    "nothing.at=1": "--set nothing.at=1: nothing: unknown key; a configuration has",
    "client.lr.x=1": "--set client.lr.x=1: client.lr: found { x = 1 }, want a number",
    "run.seed=[1": "--set run.seed=[1: the value is not valid TOML",
    "run.seed=[1, 2]": "found a list [1, 2], want an integer",
    "run.seed=-1": "run.seed: found -1, want an integer, >= 0",
}


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch):
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_that_says_where(text, message, tmp_path):
    path = tmp_path / "fedprune.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert message.endswith(": ") or str(caught.value) == f"{path}{message}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"), BAD_OVERRIDES.items(), ids=BAD_OVERRIDES
)
def test_a_bad_override_is_refused_in_one_line_that_quotes_it(override, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


def test_a_line_break_in_a_value_does_not_break_the_message(tmp_path):
    path = tmp_path / "fedprune.toml"
    path.write_text('[client]\npenalty = "a\\nb\\rc"\n')
    with pytest.raises(ConfigError, match=r"found \"a\\nb\\rc\"") as caught:
        load_config(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml: No such file"):
        load_config(tmp_path / "none.toml")


def test_what_is_no_file_is_refused_with_what_to_name_instead(tmp_path):
    with pytest.raises(ConfigError, match=r"; fedprune init DIR writes one$"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"want a TOML file in it, such as fedprune"):
        load_config(tmp_path)
    (tmp_path / "manifest.json").touch()
    with pytest.raises(ConfigError, match=r"want .*config\.toml, or --resume "):
        load_config(tmp_path)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "fedprune.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="byte 0 is not UTF-8"):
        load_config(path)


def test_an_override_wins_over_the_file_as_the_place_of_an_error(tmp_path):
    path = tmp_path / "fedprune.toml"
    path.write_text("[client]\nlr = 1\n")
    with pytest.raises(ConfigError, match=r"^--set client\.lr=0: client\.lr"):
        load_config(path, ["client.lr=0"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[a]\nb = 1\n[c]\nb = 2\n", 4),
        ("# b = 1\nc.b = 2\n", 2),
        ("[c]\nd = 1\n", 1),
        ('["c"] # table\n"b" = 2\n', 2),
        ("c = { b = 2 }\n", 1),
        ("b = 1\n", 0),
    ],
)
def test_the_line_of_a_key_is_found(text, line):
    assert find_line(text, ("c", "b")) == line
