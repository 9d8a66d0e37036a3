"""From nothing to a conversation: train a small chat model on the embedded corpus, examine it, talk to it.

  microgpt quickstart

Stopped, it goes on where it was; run again when it is done, it opens the chat at once.  Without a terminal it
prints a sample conversation instead of opening the chat.
"""

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from microgpt.chat.conversation import ChatSession
from microgpt.common.flags import Parser
from microgpt.common.output import escaped, harmless
from microgpt.common.words import command_line
from microgpt.corpus.smalltalk import conversation
from microgpt.decoding.sampler import GREEDY
from microgpt.model.presets import PRESETS
from microgpt.runs.checkpoint import load_verified
from microgpt.runs.kept import MODEL_FILES, find_checkpoint
from microgpt.runs.layout import checkpoints

from . import chat, eval, train

PRESET, MAX_TIME, SHALLOW = "1m", "7m", 2
# What teaches this corpus to this size soonest (benchmarks/LOG.md): its words are few, so few merges do, and
# cut names into pieces that are seen everywhere; digits by themselves, so that sums follow from their digits;
# embeddings of the tokens before, for copying a name; windows that begin where a conversation does; small
# batches, a high rate; little effort on foreseeing the user; a model that suits Muon; and half of its blocks
# alone at first, whose steps take half of the time.
RECIPE = (
    f"--preset {PRESET} --max-time {MAX_TIME} "
    "--merges 1000 --single-digits --packing documents --look-back 3 --batch-size 4 --prompt-loss-weight 0.2 "
    "--mlp relu2 --qk-norm head --embedding-norm --init-std 0.08 --init-out zero "
    "--recipe fast --lr 6e-3 --muon-lr 0.013 --min-lr 6e-5 --beta2 0.99 --precision auto "
    f"--shallow-blocks {SHALLOW}"
)


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt quickstart", description=__doc__)
    flags.add_argument(
        "--out-dir",
        default=Path("runs/quickstart"),
        type=Path,
        metavar="DIR",
        help="directory of the run [default runs/quickstart]",
    )
    flags.add_argument(
        "--max-time", metavar="TIME", help=f"train for this long, preparation included [default {MAX_TIME}]"
    )
    flags.add_argument(
        "--preset", metavar="NAME", help=f"size of the model, as of microgpt train [default {PRESET}]"
    )
    flags.add_argument("--seed", metavar="NUMBER", help="of weights and data order [default that of train]")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.  Returns the exit code of the step that ended it."""
    args = parser().parse_args(argv)
    run, before = str(args.out_dir), checkpoints(args.out_dir)
    wanted = {"--preset": args.preset, "--max-time": args.max_time, "--seed": args.seed}
    typed = [word for flag, text in wanted.items() if text is not None for word in (flag, text)]
    if not before and PRESETS.get(args.preset, {}).get("n_layer", SHALLOW + 1) <= SHALLOW:
        typed += ["--shallow-blocks", "0"]  # all its blocks are that few
    place = ["--resume", run] if before else ["--out-dir", run, *RECIPE.split()]
    code = train.main([*place, *typed])  # of a flag that is there twice the last counts
    if code:
        return code
    if checkpoints(args.out_dir) != before:
        print("\nThe exam: questions about names, numbers and facts that were never in training.", flush=True)
        eval.main([run, "--brief"])
    if sys.stdin.isatty() and sys.stdout.isatty():
        print()
        code = chat.main([run])
    else:
        show_conversation(run)
    own = command_line("sft", "--from", run, "--data", "mine.jsonl")
    print(f"\nTo make it yours, with conversations of your own: {escaped(own)}")
    return code


def show_conversation(run: str, seed: int | None = None) -> None:
    """Print a short conversation with the model, without chance, as the chat would show it, and mark it.

    Its names are drawn anew each time, unless a seed is given.
    """
    model, tokenizer, _ = load_verified(find_checkpoint(run, MODEL_FILES, best=True))
    session = ChatSession(model, tokenizer, GREEDY)
    questions = conversation(secrets.randbits(64) if seed is None else seed)
    print(
        "\nA sample conversation, for there is no terminal here; its names are drawn anew each time.  "
        f"To talk yourself: {escaped(command_line('chat', run))}\n"
    )
    right = 0
    for question in questions:
        text = question.messages[-1].content
        answer = "".join(session.reply(text)).strip()
        right += question.is_correct(answer)
        print(f"> {text}\n{harmless(answer)}", flush=True)
    print(f"\n{right} of {len(questions)} answers are right; a name counts if every letter is.")
