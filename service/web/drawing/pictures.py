"""What was drawn lately, in memory; equal requests at the same time draw once.

All of it happens in the event loop, so that a request that waits for its picture holds no thread.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from service.web.drawing.pool import RendererPool
from service.web.drawing.process import Drawn, RendererExceeded
from service.web.drawing.protocol import Request

MOST_BYTES = 64 * 2**20
LARGEST_SHARE = 4  # what is larger than this part of the whole is not kept
# What took too much is not tried again for so long: who reloads a page must not stop all others.
SPARED_SECONDS, MOST_SPARED = 60.0, 100

Key = tuple[Request, int]  # with the version of what it is drawn from


class Pictures:
    """Draws through a pool, and keeps what was drawn while it is the newest of so many bytes."""

    def __init__(
        self,
        pool: RendererPool,
        most_bytes: int = MOST_BYTES,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool, self._most_bytes, self._clock = pool, most_bytes, clock
        self._kept: OrderedDict[Key, Drawn] = OrderedDict()
        self._bytes = 0
        self._drawing: dict[Key, asyncio.Future[Drawn]] = {}
        self._spared: OrderedDict[Key, tuple[float, asyncio.Future[Drawn]]] = OrderedDict()

    async def get(self, request: Request, version: int) -> Drawn:
        """Return the picture of a version, which rises whenever the picture may be another.

        Raises RenderersBusy and RendererFailed.
        """
        key = (request, version)
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        if (spared := self._spared.get(key)) and spared[0] > self._clock():
            return await spared[1]
        if (drawing := self._drawing.get(key)) is None:
            drawing = self._drawing[key] = asyncio.wrap_future(self.pool.submit(request))
            drawing.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(drawing)  # one of those who wait may go away

    @property
    def memory_bytes(self) -> int:
        """How much memory a renderer may take."""
        return self.pool.memory_bytes

    def close(self) -> None:
        """End the renderers."""
        self.pool.close()

    def _done(self, key: Key, done: asyncio.Future[Drawn]) -> None:
        del self._drawing[key]
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, RendererExceeded) or (
            error is None and done.result().answer.outcome == "memory"
        ):
            self._spared.pop(key, None)
            self._spared[key] = (self._clock() + SPARED_SECONDS, done)
            while len(self._spared) > MOST_SPARED:
                self._spared.popitem(last=False)
        if error is None:
            self._keep(key, done.result())

    def _keep(self, key: Key, drawn: Drawn) -> None:
        if (
            drawn.answer.outcome == "done"
            and len(drawn.content) * LARGEST_SHARE <= self._most_bytes
        ):
            self._kept[key] = drawn
            self._bytes += len(drawn.content)
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.content)
