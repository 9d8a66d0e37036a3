"""Commands that look at a run: plot, report, watch, and what train tells others, on one short run."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from microgpt.commands import plot, report, runs, train, watch
from microgpt.common.errors import ConfigError
from microgpt.common.flags import flag_name
from microgpt.reporting.history import History, read_history
from microgpt.reporting.page import facts_of, page, time_shares
from microgpt.reporting.reproduce import command_words
from microgpt.runs.checkpoint import read_json
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Plan, Spec
from microgpt.training.clock import Clock

VOID = {"meta", "link", "br", "path", "use", "rect", "input"}
SETTINGS = {
    **{"n_layer": 1, "seq_len": 24, "batch_size": 2, "merges": 20, "smalltalk_bytes": 60_000, "threads": 1},
    **{"eval_every": 3, "sample_every": 4, "save_every": 3, "log_every": 1, "eval_tokens": 500},
}
TINY = ["--preset", "tiny", *(f"{flag_name(name)}={value}" for name, value in SETTINGS.items())]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two runs, of which the second branched off from the first."""
    pytest.importorskip("tensorboardX")
    place = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MICROGPT_DATA_DIR", str(place / "data"))
        told = ["--on-event", "cat >> told.jsonl", "--tensorboard"]
        words = [*TINY, *told, "--max-steps", "9", "--out-dir", "runs/a<b>"]
        assert train.main(words) == 0
        branch = ["--resume", "runs/a<b>@6", "--out-dir", "runs/y", "--max-steps", "8"]
        assert train.main(branch) == 0
    return place


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)


