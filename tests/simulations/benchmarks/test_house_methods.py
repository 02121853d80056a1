"""The figure of the edits beside a new method's file."""

import pytest

from fedprune.common.methods.kinds import KINDS
from fedprune.common.methods.registry import names
from fedprune.simulations.benchmarks.kit.house.new_method import edits_figure


@pytest.fixture
def source(tmp_path):
    def write(text):
        path = tmp_path / "somewhere.py"
        path.write_text(text)
        return path

    return write


def test_one_method_of_each_kind_needs_no_edit_beside_its_file(source):
    before = {kind.name: names(kind) for kind in KINDS}
    found = edits_figure([source("RULES = ('mean', 'variance')\n")])
    assert (found.value, found.goal) == (0, "== 0")
    assert {kind.name: names(kind) for kind in KINDS} == before


@pytest.mark.parametrize(
    "text",
    [
        "CRITERIA = ('taylor', 'fisher', 'l1')\n",
        "SCHEDULES = {'cubic': 3, 'linear': 1, 'geometric': 0}\n",
        "def f(x): return x in {'iid', 'dirichlet', 'shards'}\n",
    ],
)
def test_a_copied_list_of_names_counts_as_an_edit(source, text):
    assert edits_figure([source(text)]).value == 1
