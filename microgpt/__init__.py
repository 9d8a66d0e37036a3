"""Train a GPT from nothing on an ordinary CPU, and talk to it."""

__version__ = "0.1.0"