class Page(HTMLParser):
    """Finds what is not closed, what is loaded from elsewhere, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_other_programs_heard_of_the_end():
    (line,) = Path("told.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["event"], told["run"], told["step"], told["why"]) == ("end", "runs/a<b>", 9, "finished")
    assert list(Path("runs/a<b>/tensorboard").iterdir())


def test_a_page_needs_nothing_beside_it_and_has_all_of_it(capsys):
    pytest.importorskip("matplotlib")
    assert report.main(["runs/a<b>", "--exam", "1"]) == 0
    text = Path("runs/a<b>/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open and all(link.startswith("#") for link in page.links)
    assert "url(http" not in text and "@import" not in text and "prefers-color-scheme: dark" in text
    words = re.sub(r"\s+", " ", page.text)
    for wanted in (
        "Plan and reality",
        "The bottleneck is",
        "What it says, over time",
        "How to train it again",
    ):
        assert wanted in words, wanted
    assert "a<b>" in words and "9 of 9" in words and "within 1%" in words and "nats a token" in words
    assert "--n-layer 1" in words and "Exam at step 9" in words and "sha256" in words
    samples = [
        event["text"] for event in read_metrics(Path("runs/a<b>/metrics.jsonl")) if event["event"] == "sample"
    ]
    assert len(samples) == 3 and all(re.sub(r"\s+", " ", sample).strip() in words for sample in samples)


def test_only_a_run_that_kept_its_plan_promises_the_same_weights():
    pytest.importorskip("matplotlib")
    run = Path("runs/a<b>")
    history, facts = read_history(run), facts_of(run)
    planned = History(history.name, [*history.events, {"event": "plan", "step": 5, "max_steps": 9}])
    told = [page(of, facts, "finished", None) for of in (history, planned)]
    assert [("to the last bit" in text, "planned anew on the way" in text) for text in told] == [
        (True, False),
        (False, True),
    ]
    with pytest.raises(ConfigError, match="there is no folder"):
        report.main(["runs/a<b>", "--out", "nowhere/page.html"])


def test_the_time_of_a_run_is_told_whole():
    state = facts_of(Path("runs/a<b>")).state
    shares = time_shares(state)
    assert {"data", "forward", "head", "backward", "optimizer", "evaluation", "sample"} < {
        one.part for one in shares
    }
    assert sum(one.share for one in shares) == pytest.approx(1) and all(one.seconds >= 0 for one in shares)
    assert sum(one.seconds for one in shares) == pytest.approx(state.elapsed_s)
    assert [one.share for one in shares] == sorted((one.share for one in shares), reverse=True)


def test_time_is_counted_under_what_it_was_spent_on():
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    clock = Clock(now=lambda: next(now))  # made at 0
    start = clock.begin()  # at 1
    for part in ("data", "forward", "data"):
        clock.spend(part)
    assert clock.spent_s == {"data": 2.0 + 4.0, "forward": 3.0} and clock.end_step(start) == 9.0


def test_a_run_that_branched_off_says_so(capsys):
    assert runs.main(["--json"]) == 0
    origins = {run["name"]: run["origin"] for run in json.loads(capsys.readouterr().out)}
    assert origins == {"a<b>": None, "y": "went on from runs/a<b>/step_00000006"}
    assert train.main(["--resume", "runs/y", "--max-steps", "9"]) == 0
    assert read_json(Path("runs/y/step_00000009/config.json"))["branch_of"] == "runs/a<b>/step_00000006"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lr": 2e-3, "max_steps": 7, "dropout": 0.1, "packing": "documents", "look_back": 2},
        {"recipe": "fast", "seed": 3, "min_lr": 1e-5, "n_embd": 64, "carry_state": True, "mixer": "rwkv6"},
        {"recompute": True, "bad_lines": "skip", "held_out_share": 0.1, "single_digits": True, "merges": 77},
        {"data": ["/a.txt"], "mixed": ["/b.txt", "smalltalk"], "shares": [0.7, 0.2, 0.1], "held_out": ["/c"]},
        {"data": ["smalltalk"], "mixed": ["/b=c.txt"], "shares": [1 / 3, 2 / 3]},
    ],
)
def test_the_command_that_is_told_trains_such_a_run_again(settings):
    plan = Spec.of("tiny", **settings).plan(345)
    words = command_words(plan, Path("nowhere"))
    again = train.spec_from(train.parser(*train.named_in(words[1:])).parse_args(words[1:])).plan(345)
    assert again == plan


def test_what_was_replayed_is_told_by_the_settings_of_the_run():
    plan = Spec.of("tiny", replay=["/old.txt"], replay_share=0.2).plan(345)
    assert command_words(plan, Path("there")) == ["train", "--spec", str(Path("there/config.json"))]


def test_the_command_of_a_real_run_is_that_of_its_checkpoint():
    facts = facts_of(Path("runs/a<b>"))
    words = command_words(facts.plan, facts.path)
    assert words[:3] == ["train", "--preset", "tiny"] and " ".join(words).count("--max-steps 9") == 1
    again = train.spec_from(train.parser().parse_args(words[1:])).plan(facts.plan.model.vocab_size)
    assert isinstance(facts.plan, Plan) and (again.model, again.data) == (facts.plan.model, facts.plan.data)


def test_pictures_are_drawn_where_they_are_asked_for_and_over_nothing_else(capsys):
    pytest.importorskip("matplotlib")
    for _ in range(2):
        assert plot.main(["a<b>"]) == 0
    assert "drawn: runs/a<b>/plot.png" in capsys.readouterr().out
    assert plot.main(["a<b>", "y", "--x", "flop", "--out", "both.svg"]) == 0 and Path("both.svg").exists()
    with pytest.raises(ConfigError, match="say where to draw them"):
        plot.main(["a<b>", "y"])
    Path("mine.png").write_bytes(b"\x89PNG of somebody")
    with pytest.raises(ConfigError, match=r"mine\.png is there already and was not made by microgpt"):
        plot.main(["y", "--out", "mine.png"])
    assert Path("mine.png").read_bytes() == b"\x89PNG of somebody"


def test_watch_looks_once_without_a_terminal(capsys):
    pytest.importorskip("plotext")
    assert watch.main(["a<b>"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("a<b>: finished, step 9 of 9") and "\033" not in out
    assert max(map(len, out.splitlines())) <= 80
