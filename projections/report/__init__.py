"""The report of a session: one HTML page that needs nothing else, for people who want to see what happened.

| file | what |
|---|---|
| `story.py` | a session's log as what the page shows: events, conversation, metrics over time, context values |
| `page.py` | the page: `page.html`, `page.css`, `page.js`, and the story as inert JSON |
"""
