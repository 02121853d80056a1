"""Pauses between a device's questions for messages: short after one, then longer.

After an answer the next message comes as soon as the other clients have answered, so
the pauses double from a quarter of a second: a device waits at most as long again as it
has waited, and a server hears of an idle one no more often than before.
"""

import time
from dataclasses import dataclass

FIRST_S = 0.25
LOCAL_S = 0.1  # between looks at what is on this machine


@dataclass(slots=True)
class Pace:
    """Stands for the module ``time`` where Flower waits for messages.

    Attributes:
        next_s: The next pause, seconds.
    """

    next_s: float = FIRST_S

    def restart(self) -> None:
        """Begin with short pauses again: a message has come."""
        self.next_s = FIRST_S

    def sleep(self, seconds: float) -> None:
        """Pause for at most ``seconds``.

        Args:
            seconds: What Flower would wait: seconds between questions to the server,
                parts of one between looks at its own messages.
        """
        if seconds < 1:
            time.sleep(min(seconds, LOCAL_S))
            return
        time.sleep(min(seconds, self.next_s))
        self.next_s = min(seconds, 2 * self.next_s)
