"""What comes after a search: finalists with more seeds, and seeds for larger runs."""

import json
import shutil

import pytest

from microgpt.commands import search as command
from microgpt.common.errors import ConfigError
from microgpt.files import durable
from microgpt.research.ablation import AS_IS, Arm, trained
from microgpt.research.finals import FINALS, bring, run_finals
from microgpt.research.search import Candidates, RunTrainer, place_of, run_search
from microgpt.research.search_table import front_of
from microgpt.research.seed import export_seed, read_seed
from microgpt.research.trials import read_trials
from microgpt.runs.spec import Spec
from microgpt.training.run import resume_run
from tests.research.search.toys import STEP, Fake, sha_of


@pytest.fixture
def best(searched):
    """The finalist."""
    search, trials = read_trials(searched / "whole")
    return front_of(trials, search.config.objectives)[0]


def test_finalists_have_seeds_and_settings_set_back(searched, best, capsys):
    place = searched / "whole" / FINALS / f"{best.number:04d}"
    rows = json.loads((place / "results.json").read_text())
    assert rows[0]["name"] == "as it is" and len(rows[0]["bpb"]) == 2
    assert {one["tokens"] for one in rows} == {5 * STEP}
    assert [one["name"].split("=")[0] for one in rows[1:]] == ["lr"]
    assert sha_of(place / "as-it-is-seed0") == sha_of(place_of(searched / "whole", best.number))
    mean = sum(rows[0]["bpb"]) / 2
    command.main(["frontier", str(searched / "whole"), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["bpb_of_seeds"]["mean"] == pytest.approx(mean)


def test_a_seed_has_settings_results_and_the_run(searched, best, tmp_path):
    folder, out = searched / "whole", tmp_path / "seed"
    search, trials = read_trials(folder)
    command.main(["export-seed", str(folder), "--out-dir", str(out)])
    seed = read_seed(out)
    assert seed.trial == best and seed.trials == trials and seed.rung_tokens == 2 * STEP
    assert seed.spec.train["lr"] == best.settings["lr"] and (out / "results.json").exists()
    assert sha_of(out) == json.loads((out / "seed.json").read_text())["sha256"]
    plan = seed.spec.plan(Candidates(search).vocab_size)
    assert plan == Candidates(search).plan(best.settings), "spec.toml makes the same run"
    with pytest.raises(ConfigError, match="there already"):
        command.main(["export-seed", str(folder), "--out-dir", str(out)])
    with pytest.raises(ConfigError, match="candidate 7 has not finished; on the front are"):
        command.main(["export-seed", str(folder), "--candidate", "7", "--out-dir", str(tmp_path / "b")])


def test_a_run_that_somebody_trained_on_otherwise_does_not_count(searched, best, tmp_path):
    search, trials = read_trials(searched / "whole")
    folder = tmp_path / "search"
    shutil.copytree(searched / "whole", folder, ignore=shutil.ignore_patterns(FINALS))
    run, plan = place_of(folder, best.number), Candidates(search).plan(best.settings)
    assert trained(plan, run, []) == run / "step_00000005", "as it is it counts"
    resume_run(run, Spec.of(max_steps=7))
    why = "with other settings, for 7 steps, where 5 steps are planned"
    with pytest.raises(ConfigError, match=why):
        trained(plan, run, [])
    for steps in (2, 5):
        with pytest.raises(ConfigError, match=why):
            RunTrainer(folder)(best.number, plan, steps)
    with pytest.raises(ConfigError, match=why):
        run_finals(search, trials, folder)
    with pytest.raises(ConfigError, match=why):
        export_seed(folder, best.number, tmp_path / "seed")
    shutil.rmtree(run)
    with pytest.raises(ConfigError, match="not there any more"):
        export_seed(folder, best.number, tmp_path / "seed")
    bring(run, Arm(AS_IS, plan), tmp_path / "final")
    assert not any((tmp_path / name).exists() for name in ("seed", "final")), "it is to be trained anew"


def test_finalists_are_trained_by_one_process_at_a_time(made, tmp_path):
    search, folder = made(candidates=1, finalists=1), tmp_path / "search"
    trials = run_search(search, folder, Fake())
    lock = durable.lock_directory(folder)
    with pytest.raises(ConfigError, match="another search is using"):
        run_finals(search, trials, folder)
    durable.unlock_directory(lock)
    assert not (folder / FINALS).exists()
