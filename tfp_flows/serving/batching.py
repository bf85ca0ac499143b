"""Dynamic batching: requests that arrive together are computed together."""

import asyncio
import collections

import tensorflow as tf

from tfp_flows.serving.values import Refused


class Batcher:
    """Answers requests in batches, one batch at a time, in a thread beside the event loop.

    A batch begins with the request that has waited longest, and takes in what comes until that one has waited for
    `wait` seconds, or the batch has `rows` rows. While one batch is computed the next one gathers, so under load nobody
    waits for company.

    Arguments:
      rows: in a batch; a request with more is a batch of its own.
      wait: seconds that a request waits for others.
      waiting: how many rows may wait; further requests are refused, with status 503.
    """

    def __init__(self, rows=1024, wait=0.002, waiting=100_000):
        self.rows, self.wait, self.waiting = rows, wait, waiting
        self.queue = collections.deque()
        self.arrived = asyncio.Event()
        self.batches = 0  # computed so far

    async def answer(self, request):
        """The outputs of a `Request`, by name.

        Raises: Refused where too many wait, and for rows that the model refuses.
        """
        if self._size() + request.size > self.waiting and self.queue:
            raise Refused(503, "Too many requests are waiting. Try again in a second.")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.queue.append((request, future, loop.time()))
        self.arrived.set()
        return await future

    async def work(self):
        """Computes batches until it is cancelled."""
        while True:
            await self._some()
            batch = self._take()
            answers = await asyncio.to_thread(_answers, [request for request, _, _ in batch])
            self.batches += 1
            for (_, future, _), answer in zip(batch, answers, strict=True):
                if future.done():  # its sender has gone
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    async def _some(self):
        """Waits until there is a request, and then for others that may come with it."""
        while not self.queue:
            self.arrived.clear()
            await self.arrived.wait()
        end = self.queue[0][-1] + self.wait
        while self._size() < self.rows and (left := end - asyncio.get_running_loop().time()) > 0:
            self.arrived.clear()
            try:
                await asyncio.wait_for(self.arrived.wait(), left)
            except asyncio.TimeoutError:
                return

    def _size(self):
        """How many rows wait."""
        return sum(request.size for request, _, _ in self.queue)

    def _take(self):
        """The first requests that one call can answer; those of other keys stay in their order."""
        batch, others, size = [], [], 0
        while self.queue:
            waiting = request, future, _ = self.queue.popleft()
            if future.done():
                continue
            if not batch or (request.key == batch[0][0].key and size + request.size <= self.rows):
                batch.append(waiting)
                size += request.size
            else:
                others.append(waiting)
        self.queue.extend(others)
        return batch


def _answers(requests):
    """An answer or an error for each request; one that the model refuses does not affect the others."""
    try:
        return requests[0].signature.answer(requests) if requests else []
    except tf.errors.InvalidArgumentError as error:
        if len(requests) == 1:
            return [Refused(400, _said(error))]
        return [answer for request in requests for answer in _answers([request])]
    except Exception as error:
        return [error] * len(requests)


def _said(error):
    """What an assertion in the model's graph says; nothing else of TensorFlow's message, which names files."""
    _, found, message = str(error).partition("assertion failed: [")
    return message.partition("]")[0] if found else "The model has no density for these rows."
