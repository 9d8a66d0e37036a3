"""`python -m microgpt.train`, the same as `microgpt train`.  Nothing imports it."""

from microgpt.__main__ import run

if __name__ == "__main__":
    run("train")
