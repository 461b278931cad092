"""Calls of the sync and the async client side by side."""

import asyncio
from collections.abc import Callable
from typing import Any

import tandem


def both_ways(call: str, target: str, *args: Any, **kwargs: Any) -> list[Any]:
    """What a method of the sync and of the async client returns, or the error that it raises."""
    with tandem.Client(target) as sync_client:
        outcomes = [outcome_of(lambda: getattr(sync_client, call)(*args, **kwargs))]

    async def run() -> Any:
        async with tandem.AsyncClient(target) as each:
            return await getattr(each, call)(*args, **kwargs)

    return [*outcomes, outcome_of(lambda: asyncio.run(run()))]


def sync_call(target: str, call: str, *args: Any) -> Any:
    with tandem.Client(target) as each:
        return getattr(each, call)(*args)


def outcome_of(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except tandem.TandemError as error:
        return error
