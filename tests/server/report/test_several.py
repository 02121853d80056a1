"""Several runs side by side: what does not compare has no best, and says what it is."""

from dataclasses import replace

from helpers.some_events import FINISHED, ROUND, STARTED, at

from fedprune.common.system.atomic import write_json_atomic
from fedprune.server.report.data import read_run
from fedprune.server.report.several import several
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.folder import RunFolder


def a_run(base, name, score, kind=("accuracy", "higher"), *, tested=True, ended=True):
    """Return a run with one score, on test data or of validation."""
    metric, better = kind
    key = "accuracy_final" if tested else "validation_accuracy_final"
    summary = {key: score, "params_final": 500, "metric": metric}
    folder = RunFolder.create(base, name)
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, metric=metric, better=better))
        accuracy = score if tested else None
        log.write(at(ROUND, 1, accuracy=accuracy, validation_accuracy=0.5, params=100))
        if ended:
            log.write(replace(FINISHED, summary=summary))
    if ended:
        write_json_atomic(folder.summary, summary)
    return read_run(folder.path)


def scores(document):
    """Return the texts of the first columns, and which of the scores is the best."""
    table = document.parts[0].tables[0][1]
    kinds = [row[1].kind for row in table.rows]
    return [(row[0].text, row[1].text) for row in table.rows], kinds, table.head[1]


def plot(document):
    return document.charts["pareto"]["views"]["by parameters"]


def test_runs_of_one_metric_have_a_best_in_its_direction(tmp_path):
    kind = ("perplexity", "lower")
    found = several([a_run(tmp_path, "a", 9.0, kind), a_run(tmp_path, "b", 4.0, kind)])
    told, kinds, head = scores(found)
    assert told == [("a", "9.0000"), ("b", "4.0000")]
    assert (kinds, head) == (["", "best"], "perplexity")
    assert plot(found)["front"] == [[500, 4.0]]


def test_scores_of_two_metrics_are_numbers_and_none_is_the_best(tmp_path):
    other = a_run(tmp_path, "b", 35.0, ("perplexity", "lower"))
    found = several([a_run(tmp_path, "a", 0.9), other])
    told, kinds, head = scores(found)
    assert told == [("a (accuracy)", "0.9000"), ("b (perplexity)", "35.0000")]
    assert (kinds, head) == (["", ""], "score")
    assert plot(found)["front"] == []
    assert plot(found)["y"] == {"name": "score", "unit": "number", "log": False}
    curves = found.charts["curves-plot"]["views"]["by rounds"]
    assert curves["y"]["unit"] == "number"


def test_a_score_of_validation_is_no_rival_of_one_on_test_data(tmp_path):
    found = several(
        [a_run(tmp_path, "a", 0.9), a_run(tmp_path, "b", 0.95, tested=False)]
    )
    told, kinds, _ = scores(found)
    assert told == [("a", "90.00 %"), ("b (validation)", "95.00 %")]
    assert kinds == ["", ""]
    assert plot(found)["front"] == []
    assert [one["points"] for one in plot(found)["series"]] == [
        [[500, 0.9]],
        [[500, 0.95]],
    ]


def test_an_unfinished_run_is_none_of_the_best_for_what_it_has_not_sent(tmp_path):
    found = several([a_run(tmp_path, "a", 0.9), a_run(tmp_path, "b", 0.9, ended=False)])
    assert len(plot(found)["series"]) == 2
    assert plot(found)["front"] == [[500, 0.9]]
    alone = several([a_run(tmp_path, n, 0.9, ended=False) for n in ("c", "d")])
    assert plot(alone)["front"] == []
