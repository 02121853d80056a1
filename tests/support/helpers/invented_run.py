"""The folder of an invented run: rounds, cuts, a rollback, clients that fail."""

import math
from dataclasses import replace

import numpy as np

from fedprune.common.config import load_config
from fedprune.common.messages import Phase
from fedprune.common.system.atomic import write_json_atomic
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import (
    ClientsConnected,
    EventLog,
    LabelsCounted,
    NetworkCut,
    RoundFinished,
    RunFinished,
)
from fedprune.server.runs.folder import RunFolder
from helpers.some_events import CLIENT, DELIVERED, ROLLBACK, STARTED, at

GROUPS = {"stem": 16, "layer1.conv1": 16, "layer2.conv1": 32, "layer3.conv1": 64}
WIDTHS = ((14, 12, 26, 48), (12, 10, 20, 34), (10, 8, 14, 22), (8, 8, 10, 14))
DENSITY = (0.72, 0.53, 0.40, 0.30)
ROUNDS, DENSE, FLOPS = 24, 77_850, 2_300_000
CUT_AT = (5, 9, 13, 17)


def phase_of(number):
    if number <= 3:
        return Phase.WARMUP
    tuning = (number - 1) % 4 in (1, 2) or number > 17
    return Phase.FINETUNE if tuning else Phase.SPARSIFY


def a_run(base, name="digits", *, clients=10, upto=ROUNDS, finished=True, seed=0):
    """Write the folder of an invented run up to a round."""
    rng = np.random.default_rng(seed)
    folder = RunFolder.create(
        base,
        name,
        manifest={
            "command": ["fedprune", "simulate"],
            "versions": {"torch": "2.13.0", "flwr": "1.41.0"},
            "seed": seed,
        },
        config=load_config(None, {"run.seed": seed}),
    )
    names = [f"client-{place:03d}" for place in range(clients)]
    with EventLog(folder.events) as log:
        log.write(
            replace(
                STARTED,
                run_id=folder.run_id,
                config={
                    "task": {"model": "small-resnet", "data": "digits"},
                    "update": {"update_density": 0.05 * (seed + 1)},
                },
                clients=clients,
                client_examples=dict.fromkeys(names, 120),
                params_dense=DENSE,
                flops_dense=FLOPS,
                groups=GROUPS,
            )
        )
        counts = {name: tuple(rng.integers(0, 30, 10).tolist()) for name in names}
        if clients <= 256:
            classes = tuple(map(str, range(10)))
            log.write(LabelsCounted(classes=classes, counts=counts))
        for number in range(1, upto + 1):
            a_round(log, number, names, rng)
        if finished:
            log.write(RunFinished(summary=summary(seed)))
    if finished:
        write_json_atomic(folder.summary, summary(seed))
    return folder


def a_round(log, number, names, rng, *, tested=True):
    cuts = sum(number > at for at in CUT_AT)
    density = DENSITY[cuts - 1] if cuts else 1.0
    runs = (("main", density), ("dense", 1.0)) if tested else (("main", density),)
    for run, share in runs:
        up = 0
        for name in names:
            up += a_client(log, run, number, name, share, rng)
        learned = 1 - math.exp(-(number - 1) / 3.2)
        dip = 0.10 * sum(number == at + 1 for at in CUT_AT) if run == "main" else 0
        log.write(
            RoundFinished(
                run=run,
                round=number,
                rounds=ROUNDS,
                cycle=cuts + 1,
                phase=phase_of(number) if run == "main" else Phase.WARMUP,
                loss=2.3 * (1 - learned) + 0.1,
                accuracy=0.10 + 0.86 * learned - dip + 0.008 * rng.standard_normal()
                if tested
                else None,
                validation_loss=2.3 * (1 - learned) + 0.15,
                validation_accuracy=0.10 + 0.85 * learned - dip,
                density=share,
                params=round(DENSE * share),
                flops=round(FLOPS * share**0.9),
                channel_density=share**0.5,
                bytes_up=up,
                bytes_down=round(len(names) * DENSE * share * 1.1),
                bytes_fixed=len(names) * 310,
                bytes_simulation=90_000,
                asked=len(names),
                accepted=len(names) - 1,
                refused=1,
                failed=0,
                late=0,
                virtual_seconds=None,
                zero_share=0.12 * (phase_of(number) == "sparsify") + 0.01,
                seconds=1.5,
            )
        )
    if number in CUT_AT:
        a_cut(log, CUT_AT.index(number), number, names, rng)
    if number == 15:
        log.write(at(ROLLBACK, number, cycle=3))
        a_cut(log, 2, number, names, rng)


