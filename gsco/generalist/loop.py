"""An event loop in a thread of its own, in which a client's connections live.

Whatever loop or thread a caller lives in, they stay in this one, and end with their owner.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from threading import Thread, current_thread
from typing import Any, TypeVar
from weakref import finalize

import openai

from gsco.errors import GeneralistError

T = TypeVar("T")


class Loop:
    """A loop that runs until it is closed, or nobody holds it."""

    def __init__(self, clients: Sequence[openai.AsyncOpenAI]) -> None:
        """Start the thread; `clients` are closed with the loop."""
        self._loop = asyncio.new_event_loop()
        thread = Thread(target=_turn, args=(self._loop,), daemon=True)
        thread.start()
        # Also for those who never close it: connections left open would complain at the end.
        self._end = finalize(self, _end, self._loop, thread, clients)

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin the work; closing the loop cancels it.

        Raises:
            GeneralistError: the loop is closed.
        """
        if not self._end.alive:
            work.close()
            raise self.closed()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work and return what comes of it.

        Raises:
            GeneralistError: the loop is closed, before or meanwhile.
        """
        running = self.begin(work)
        try:
            return running.result()
        except CancelledError as error:
            raise self.closed() from error
        finally:
            # Whoever interrupts the caller means the work, too; what is done stays done.
            running.cancel()

    def close(self) -> None:
        """End what is under way, close the clients and stop."""
        self._end()

    @staticmethod
    def closed() -> GeneralistError:
        """Return what a caller is told whose work cannot be done any more."""
        return GeneralistError("The connections to the server are closed. Connect again.")


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped."""
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end(
    loop: asyncio.AbstractEventLoop, thread: Thread, clients: Sequence[openai.AsyncOpenAI]
) -> None:
    """End what is under way, close the clients and stop their loop."""

    async def end() -> None:
        try:
            # Who waits for an answer would wait for ever once the loop stands still.
            under_way = asyncio.all_tasks() - {asyncio.current_task()}
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            for client in clients:
                await client.close()
        finally:
            # Whatever a client has to complain of, nobody may wait for ever.
            loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    # The loop's own thread may be who finds that nobody holds it; it cannot wait for itself.
    if current_thread() is not thread:
        thread.join()
