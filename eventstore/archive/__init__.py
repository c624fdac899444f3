"""The archive: where the logs of ended sessions lie that Redis does not have to keep any more.

| file | what |
|---|---|
| `places.py` | what an archive is: a protocol that object storage fits, and which one a URL names |
| `directory.py`, `memory.py` | one in a directory, one in this process |
| `naming.py` | the names of the files: whose they are is told by them, and nothing else is |
"""
