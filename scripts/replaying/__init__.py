"""What the scripts that replay, verify and rebuild have in common: which sessions, and how it is shown."""
