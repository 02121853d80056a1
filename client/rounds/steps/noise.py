"""The noise that this client's own configuration adds to its answers."""

from fedprune.client.rounds.opened import OpenedPlan
from fedprune.common.config import Config
from fedprune.common.errors import DataError
from fedprune.common.privacy.key import load_key
from fedprune.common.privacy.local import LocalNoise
from fedprune.common.sparsity.shared import CODEBOOK


def own_noise(opened: OpenedPlan, config: Config) -> LocalNoise | None:
    """Return the noise on the answer to a plan, None without ``privacy.local_noise``.

    Args:
        opened: The plan.
        config: The client's own configuration; the server's has no say.

    Raises:
        DataError: If the plan asks for what noise does not hide: the client abstains.
        ConfigError: As ``load_key``.
    """
    privacy, plan = config.privacy, opened.plan
    if not privacy.local_noise:
        return None
    wrong = _not_hidden(opened)
    if wrong:
        msg = f"client {plan.client_id} abstains: privacy.local_noise is "
        msg += f"{privacy.local_noise:g} here, and the run has {wrong}"
        raise DataError(msg)
    return LocalNoise(
        key=load_key(privacy.key),
        multiplier=privacy.local_noise,
        clip=privacy.clip,
        purpose=(plan.run_id, str(plan.round), plan.client_id),
    )


def _not_hidden(opened: OpenedPlan) -> str:
    """Return what of a plan no noise of a client hides, "" for nothing."""
    settings = opened.plan.settings
    if settings.error_feedback:
        return "residuals; want update.stateless = true"
    if settings.frozen:
        return "frozen weights; want task.freeze = []"
    if settings.quantise == CODEBOOK:
        return "a codebook; want another quantise.kind"
    if settings.covariances:
        return "covariances; want prune.reconstruct = false"
    if opened.spec.running:
        return "buffers that training changes, beside batch norm"
    return ""
