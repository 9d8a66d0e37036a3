"""The line that a person sees of a run: what is in it, that it fits, and that its time is true."""

import dataclasses
import fcntl
import io
import os
import struct
import termios

import pytest

from microgpt.runs.events import Began, Empty, Trained
from microgpt.training.clock import Clock
from microgpt.training.console import Console
from microgpt.training.loop import FINISHED, OUT_OF_TIME
from microgpt.training.progress import Progress
from tests.training.fakes import FakeTime, make_config, make_job, train


def trained(step, left_s=90.0, loss=2.5, speed=16_572.0, lr=3.1e-4, norm=0.981, blocks=None):
    return Trained(step, loss, lr, norm, 100 * step, 0.01, speed, 0.01 * step, left_s, blocks=blocks)


def test_without_a_terminal_there_are_plain_lines():
    stream = io.StringIO()
    progress = Progress(0, 10, peak_tok_per_s=40_000, stream=stream, line_every_s=0)
    progress.stepped(trained(1))
    progress.evaluated(1.25, 1)
    progress.stepped(trained(2, left_s=75, loss=4.5))
    progress.stepped(Empty(3, 3, left_s=9))
    progress.close()
    rest = "lr 3.1e-4  norm 0.98  17k tok/s  41% of peak"
    assert stream.getvalue().splitlines() == [
        f"step 1/10  loss 2.500  {rest}  1m30s left",
        f"step 2/10  loss 2.600  held-out 1.250 bpb at step 1  {rest}  1m15s left",
        f"step 3/10  loss 2.600  held-out 1.250 bpb at step 1  {rest}  9.0s left",
    ]


def test_a_step_that_is_faster_than_the_peak_that_was_measured_is_the_peak_from_then_on():
    """Other work was on the CPUs when it was measured."""
    progress = Progress(0, 10, peak_tok_per_s=10_000, stream=io.StringIO())
    for speed, share in ((5_000.0, 50), (20_000.0, 40), (20_000.0, 52)):
        progress.stepped(trained(1, speed=speed))
        assert f"{share}% of peak" in progress.line(200)


def test_the_speed_of_the_first_blocks_alone_is_no_part_of_that_of_all():
    progress = Progress(0, 10, peak_tok_per_s=10_000, stream=io.StringIO())
    progress.stepped(trained(1, speed=40_000.0, blocks=2))
    assert "40k tok/s" in progress.line(200) and "peak" not in progress.line(200)
    progress.stepped(trained(2, speed=5_000.0))
    assert "5.0k tok/s  50% of peak" in progress.line(200)


def test_when_all_blocks_join_is_said_once():
    stream = io.StringIO()
    console = Console(lambda *args: Progress(*args, stream=stream, line_every_s=1e9))
    console(Began(0, 1, 9, {}, 1, 1e9, 0.0))
    for step, blocks in enumerate((2, 2, None, None), 1):
        console(trained(step, blocks=blocks))
    assert stream.getvalue().count("all blocks train from step 3 on") == 1


def test_an_empty_step_tells_nothing_of_the_speed():
    """It is soon over: of answers of which none is better than another one row is computed."""
    progress = Progress(0, 10, peak_tok_per_s=10_000, stream=io.StringIO())
    progress.stepped(Empty(1, 1, left_s=9))
    assert progress.line(200) == "step 1/10  9.0s left"
    progress.stepped(trained(2, speed=5_000.0))
    before = progress.line(200)
    progress.stepped(Empty(2, 2, left_s=90))
    assert progress.line(200) == before and "50% of peak" in before


@pytest.mark.parametrize(
    ("facts", "shown"),
    [({"kl": 0.1, "reward": 0.5}, "reward 0.500"), ({"preference_loss": 0.69}, "preference 0.690")],
)
def test_what_is_trained_for_stands_in_place_of_a_loss_that_says_nothing(facts, shown):
    progress = Progress(0, 10, peak_tok_per_s=40_000, stream=io.StringIO())
    progress.stepped(dataclasses.replace(trained(1), facts=facts))
    for width in (80, 200):
        assert shown in progress.line(width) and "loss" not in progress.line(width)


