"""The parts of the benchmark, and what they share."""


class BenchFailed(Exception):
    """A measurement could not be made, or found something wrong; the message says what."""
