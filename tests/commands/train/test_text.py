"""The text of a run: known by its content wherever it lies, and what it was trained on is never measured."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from microgpt.commands import eval as microgpt_eval
from microgpt.commands import prepare, train
from microgpt.common.errors import MicrogptError
from microgpt.corpus.token_file import TokenFile
from microgpt.runs.checkpoint import load_model
from microgpt.runs.metrics import read_metrics
from microgpt.tokenizer import Tokenizer
from tests.commands.train.toys import SMALL, TEXT, evaluated, new, tensors


def test_a_corpus_of_prompts_alone_is_refused(capfd):
    chats = [{"messages": [{"role": "user", "content": f"Red {n} river"}]} for n in range(300)]
    Path("prompts.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    flags = [*SMALL, "--data", "prompts.jsonl", "--out-dir", "runs/p", "--max-steps", "2"]
    with pytest.raises(MicrogptError, match="--prompt-loss-weight 0: nothing to learn"):
        train.main([*flags, "--prompt-loss-weight", "0"])
    assert train.main([*flags, "--prompt-loss-weight", "0.5"]) == 0


def test_resume_refuses_another_corpus_unless_told(capfd):
    new("--max-steps", "2")
    Path("text.txt").write_text(TEXT + "One more line of text.\n")
    with pytest.raises(MicrogptError, match=r"tokenizer was .* corpus was .* --allow-inexact"):
        train.main(["--resume", "runs/a", "--max-steps", "4"])
    before, again = load_model("runs/a")[1], ["--resume", "runs/a", "--allow-inexact", "--max-steps"]
    assert train.main([*again, "4"]) == 0 and load_model("runs/a")[1].sha256 == before.sha256
    text = capfd.readouterr().err
    assert "warning: not the same run to the last bit: corpus was" in text and "tokenizer was" not in text
    assert train.main([*again, "6"]) == 0 and "not the same run" not in capfd.readouterr().err
    marks = [line.get("inexact", []) for line in read_metrics(Path("runs/a/metrics.jsonl"))]
    assert [len(mark) for mark in marks if mark] == [1]


def test_what_was_resumed_over_another_corpus_goes_on_exactly_from_there(capfd):
    """The corpus then has the run's tokenizer, not one of its own, and is known by that."""
    new("--max-steps", "2")
    Path("text.txt").write_text(TEXT + "One more line of text.\n")
    for out, steps in (("runs/b", "4"), ("runs/c", "6")):
        changed = ["--resume", "runs/a", "--allow-inexact", "--out-dir", out]
        assert train.main([*changed, "--max-steps", steps]) == 0
    assert train.main(["--resume", "runs/b", "--max-steps", "6"]) == 0
    assert tensors("runs/b/step_00000006") == tensors("runs/c/step_00000006")
    assert evaluated(capfd, "runs/b")["part"] == "the held-out part"


@pytest.mark.parametrize("how", ["files", "a folder", "prepared"])
def test_a_corpus_that_was_moved_is_known_by_its_content(capfd, how):
    if how == "prepared":
        prepare.main(["text.txt", "--merges", "20", "--out-dir", "mine"])
        start = ["--data", "mine", *(word for word in SMALL if word not in ("--merges", "20"))]
    elif how == "a folder":
        Path("mine").mkdir()
        Path("text.txt").rename("mine/a.txt")
        start = [*SMALL, "--data", "mine"]
    else:
        Path("text.txt").rename("mine")
        start = [*SMALL, "--data", "mine"]
    for out, steps in (("runs/a", "4"), ("runs/b", "2")):
        train.main([*start, "--out-dir", out, "--max-steps", steps, "--threads", "1"])
    before = evaluated(capfd, "runs/a")
    shutil.rmtree("data/prepared", ignore_errors=True)
    Path("elsewhere").mkdir()
    Path("mine").rename("elsewhere/other")
    with pytest.raises(MicrogptError, match=r"mine: not there any more; .*--data"):
        train.main(["--resume", "runs/b", "--max-steps", "3"])
    moved = ["--data", "elsewhere/other"]
    assert train.main(["--resume", "runs/b", "--max-steps", "3", *moved]) == 0
    assert train.main(["--resume", "runs/b", "--max-steps", "4"]) == 0, "its new place is remembered"
    assert tensors("runs/a/step_00000004") == tensors("runs/b/step_00000004")
    after = evaluated(capfd, "runs/a", *moved)
    same = ("loss", "n_tokens", "part")
    assert [after[name] for name in same] == [before[name] for name in same]


def test_a_project_that_was_moved_as_a_whole_goes_on(capfd, monkeypatch, workplace):
    (workplace / "project" / "texts").mkdir(parents=True)
    monkeypatch.chdir(workplace / "project")
    (workplace / "text.txt").rename("texts/mine.txt")
    train.main([*SMALL, "--data", "texts/mine.txt", "--out-dir", "runs/a", "--max-steps", "2"])
    (workplace / "project").rename(workplace / "renamed")
    monkeypatch.chdir(workplace / "renamed")
    shutil.rmtree(workplace / "data")
    assert evaluated(capfd, "runs/a")["part"] == "the held-out part"
    assert train.main(["--resume", "runs/a", "--max-steps", "4"]) == 0
    Path("texts/mine.txt").rename("gone")
    assert train.main(["--resume", "runs/a", "--max-steps", "5"]) == 0, "what was prepared of it is enough"
    assert "mine.txt is not there any more; going by what was prepared of it" in capfd.readouterr().err
    shutil.rmtree(workplace / "data")
    Path("mine.txt").write_text("Quite another text by the same name.\n\nIndeed.")
    with pytest.raises(MicrogptError, match="not there any more"):
        train.main(["--resume", "runs/a", "--max-steps", "6", "--allow-inexact"])


