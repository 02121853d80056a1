"""The two coders: tests that use ``coder`` run with numpy and with the kernels."""

import pytest

from fedprune.common import native
from fedprune.common.native import choice


@pytest.fixture(params=[choice.NUMPY, choice.NATIVE])
def coder(request, monkeypatch):
    found = None
    if request.param == choice.NATIVE:
        found, reason = choice.load(choice.LIBRARY)
        if found is None:
            pytest.skip(reason)
    monkeypatch.setattr(native, "kernels", lambda: found)
    return request.param
