"""The parts of the demo, and what they share."""


class DemoFailed(Exception):
    """Something is not as it should be; the message says what."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 message``, ``1,000 messages``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
