"""Bytes on disk: written whole or not at all, read only when whole.  Knows neither models nor text."""
