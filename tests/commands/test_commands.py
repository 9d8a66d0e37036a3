"""The commands chat, sample, eval and microgpt, on a small checkpoint, called as a shell would call them."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from microgpt.__main__ import COMMANDS, main
from microgpt.commands import chat, eval, prepare, sample, verify
from microgpt.commands import train as train_command
from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.prepared.make import prepare as prepare_corpus
from microgpt.corpus.smalltalk import FAMILIES, generate
from microgpt.model import GPT, ModelConfig
from microgpt.runs import checkpoint
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.tokenizer import train
from microgpt.training.adam import Adam

ROOT = Path(__file__).parents[2]
PLAIN_TEXT = "The cat sat on the mat.\n\nThe dog ran after the cat.\n\n" * 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of random weights, runs/a, said to be trained on a short smalltalk."""
    place = tmp_path_factory.mktemp("work")
    texts = [message.content for document in generate(20_000) for message in document]
    tokenizer = train(texts, n_merges=150)
    config = ModelConfig(
        n_layer=2, n_head=2, n_embd=16, seq_len=128, vocab_size=tokenizer.vocab_size, init_std=0.3
    )
    save(place / "runs" / "a", GPT(config).init(1), tokenizer, DataConfig(smalltalk_bytes=400_000))
    return place


def save(run, model, tokenizer, data, train_config=None, corpus="", step=7, metrics=None):
    run.mkdir(parents=True, exist_ok=True)
    train_config = train_config or TrainConfig()
    document = Plan(model.config, train_config, data).to_dict()
    state = {"step": step, "metrics": metrics or {"val_bpb": 2.5}, "corpus": corpus}
    snapshot = checkpoint.Snapshot(model, Adam(model, train_config), tokenizer)
    return checkpoint.persist(snapshot.fill(document, state), run, 2)


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("MICROGPT_DATA_DIR", raising=False)


