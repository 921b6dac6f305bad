"""A bounded hand-over of items from one thread to another, which either side can end at once."""

import threading
from collections import deque
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Handover(Generic[_Item]):
    """A queue that blocks its writer when full and its reader when empty, until it is ended.

    Args:
        size: How many items wait at the most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._finished = False
        self._error: Exception | None = None

    def put(self, item: _Item) -> bool:
        """Hand over an item once there is room. Returns whether it was: not where the reader has closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def finish(self, error: Exception | None = None) -> None:
        """Say that no item follows, or that an error does."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def get(self) -> _Item | None:
        """Return the next item once there is one; None where none follows or this was closed.

        Raises:
            Exception: The writer's error, after all items that came before it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items)
            if self._closed:
                return None
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """End it from the reader's side: what waits is dropped, and both sides wake."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
