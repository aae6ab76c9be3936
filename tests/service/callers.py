"""Either client, called in the same way."""

import asyncio
import inspect
from typing import Any

from fflab import AsyncClient, Client


class Caller:
    """Either client, called in the same way: what the asynchronous one gives is awaited."""

    def __init__(self, kind: type[Client | AsyncClient]) -> None:
        self.kind = kind
        self._loop = asyncio.new_event_loop()
        self._open: list[Client | AsyncClient] = []

    def client(self, url: str, **options: Any) -> Any:
        self._open.append(self.kind(url, **options))
        return self._open[-1]

    def __call__(self, result: Any) -> Any:
        """What a call gives, in the end."""
        if inspect.isasyncgen(result):
            return self._loop.run_until_complete(self._all(result))
        if inspect.isawaitable(result):
            return self._loop.run_until_complete(self._awaited(result))
        return list(result) if inspect.isgenerator(result) else result

    def close(self) -> None:
        for client in self._open:
            self(client.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    @staticmethod
    async def _awaited(result: Any) -> Any:
        return await result

    @staticmethod
    async def _all(result: Any) -> list[Any]:
        return [item async for item in result]
