"""Context storage: values under keys, of a session; changed without losing anybody's change; listed."""

from __future__ import annotations

import asyncio
from typing import Any

from scripted import NAMESPACE, ask, start_agent

from contextengine import ContextEngine

SESSION = "shopper"


async def store_and_retrieve(context_engine: ContextEngine) -> None:
    """Pattern 1: a value, and an agent in the same session."""
    await context_engine.set_context(session_id=SESSION, key="user_preferences", value={"theme": "dark"})
    preferences = await context_engine.get_context(session_id=SESSION, key="user_preferences")
    print("  preferences:", preferences)
    await ask(await start_agent("agent-1", context_engine), f"I prefer the theme {preferences['theme']}.", SESSION)


async def update(context_engine: ContextEngine) -> None:
    """Pattern 2: get, change, set; and the same in one step, which loses nothing when many do it at once."""
    await context_engine.set_context(session_id=SESSION, key="shopping_cart", value={"items": [], "total": 0})
    cart = await context_engine.get_context(session_id=SESSION, key="shopping_cart")
    cart["items"].append("product-1")
    cart["total"] += 11
    await context_engine.set_context(session_id=SESSION, key="shopping_cart", value=cart)

    def add(cart: dict[str, Any]) -> dict[str, Any]:
        return {"items": [*cart["items"], "sticker"], "total": cart["total"] + 1}

    await asyncio.gather(*(context_engine.update_context(SESSION, "shopping_cart", add) for _ in range(20)))
    cart = await context_engine.get_context(session_id=SESSION, key="shopping_cart")
    print(f"  after 20 changes at once: {len(cart['items'])} items, {cart['total']} in total")


async def listing(context_engine: ContextEngine) -> None:
    """Pattern 3: the keys of a session."""
    for key in await context_engine.list_contexts(session_id=SESSION, limit=100):
        value = await context_engine.get_context(session_id=SESSION, key=key)
        print(f"  {key}: {len(value)} field(s)")


async def main() -> None:
    """Show the three patterns."""
    async with ContextEngine(namespace=NAMESPACE) as context_engine:
        print("A value")
        await store_and_retrieve(context_engine)
        print("Changes")
        await update(context_engine)
        print("All keys")
        await listing(context_engine)


if __name__ == "__main__":
    asyncio.run(main())
