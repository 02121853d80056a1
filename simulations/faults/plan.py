"""The fault plan: what goes wrong with which client in which round.

Every draw is from a stream of its own, named by the seed, the round, the client and the
attempt, so that no engine, worker or order changes it, and a resumed run goes on as it
would have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedprune.common.config import Config, Faults
from fedprune.common.seeding import Use, generator

ROUND_S = 60.0  # virtual seconds from request to answer of an ordinary client


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The fault of one client in one attempt of a round.

    Attributes:
        hangs: Its training never ends.
        crashes: Its training raises.
        drops_out: Its answer never arrives.
        corrupts: One bit of its answer is flipped.
        place: The place of that bit in the answer, 0 <= place < 1.
    """

    hangs: bool = False
    crashes: bool = False
    drops_out: bool = False
    corrupts: bool = False
    place: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """The faults of a run.

    Attributes:
        faults: The shares.
        seed: Seed of the run.
    """

    faults: Faults
    seed: int

    @classmethod
    def of(cls, config: Config) -> "FaultPlan":
        """Return the fault plan of a configuration."""
        return cls(faults=config.faults, seed=config.run.seed)

    def fault(self, round_: int, client_id: str, attempt: int = 0) -> Fault:
        """Return the faults of a client in an attempt of a round."""
        faults = self.faults
        if not (faults.hang or faults.crash or faults.drop_out or faults.corrupt):
            return Fault()
        # "/" is in no client id.
        stream = generator(self.seed, round_, f"{client_id}/{attempt}", Use.FAULT)
        hang, crash, drop, corrupt, place = stream.random(5).tolist()
        return Fault(
            hangs=hang < faults.hang,
            crashes=crash < faults.crash,
            drops_out=drop < faults.drop_out,
            corrupts=corrupt < faults.corrupt,
            place=place,
        )

    def turn(self, round_: int, client_id: str, attempt: int = 0) -> float:
        """Return a client's turn among answers that arrive together, 0 <= turn < 1."""
        key = f"{client_id}/{attempt}/turn"
        return float(generator(self.seed, round_, key, Use.FAULT).random())

    def clock_s(self, client_id: str) -> float:
        """Return the seconds that a client's clock is ahead, negative = behind."""
        most = self.faults.clock_s
        return float(self._of_client(client_id).uniform(-most, most)) if most else 0.0

    def stragglers(self, clients: Sequence[str]) -> frozenset[str]:
        """Return the slow ones of all clients: their share, rounded to whole clients.

        Which they are depends on the seed alone.
        """
        count = round(self.faults.stragglers * len(clients))
        if count == 0:
            return frozenset()
        draws = {client: self._of_client(client).random() for client in clients}
        ranked = sorted(draws, key=lambda client: (draws[client], client))
        return frozenset(ranked[:count])

    def _of_client(self, client_id: str) -> np.random.Generator:
        return generator(self.seed, 0, client_id, Use.FAULT)
