"""The guide's section "Context storage patterns"."""

from __future__ import annotations

from typing import Any

from contextengine import ContextEngine
from with_aiecs.agents import Model, ask, hybrid


async def test_store_and_retrieve(context_engine: ContextEngine) -> None:
    """A value comes back under its key; an agent that talks in the session does not disturb it."""
    await context_engine.set_context(
        session_id="user-123", key="user_preferences", value={"theme": "dark", "language": "en"}
    )
    await ask(await hybrid(context_engine, Model()), "What are my preferences?")
    preferences = await context_engine.get_context(session_id="user-123", key="user_preferences")
    assert preferences == {"theme": "dark", "language": "en"}


async def test_updates(context_engine: ContextEngine) -> None:
    """The shopping cart: get, change, set; and the same in one step that loses nobody's change."""
    await context_engine.set_context(session_id="user-123", key="shopping_cart", value={"items": [], "total": 0})
    cart = await context_engine.get_context(session_id="user-123", key="shopping_cart")
    cart["items"].append("product-1")
    cart["total"] += 10.99
    await context_engine.set_context(session_id="user-123", key="shopping_cart", value=cart)

    def add(cart: dict[str, Any]) -> dict[str, Any]:
        return {"items": [*cart["items"], "product-2"], "total": cart["total"] + 5}

    assert await context_engine.update_context("user-123", "shopping_cart", add) == {
        "items": ["product-1", "product-2"],
        "total": 15.99,
    }


async def test_listing(context_engine: ContextEngine) -> None:
    """All keys of a session, and their values; other sessions' keys are not among them."""
    await context_engine.set_context(session_id="user-456", key="other", value=1)
    for number in range(3):
        await context_engine.set_context(session_id="user-123", key=f"key-{number}", value=number)
    keys = await context_engine.list_contexts(session_id="user-123", limit=100)
    contexts = {}
    for key in keys:
        contexts[key] = await context_engine.get_context(session_id="user-123", key=key)
    assert contexts == {"key-0": 0, "key-1": 1, "key-2": 2}
