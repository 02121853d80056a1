"""The weight mask on a client: held by its digest, kept while training, all sent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_federation import (
    answer_to,
    make_setting,
    make_task,
    plan_for,
    start,
)
from torch import nn

from fedprune.client.rounds.mask import MaskedWeights
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.errors import IntegrityError, PayloadError
from fedprune.common.messages import Phase
from fedprune.common.sparsity.masks import child_mask
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.steps.mask import take_mask

FINAL = Cursor(phase=Phase.FINETUNE, index=1, progress=1.0, final=True)


class Client:
    """One client of a federation whose network has just been masked."""

    def __init__(self, root, **changes):
        changes = {"prune__mask__kind": "unstructured"} | changes
        changes |= {"prune__mask__end": 1}
        self.task = make_task(**{"prune__mask__density": 0.2} | changes)
        run_spec = make_setting(self.task)
        state = replace(start(self.task, run_spec), cursor=FINAL)
        self.state = take_mask(state, run_spec)
        self.work = plan_round(self.state, run_spec)
        self.plan = plan_for(self.work)
        self.cache = ModelCache(self.task)
        self.store = ClientStore(root, self.plan.client_id)

    def update(self, plan=None):
        """Return the answer, read as the server does, and its bytes."""
        plan, work = plan or self.plan, self.work
        data = answer_to(plan, self.cache, self.store)
        expected = work.expected(work.request.assignments[0])
        return codec.decode_update(data, expected), data


def test_an_update_has_no_entry_outside_of_the_mask(tmp_path):
    for density in (0.02, 0.25):  # with positions, and without
        client = Client(tmp_path, update__update_density=density)
        update, _ = client.update()
        assert len(update.delta.indices) > 0
        assert client.state.mask.keep[update.delta.indices].all()


def test_without_positions_more_entries_than_the_share_may_travel(tmp_path):
    # "step" sends no entry that it would round to zero.
    values = {"update__values": "int8"}
    client = Client(tmp_path, update__update_density=0.16, **values)
    update, _ = client.update()
    assert len(update.delta.indices) > np.ceil(0.16 * client.work.spec.size)
    few = Client(tmp_path / "few", update__update_density=0.02, **values)
    update, _ = few.update()
    assert len(update.delta.indices) <= np.ceil(0.02 * few.work.spec.size)


def test_what_was_owed_to_masked_weights_is_dropped(tmp_path):
    client = Client(tmp_path, update__update_density=0.02)
    client.update()
    left = client.store.load_generation(2).residual
    assert np.count_nonzero(left)
    assert (left[~client.state.mask.keep] == 0.0).all()


def test_a_mask_is_kept_for_plans_that_only_name_it(tmp_path):
    client = Client(tmp_path)
    first, _ = client.update()
    again, _ = client.update(replace(client.plan, weight_mask=None))
    np.testing.assert_array_equal(first.delta.indices, again.delta.indices)


@pytest.mark.parametrize("damage", [None, b"", b"no mask"])
def test_a_mask_that_is_not_held_is_asked_for_again(tmp_path, damage):
    client = Client(tmp_path)
    if damage is not None:
        file = f"mask-{client.plan.mask.hex()}.bin"
        client.store.save_shared(file, len, lambda: damage)
    with pytest.raises(IntegrityError, match=r"weight mask .* send it again"):
        client.update(replace(client.plan, weight_mask=None))


def test_a_mask_of_another_network_or_digest_is_refused_and_not_kept(tmp_path):
    client = Client(tmp_path)
    mask = client.state.mask
    other = child_mask(mask, mask.keep)  # the same entries by another name
    foreign = replace(mask, plan=b"x" * 16)
    short = replace(mask, keep=mask.keep[1:])
    for bad, digest in (
        (other, mask.digest),
        (foreign, foreign.digest),
        (short, short.digest),
    ):
        plan = replace(client.plan, mask=digest, weight_mask=bad)
        with pytest.raises(PayloadError, match=r"mask\."):
            open_plan(plan, client.cache, client.store)
        assert client.store.load_shared(f"mask-{digest.hex()}.bin", len) is None


def test_masked_weights_stay_zero_whatever_the_optimiser_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    keep = np.random.default_rng(0).random(4 * 6 + 6 + 12 + 2) < 0.5
    zeros = MaskedWeights(model, keep)
    flat = nn.utils.parameters_to_vector(model.parameters())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    zeros.after_step()
    after = nn.utils.parameters_to_vector(model.parameters())
    assert (after[torch.from_numpy(~keep)] == 0.0).all()
    inside = torch.from_numpy(keep)
    assert torch.equal(after[inside], flat[inside] + 1.0)
