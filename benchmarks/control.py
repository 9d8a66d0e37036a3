"""Control and reward, shown: tables whose runs can be stopped and gone on with.

    bin/bench control --base 10m-dialogs
    bin/bench control --only reinforce preferences --quickstart quickstart@1000
    bin/bench control --steps 20 --questions 20 --pairs 40 --seeds 1      a trial of all

The tables, each of runs in --out-dir that the same words find done, or go on with:

fixed        adapters on 2,000 dialogues of small talk beside --base, or the quickstart's model: sum(w^2) of
             their changes under a strength of 0, 0.1, 1 and 10, which is to fall
target       the same under control, twice as long, with a target that changes half-way: how near S comes, how
             far it shoots over, how often lambda lies at a bound; target.csv has every step, target.svg shows
             them
ablate       `microgpt scu-ablate`: --base, a model of other dialogues, on small talk, --seeds
reinforce    REINFORCE with the exam's marking, on the family of a model of small talk that is right in 40 to
             70 % of --questions, every second question of another: all families before and after, KL,
             held-out text
preferences  DPO on --pairs of answers to the same questions: right ones and wrong ones that the model gave;
             and such of its own as the text reward likes most and least, a taste that holds for any question.
             Margins of held-out pairs, held-out text

Without --quickstart a model of small talk is trained now, by the quickstart's recipe for --quickstart-steps.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.commands import scu_ablate
from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, whole
from microgpt.core import random
from microgpt.corpus.prompts import conversation_prompt, prompt_limit
from microgpt.corpus.smalltalk import FAMILIES, Question, exam, practice
from microgpt.decoding.several import several_answers
from microgpt.evaluation.exam import take_exam
from microgpt.files import durable
from microgpt.machine.cpus import add_threads_flag
from microgpt.runs.checkpoint import load_model
from microgpt.runs.kept import MODEL_FILES, find_checkpoint
from microgpt.runs.kinds import PENALTIES
from microgpt.runs.layout import METRICS
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Spec
from microgpt.training.parts import Parts
from microgpt.training.run import train_run
from microgpt.tuning.dpo import dpo_spec
from microgpt.tuning.rewards import text_reward
from microgpt.tuning.rl import rl_spec
from microgpt.tuning.scu import NAME, Information, pairs_of
from microgpt.tuning.sft import sft_spec

from .canaries import recipe
from .tuning import Row, dialogues, make_tables, need, write_dialogues

LAMBDAS = (0.0, 0.1, 1.0, 10.0)
SIGMA, RANK, LR = 0.01, 8, 1e-3
PARTLY = (0.4, 0.7)  # right answers of a family that can rise and fall


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="benchmarks.control", description=__doc__)
    which = list(TABLES)
    flags.add_argument("--only", nargs="+", choices=which, default=which, help="tables [default all]")
    flags.add_argument("--base", metavar="RUN", help="a model of other dialogues")
    flags.add_argument("--quickstart", metavar="RUN", help="a model of small talk, not quite trained")
    for name, default, what in (
        ("--quickstart-steps", 1000, "of the model of small talk, where none is named"),
        ("--questions", 400, "of each family in the exam"),
        ("--pairs", 300, "of answers"),
        ("--seeds", 2, "runs of each strength in the table ablate"),
    ):
        flags.add_argument(
            name, type=whole(1), default=default, metavar="N", help=f"{what} [default {default}]"
        )
    flags.add_argument(
        "--steps",
        type=whole(1),
        metavar="N",
        help="of every run, twice of target [default 400; 300 of reinforce, 100 of preferences]",
    )
    flags.add_argument("--family", choices=FAMILIES, help="that is practised [default one at 40 to 70 %%]")
    flags.add_argument(
        "--alone", action="store_true", help="practise that family alone, not others in every second question"
    )
    flags.add_argument("--target-s", type=float, default=0.01, help="of the table ablate [default 0.01]")
    flags.add_argument("--lr", type=float, default=3e-4, help="of REINFORCE [default 3e-4]")
    flags.add_argument("--kl", type=float, default=0.1, help="of its leash [default 0.1]")
    flags.add_argument("--batch-size", type=whole(8), default=64, help="answers of a step [default 64]")
    flags.add_argument("--out-dir", type=Path, default=Path("runs/control"), help="of runs and results.json")
    add_threads_flag(flags)
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    make_tables(TABLES, parser().parse_args(argv))


# ---- what all of them need --------------------------------------------------------------------------


def model_of_talk(args: argparse.Namespace) -> str:
    """The run that was named, or one that is trained now."""
    if args.quickstart:
        return str(args.quickstart)
    steps, place = args.quickstart_steps, args.out_dir / f"talk-{args.quickstart_steps}"
    spec = Spec.of("1m", **recipe(), max_steps=steps, sample_every=0)
    return str(train_run(with_threads(spec, args), place).run)


def with_threads(spec: Spec, args: argparse.Namespace) -> Spec:
    """The same, with the threads that were typed."""
    train = spec.train | ({"threads": str(args.threads)} if args.threads else {})
    return dataclasses.replace(spec, train=train)


def adapters(args: argparse.Namespace, name: str, steps: int, penalty: str, told: Row) -> Path:
    """A run of adapters on small talk with a penalty."""
    talk = write_dialogues(args.out_dir / "smalltalk.jsonl", dialogues())
    settings: Row = {"data": [talk], "lora_rank": RANK, "lr": LR, "stop_after": 0, "max_steps": steps}
    settings |= {"penalty": penalty, "penalty_settings": told, "log_every": 1, "sample_every": 0}
    spec = sft_spec(args.base or model_of_talk(args), settings)
    return train_run(with_threads(spec, args), args.out_dir / name).run


def facts_of(run: Path) -> list[dict[str, Any]]:
    """What layers, sources and penalties told of each step."""
    return [line["facts"] for line in read_metrics(run / METRICS) if line["event"] == "train"]


def held_out(run: Path) -> list[tuple[int, float]]:
    """Steps, and bits per byte then."""
    return [(line["step"], line["bpb"]) for line in read_metrics(run / METRICS) if line["event"] == "eval"]


# ---- control ----------------------------------------------------------------------------------------


def fixed_table(args: argparse.Namespace) -> Iterator[Row]:
    """What strength does to the changes that adapters make."""
    steps, before = args.steps or 400, math.inf
    for value in LAMBDAS:
        told = {"scu_law": "fixed", "lambda_init": value, "prior_sigma": SIGMA}
        run = adapters(args, f"fixed-{value:g}-{steps}", steps, NAME, told)
        squares, last = sum_squares(run), facts_of(run)[-1]
        yield {
            "lambda": value,
            "sum_w2": squares,
            "falls": squares < before,
            "S": last["S"],
            "held_out_bpb": held_out(run)[-1][1],
        }
        before = squares


def sum_squares(run: Path) -> float:
    """Of all changes s B A, the adapters' own numbers do not count."""
    model = load_model(find_checkpoint(run, MODEL_FILES))[0]
    scale = (model.config.lora_alpha or 2 * model.config.lora_rank) / model.config.lora_rank
    changes = (scale * model.params[pair.b] @ model.params[pair.a] for pair in pairs_of(model))
    return float(sum((change.astype(np.float64) ** 2).sum() for change in changes))


