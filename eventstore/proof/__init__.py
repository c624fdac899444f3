"""What proves that a log was not changed: hash chains, Merkle trees, signed seals, manifests. All of it is pure.

Each session has a chain: a SHA-256 over its first entry, another over that one and the second entry, and so on, so that
the last one stands for all. Each partition has seals: signed statements of where all of its chains stood at a time,
every seal bound to the one before it. `projections.sealing` makes, keeps and checks them.
"""
