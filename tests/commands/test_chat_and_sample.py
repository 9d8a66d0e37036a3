"""`microgpt chat` and `sample` on a small checkpoint: which one is taken, prompts, piped lines, settings."""

import json
import sys

import pytest

from microgpt.__main__ import main
from microgpt.commands import chat, eval, prepare, sample, verify
from microgpt.commands import train as train_command
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.runs import checkpoint
from tests.commands.random_run import PLAIN_TEXT, save, typed


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("MICROGPT_DATA_DIR", raising=False)


def test_chat_answers_every_line_with_the_newest_run(monkeypatch, capsys):
    typed(monkeypatch, "Hello!\nWho are you?\n")
    assert chat.main(["--max-tokens", "5", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "> Hello!" and "> Who are you?" in lines
    banner = err.splitlines()
    assert "parameters: 2 layers of width 16, window 128, vocabulary" in banner[0]
    assert banner[1] == "from runs/a/step_00000007, held-out 2.500 bits per byte"


def test_chat_with_the_same_seed_says_the_same(monkeypatch, capsys):
    def talk(seed):
        typed(monkeypatch, "Hello!\nAnd now?\n")
        chat.main(["runs/a", "--seed", seed, "-t", "1.5", "--max-tokens", "20"])
        return capsys.readouterr().out

    assert talk("1") == talk("1") != talk("2")


@pytest.fixture
def worse(place, tmp_path, monkeypatch):
    """A run, runs/w, that got clearly worse after step 10, in a folder of its own."""
    model, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    monkeypatch.chdir(tmp_path)
    for step, loss in {10: 2.0, 20: 2.5}.items():
        metrics = {"val_loss": loss, "val_bpb": loss / 2, "val_step": step}
        save(tmp_path / "runs" / "w", model, tokenizer, DataConfig(), step=step, metrics=metrics)
    return tmp_path


def test_chat_and_sample_take_the_best_where_the_newest_is_clearly_worse(worse, monkeypatch, capsys):
    typed(monkeypatch, "Hello!\n")
    assert chat.main(["w", "--max-tokens", "2"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[1:3] == [
        "from runs/w/step_00000010, held-out 1.000 bits per byte",
        "newer but worse on held-out text: step 20, 1.250 bits per byte; runs/w@newest takes it",
    ]
    assert sample.main(["w", "-p", "a", "-t", "0", "--max-tokens", "2"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"microgpt: {line}" for line in told[1:3]]


def test_a_better_checkpoint_is_told_of_where_another_is_named(worse, capsys):
    better = "better on held-out text: step 10, 1.000 bits per byte; runs/w@best takes it"
    assert sample.main(["w@20", "-p", "a", "-t", "0", "--max-tokens", "2"]) == 0
    told = ["from runs/w/step_00000020, held-out 1.250 bits per byte", better]
    assert capsys.readouterr().err.splitlines() == [f"microgpt: {line}" for line in told]
    text = worse / "text.txt"
    text.write_text(PLAIN_TEXT)
    eval.main(["w", "--data", str(text)])
    out = capsys.readouterr().out
    assert "from runs/w/step_00000020" in out and better in out, "eval takes the newest"
    eval.main(["w", "--data", str(text), "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["checkpoint"] == "runs/w/step_00000020" and better in err


def test_a_name_is_told_from_a_path_in_every_command(worse, monkeypatch, capsys):
    (worse / "text.txt").write_text(PLAIN_TEXT)
    prepare.main(["text.txt", "--tokenizer", "w", "--out-dir", "out"])
    prepare.main(["text.txt", "--tokenizer", "runs/w@best", "--out-dir", "out2"])
    trained_with = (worse / "runs" / "w" / "step_00000020" / "tokenizer.json").read_bytes()
    assert all((worse / name / "tokenizer.json").read_bytes() == trained_with for name in ("out", "out2"))
    with pytest.raises(CheckpointError, match=r"nothing\.json: no such .*expected a tokenizer\.json, "):
        prepare.main(["text.txt", "--tokenizer", "nothing.json", "--out-dir", "out3"])
    for command in (chat, sample, eval, verify):
        with pytest.raises(CheckpointError, match=r"no checkpoint of step 7; kept are @20, @10 \(best\)"):
            command.main(["w@7", "-p", "a"] if command is sample else ["w@7"])


def test_a_comparison_of_different_texts_says_so():
    one = {"checkpoint": "a", "n_params": 1000, "loss": 2.0, "bpb": 1.0, "exam": {"share": 0.93}}
    one |= {"data": ["smalltalk"], "part": "the held-out part", "n_documents": 9}
    assert eval.comparison([one, one])[1].split() == ["a", "1,000", "2.0000", "1.0000", "93.0%"]
    assert not any("different texts" in line for line in eval.comparison([one, one]))
    assert "different texts" in eval.comparison([one, one | {"n_documents": 8}])[-1]


def test_eval_of_several_compares_them(worse, capsys):
    (worse / "text.txt").write_text(PLAIN_TEXT)
    assert eval.main(["w", "w@best", "--data", "text.txt"]) == 0
    titles, newest, best = capsys.readouterr().out.splitlines()[-3:]
    assert titles.split() == ["parameters", "nats/token", "bits/byte"]
    assert newest.split()[0] == "runs/w/step_00000020" and best.split()[0] == "runs/w/step_00000010"
    assert newest.split()[1:] == best.split()[1:] and len(best.split()) == 4, "the same weights, no exam"
    assert eval.main(["w", "@best", "--data", "text.txt", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines] == [20, 10] and lines[0]["loss"] == lines[1]["loss"]


def test_a_model_that_never_saw_a_chat_is_said_to_be_for_sample(tmp_path, monkeypatch, capsys):
    (tmp_path / "prose.txt").write_text(PLAIN_TEXT)
    run = str(tmp_path / "prose")
    how = ["--preset", "tiny", "--merges", "20", "--max-steps", "30", "--warmup-steps", "3", "--threads", "1"]
    train_command.main(["--data", str(tmp_path / "prose.txt"), "--out-dir", run, *how])
    assert f"sample {run}" in capsys.readouterr().out.splitlines()[-1]
    typed(monkeypatch, "Hello!\n")
    chat.main([run, "--max-tokens", "2"])
    assert "never saw a conversation" in capsys.readouterr().err
    for flags, is_warned in ((["--chat"], True), ([], False)):
        sample.main([run, "-p", "The cat", "--max-tokens", "2", *flags])
        assert ("never saw a conversation" in capsys.readouterr().err) is is_warned


@pytest.mark.parametrize("line", ["/dance", "/temp warm", "/save"])
def test_a_command_that_fails_in_piped_lines_is_exit_code_2(monkeypatch, capsys, line):
    typed(monkeypatch, f"{line}\nHello!\n")
    with pytest.raises(SystemExit) as stopped:
        main(["chat", "--max-tokens", "2"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("microgpt: ")


def test_sample_goes_on_with_several_prompts_each_as_if_it_were_alone(capsys):
    how = ["-n", "2", "--max-tokens", "9", "--seed", "3"]
    sample.main(["-p", "one", "-p", "two", *how])
    both = capsys.readouterr().out
    assert [line for line in both.splitlines() if line.startswith("---")] == [
        f"--- {n} of 4" for n in (1, 2, 3, 4)
    ]
    sample.main(["-p", "two", *how])
    alone = capsys.readouterr().out
    assert both.endswith(alone.replace("2 of 2", "4 of 4").replace("1 of 2", "3 of 4")) and "\ntwo" in alone


def test_sample_tells_which_of_several_messages_it_answers(capsys):
    sample.main(["--chat", "-p", "Hello!", "-p", "And now?", "-t", "0", "--max-tokens", "3"])
    assert [line for line in capsys.readouterr().out.splitlines() if line[:1] in ">-"][:4] == [
        "--- 1 of 2",
        "> Hello!",
        "--- 2 of 2",
        "> And now?",
    ]


@pytest.mark.parametrize("flags", [[], ["-p", "-"]])
@pytest.mark.parametrize("text", ["two\nlines", ""])
def test_sample_goes_on_with_what_is_piped(monkeypatch, capsys, flags, text):
    how = ["-t", "0", "--max-tokens", "5"]
    typed(monkeypatch, text + "\n")
    sample.main([*flags, *how])
    piped = capsys.readouterr().out
    sample.main(["-p", text, *how])
    assert piped == capsys.readouterr().out and piped.startswith(text)


def test_sample_leaves_stdin_alone_where_a_prompt_is_given(monkeypatch):
    typed(monkeypatch, "more\n")
    sample.main(["-p", "one", "--max-tokens", "1"])
    assert sys.stdin.read() == "more\n"


def test_sample_tells_that_the_window_is_full_and_not_what_was_asked_for(capsys):
    words = ["-p", "Once", "-t", "100", "-k", "0", "--top-p", "1", "--penalty", "100", "--seed", "1"]
    sample.main([*words, "--max-tokens", "3"])
    assert "window" not in capsys.readouterr().err
    sample.main(words)
    assert "tokens: the window of 128 is full" in capsys.readouterr().err


def test_sample_goes_on_with_a_text(capsys):
    assert sample.main(["runs/a/step_00000007", "-p", "Once upon", "--n", "2", "--max-tokens", "9"]) == 0
    out, err = capsys.readouterr()
    parts = out.split("--- ")
    assert parts[1].startswith("1 of 2\nOnce upon") and parts[2].startswith("2 of 2\nOnce upon")
    assert parts[1][6:] != parts[2][6:] and "\nmicrogpt: seed " in err


def test_sample_answers_a_message_and_greedy_needs_no_seed(capsys):
    flags = ["--chat", "-p", "Hello!", "-t", "0", "--max-tokens", "9"]
    outputs = []
    for _ in range(2):
        assert sample.main(flags) == 0
        outputs.append(capsys.readouterr())
    assert outputs[0].err.startswith("microgpt: from runs/a/step_00000007, held-out 2.500 bits per byte")
    assert outputs[0] == outputs[1] and "Hello!" not in outputs[0].out
    assert outputs[0].err.count("\n") == 2 and "never saw a conversation" in outputs[0].err, "random weights"


def test_sample_goes_on_with_each_of_several_prompts_and_with_stdin(monkeypatch, capsys):
    typed(monkeypatch, "from a\npipe\n")
    how = ["--seed", "1", "--max-tokens", "4"]
    assert sample.main(["-p", "one", "-p", "-", "-n", "2", *how]) == 0
    parts = capsys.readouterr().out.split("--- ")[1:]
    heads = ["1 of 4\none", "2 of 4\none", "3 of 4\nfrom a\npipe", "4 of 4\nfrom a\npipe"]
    assert all(part.startswith(head) for part, head in zip(parts, heads, strict=True))
    sample.main(["-p", "one", *how])
    assert capsys.readouterr().out == parts[0].split("\n", 1)[1], "as if it had been alone"
    typed(monkeypatch, " \n")
    with pytest.raises(ConfigError, match="--chat without a message"):
        sample.main(["--chat", "-p", "Hi", "-p", "-"])


def test_sample_reads_settings(capsys):
    one = ["-p", "a", "--seed", "1", "--max-tokens", "20"]
    sample.main([*one, "-k", "1"])
    first = capsys.readouterr().out
    sample.main([*one, "-t", "0"])
    assert capsys.readouterr().out == first
    sample.main([*one, "--temperature=9", "--top_k=0", "--top-p=1"])
    assert capsys.readouterr().out != first


def test_a_prompt_too_long_is_cut_and_it_is_said(capsys):
    sample.main(["-p", "0123456789" * 30, "--max-tokens", "1", "--seed", "0"])
    assert "the prompt is too long: its first" in capsys.readouterr().err
