"""Keys of what hides clients."""

from pydantic import Field

from fedprune.common.config.sections import Positive, Section


class Privacy(Section):
    """Differential privacy of whole clients, and the least number to hide one in."""

    epsilon: float | None = Field(default=None, gt=0)
    """Epsilon of the whole run for any one client, with noise that the server adds to
    all sums over clients, 0 < epsilon; left out = no noise."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Probability with which epsilon may not hold, 0 < delta < 1; want less than one in
    the number of clients."""
    clip: float = Field(default=1.0, gt=0)
    """Largest L2 norm of a client's delta under noise, in the unit of the weights,
    0 < clip; longer ones are shortened, and the noise is a multiple of it."""
    key: str = ""
    """File with the secret key of the noise; "" = privacy.key in this user's state
    folder, made where it is missing."""
    min_examples: Positive = 1
    """Fewest training examples with which a client answers, 1 <= min_examples; read
    from the client's own configuration."""
    senders: Positive = 1
    """Fewest clients that must have sent an entry for it to count, 1 <= senders."""
