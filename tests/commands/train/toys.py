"""A tiny run of `microgpt train` on a text of a few lines."""

import json
from pathlib import Path

from microgpt.commands import eval as microgpt_eval
from microgpt.commands import train

TEXT = "".join(
    f"A {color} {thing} costs {n} coins.\nThe {thing} of number {n} is {color}, not {n + 1}.\n\n"
    for n in range(40)
    for color in ("red", "green", "blue")
    for thing in ("hat", "boat", "lamp")
)


SMALL = [
    "--preset",
    "tiny",
    "--n-layer",
    "1",
    "--seq-len",
    "16",
    "--merges",
    "20",
    "--dropout",
    "0.1",
    "--batch-size",
    "2",
    "--eval-every",
    "4",
    "--eval-tokens",
    "64",
]


def new(*flags, out="runs/a", threads="1", **options):
    words = [*SMALL, "--data", "text.txt", "--out-dir", out, "--threads", threads, *flags]
    return train.main(words, **options)


def tensors(checkpoint):
    """The hashes of weights and moments."""
    files = json.loads((Path(checkpoint) / "manifest.json").read_text())["files"]
    return [files[name]["sha256"] for name in ("model.safetensors", "optimizer.safetensors")]


def evaluated(capfd, *words):
    """What `microgpt eval --json` says."""
    capfd.readouterr()
    assert microgpt_eval.main([*words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)
