"""Settings in a file: read strictly, written with what they mean, and whole."""

import dataclasses
import json
from pathlib import Path

import pytest

from microgpt.common.errors import ConfigError
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import SECTIONS, Spec
from microgpt.runs.spec_file import read_spec, spec_of, spec_text, write_spec

SPECS = [
    Spec.of("tiny", max_steps=7),
    Spec.of("10m", recipe="fast", epochs=2.5, data=["/a b/x.txt", "/c"], merges=77, keys="q,a"),
    Spec.of("34m-llama", tokens="400M", lr=3e-5, min_lr=1e-7, held_out=["/x"], text_documents="file"),
    Spec.of("1m", max_time="10m", mixer="rwkv7 attention", carry_state=True, source="corpus"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_written_makes_the_same_plan(spec, tmp_path):
    write_spec(tmp_path / "run.toml", spec)
    assert read_spec(tmp_path / "run.toml").plan() == spec.plan()


def test_every_setting_that_is_a_flag_stands_in_the_file_with_its_help(tmp_path):
    text = spec_text(Spec.of("tiny"))
    for kind in SECTIONS.values():
        for field in dataclasses.fields(kind):
            if "help" in field.metadata and field.name != "vocab_size":
                assert f"\n{field.name} = " in text or f"\n# {field.name} =\n" in text, field.name
                first_words = " ".join(field.metadata["help"].split()[:3])
                assert first_words in text.replace("\n# ", " "), first_words
    assert "onward" not in text and max(map(len, text.splitlines())) <= 110


def test_settings_stand_in_tables_or_alone_and_places_are_seen_from_the_file(tmp_path):
    file = tmp_path / "deep" / "run.toml"
    file.parent.mkdir()
    file.write_text('preset = "1m"\nlr = 1\ndata = ["text", "smalltalk"]\n[train]\nthreads = 3\n')
    spec = read_spec(file)
    assert (spec.preset, spec.train) == ("1m", {"lr": 1, "threads": "3"})
    assert spec.data == {"data": [str(file.parent / "text"), "smalltalk"]}
    file.write_text('[data]\nheld_out = "../x"\n')
    assert read_spec(file).data == {"held_out": [str(tmp_path / "x")]}


@pytest.mark.parametrize(
    "text, told",
    {
        "lrr = 1": "no setting 'lrr'",
        "[train]\nlrr = 1": "unknown setting lrr",
        "[train]\nlr = 'high'": "lr is 'high', expected float",
        "preset = 3": "preset is 3",
        "max_steps = 3\nepochs = 1": "--max-steps and --epochs each say",
        "lr = ": "not readable as TOML",
        "lr = " + "[" * 20_000: "not readable as TOML",
        '{"lr": NaN}': "not readable as JSON",
        "\udc80": "not readable as TOML",
    }.items(),
)
def test_what_is_no_setting_is_told_with_the_file(text, told, tmp_path):
    file = tmp_path / "run.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as error:
        read_spec(file)
    assert str(file) in str(error.value) and told in str(error.value)
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        read_spec(tmp_path / "none.toml")


def test_a_file_of_the_users_is_not_written_over(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_spec(file, SPECS[0])
    assert file.read_text() == "mine"
    with pytest.raises(ConfigError, match="No such file"):
        write_spec(tmp_path / "none" / "run.toml", SPECS[0])


def config_json(tmp_path, plan):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(plan.to_dict()))
    return file


def test_the_config_of_a_checkpoint_is_its_run_without_the_time_limit_of_a_session(tmp_path):
    plan = Spec.of("tiny", max_steps=9, max_time="5m", lr=0.5, merges=44).plan(290)
    spec = read_spec(config_json(tmp_path, plan))
    assert spec.plan(290) == plan.with_train(max_time=None)
    onward = plan.with_train(onward_step=4, onward_lr=0.1, onward_peak=0.2)
    with pytest.raises(ConfigError, match="trained on past its first plan at step 4"):
        read_spec(config_json(tmp_path, onward))


def test_what_is_typed_comes_before_the_file_and_the_file_before_recipe_and_preset(tmp_path):
    file = Spec.of("1m", lr=0.25, n_layer=3, batch_size=2, epochs=2.0)
    plan = Spec.of(batch_size=5, seed=4).over(file).plan()
    assert (plan.preset, plan.model.n_layer, plan.model.n_embd) == ("1m", 3, 128)
    assert (plan.train.batch_size, plan.train.seed, plan.train.lr, plan.train.epochs) == (5, 4, 0.25, 2.0)
    assert plan.train.min_lr == 0.025, "by the recipe"


def test_another_preset_or_recipe_takes_what_the_file_has_of_its_own(tmp_path):
    write_spec(tmp_path / "run.toml", Spec.of("tiny", batch_size=3, dropout=0.25))
    file = read_spec(tmp_path / "run.toml")
    plan = Spec.of("25m").over(file).plan()
    assert plan.model.n_layer == 13 and plan.model.dropout == 0.25 and plan.train.batch_size == 3
    fast = Spec.of(recipe="fast").over(file).plan()
    assert fast.train.optimizer == "muon" and fast.model.n_layer == 2


def test_of_two_lengths_that_which_is_typed_counts():
    long = Spec.of("tiny", max_steps=10_000, max_time="2h")
    assert Spec.of(epochs=1.0).over(long).train == {"epochs": 1.0}
    assert Spec.of(max_time="5m").over(long).is_timed
    assert Spec.of(lr=1.0).over(long).train == {"max_steps": 10_000, "max_time": "2h", "lr": 1.0}


@pytest.mark.parametrize(
    "text, n", {"20k": 20_000, "400M": 400_000_000, "1.5b": 1_500_000_000, "77": 77}.items()
)
def test_a_number_of_tokens_is_said_as_people_do(text, n):
    assert TrainConfig(tokens=text).n_tokens == n
    assert Spec.of(tokens=n).train["tokens"] == str(n), "from a program it is a number"


@pytest.mark.parametrize("text", ["", "0", "-3", "many", "4Mio", "0.5", "99999999999T"])
def test_other_words_for_a_number_are_refused(text):
    with pytest.raises(ConfigError, match="--tokens"):
        TrainConfig(tokens=text)


def test_one_length_is_said():
    for pair in ({"epochs": 1.0, "tokens": "5M"}, {"tokens_per_param": 4.0, "max_steps": 3}):
        with pytest.raises(ConfigError, match="each say how long"):
            Spec.of("tiny", **pair)
    with pytest.raises(ConfigError, match="--epochs 0"):
        Spec.of("tiny", epochs=0.0).plan()


def test_missing_packages_are_told_with_what_installs_them(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    Path(tmp_path, "run.toml").write_text("lr = 1.0")
    for call in (lambda: read_spec(tmp_path / "run.toml"), lambda: spec_text(SPECS[0])):
        with pytest.raises(ConfigError, match=r"pip install 'microgpt-cpu\[spec\]'"):
            call()


def test_how_prepared_data_was_prepared_is_not_said_again(tmp_path, monkeypatch):
    monkeypatch.setattr("microgpt.runs.spec_file.is_prepared", lambda place: place == Path("/mine"))
    spec = Spec.of("tiny", data="/mine", replay="/other", replay_share=0.2, max_steps=7)
    told = spec_of(spec.plan()).data
    assert told == {"data": ["/mine"], "mixed": [], "shares": [], "replay": ["/other"], "replay_share": 0.2}
    assert "merges" in spec_of(Spec.of("tiny", data="/else", max_steps=7).plan()).data
