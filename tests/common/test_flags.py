"""Flags come from dataclass fields; mistakes are one line and exit code 2."""

import signal
from dataclasses import dataclass

import pytest

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import Parser, add_settings, given, settings_from
from microgpt.common.setting import REQUIRED, setting
from microgpt.common.signals import Stopped


@dataclass(frozen=True)
class Oven:
    n_trays: int = setting(REQUIRED, "trays", "count")
    heat: float = setting(180.0, "temperature at 100% power", "degrees C", group="cooking")
    mode: str = setting("fan", "kind of heat", choices=("fan", "grill"))
    steam: bool = setting(False, "add steam")
    timer: int | None = setting(None, "stop after this long", "minutes")
    model_of_oven: str = setting("old", "what it is called")
    inner: int = 3  # not a setting: no flag


def parse(*words):
    parser = Parser(prog="oven")
    add_settings(parser, Oven)
    return parser.parse_args(words)


def test_typed_values_win_over_base_over_defaults():
    args = parse("--n-trays", "2", "--heat=200", "--steam")
    assert given(args, Oven) == {"n_trays": 2, "heat": 200.0, "steam": True}
    assert settings_from(args, Oven, heat=150.0, mode="grill") == Oven(2, 200.0, "grill", True)
    assert settings_from(parse("--timer", "5"), Oven, n_trays=1).timer == 5


def test_underscores_are_dashes():
    assert given(parse("--n_trays=4"), Oven) == {"n_trays": 4}


def test_help_shows_unit_and_default(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "temperature at 100% power [degrees C, default 180]" in " ".join(text.split())
    assert "--inner" not in text and "cooking:" in text


@pytest.mark.parametrize(
    "words, word",
    [
        (["--colour", "1"], "--colour"),
        (["--n-trays", "many"], "--n-trays"),
        (["--mode", "gas"], "gas"),
        (["--hea", "1"], "--hea"),
    ],
)
def test_mistakes_are_one_line(words, word, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(*words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and word in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words, meant",
    [
        (["--tray", "1"], "--n-trays"),
        (["--heta=9"], "--heat"),
        (["--mode", "gril"], "grill"),
        (["--n_tray", "1"], "--n-trays"),
        (["--n-tr", "1"], "--n-trays"),
        (["--mod", "gas"], "--mode or --model-of-oven"),
        (["--t", "1"], ""),
        (["--colour", "1"], ""),
        (["--mode", "xyz"], ""),
    ],
)
def test_what_may_have_been_meant_is_told(words, meant, capsys):
    with pytest.raises(SystemExit):
        parse(*words)
    error = capsys.readouterr().err
    assert (f"(did you mean {meant}?)" in error) if meant else ("did you mean" not in error)


def test_a_missing_required_setting_is_named():
    with pytest.raises(ConfigError, match="--n-trays"):
        settings_from(parse(), Oven)


@pytest.mark.parametrize(
    "result, code",
    [
        (None, 0),
        (3, 3),
        (DataError("no such file"), 2),
        (KeyboardInterrupt(), 130),
        (Stopped(signal.SIGTERM), 143),
        (Stopped(signal.SIGHUP), 129),
        (ZeroDivisionError(), None),
    ],
)
def test_run_command_turns_outcomes_into_exit_codes(result, code, capsys):
    def main():
        if isinstance(result, BaseException):
            raise result
        return result

    with pytest.raises(SystemExit if code is not None else ZeroDivisionError) as stop:
        run_command(main)
    if code is not None:
        assert stop.value.code == code
    if code == 2:
        assert capsys.readouterr().err == "microgpt: no such file\n"


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(36, "File name too long", "xxx"), "xxx: File name too long"),
        (OSError("no device"), "no device"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, words, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(main)
    text = capsys.readouterr().err
    assert stop.value.code == 2 and words in text and text.count("\n") == 1


def test_only_names_of_flags_are_dashed():
    flags = Parser()
    flags.add_argument("--a-text")
    assert flags.parse_args(["--a_text=--b_c"]).a_text == "--b_c"
    assert flags.parse_args(["--a_text", "--say my_name now"]).a_text == "--say my_name now"
    assert flags.parse_args(["--a_text", "--my_name is Bo"]).a_text == "--my_name is Bo"