def typed(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


# ---- prepare ----


def test_prepare_tells_what_is_in_a_corpus(tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text('{"text": "one two"}\nbroken\n' + '{"text": "three"}\n' * 2000)
    how = ["--merges", "9", "--bad-lines", "skip", "--out-dir", str(tmp_path / "out")]
    assert prepare.main([str(tmp_path / "x.jsonl"), *how, "--seq-len", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["train"]["documents"] + found["val"]["documents"] == 2001
    assert found["train"]["windows"] == -(-(found["train"]["tokens"] - 1) // 7)
    assert found["skipped"]["lines"] == 1
    assert prepare.main([str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == "", "the bad line stands in the table"
    assert f"{found['train']['tokens']:,}" in out and "x.jsonl:2: " in out and f"--data {tmp_path}" in out
    assert found["files"] == 1 and "\nread      1 file\nskipped   1 bad line; the first: " in out


@pytest.mark.parametrize(
    ("n", "share", "warnings"),
    [(400, "0.7", ["more is held out", "documents held out"]), (400, "0.1", ["documents held out"])],
)
def test_prepare_warns_of_a_held_out_part_that_is_small_or_too_large(tmp_path, capsys, n, share, warnings):
    (tmp_path / "x.txt").write_text("\n\n".join(f"text number {i}" for i in range(n)))
    assert prepare.main([str(tmp_path / "x.txt"), "--merges", "2", "--held-out-share", share]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(found) == len(warnings)
    assert all(text in line for line, text in zip(found, warnings, strict=True))


@pytest.mark.parametrize(("n", "told"), [(1, False), (3, True), (40, False)])
def test_prepare_says_when_few_documents_hold_out_more_than_anybody_wants(tmp_path, capsys, n, told):
    for number in range(n):
        (tmp_path / f"{number}.txt").write_text(f"text number {number}\n\n" * 100)
    assert prepare.main([str(tmp_path), "--merges", "2", "--text-documents", "file"]) == 0
    assert ("33% of the text is held out: it has 3 documents, and each" in capsys.readouterr().out) == told


def test_prepare_tells_what_is_not_learned(tmp_path, capsys):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    rows = [{"text": "one"}, {"text": "two"}, {"messages": turns}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "y.md").write_text("# notes")
    assert prepare.main([str(tmp_path), "--merges", "2", "--out-dir", str(tmp_path / "out")]) == 0
    told = "\nleft out  no text by its name: 1\nleft out  messages of weight 0: 1\n"
    assert told in capsys.readouterr().out
    assert prepare.main([str(tmp_path / "out")]) == 0
    assert told in capsys.readouterr().out
    assert prepare.main([str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == {"no text by its name": 1, "messages of weight 0": 1}


def test_prepare_tells_of_the_embedded_corpus_beside_files(tmp_path):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    how = {"smalltalk_bytes": 20_000, "merges": 9, "root": tmp_path / "prepared"}
    for sources, told in (
        (["smalltalk", str(tmp_path / "x.txt")], "1 file and the embedded corpus"),
        (["smalltalk"], "the embedded corpus"),
    ):
        assert f"read      {told}" in prepare.lines(prepare_corpus(sources, **how), 64, 0.0)


def test_prepare_takes_suffixes_and_keys(tmp_path, capsys):
    (tmp_path / "x.md").write_text("one\n\ntwo")
    (tmp_path / "y.csv").write_text("frage,antwort\n" + "q,a\nr,b\n" * 9)
    how = ["--merges", "2", "--suffix", ".md,csv", "--keys", "frage,antwort", "--json"]
    assert prepare.main([str(tmp_path), *how, "--out-dir", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["train"]["documents"] + found["val"]["documents"] == 20 and found["left_out"] == {}


def test_prepare_tells_of_files_it_passed_over_and_a_next_step_that_a_shell_takes(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, text in {"a.txt": PLAIN_TEXT, "b.txt": PLAIN_TEXT, "c.txt": ""}.items():
        (tmp_path / "in" / name).write_text(text)
    place = tmp_path / "it's mine"
    how = ["--merges", "9", "--bad-lines", "skip", "--out-dir", str(place)]
    assert prepare.main([str(tmp_path / "in"), *how]) == 0
    out = capsys.readouterr().out
    assert "\nread      2 files\nskipped   1 file; the first: " in out
    assert shlex.split(out.split("next: ")[1])[-3:] == ["train", "--data", str(place)]


def test_prepare_reads_a_description_of_an_earlier_version(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    prepare.main([str(tmp_path / "x.txt"), "--merges", "9", "--out-dir", str(tmp_path / "out")])
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    del meta["files_read"], meta["skipped"]["files"]
    (tmp_path / "out" / "meta.json").write_text(json.dumps(meta))
    prepare.main([str(tmp_path / "out")])
    assert "\nread      1 file\nskipped   nothing\n" in capsys.readouterr().out


def test_prepare_uses_the_tokenizer_of_another_corpus(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    (tmp_path / "y.txt").write_text("Some other text.\n\nAnd one more.\n")
    main_folder, other = str(tmp_path / "out"), str(tmp_path / "other")
    prepare.main([str(tmp_path / "x.txt"), "--merges", "9", "--out-dir", main_folder])
    prepare.main([str(tmp_path / "y.txt"), "--tokenizer", main_folder, "--out-dir", other])
    read = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("out", "other")]
    assert read[0] == read[1]
    with pytest.raises(ConfigError, match="--merges"):
        prepare.main([str(tmp_path / "y.txt"), "--tokenizer", main_folder, "--merges", "3"])
    with pytest.raises(ConfigError, match="--single-digits"):
        prepare.main([str(tmp_path / "y.txt"), "--tokenizer", main_folder, "--single-digits"])


@pytest.mark.parametrize(
    "named",
    ["a", "runs/a", "runs/a/tokenizer.json", "runs/a/step_00000007", "runs/a/step_00000007/tokenizer.json"],
)
def test_prepare_uses_the_tokenizer_of_a_run(place, tmp_path, named):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    out = tmp_path / "out"
    assert prepare.main([str(tmp_path / "x.txt"), "--tokenizer", named, "--out-dir", str(out)]) == 0
    of_run = place / "runs" / "a" / "step_00000007" / "tokenizer.json"
    assert (out / "tokenizer.json").read_bytes() == of_run.read_bytes()


@pytest.mark.parametrize("named", ["none", "runs", "runs/none/tokenizer.json"])
def test_prepare_tells_what_a_tokenizer_can_be(tmp_path, named):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    with pytest.raises(CheckpointError, match="expected a "):
        prepare.main([str(tmp_path / "x.txt"), "--tokenizer", named, "--out-dir", str(tmp_path / "out")])


def test_prepare_replaces_another_corpus_only_with_overwrite(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    (tmp_path / "y.txt").write_text("Some other text.\n\nAnd one more.\n")
    out = ["--out-dir", str(tmp_path / "out"), "--merges", "3"]
    for _ in range(2):
        assert prepare.main([str(tmp_path / "x.txt"), *out]) == 0
    with pytest.raises(DataError, match="--overwrite"):
        prepare.main([str(tmp_path / "y.txt"), *out])
    assert prepare.main([str(tmp_path / "y.txt"), *out, "--overwrite"]) == 0
    assert "is another one; it is replaced" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--overwrite is for --out-dir"):
        prepare.main([str(tmp_path / "y.txt"), "--overwrite"])


def test_prepare_holds_out_what_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "x.txt").write_text("\n\n".join(f"Line {i}." for i in range(500)))
    (tmp_path / "y.txt").write_text("Held.\n\nLine 7.\n\nToo.")
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    how = [str(tmp_path / "x.txt"), "--merges", "3", "--json"]

    def documents(*flags):
        assert prepare.main([*how, *flags]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["train"]["documents"], found["val"]["documents"]

    assert documents("--held-out", str(tmp_path / "y.txt")) == (499, 3)
    train, val = documents("--held-out-share", "0.2")
    assert train + val == 500 and 70 < val < 130
    held_out = ["--held-out", str(tmp_path / "x.txt")]
    assert prepare.main([str(tmp_path / "y.txt"), *held_out, "--merges", "3"]) == 0
    assert "\nleft out  1 document not trained on: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["--out-dir", "other"],
        ["--merges", "9"],
        ["--bad-lines", "error"],
        ["--held-out", "x.txt"],
        ["--held-out-share", "0.1"],
    ],
)
def test_a_prepared_folder_takes_no_settings(tmp_path, flags):
    """They would have no effect."""
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    folder = str(tmp_path / "out")
    prepare.main([str(tmp_path / "x.txt"), "--merges", "9", "--out-dir", folder])
    with pytest.raises(ConfigError, match=f"{flags[0]}: .*prepared already"):
        prepare.main([folder, *flags])
    if flags[0] != "--out-dir":
        with pytest.raises(ConfigError, match=f"{flags[0]}: .*prepared already"):
            train_command.main(["--data", folder, "--out-dir", str(tmp_path / "run"), *flags])


def test_a_name_that_is_no_utf8_is_printed_and_kept(place, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(path)).write_text(PLAIN_TEXT)
    words = [sys.executable, "-m", "microgpt", "prepare", path, "--merges", "9", "--out-dir", path + b" out"]
    env = os.environ | {"PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "caf\\udce9 out'" in done.stdout
    data = DataConfig(data=(os.fsdecode(path),))
    model, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    saved = save(tmp_path / "run", model, tokenizer, data)
    assert checkpoint.read_config(saved)["data"]["data"] == [os.fsdecode(path)]


# ---- chat ----


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


# ---- which checkpoint ----


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


def test_a_comparison_of_different_texts_says_so():
    one = {"checkpoint": "a", "n_params": 1000, "loss": 2.0, "bpb": 1.0, "exam": {"share": 0.93}}
    one |= {"data": ["smalltalk"], "part": "the held-out part", "n_documents": 9}
    assert eval.comparison([one, one])[1].split() == ["a", "1,000", "2.0000", "1.0000", "93.0%"]
    assert not any("different texts" in line for line in eval.comparison([one, one]))
    assert "different texts" in eval.comparison([one, one | {"n_documents": 8}])[-1]


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


# ---- sample ----


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
    assert outputs[0] == outputs[1] and outputs[0].err.count("\n") == 1 and "Hello!" not in outputs[0].out


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


# ---- eval ----


def test_eval_of_smalltalk_shows_loss_and_exam(capsys):
    assert eval.main(["runs/a", "--questions", "2", "--show-errors", "1"]) == 0
    out = capsys.readouterr().out
    assert "on smalltalk (the held-out part): " in out and "nats/token" in out and "bits per byte" in out
    assert all(f"\n{family} " in out for family in FAMILIES) and "\nall " in out
    assert out.count("  answered ") == len(FAMILIES)


def test_eval_as_json_agrees_with_its_own_counts(capsys):
    assert eval.main(["--json", "--questions", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    nats = report["loss"] * report["n_tokens"]
    assert report["bpb"] == pytest.approx(nats / 0.693147 / report["n_bytes"], rel=1e-5)
    assert report["exam"]["asked"] == len(FAMILIES) and report["step"] == 7


def test_eval_of_a_file_is_about_all_of_it_and_has_no_exam(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text(PLAIN_TEXT)
    assert eval.main(["runs/a", "--data", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["part"] == "all of it" and report["exam"] is None
    assert report["n_bytes"] == sum(len(part) for part in PLAIN_TEXT.split("\n\n"))


def test_eval_reads_text_as_it_is_told_but_not_what_the_run_was_trained_on(place, tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(PLAIN_TEXT.encode() + b"caf\xe9\n")
    with pytest.raises(DataError, match=r"text\.txt:161: .*--bad-lines skip"):
        eval.main(["runs/a", "--data", str(tmp_path / "text.txt")])
    capsys.readouterr()
    how = ["--bad-lines", "skip", "--text-documents", "file"]
    assert eval.main(["runs/a", "--data", str(tmp_path / "text.txt"), *how]) == 0
    out, err = capsys.readouterr()
    assert "(all of it): 1 document, " in out and "1 bad line left out" in err
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    data = DataConfig(data=(str(tmp_path / "text.txt"),))
    save(tmp_path / "run", GPT(config).init(0), tokenizer, data)
    with pytest.raises(ConfigError, match="--bad-lines, --text-documents: a run's own corpus"):
        eval.main([str(tmp_path / "run"), *how])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_can_be_printed(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and f"usage: microgpt {name}" in said
    with pytest.raises(SystemExit):
        main(["help", name])
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("command", [eval, train_command])
def test_files_that_are_named_one_by_one_add_up(command):
    assert command.parser().parse_args(["--data", "a", "--data", "b", "c"]).files == ["a", "b", "c"]


def test_eval_can_score_a_part(capsys):
    eval.main(["--json", "--questions", "0", "--max-tokens", "256"])
    assert json.loads(capsys.readouterr().out)["n_tokens"] == 256


def test_eval_measures_the_windows_that_the_run_was_trained_on_or_those_named(place, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(PLAIN_TEXT)
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    save(tmp_path / "run", GPT(config).init(0), tokenizer, DataConfig(), TrainConfig(packing="documents"))

    def measured(run, *flags):
        eval.main([str(run), "--data", str(tmp_path / "text.txt"), "--json", *flags])
        report = json.loads(capsys.readouterr().out)
        return tuple(report[name] for name in ("packing", "n_documents", "n_tokens", "n_bytes"))

    whole, stream = measured(tmp_path / "run"), measured(place / "runs" / "a")
    assert (whole[:2], stream[:2]) == (("documents", 80), ("stream", 80))
    assert whole[2] == stream[2] - 79, "the first <|bos|> is scored by neither, 79 by one"
    assert whole[3] == stream[3]
    assert measured(tmp_path / "run", "--packing", "stream") == stream


@pytest.mark.parametrize("named", [False, True])
def test_eval_of_a_runs_own_file_is_about_its_held_out_part_only(tmp_path, capsys, named):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Line {i} tells of the number {i * i}." for i in range(300)))
    prepared = prepare_corpus([str(path)], merges=20, root=tmp_path / "data" / "prepared")
    config = ModelConfig(
        n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=prepared.tokenizer.vocab_size, init_std=0.3
    )
    data = DataConfig(data=(str(path),), merges=20)
    save(tmp_path / "run", GPT(config).init(0), prepared.tokenizer, data, corpus=prepared.meta["key"])
    assert eval.main([str(tmp_path / "run"), "--json"] + (["--data", str(path)] if named else [])) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_documents"] == prepared.val.n_documents < 300 and report["part"] == "the held-out part"


@pytest.mark.parametrize("named", ["own/a.txt", "own/link.txt", "own/a.txt new.txt", "own", "."])
def test_eval_refuses_a_part_of_what_the_run_was_trained_on(place, tmp_path, monkeypatch, named):
    """All of it would be a number about text seen in training."""
    (tmp_path / "own").mkdir()
    for name in ("own/a.txt", "own/b.txt", "new.txt"):
        (tmp_path / name).write_text(PLAIN_TEXT)
    (tmp_path / "own" / "link.txt").symlink_to("a.txt")
    trained = (str(tmp_path / "own" / "a.txt"), str(tmp_path / "own" / "b.txt"))
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    save(tmp_path / "run", GPT(config).init(0), tokenizer, DataConfig(data=trained))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="trained on"):
        eval.main(["run", "--data", *named.split()])
    assert eval.main(["run", "--data", "new.txt"]) == 0


def test_eval_knows_what_a_prepared_corpus_was_made_of(tmp_path, capsys):
    for name, number in (("a", 3), ("b", 5), ("c", 7)):
        text = "\n\n".join(f"Line {i} tells of the number {i * number}." for i in range(300))
        (tmp_path / f"{name}.txt").write_text(text)
    made = prepare_corpus(tmp_path / "a.txt", merges=20, out_dir=tmp_path / "mine")
    other = prepare_corpus(tmp_path / "b.txt", tokenizer=made.tokenizer, out_dir=tmp_path / "other")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=made.tokenizer.vocab_size)
    data = DataConfig(data=(str(tmp_path / "mine"),))
    save(tmp_path / "run", GPT(config).init(0), made.tokenizer, data, corpus=made.meta["key"])

    def measured(*flags):
        eval.main([str(tmp_path / "run"), "--json", *flags])
        report = json.loads(capsys.readouterr().out)
        return report["n_documents"], report["part"]

    assert measured() == (made.val.n_documents, "the held-out part")
    assert measured("--data", str(tmp_path / "other")) == (other.val.n_documents, "the held-out part")
    assert measured("--data", str(tmp_path / "a.txt")) == (made.val.n_documents, "the held-out part")
    how = {"out_dir": tmp_path / "mine", "overwrite": True}
    prepare_corpus(tmp_path / "c.txt", tokenizer=made.tokenizer, **how)
    with pytest.raises(CheckpointError, match="not any more what it was trained on"):
        measured()


def test_eval_of_smalltalk_beside_a_file_names_both_parts(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text(PLAIN_TEXT)
    eval.main(["runs/a", "--data", "smalltalk", str(path), "--json", "--questions", "0"])
    assert json.loads(capsys.readouterr().out)["part"] == "all of it, of smalltalk the held-out part"


def test_eval_refuses_a_corpus_that_is_not_the_one_trained_on(tmp_path, place):
    path = tmp_path / "text.txt"
    path.write_text(PLAIN_TEXT)
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    save(tmp_path / "run", GPT(config).init(0), tokenizer, DataConfig(data=(str(path),), merges=20))
    with pytest.raises(CheckpointError, match="not any more what it was trained on"):
        eval.main([str(tmp_path / "run")])


# ---- mistakes ----


@pytest.mark.parametrize("command", [chat, sample, eval])
@pytest.mark.parametrize(
    "flags, error, words",
    [
        (["runs/none"], CheckpointError, "runs/none: no such directory"),
        (["runs"], CheckpointError, "no checkpoint in it"),
        (["--threads", "many"], ConfigError, "--threads many"),
    ],
)
def test_mistakes_about_the_model_are_named(command, flags, error, words):
    with pytest.raises(error, match=words):
        command.main([*flags, "-p", "x"] if command is sample else flags)


@pytest.mark.parametrize(
    "command, flags, error, words",
    [
        (chat, ["-t", "-1"], ConfigError, "temperature is -1"),
        (chat, ["--system", "word " * 500], ConfigError, "no room to talk beside a system prompt"),
        (sample, ["--top-p", "0"], ConfigError, "top-p is 0"),
        (sample, ["--chat", "-p", " "], ConfigError, "-p TEXT"),
        (sample, ["--system", "x"], ConfigError, "--system without --chat"),
        (sample, ["--chat", "-p", "x", "--system", "word " * 99], ConfigError, "no room to talk"),
        (eval, ["--data", "no.txt"], DataError, "no.txt"),
    ],
)
def test_mistakes_about_flags_are_named(command, flags, error, words):
    with pytest.raises(error, match=words):
        command.main(flags)


@pytest.mark.parametrize(
    "command, flags, words",
    [
        (chat, ["--temp"], "--temp"),
        (chat, ["--max-tokens", "0"], "'0': expected a whole number from 1 up"),
        (sample, ["--n", "x"], "'x': expected a whole number"),
        (sample, ["--seed", "-5"], "'-5'"),
        (eval, ["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(command, flags, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(flags)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and words in err and err.count("\n") == 1


# ---- microgpt, the command of commands ----


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_microgpt_lists_its_commands(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and all(f"\n  {name} " in out for name in COMMANDS)


def test_every_command_has_its_file_and_the_other_way_round():
    files = {path.stem for path in (ROOT / "microgpt").glob("*.py")} - {"__init__", "__main__"}
    assert files <= set(COMMANDS)


def test_microgpt_runs_a_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "-p", "Hi", "--max-tokens", "2", "--seed", "0"])
    assert stopped.value.code == 0 and capsys.readouterr().out.startswith("Hi")


@pytest.mark.parametrize("words", [["dance"], ["chat", "runs/none"], ["eval", "--nonsense"]])
def test_microgpt_ends_mistakes_with_one_line_and_code_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.startswith("microgpt") and err.count("\n") == 1


def python_m(*words, stdin="", **options):
    return subprocess.run(
        [sys.executable, "-m", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONUTF8": "1"},
        timeout=600,
        **options,
    )


def test_as_programs():
    version = python_m("microgpt", "--version")
    assert (version.returncode, version.stderr) == (0, "") and version.stdout.startswith("microgpt ")
    mistake = python_m("microgpt", "chat", "runs/none")
    assert mistake.returncode == 2 and mistake.stderr.count("\n") == 1 and mistake.stdout == ""
    silent = python_m("microgpt", "chat")
    assert silent.returncode == 0 and silent.stdout == ""


def test_the_tokenizer_is_a_command_too(tmp_path):
    (tmp_path / "a.txt").write_text("low lower lowest " * 9)
    trained = python_m("microgpt", "tokenizer", "train", "a.txt", "--merges", "3", cwd=tmp_path)
    assert (trained.returncode, trained.stderr) == (0, "") and trained.stdout.startswith("tokenizer.json: ")
    alone = [python_m(name, "show", cwd=tmp_path) for name in ("tokenizer", "microgpt.tokenizer")]
    assert alone[0].returncode == 0 and alone[0].stdout == alone[1].stdout != ""


def test_names_in_the_current_folder_hide_nothing(tmp_path):
    """A folder that is named like the clone, and a file that is named like one of its folders."""
    (tmp_path / "microgpt").mkdir()
    (tmp_path / "tokenizer.py").write_text("raise SystemExit(9)")
    (tmp_path / "a.txt").write_text("low lower lowest " * 9)
    assert python_m("microgpt", "--version", cwd=tmp_path).returncode == 0
    assert python_m("microgpt", "prepare", "a.txt", "--merges", "3", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "command, code",
    [
        ("train --data a.txt --preset tiny --merges 3 --max-steps 1 --out-dir run", 0),
        ("tokenizer train a.txt --merges 3", 0),
        ("prepare a.txt --merges 3", 0),
        ("prepare missing.txt", 2),
        ("dance", 2),
        ("eval --nonsense", 2),
    ],
)
def test_what_is_meant_for_a_closed_stderr_goes_nowhere(command, code, tmp_path):
    (tmp_path / "a.txt").write_text("low lower lowest\n\n" * 99)
    done = subprocess.run(
        f"{sys.executable} -m microgpt {command} 2>&-",
        shell=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == code and bool(done.stdout) == (code == 0)


@pytest.mark.parametrize("closed, code", [("<&-", 0), (">&-", 2), ("2>&-", 0)])
def test_the_tokenizer_alone_has_closed_streams_too(closed, code, tmp_path):
    (tmp_path / "a.txt").write_text("low lower lowest\n\n" * 99)
    done = subprocess.run(
        f"{sys.executable} -m tokenizer train a.txt --merges 3 {closed}",
        shell=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == code and (tmp_path / "tokenizer.json").exists() == (code == 0)


def test_help_is_instant_because_nothing_is_imported():
    code = "import sys; from microgpt.__main__ import HELP; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=600).returncode == 0
