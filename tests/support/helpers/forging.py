"""Answers of clients of this process, changed byte by byte: valid messages or none."""

from contextlib import contextmanager

import fedprune.simulations.engines.worker


@contextmanager
def forging(forge):
    """Give every answer to ``forge(plan, answer)``, which returns the bytes to send."""
    module = fedprune.simulations.engines.worker
    honest = module.run_round

    def answer(opened, cache, store):
        return forge(opened.plan, honest(opened, cache, store))

    module.run_round = answer
    try:
        yield
    finally:
        module.run_round = honest
