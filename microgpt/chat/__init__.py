"""Conversations, and the terminal they happen in."""
