"""Sessions as JSON Lines, byte for byte: out of one store, and into another.

| file | what |
|---|---|
| `records.py` | what stands in a line |
| `exporting.py` | from a store to lines |
| `reading.py` | from a file to lines, none of which is given before the file is known to be whole |
| `restoring.py` | from lines to a store |
"""
