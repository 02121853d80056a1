"""The model card of a network, in the layout of Hugging Face's.

It is written to be published, so it names neither clients nor places of a machine: of
data and code that are files only their kind is said.
"""

from fedprune.server.runs.card.head import card_head
from fedprune.server.runs.card.text import CARD_FILE, IN_RUN, card_text, write_card
from fedprune.server.runs.card.trained import Trained, trained_by

__all__ = [
    "CARD_FILE",
    "IN_RUN",
    "Trained",
    "card_head",
    "card_text",
    "trained_by",
    "write_card",
]