@pytest.fixture
def terminal():
    """A terminal of 80 columns: its file to write to, and a function that gives what was written."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(theirs, "w") as file:

        def written():
            print(end="\0", file=file, flush=True)  # a terminal passes on what it was given in pieces
            text = b""
            while not text.endswith(b"\0"):
                text += os.read(ours, 1 << 16)
            return text[:-1].decode()

        yield file, written
    os.close(ours)


def test_on_a_terminal_all_of_it_is_in_80_columns_and_a_bar_where_there_is_room(terminal):
    stream, written = terminal
    progress = Progress(0, 52_730, peak_tok_per_s=40_000, stream=stream)
    progress.evaluated(1.234, 10_250)
    progress.stepped(trained(10_320, left_s=4980))
    progress.planned(10_330)
    progress.say("a line between")
    progress.stepped(Empty(10_321, 3, left_s=9))
    progress.close()
    lines = [line.strip() for line in written().replace("\n", "\r").split("\r") if line.strip()]
    assert max(map(len, lines)) <= 80 and "a line between" in lines
    assert "10320/52730 loss 2.500 1.234 bpb@10250 lr 3.1e-4 norm 0.98 17k tok/s 41% 1h23m" in lines
    assert lines[-1].startswith("10321/10330")
    progress = Progress(0, 9, peak_tok_per_s=4000, stream=stream)
    progress.stepped(Empty(1, 3, left_s=9))
    assert "step 1/9  9.0s left |" in written()


@pytest.mark.parametrize("loss", [2.5, 10.25])
@pytest.mark.parametrize("step", [9, 12_345, 1_234_567])
@pytest.mark.parametrize("width", [78, 80, 100, 200])
def test_no_line_is_wider_than_it_may_be_and_none_lacks_a_number(width, step, loss):
    progress = Progress(0, 9 * step, peak_tok_per_s=4e5, stream=io.StringIO(), line_every_s=1e9)
    progress.evaluated(12.345, step - 1)
    progress.stepped(trained(step, left_s=4980, loss=loss))
    line = progress.line(width)
    assert len(line) <= max(width, 81)
    for number in (f"{step}/", f"{loss:.3f}", "12.345 bpb", "3.1e-4", "0.98", "17k tok/s", "4%", "1h23m"):
        assert number in line
    assert (f"@{step - 1} " in line or f"at step {step - 1} " in line) == (
        width > 80 or step < {78: 1e4, 80: 1e6}[width]
    )


STEP_S, EVALUATION_S, SAMPLE_S, SAVE_S = 1.0, 7.0, 3.0, 4.0


def slow_job(tmp_path, time, **changes):
    """A job whose parts take their time on a false clock."""
    (tmp_path / "a").mkdir()
    job = make_job(tmp_path / "a", make_config(**changes))

    def takes(seconds, work):
        def slow(*args):
            time.s += seconds
            return work(*args)

        return slow

    job.source.batch = takes(STEP_S, job.source.batch)
    job.sample = takes(SAMPLE_S, job.sample)
    job.held_out.batches = takes(EVALUATION_S, job.held_out.batches)
    job.saver.finish = takes(SAVE_S, job.saver.finish)
    return job


@pytest.mark.parametrize("kind", ["steps", "time", "time, cut short"])
def test_the_time_that_is_left_is_true_at_a_tenth_half_and_nine_tenths(tmp_path, kind):
    time, limit_s, told = FakeTime(), 1000.0, []
    steps = {"steps": 400, "time": 500, "time, cut short": 10_000}[kind]
    job = slow_job(tmp_path, time, max_steps=steps, eval_every=30, sample_every=90)
    job.is_timed = kind == "time"  # planned for less time than there is, and again on the way
    job.tell.add(lambda event: isinstance(event, Trained) and told.append((time.s, event.left_s)))
    costs_s = {"save": 2 * SAVE_S}
    clock = Clock(**({} if kind == "steps" else {"deadline": limit_s}), costs_s=costs_s, now=time)
    why, _ = train(job, clock=clock)
    assert why == (OUT_OF_TIME if kind == "time, cut short" else FINISHED)
    end = time.s
    for share in (0.1, 0.5, 0.9):
        now, left_s = min(told, key=lambda one: abs(one[0] - share * end))
        assert left_s == pytest.approx(end - now, rel=0.1), f"{kind}: at {share:.0%}"
    if kind != "steps":
        assert end <= limit_s and all(now + left_s <= limit_s for now, left_s in told)
