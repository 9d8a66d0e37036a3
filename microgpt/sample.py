"""Let a model write.

  microgpt sample runs/x -p "Once upon a time" --n 3     go on with a text, three times
  microgpt sample x --chat -p "Who are you?" -t 0        answer a message with runs/x, the likeliest way
  microgpt sample x@best -p - < text.txt                 go on with a file, from the best checkpoint kept

The text goes to stdout, everything else to stderr.
"""

if __name__ == "__main__":  # before the imports, so that Ctrl-C among them prints no traceback
    from microgpt.__main__ import run

    run("sample")

import argparse
import sys
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import harmless
from microgpt.common.output import tell as say
from microgpt.corpus.chat import BOS, Message
from microgpt.inference.decoder import Decoder, uniform_stream
from microgpt.inference.loading import (
    add_model_flags,
    add_sampling_flags,
    open_model,
    sampler_from,
    seed_from,
    whole,
)
from microgpt.inference.session import conversation_prompt, prompt_limit
from microgpt.inference.terminal import encodable, forgiving
from microgpt.tokenizer import Tokenizer


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt sample", description=__doc__)
    add_model_flags(flags)
    flags.add_argument(
        "-p",
        "--prompt",
        action="append",
        dest="prompts",
        metavar="TEXT",
        help="text to go on with, or the message; -: what stdin holds; may be given several times "
        "[default none: begin from nothing]",
    )
    flags.add_argument("--chat", action="store_true", help="the prompt is a user's message: answer it")
    flags.add_argument("--system", default="", metavar="TEXT", help="with --chat: a system message before it")
    flags.add_argument("-n", "--n", type=whole(1), default=1, metavar="SAMPLES", help="how many [default 1]")
    add_sampling_flags(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    prompts = [from_stdin() if text == "-" else text for text in args.prompts or [""]]
    if args.chat and not all(text.strip() for text in prompts):
        raise ConfigError("--chat without a message; give one with -p TEXT")
    if args.system and not args.chat:
        raise ConfigError("--system without --chat; a plain text has no system message")
    config, seed = sampler_from(args), seed_from(args)
    loaded = open_model(args)
    say(*loaded.describe()[1:])
    decoder = Decoder(loaded.model, loaded.tokenizer)
    if config.temperature and args.seed is None:
        say(f"seed {seed}")
    out = forgiving(sys.stdout)
    total = len(prompts) * args.n
    for number in range(total):
        text, again = prompts[number // args.n], number % args.n
        if again == 0:
            ids = prompt_of(text, args, loaded.tokenizer, decoder.window)
        if total > 1:
            show(out, f"--- {number + 1} of {total}\n")
        show(out, "" if args.chat else text)
        for piece in decoder.stream(ids, config, args.max_tokens, uniform_stream(seed, again)):
            show(out, piece)
        show(out, "\n")
    return 0


def from_stdin() -> str:
    """All that stdin holds, without the end of its last line."""
    return forgiving(sys.stdin).read().removesuffix("\n")


def prompt_of(text: str, args: argparse.Namespace, tokenizer: Tokenizer, window: int) -> np.ndarray:
    """The ids that the model goes on from; says when they had to be cut."""
    limit, text = prompt_limit(window), encodable(text)
    if args.chat:
        opening = [Message("system", encodable(args.system))] if args.system else []
        prompt = conversation_prompt([*opening, Message("user", text)], tokenizer, limit)
        ids, cut = prompt.ids, prompt.cut
    else:
        words = tokenizer.encode(text)
        cut = max(0, len(words) + 1 - limit)
        ids = np.concatenate([np.array([tokenizer.special_id(BOS)], np.int32), words[cut:]])
    if cut:
        say(f"the prompt is too long: its first {cut} tokens were cut off, the window holds {window}")
    return ids


def show(out: TextIO, text: str) -> None:
    """Print a piece of text at once."""
    out.write(harmless(text) if out.isatty() else text)
    out.flush()
