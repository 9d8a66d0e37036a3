"""The file of a search: what it may say, and what is refused in a line."""

import pytest

from microgpt.commands import search as command
from microgpt.common.errors import ConfigError
from microgpt.research.search_file import read_search, search_text
from tests.research.search.toys import SPACE


@pytest.mark.parametrize(
    ("space", "settings", "why"),
    [
        ({"larnin": [1]}, {}, r"\[space\] larnin: there is no setting"),
        ({"lr": 1e-3}, {}, "expected a list of values"),
        ({"lr": []}, {}, "expected numbers"),
        ({"lr": [1e-3, 1e-3]}, {}, "twice"),
        ({"lr": {"low": 1, "high": 0}}, {}, "low below high"),
        ({"lr": {"low": 0, "high": 1, "log": True}}, {}, "above 0 with log"),
        ({"lr": {"lo": 0}}, {}, "lo is not known"),
        ({"merges": [10, 20]}, {}, "changes the text"),
        ({"seed": [1, 2]}, {}, "same seeds"),
        ({"priors": {"head_dimm": [8]}}, {}, r"head_dimm is no prior \(did you mean head_dim"),
        ({"max_steps": [1, 2]}, {}, "how many tokens"),
        ({}, {}, "names no setting"),
        ({"out_dir": ["a", "b"]}, {}, "out_dir: there is no setting"),
        *(
            (
                {name: [1, 2]},
                {},
                rf"{name}: it says how a run is carried out.*a prior, .* batch_size, .* lr, ",
            )
            for name in ("keep", "threads", "probes", "sample_every", "eval_every", "precision", "recompute")
        ),
        (SPACE, {"sampler": "best"}, "sampler is best"),
        (SPACE, {"objectives": ["flop_per_token"]}, "bpb first"),
        (SPACE, {"objectives": ["bpb", "tok_per_s", "flop_per_token"]}, "two measures of one thing"),
        (SPACE, {"stop": "soon"}, "stop is 'soon'"),
        (SPACE, {"rung": 1.0}, "rung is 1.0"),
        (SPACE, {"tokens": "many"}, "tokens 'many'"),
        (SPACE, {"run": {"max_steps": 3}}, "said once, by tokens"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_a_line(made, space, settings, why):
    run = settings.pop("run", None)
    with pytest.raises(ConfigError, match=why) as refused:
        made(space, run, **settings)
    assert "\n" not in str(refused.value)


def test_the_file_of_init_is_a_search_and_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "search.toml"
    command.main(["init", str(path)])
    assert path.read_text() == search_text()
    search = read_search(path)
    assert search.config == type(search.config)() and {"lr", "n_layer"} <= set(search.space)
    with pytest.raises(ConfigError, match="there already"):
        command.main(["init", str(path)])
