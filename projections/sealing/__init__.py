"""The sealing projection: chains and seals beside the log, who makes them, and who checks the log against them.

| file | what |
|---|---|
| `keeping.py` | where chains and seals are kept: a protocol, and one in memory; `projections/redis/seals.py` on Redis |
| `book.py` | the seals of a partition, read and checked: which chains they vouch for, at which versions |
| `sealer.py` | makes seals; extends only chains that its own seals vouch for |
| `findings.py` | what a check can find, and its verdict |
| `walking.py` | one session's log, entry by entry, against what the seals and manifests say |
| `verifier.py` | the whole check: seals, manifests, feeds, heads, logs |

It needs ``pip install 'contextengine[audit]'``.
"""
