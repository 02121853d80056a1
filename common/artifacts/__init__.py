"""The two files of a pruned network: its tensors and its prune plan.

``*.safetensors``, format ``fedprune-model/1``: named tensors, and text
metadata ``format, plan, structure, model, input_shape, num_outputs, digest``, where
plan and structure are hex digests, ``input_shape`` is a JSON list, and ``digest``
identifies the tensors (blake2b over names, types, shapes, bytes), so that a flipped
bit is detected; ``run``, the name of the run, only where ``model`` is code
(``fedprune.common.trust``); where they are known ``labels, offset, scale, stored``
(``description_file``).

``plan.json``, format ``fedprune-plan/1``: ``structure, digest, parent`` (hex),
``rollback``, ``units`` and ``keep`` (hex bitmap, first unit = highest bit), and the
human-readable ``groups``: name -> ``{"kept", "of", "channels"}``, and ``dropped``, the
names of dropped blocks, where there are any.

Equal values make equal bytes.  No pickle, ever: it can run code when it is read.
"""

from fedprune.common.artifacts.description_file import (
    LABELS_FILE,
    description_metadata,
    read_description,
    write_labels,
)
from fedprune.common.artifacts.model_file import (
    MODEL_FORMAT,
    MODEL_KEYS,
    Tensors,
    encode_tensors,
    read_input_shape,
    read_model_file,
    read_tensors_file,
    refuse_pickle,
    tensors_digest,
    write_model_file,
)
from fedprune.common.artifacts.plan_file import (
    PLAN_FORMAT,
    GroupKept,
    read_plan_dropped,
    read_plan_file,
    read_plan_groups,
    write_plan_file,
)

__all__ = [
    "LABELS_FILE",
    "MODEL_FORMAT",
    "MODEL_KEYS",
    "PLAN_FORMAT",
    "GroupKept",
    "Tensors",
    "description_metadata",
    "encode_tensors",
    "read_description",
    "read_input_shape",
    "read_model_file",
    "read_plan_dropped",
    "read_plan_file",
    "read_plan_groups",
    "read_tensors_file",
    "refuse_pickle",
    "tensors_digest",
    "write_labels",
    "write_model_file",
    "write_plan_file",
]
