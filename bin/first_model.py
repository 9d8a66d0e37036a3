"""A notebook in one file: train a small model, draw its losses, talk to it.  Needs microgpt and matplotlib.

python bin/first_model.py [directory]
"""

import sys
from pathlib import Path

try:
    import matplotlib
except ImportError:
    sys.exit("first_model.py draws with matplotlib: pip install matplotlib")

import microgpt
from microgpt.runs.metrics import read_metrics

matplotlib.use("Agg")  # a picture in a file, with or without a screen
from matplotlib import pyplot

# %% Train.  Any setting of `microgpt train --help` may be named; what is not follows the preset.
run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/first_model")
spec = microgpt.Spec.of("tiny", data="smalltalk", merges=500, packing="documents", max_steps=1500)
outcome = microgpt.train_run(spec, run)  # stopped, the same line goes on where it was
print(f"{outcome.why} after {outcome.step} steps: {outcome.metrics['val_bpb']:.3f} bits per byte held out")

# %% Draw.  The log of the run has every event that listeners heard, of all its sessions.
events = read_metrics(run / "metrics.jsonl")
pyplot.figure(figsize=(7, 4))
for name, label, form in (("train", "training", "-"), ("eval", "held out", "o-")):
    found = [event for event in events if event["event"] == name]
    steps, losses = ([event[key] for event in found] for key in ("step", "loss_nats"))
    pyplot.plot(steps, losses, form, label=label)
pyplot.xlabel("optimizer steps")
pyplot.ylabel("loss (nats per token)")
pyplot.legend()
pyplot.tight_layout()
pyplot.savefig(run / "losses.png", dpi=150)
print(f"losses are drawn in {run / 'losses.png'}")

# %% Talk.
model = microgpt.load(run)
for question in ("Hello!", "My name is Anna.", "What is my name?"):
    print(f"> {question}\n{model.chat(question)}")
