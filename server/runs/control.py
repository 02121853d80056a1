"""The control: plain dense federated averaging by the same code."""

from fedprune.common.config import Config, MaskRule, Quantise


def control_config(config: Config, rounds: int) -> Config:
    """Return the configuration of dense FedAvg over the same number of rounds.

    Same network, data, clients, cohorts and local training; no penalty, no cut, no
    teacher; float32 messages with every weight, both ways.  Where the run rewinds the
    learning rate for its cuts, the control has nothing to rewind for.

    Args:
        config: The run that is compared.
        rounds: Rounds that it took, rollbacks and the closing round included.
    """
    trained = rounds - 1
    final = min(config.rounds.final, trained)
    return config.model_copy(
        update={
            "rounds": config.rounds.model_copy(
                update={"warmup": trained - final, "cuts": 0, "final": final}
            ),
            "client": config.client.model_copy(
                update={
                    "penalty": "none",
                    "strength": 0.0,
                    "lr_rewind": 0.0,
                }
            ),
            "update": config.update.model_copy(
                update={
                    "update_density": 1.0,
                    "values": "float32",
                    "error_feedback": False,
                }
            ),
            "broadcast": config.broadcast.model_copy(update={"values": "float32"}),
            "distill": config.distill.model_copy(update={"weight": 0.0}),
            "prune": config.prune.model_copy(update={"mask": MaskRule()}),
            "quantise": Quantise(),
        }
    )
