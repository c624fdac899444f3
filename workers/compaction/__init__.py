"""Compaction: what takes the place of the messages that a history has outgrown."""
