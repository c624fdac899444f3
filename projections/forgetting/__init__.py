"""Forgetting: a session is erased wherever this project keeps anything of it, and a signed tombstone is left.

| file | what |
|---|---|
| `erasing.py` | what a store can do to that end: one in `memory.py`, one in `projections/redis` |
| `forgetter.py` | the steps, in an order in which any of them may be the last, and be done again |
| `relatives.py` | which sessions hold the same content: forks, and the conversations that agents have about a session |
"""
