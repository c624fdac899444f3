"""Forgetting: a session is erased wherever this project keeps anything of it, and a signed tombstone is left.

| file | what |
|---|---|
| `erasing.py` | what a store can do to that end: one in `memory.py`, one in `projections/redis` |
| `files.py` | the files of a session in the archive: whether they can be reached, and how they go |
| `forgetter.py` | the steps, in an order in which any of them may be the last, and be done again |
| `relatives.py` | which sessions hold the same content: forks, and the conversations that agents have about a session |
"""
