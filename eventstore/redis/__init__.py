"""The log on Redis Streams. In the event store, only this folder knows Redis."""
