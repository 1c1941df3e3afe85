# SPDX-License-Identifier: Apache-2.0
"""Which events of ours another server has passed on already, as the answer to a handshake."""

from collections import OrderedDict

REMEMBERED = 10_000


class Delivered:
    """Event ids. After a restart they are sent once more, which does no harm."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._ids)

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        self._ids[event_id] = None
        while len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