class Stepped(Information):
    """Control whose target becomes `to` after `at` steps."""

    def __init__(self, parts: Parts) -> None:
        told = dict(parts.plan.train.penalty_settings)
        self._at, self._to = int(told.pop("at")), float(told.pop("to"))
        super().__init__(parts._replace(plan=parts.plan.with_train(penalty_settings=told)))

    def add(self, loss: float, n: int) -> float:
        """See S, set lambda, add the gradient."""
        self._aim(self._n_seen)
        self._n_seen += 1
        return super().add(loss, n)

    def _aim(self, n_seen: int) -> None:
        target = self._to if n_seen >= self._at else self.control.target_s
        self.law.control = dataclasses.replace(self.control, target_s=target)

    def facts(self) -> Mapping[str, Any]:
        """With the target of this step."""
        return super().facts() | {"target": self.law.control.target_s}  # type: ignore[operator]

    def state(self) -> Mapping[str, Any]:
        """With the number of steps."""
        return super().state() | {"n_seen": self._n_seen}  # type: ignore[operator]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().restore(state)
        self._n_seen = int(state.get("n_seen", 0))


PENALTIES["control that steps"] = Stepped


def target_table(args: argparse.Namespace) -> Iterator[Row]:
    """From S of strength 1, as the table fixed has it, to what lies between that and S of 0.1."""
    at = {row["lambda"]: row["S"] for row in fixed_table(args)}
    low, high = at[1.0], math.sqrt(at[1.0] * at[0.1])
    steps = 2 * (args.steps or 400)
    told = {"target_s": low, "to": high, "at": steps // 2, "prior_sigma": SIGMA}
    run = adapters(args, f"target-{steps}", steps, "control that steps", told)
    facts = facts_of(run)
    for name, part in (("first", facts[: steps // 2]), ("second", facts[steps // 2 :])):
        apart = np.array([one["S_hat"] / one["target"] - 1 for one in part])
        late = part[-max(1, len(part) // 5) :]
        yield {
            "half": name,
            "target": part[0]["target"],
            "S_hat_late": float(np.mean([one["S_hat"] for one in late])),
            "off_late": float(np.abs(apart[-len(late) :]).max()),
            "most_above": float(apart.max()),
            "saturated_steps": sum(one["saturated"] != 0 for one in part),
            "lambda": late[-1]["lambda"],
        }
    names = ("S", "S_hat", "target", "lambda", "data_bpt", "param_bpt")
    lines = [",".join(["step", *names])]
    lines += [",".join(map(str, [k, *(one[n] for n in names)])) for k, one in enumerate(facts, 1)]
    durable.replace_file(args.out_dir / "target.csv", ["\n".join([*lines, ""]).encode()])
    draw(facts, args.out_dir / "target.svg")


def draw(facts: list[dict[str, Any]], path: Path) -> None:
    """S and its target, lambda below, by step; needs matplotlib, and is left out without."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    steps = range(1, len(facts) + 1)
    above.plot(steps, [one["S"] for one in facts], lw=0.5, label="S")
    above.plot(steps, [one["S_hat"] for one in facts], label="S, smoothed")
    target = np.array([one["target"] for one in facts])
    above.plot(steps, target, color="black", lw=1, label="target")
    above.fill_between(steps, 0.9 * target, 1.1 * target, alpha=0.15, label="within 10 %")
    above.set(ylabel="S")
    above.legend()
    below.plot(steps, [one["lambda"] for one in facts])
    below.set(yscale="log", xlabel="step", ylabel="lambda")
    figure.savefig(path)
    pyplot.close(figure)


def ablate_table(args: argparse.Namespace) -> Iterator[Row]:
    """Fixed strengths and control; results.md lies in its folder."""
    (base,) = need(args, "base")
    talk = write_dialogues(args.out_dir / "smalltalk.jsonl", dialogues())
    steps = args.steps or 400
    folder = args.out_dir / f"ablate-{steps}"
    words = ["--from", base, "--data", talk, "--lr", str(LR), "--max-steps", str(steps)]
    words += ["--target-s", str(args.target_s), "--prior-sigma", str(SIGMA), "--lora-rank", str(RANK)]
    words += ["--seeds", str(args.seeds), "--sample-every", "0", "--out-dir", str(folder)]
    scu_ablate.main(words + (["--threads", str(args.threads)] if args.threads else []))
    yield from json.loads((folder / "results.json").read_text(encoding="utf-8"))


# ---- reward -----------------------------------------------------------------------------------------


def examined(args: argparse.Namespace, run: str | Path, name: str, best: bool = False) -> dict[str, float]:
    """The share of right answers of each family; asked once.  best: of a parent, as those who train it on
    take it."""
    path = args.out_dir / f"exam-{name}-{args.questions}.json"
    checkpoint = find_checkpoint(run, MODEL_FILES, best=best)
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["checkpoint"] == str(checkpoint):
            return known["shares"]
    model, tokenizer, _ = load_model(checkpoint)
    families = take_exam(model, tokenizer, exam(args.questions)).families
    shares = {family: right / asked for family, (right, asked) in families.items()}
    found = {"checkpoint": str(checkpoint), "shares": shares}
    durable.replace_file(path, [json.dumps(found, indent=1).encode()])
    return shares


def partly_known(shares: Mapping[str, float]) -> str:
    """The family nearest to the middle of what can rise and fall."""
    low, high = PARTLY
    fit = {family: share for family, share in shares.items() if low <= share <= high}
    if not fit:
        told = ", ".join(f"{family} {share:.0%}" for family, share in shares.items())
        raise ConfigError(
            f"no family is at {low:.0%} to {high:.0%}: {told}; another --quickstart-steps, or --family"
        )
    return min(fit, key=lambda family: abs(fit[family] - (low + high) / 2))


def reinforce_table(args: argparse.Namespace) -> Iterator[Row]:
    """All families before and after one of them was practised."""
    base = model_of_talk(args)
    before = examined(args, base, "before", best=True)
    family, steps = args.family or partly_known(before), args.steps or 300
    name = f"reinforce-{family}-{steps}-{args.lr:g}-{args.kl:g}-{args.batch_size}" + "-alone" * args.alone
    settings = {"max_steps": steps, "lr": args.lr, "batch_size": args.batch_size}
    others = [one for other in FAMILIES if other != family for one in (family, other)]
    practised = family if args.alone else ",".join(others)
    spec = rl_spec(base, settings, reward="exam", families=practised, kl=args.kl)
    run = train_run(with_threads(spec, args), args.out_dir / name).run
    after, facts, text = examined(args, run, name), facts_of(run), held_out(run)
    for one in FAMILIES:
        points = 100 * (after[one] - before[one])
        is_own = one == family
        yield {
            "family": one,
            "practised": is_own,
            "before": before[one],
            "after": after[one],
            "points": points,
            "good": points >= 10 if is_own else points >= -2,
        }
    last = facts[-20:]
    yield {
        "kl_nats_a_token": float(np.mean([one.get("kl", math.nan) for one in last])),
        "reward_first": float(np.mean([one["reward"] for one in facts[:20]])),
        "reward_last": float(np.mean([one["reward"] for one in last])),
        "held_out_bpb_before": text[0][1],
        "held_out_bpb_after": text[-1][1],
    }


def preferences_table(args: argparse.Namespace) -> Iterator[Row]:
    """Margins of held-out pairs, and held-out text, by step; of both kinds of pairs."""
    base, steps = model_of_talk(args), args.steps or 100
    for kind, pair in {"right": right_and_wrong, "taste": more_and_less_liked}.items():
        pairs = made_pairs(args, base, kind, pair)
        spec = dpo_spec(base, pairs, {"max_steps": steps, "eval_every": max(1, steps // 4)})
        name = f"preferences-{kind}-{args.pairs}-{steps}"
        run = train_run(with_threads(spec, args), args.out_dir / name).run
        text = dict(held_out(run))
        for number, one in enumerate(facts_of(run)):
            if "held_out_margin" in one:
                yield {
                    "pairs": kind,
                    "steps": number,
                    "held_out_margin": one["held_out_margin"],
                    "held_out_preferred": one["held_out_preferred_share"],
                    "held_out_loss": one["held_out_preference_loss"],
                    "held_out_bpb": text.get(number, math.nan),
                }
        yield {"pairs": kind, "steps": steps, "held_out_bpb": text[steps]}


Judge = Callable[[Question, list[str]], tuple[str, str] | None]  # what is preferred to what; None: no matter


def right_and_wrong(question: Question, said: list[str]) -> tuple[str, str] | None:
    """The right answer, and a wrong one that was given."""
    wrong = [text for text in said if not question.is_correct(text)]
    return (question.expected, wrong[0]) if wrong else None


def more_and_less_liked(question: Question, said: list[str]) -> tuple[str, str] | None:
    """Of answers that were given, those that somebody who goes by the text's own marks likes most and
    least."""
    likes = {text: text_reward(question.messages[-1].content, text) for text in said}
    best, worst = max(likes, key=likes.__getitem__), min(likes, key=likes.__getitem__)
    return (best, worst) if likes[best] - likes[worst] > 0.1 else None


def made_pairs(args: argparse.Namespace, base: str, kind: str, judge: Judge) -> Path:
    """A file of pairs from what a model answered to the same questions, made once."""
    path = args.out_dir / f"pairs-{kind}-{args.pairs}.jsonl"
    if path.exists():
        return path
    model, tokenizer, _ = load_model(find_checkpoint(base, MODEL_FILES, best=True))
    lines: list[Row] = []
    limit, index = prompt_limit(model.config.seq_len), 0
    while len(lines) < args.pairs:
        asked = [practice(FAMILIES[k % len(FAMILIES)], 1, k) for k in range(index, index + 16)]
        prompts = [conversation_prompt(one.messages, tokenizer, limit).ids for one in asked]
        key = random.key(0, "pairs", index)
        answers = several_answers(model, tokenizer, prompts, [48] * len(asked), 4, 1.0, key)
        index += len(asked)
        for question, its in zip(asked, answers, strict=True):
            said = [tokenizer.decode(one.ids).decode("utf-8", "replace") for one in its if one.is_whole]
            said = [text for text in said if text]
            if said and (pair := judge(question, said)):
                messages = [message._asdict() for message in question.messages]
                lines.append({"prompt": messages, "chosen": pair[0], "rejected": pair[1]})
    text = "".join(json.dumps(line) + "\n" for line in lines[: args.pairs])
    durable.replace_file(path, [text.encode()])
    return path


TABLES = {
    "fixed": fixed_table,
    "target": target_table,
    "ablate": ablate_table,
    "reinforce": reinforce_table,
    "preferences": preferences_table,
}

if __name__ == "__main__":
    run_command(main)