def a_client(log, run, number, name, share, rng):
    up = round(4 * DENSE) if run == "dense" else round(3600 * share + 310)
    draw = rng.random()
    status, reason = Status.ACCEPTED, ""
    if draw < 0.03:
        status = Status.REFUSED
        reason = "layer 'c2.weight' field 'val': 12 non-finite values (code NON_FINITE)"
    elif draw < 0.05:
        status, reason = Status.LATE, "no answer within 600 s"
    elif draw < 0.06:
        status, reason = Status.FAILED, "RuntimeError: <out of memory>"
    elif draw < 0.10:
        return 0
    log.write(
        at(
            CLIENT,
            number,
            run=run,
            client=name,
            status=status,
            reason=reason,
            bytes_up=up,
            bytes_down=round(DENSE * share),
        )
    )
    return up


def a_cut(log, place, number, names, rng):
    before = WIDTHS[place - 1] if place else tuple(GROUPS.values())
    truth = rng.gamma(1.2, size=sum(before))
    votes = {name: truth * rng.lognormal(0, 0.5, len(truth)) for name in names}
    kept = np.zeros(len(truth), dtype=int)
    start = 0
    for width, keep in zip(before, WIDTHS[place], strict=True):
        kept[start + np.argsort(-truth[start : start + width])[:keep]] = 1
        start += width
    log.write(
        NetworkCut(
            run="main",
            round=number,
            cycle=place + 1,
            widths=dict(zip(GROUPS, WIDTHS[place], strict=True)),
            blocks=(),
            params=round(DENSE * DENSITY[place]),
            flops=round(FLOPS * DENSITY[place] ** 0.9),
            density=DENSITY[place],
            channel_density=DENSITY[place] ** 0.5,
            step=0.3,
            votes={name: np.round(vote, 4) for name, vote in votes.items()},
            consensus=np.round(truth, 4),
            kept=kept,
            zero_share=None,
            accuracy_before=None,
        )
    )


def summary(seed):
    return {
        "accuracy_control": 0.9611,
        "accuracy_before_cut": 0.9500,
        "accuracy_after_cut": 0.8722,
        "accuracy_final": 0.9639 - 0.01 * seed,
        "params_dense": DENSE,
        "params_final": round(DENSE * 0.3),
        "flops_dense": FLOPS,
        "flops_final": round(FLOPS * 0.34),
        "bytes_up": 700_000,
        "bytes_down": 12_000_000,
        "bytes_up_control": 74_000_000,
        "bytes_down_control": 74_000_000,
        "model_bytes_dense": 4 * DENSE,
        "model_bytes_final": round(1.2 * DENSE),
        "latency_ms_dense": 2.41,
        "latency_ms_final": 1.13,
        "cuts": 4,
        "rollbacks": 1,
        "rounds": ROUNDS,
        "recall_final": [0.9, 0.95, 1.0, 0.85, None, 0.97, 0.99, 0.92, 0.91, 0.98],
        "recall_control": [0.91, 0.96, 1.0, 0.86, None, 0.97, 0.98, 0.93, 0.9, 0.98],
        "clients": 10,
        "seed": seed,
        "seconds": 91.5,
    }


def a_run_of_devices(base, *, clients=3, upto=6):
    """Write the folder of an invented, finished run of devices."""
    names = [f"edge-{place:02d}" for place in range(1, clients + 1)]
    told = {"rounds": upto, "clients": clients, "validation_accuracy_final": 0.951}
    told |= {"params_dense": DENSE, "params_final": DENSE // 3, "bytes_up": 90_000}
    folder = RunFolder.create(base, "devices", config=load_config(None, {}))
    with EventLog(folder.events) as log:
        task = {"model": "small-resnet", "data": "digits"}
        started = replace(STARTED, run_id=folder.run_id, config={"task": task})
        log.write(
            replace(
                started,
                clients=clients,
                client_examples=None,
                params_dense=DENSE,
                flops_dense=FLOPS,
                groups=GROUPS,
            )
        )
        log.write(ClientsConnected(connected=tuple(names), wanted=clients, refused=()))
        rng = np.random.default_rng(0)
        for number in range(1, upto + 1):
            a_round(log, number, names, rng, tested=False)
        for name in names:
            log.write(replace(DELIVERED, client=name, accuracy=0.95, examples=120))
        log.write(RunFinished(summary=told))
    write_json_atomic(folder.summary, told)
    return folder
