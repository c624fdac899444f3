"""The parts of the compaction benchmark: what is measured, and how it is shown."""
