"""Tables that are made of measurements: the newest of each kind, and README has what the results say."""

import csv

import pytest

from benchmarks import choices, estimates
from microgpt.planning.choice import measured

ROW = {"preset": "1m", "batch_size": 4, "precision": "fp32", "recompute": True, "threads": "2", "isa": "avx2"}
ROW |= {"estimated_bytes": 1.1e9, "peak_bytes": 1e9, "estimated_step_s": 0.09, "step_s": 0.1}


def test_a_line_tells_how_far_off_an_estimate_was():
    assert estimates.table([ROW])[-1] == "| 1m | 4 | fp32 | yes | 1.10 | 1.00 | +10% | 90 | 100 | -10% |"


def test_a_result_replaces_the_older_one_of_its_combination(tmp_path):
    path = tmp_path / "results"
    for row in (ROW, ROW | {"preset": "tiny"}, ROW | {"recompute": False}, ROW | {"step_s": 7.0}):
        estimates.keep(row, path)
    found = estimates.results(path)
    assert [(row["preset"], row["recompute"]) for row in found] == [
        ("tiny", True),
        ("1m", False),
        ("1m", True),
    ]
    assert found[2]["step_s"] == 7.0


def test_the_table_in_readme_is_replaced_and_nothing_else(tmp_path):
    text = estimates.README.read_text(encoding="utf-8")
    path, results = tmp_path / "README.md", tmp_path / "results"
    path.write_text(text, encoding="utf-8")
    for name in ("tiny", "1m"):
        estimates.keep(ROW | {"preset": name}, results)
        estimates.write_readme(path, results)
    before, rest = path.read_text(encoding="utf-8").split(estimates.BEGIN)
    assert [line.split()[1] for line in rest.split(estimates.END)[0].splitlines()[2:]] == ["tiny", "1m"]
    was, old = text.split(estimates.BEGIN)
    assert was == before and old.split(estimates.END, 1)[1] == rest.split(estimates.END, 1)[1]


def test_what_the_table_of_quality_has_is_not_trained_again_and_a_run_that_was_cut_goes_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("".join(f"Hat {n} costs {n * 7 % 31}.\n\n" for n in range(3000)))
    path = tmp_path / "quality.csv"
    path.write_text(",".join(choices.COLUMNS) + "\n")
    seen, real = [], choices.train_run

    def train(spec, place, listeners):
        seen.append(place)
        if len(seen) == 1:
            raise KeyboardInterrupt
        return real(spec, place, listeners)

    monkeypatch.setattr(choices, "train_run", train)
    words = ["--kind", "hats", "--data", "t.txt", "--preset", "tiny", "--tokens", "2k"]
    with pytest.raises(KeyboardInterrupt):
        choices.main(words, path)
    choices.main(words, path)
    choices.main(words, path)
    assert len(seen) == 2 and seen[0] == seen[1] and not seen[1].exists()
    (row,) = measured(path)
    assert (row.kind, row.preset, row.tokens) == ("hats", "tiny", 2048) and 0 < row.bpb < 8
    assert "are in the table; --again" in capsys.readouterr().out


def test_a_run_is_put_into_the_table_of_quality(tmp_path):
    path = tmp_path / "quality.csv"
    path.write_text(",".join(choices.COLUMNS) + "\n")
    row = dict(zip(choices.COLUMNS, ("talk", "1m", 10**6, 5000, 2.5, 0, "road"), strict=True))
    for one in (row, row | {"tokens": 400}, row | {"bpb": 2.25}, row | {"seed": 1}):
        choices.keep(one, path)
    assert [(found.tokens, found.bpb) for found in measured(path)] == [(400, 2.5), (5000, 2.25), (5000, 2.5)]
    assert [line["seed"] for line in csv.DictReader(path.read_text().splitlines())] == ["0", "0", "1"]


def test_a_combination_is_run_with_the_vocabulary_of_presets():
    case = {"preset": "tiny", "batch_size": 2, "precision": "fp32", "recompute": True, "threads": "1"}
    plan = estimates.spec_of(case, 3).plan()
    assert (plan.train.batch_size, plan.train.recompute, plan.train.max_steps) == (2, True, 3)
    assert plan.model.vocab_size == 4261


def test_the_medians_of_turns_count_and_a_turn_without_a_time_does_not():
    turns = [{"bytes": 3, "step_s": None}, {"bytes": 9, "step_s": 0.2}, {"bytes": 4, "step_s": 0.6}]
    assert estimates.medians(turns) == {"bytes": 4, "step_s": pytest.approx(0.4)}
    assert estimates.medians(turns[:1]) == {"bytes": 3, "step_s": None}