def test_a_run_can_go_on_with_other_data_when_told(capfd):
    new("--max-steps", "2")
    Path("other.txt").write_text(TEXT.replace("boat", "goat"))
    more = ["--resume", "runs/a", "--data", "other.txt", "--max-steps", "4"]
    with pytest.raises(MicrogptError, match=r"corpus was .* --allow-inexact"):
        train.main(more)
    assert train.main([*more, "--allow-inexact"]) == 0
    trained = TEXT.strip().split("\n\n")
    Path("both.txt").write_text("\n\n".join([*trained, "Never seen."]))
    report = evaluated(capfd, "runs/a", "--data", "both.txt")
    assert report["n_trained_documents"] > 0.8 * len(trained), "the first corpus is not forgotten"


def test_text_that_was_trained_on_is_told_and_left_out_in_any_file(capfd):
    new("--max-steps", "2")
    held_out = held_out_texts()
    seen, unseen = TEXT.split("\n\n")[:90], ["A line of its own.", "And another."]
    Path("part.txt").write_text("\n\n".join([*seen, *unseen]))
    Path("unseen.txt").write_text("\n\n".join(unseen))
    microgpt_eval.main(["runs/a", "--data", "part.txt"])
    told = re.search(
        r": (\d+) documents, .*left out: (\d+) documents that the run was trained on",
        capfd.readouterr().out,
        re.S,
    )
    scored, left_out = map(int, told.groups())
    assert scored == 2 + sum(text in held_out for text in seen) and left_out == 92 - scored
    reports = [evaluated(capfd, "runs/a", "--data", name) for name in ("part.txt", "unseen.txt")]
    assert [report["n_trained_documents"] for report in reports] == [left_out, 0]
    assert evaluated(capfd, "runs/a")["n_trained_documents"] == 0


def test_all_of_it_trained_on_is_refused_without_any_path_in_common():
    new("--max-steps", "2")
    texts = [text for text in TEXT.strip().split("\n\n") if text not in held_out_texts()]
    Path("elsewhere.txt").write_text("\n\n".join(texts[10:50]))
    with pytest.raises(MicrogptError, match=r"elsewhere\.txt: the run was trained on every document of it"):
        microgpt_eval.main(["runs/a", "--data", "elsewhere.txt"])


def held_out_texts():
    """The documents that the only prepared corpus holds out."""
    folder = next(path.parent for path in Path("data/prepared").glob("*/train.tokens"))
    tokens, tokenizer = TokenFile.open(folder / "val.tokens"), Tokenizer.load(folder / "tokenizer.json")
    documents = np.split(np.asarray(tokens.ids), tokens.offsets[1:].astype(int))
    return {tokenizer.decode(ids[1:-1]).decode() for ids in documents}


def test_held_out_files_are_the_held_out_part_of_a_run(capfd):
    Path("held.txt").write_text("A blue house.\n\nA red house costs 9 coins.\n\nSmall.")
    new("--max-steps", "2", "--held-out", "held.txt")
    n_documents = len(set(TEXT.strip().split("\n\n")))
    assert f"corpus   {n_documents:,} documents" in capfd.readouterr().out.replace("\u2009", "")
    own = evaluated(capfd, "runs/a")
    assert own["n_documents"] == 3
    Path("held.txt").rename("moved.txt")
    with pytest.raises(MicrogptError, match=r"--held-out-share 0\.1"):
        train.main(["--resume", "runs/a", "--held-out-share", "0.1", "--max-steps", "4"])
    assert train.main(["--resume", "runs/a", "--held-out", "moved.txt", "--max-steps", "4"]) == 0
    assert evaluated(capfd, "runs/a", "--data", "moved.txt")["n_trained_documents"] == 0
    new("--max-steps", "2", "--held-out-share", "0.3", out="runs/b")
    assert 0.2 < evaluated(capfd, "runs/b")["n_documents"] / n_documents < 0.4


def test_the_size_of_the_held_out_part_and_what_chance_does_to_it_are_told(capfd):
    new("--max-steps", "2", "--held-out-share", "0.2", "--eval-tokens", "100000")
    told = r"held out (\d\.\d+) \+- (\d\.\d+) nats/token.*\n +on (\d+) documents, ([\d,]+) tokens"
    summary = re.search(told, capfd.readouterr().out)
    loss, half, n_documents, n_tokens = (float(text.replace(",", "")) for text in summary.groups())
    report = evaluated(capfd, "runs/a")
    assert (report["n_documents"], report["n_tokens"]) == (n_documents, n_tokens)
    assert report["loss"] == pytest.approx(loss, abs=1e-3)
    assert report["loss_half_width"] == pytest.approx(half, abs=1e-3) and 0 < half < 0.1 * loss
    assert 1.96 < report["loss_half_width"] / report["loss_standard_error"] < 2.1
