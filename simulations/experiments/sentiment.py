"""Sentences of SST-2 in two classes: a small BERT, and a mean of embeddings beside it.

Used by ``text-classification.toml``; needs ``FEDPRUNE_DATA`` and transformers.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from typing_extensions import override

from fedprune.common.data.examples import Batch
from fedprune.common.data.places import find_folder
from fedprune.common.models.zoo import import_torchvision
from fedprune.common.tasks.task import Data, Task

CLASSES = 2
LONGEST = 64  # tokens of a sentence; more are left out
WIDTH = 64
PAD, UNKNOWN = 0, 1

_RARE = 2  # a word that occurs less often has no token of its own
_BUCKET = 8  # batches are as long as a multiple of it
_WORD = re.compile(r"\w+|[^\w\s]")


class Sentences:
    """Tokens of sentences and their classes.

    Args:
        tokens: Token ids of each sentence.
        targets: The classes, int64[n].
    """

    def __init__(self, tokens: list[list[int]], targets: np.ndarray) -> None:
        self._tokens, self.targets = tokens, targets

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, index: int) -> tuple[list[int], int]:
        """Return the tokens of one sentence and its class."""
        return self._tokens[index], int(self.targets[index])


class Sentiment(Task):
    """Liked or not; the vocabulary is that of the training sentences."""

    @override
    def network(self) -> nn.Module:
        """Return a BERT of two layers from its configuration; nothing is fetched."""
        import_torchvision()  # transformers imports it, and needs our way around
        library = import_module("transformers")
        network: nn.Module = library.BertForSequenceClassification(
            library.BertConfig(
                vocab_size=len(vocabulary(self._folder)),
                hidden_size=WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=4 * WIDTH,
                max_position_embeddings=LONGEST,
                num_labels=CLASSES,
                pad_token_id=PAD,
            )
        )
        return network

    @override
    def train_data(self, client: str) -> Data:
        """Return the sentences that ``task.partition`` deals out."""
        return sentences(self._folder, "train")

    @override
    def test_data(self) -> Data:
        """Return the development set of GLUE, 872 sentences."""
        return sentences(self._folder, "test")

    @override
    def collate(self, items: Sequence[Any]) -> Batch:
        """Return ids and mask int64[b, length], a multiple of eight, and classes."""
        longest = max(len(tokens) for tokens, _ in items)
        length = -(-longest // _BUCKET) * _BUCKET
        ids = torch.full((len(items), length), PAD)
        for row, (tokens, _) in zip(ids, items, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        inputs = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
        return Batch(inputs, torch.tensor([target for _, target in items]))

    @property
    def _folder(self) -> Path:
        return find_folder("sst2", self.config.task.data_dir)


class MeanOfEmbeddings(nn.Module):
    """The mean embedding of the words, and one linear layer."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, WIDTH, padding_idx=PAD)
        self.out = nn.Linear(WIDTH, CLASSES)

    @override
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the scores of the classes, float32[n, 2]."""
        counts = attention_mask.sum(1, keepdim=True)
        scores: Tensor = self.out(self.embed(input_ids).sum(1) / counts)
        return scores


class SentimentOfWords(Sentiment):
    """The same sentences for a network that does not see the order of words."""

    @override
    def network(self) -> nn.Module:
        """Return the mean of embeddings."""
        return MeanOfEmbeddings(len(vocabulary(self._folder)))


@lru_cache(maxsize=2)
def sentences(folder: Path, split: str) -> Sentences:
    """Return one split."""
    table = pq.read_table(folder / f"{split}.parquet", columns=["sentence", "label"])
    known = vocabulary(folder)
    tokens = [
        [known.get(word, UNKNOWN) for word in words(text)[:LONGEST]] or [UNKNOWN]
        for text in table.column("sentence").to_pylist()
    ]
    return Sentences(tokens, table.column("label").to_numpy())


@lru_cache(maxsize=1)
def vocabulary(folder: Path) -> dict[str, int]:
    """Return the token of each word, frequent words first; 0 and 1 are no words."""
    table = pq.read_table(folder / "train.parquet", columns=["sentence"])
    counts: Counter[str] = Counter()
    for text in table.column("sentence").to_pylist():
        counts.update(words(text))
    often = [(-count, word) for word, count in counts.items() if count >= _RARE]
    named = {word: number + 2 for number, (_, word) in enumerate(sorted(often))}
    return {"[pad]": PAD, "[unknown]": UNKNOWN, **named}


def words(text: str) -> list[str]:
    """Return the words and punctuation marks of a text, in lower case.

    >>> words("It 's dull.")
    ['it', "'", 's', 'dull', '.']
    """
    return _WORD.findall(text.lower())
