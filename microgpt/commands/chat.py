"""Talk to a model.

  microgpt chat                        the newest run under runs/
  microgpt chat x -t 0.5               another one, runs/x, with less chance
  microgpt chat x -t 0                 always the likeliest answer
  microgpt chat x@best                 its best checkpoint on held-out text; x@1000: that of step 1,000
  printf 'Hello!\\nWho are you?\\n' | microgpt chat    every line is a message

A line that begins with / is a command, such as /temp 0.5, /save talk.jsonl or /quit; /help lists them.
// begins a message that begins with /.  Lines that are pasted together are one message.  Ctrl-C stops an
answer; at an empty prompt the first says how to leave, and the second leaves, as Ctrl-D does.  In piped lines
a command that fails ends the chat with exit code 2.

The model sees one window of tokens.  When it is full, the oldest turns are left out, and that is said.
"""

from collections.abc import Sequence

from microgpt.chat.conversation import NO_CHATS, ChatSession
from microgpt.chat.repl import Repl
from microgpt.chat.terminal import Terminal, encodable
from microgpt.common.flags import Parser

from ._model_flags import add_model_flags, add_sampling_flags, open_model, sampler_from, seed_from


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt chat", description=__doc__)
    add_model_flags(flags)
    flags.add_argument(
        "--system",
        default="",
        metavar="TEXT",
        help="system message before the conversation, for models trained with such",
    )
    add_sampling_flags(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    config = sampler_from(args)
    loaded = open_model(args)
    terminal = Terminal()
    session = ChatSession(
        loaded.model,
        loaded.tokenizer,
        config,
        seed_from(args),
        encodable(args.system),
        args.max_tokens,
        lambda text: terminal.note(f"({text})"),
    )
    for line in loaded.describe():
        terminal.note(line)
    if not loaded.knows_chats():
        terminal.note(NO_CHATS)
    if terminal.interactive:
        terminal.note("/help lists the commands; Ctrl-C stops an answer; Ctrl-D leaves")
    Repl(session, terminal).run()
    return 0
