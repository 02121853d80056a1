"""The examples in docstrings are true."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import fedprune.common

MODULES = [
    found.name
    for found in pkgutil.walk_packages(
        fedprune.common.__path__, prefix="fedprune.common."
    )
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name):
    result = doctest.testmod(import_module(name))
    assert result.failed == 0


def test_there_are_examples():
    modules = [import_module(name) for name in MODULES]
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert sum(len(t.examples) for m in modules for t in finder.find(m)) >= 10
