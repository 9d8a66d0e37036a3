"""Let a model write.

  microgpt sample runs/x -p "Once upon a time" --n 3     go on with a text, three times
  microgpt sample x --chat -p "Who are you?" -t 0        answer a message with runs/x, the likeliest way
  microgpt sample x@best < text.txt                      go on with what stdin holds, from the best checkpoint

The text goes to stdout, everything else to stderr.  It ends where the model ends it, after --max-tokens, or
when the window is full, which is said.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from microgpt.chat.conversation import NO_CHATS
from microgpt.chat.terminal import encodable, forgiving
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, whole
from microgpt.common.output import harmless
from microgpt.common.output import tell as say
from microgpt.corpus.chat import BOS, Message
from microgpt.corpus.prompts import conversation_prompt, prompt_limit
from microgpt.decoding.decoder import Decoder, uniform_stream
from microgpt.tokenizer import Tokenizer

from ._model_flags import add_model_flags, add_sampling_flags, open_model, sampler_from, seed_from


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
        help="text to go on with, or the message; may be given several times; -: what stdin holds "
        "[default what is piped into stdin; nothing: begin from nothing]",
    )
    flags.add_argument("--chat", action="store_true", help="a prompt is a user's message: answer it")
    flags.add_argument("--system", default="", metavar="TEXT", help="with --chat: a system message before it")
    flags.add_argument(
        "-n", "--n", type=whole(1), default=1, metavar="SAMPLES", help="how many for each prompt [default 1]"
    )
    add_sampling_flags(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    config, seed = sampler_from(args), seed_from(args)
    if args.system and not args.chat:
        raise ConfigError("--system without --chat; a plain text has no system message")
    prompts = [from_stdin() if text == "-" else text for text in args.prompts or [piped()]]
    if args.chat and not all(text.strip() for text in prompts):
        raise ConfigError("--chat without a message; give one with -p TEXT or pipe it in")
    loaded = open_model(args)
    say(*loaded.describe()[1:])
    decoder = Decoder(loaded.model, loaded.tokenizer)
    if args.chat and not loaded.knows_chats():
        say(f"warning: {NO_CHATS}")
    ids = [prompt_of(text, args, loaded.tokenizer, decoder.window) for text in prompts]
    if config.temperature and args.seed is None:
        say(f"seed {seed}")
    out, total = forgiving(sys.stdout), len(prompts) * args.n
    for number in range(total):
        which, again = divmod(number, args.n)
        if total > 1:
            show(out, f"--- {number + 1} of {total}\n")
        show(out, shown(prompts[which], args.chat, len(prompts)))
        answer = decoder.generate(ids[which], config, args.max_tokens, uniform_stream(seed, again))
        for piece in answer.text():
            show(out, piece)
        show(out, "\n")
        if answer.finish == "length" and len(answer.ids) != args.max_tokens:
            say(f"the text was cut at {len(answer.ids)} tokens: the window of {decoder.window} is full")
    return 0


def from_stdin() -> str:
    """All that stdin holds, without the end of its last line."""
    return forgiving(sys.stdin).read().removesuffix("\n")


def piped() -> str:
    """What comes through a pipe or from a file; nothing where a person sits at a terminal."""
    return "" if sys.stdin is None or sys.stdin.isatty() else from_stdin()


def shown(prompt: str, chat: bool, n_prompts: int) -> str:
    """What stands before an answer: the text that it goes on with; of several messages the one it answers."""
    if not chat:
        return prompt
    return f"> {prompt}\n" if n_prompts > 1 else ""


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
