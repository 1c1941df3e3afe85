# SPDX-License-Identifier: Apache-2.0
"""Which rooms and users concern an application service, at each position of the stream.

"Events will be sent to the AS if a local user matching one of the namespaces is the target of the event, or is a joined
member of the room where the event occurred", and all events of a room whose id or alias matches. Joined means: when the
event came. A service that was down for an hour is told what happened while its users were in a room, and no more.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence

from homeserver.config.appservice import AppServiceRegistration
from storage import appservices, membership, names
from storage.appservices import Line
from storage.device_lists import JoinChange
from storage.txn import Txn

ROOMS_REMEMBERED = 50_000


class Interest:
    """One service's. Its methods that take a transaction run on a reader thread, one at a time, and move forward only.

    For rooms used lately it keeps how many of the service's users are joined, as of the position last looked at.
    """

    def __init__(self, service: AppServiceRegistration, server_name: str) -> None:
        self._service = service
        self._server_name = server_name
        self._sender = f"@{service.sender_localpart}:{server_name}"
        self.forget()

    def forget(self) -> None:
        """Look everything up again: a read failed, or the database was lost and came back."""
        self._users: set[int] = set()
        self._seen_users = 0
        self._joined: OrderedDict[int, int] = OrderedDict()
        self._at = -1

    def in_user(self, user_id: str) -> bool:
        """Whether the id is one of this server that lies in a namespace of the service, or its own."""
        if user_id.partition(":")[2] != self._server_name:
            return False
        return user_id == self._sender or any(space.covers(user_id) for space in self._service.users)

    def owns(self, user_id: str) -> bool:
        """Whether nobody but the service acts as this user."""
        if user_id == self._sender:
            return True
        return self.in_user(user_id) and any(space.exclusive and space.covers(user_id) for space in self._service.users)

    def in_number(self, usr: int) -> bool:
        """The same as `in_user` for the number of a user known when last looked."""
        return usr in self._users

    def passes_over(self, room: int) -> bool:
        """Whether a new event, no membership, in this room is surely not for the service; called on the reactor."""
        return self._joined.get(room) == 0 and not self._service.aliases and not self._service.rooms

    def learn(self, txn: Txn) -> None:
        """Take in the users that came since."""
        for usr, user_id in appservices.local_users(txn, self._seen_users):
            self._seen_users = usr
            if self.in_user(user_id):
                self._users.add(usr)

    # ---- along the stream ----

    def walk(self, txn: Txn, lines: Sequence[Line], after: int, upto: int, most: int) -> tuple[list[Line], int]:
        """The first `most` of these events that concern the service, and up to where that is all. `lines` are those of
        (after, upto].
        """
        if self._at != after:
            self._joined.clear()
        present = self._present(txn, {line.room for line in lines}, after)
        always = self.always(txn, present)
        chosen: list[Line] = []
        end = upto
        changes = [change for change in appservices.join_changes(txn, after, upto) if change.usr in self._users]
        waiting = iter(changes)
        change = next(waiting, None)
        for line in lines:
            while change is not None and change.pos <= line.pos:
                _apply(present, change)
                change = next(waiting, None)
            if line.room in always or present[line.room] > 0 or (line.state_key and self.in_user(line.state_key)):
                chosen.append(line)
                if len(chosen) == most:
                    end = line.pos
                    break
        while change is not None and change.pos <= end:
            _apply(present, change)
            change = next(waiting, None)
        self._remember(present, (one for one in changes if one.pos <= end), end)
        return chosen, end

    def _remember(self, present: dict[int, int], changes: Iterable[JoinChange], end: int) -> None:
        for change in changes:
            if change.room not in present:
                _apply(self._joined, change)
        for room, count in present.items():
            self._joined[room] = count
            self._joined.move_to_end(room)
        while len(self._joined) > ROOMS_REMEMBERED:
            self._joined.popitem(last=False)
        self._at = end

    def _present(self, txn: Txn, rooms: Collection[int], at: int) -> dict[int, int]:
        """How many of the service's users were joined to each room at a position."""
        found = {}
        for room in rooms:
            known = self._joined.get(room)
            if known is None:
                known = sum(1 for usr in membership.local_users_of_room(txn, room) if usr in self._users)
                for change in appservices.join_changes_of(txn, room, at):
                    if change.usr in self._users:
                        known += -1 if change.joined else 1
            found[room] = known
        return found

    def always(self, txn: Txn, rooms: Collection[int]) -> set[int]:
        """Those of these rooms that concern the service whoever is in them."""
        spaces = self._service.rooms
        found: set[int] = set()
        if spaces:
            found = {room for room in rooms if any(one.covers(names.room_id(txn, room)) for one in spaces)}
        if self._service.aliases and rooms:
            for room, aliases in appservices.aliases_of(txn, rooms).items():
                if any(space.covers(alias) for space in self._service.aliases for alias in aliases):
                    found.add(room)
        return found

    def rooms(self, txn: Txn, rooms: Collection[int]) -> set[int]:
        """Those of these rooms that concern the service at the position last looked at."""
        present = self._present(txn, rooms, self._at)
        self._remember(present, (), self._at)
        return {room for room, count in present.items() if count > 0} | self.always(txn, rooms)

    def others(self, txn: Txn, change: JoinChange, moved: Sequence[JoinChange]) -> bool:
        """Whether a room had users of the service in it throughout the moves just walked over."""
        own = [one for one in moved if one.room == change.room and one.usr in self._users]
        net = sum(1 if one.joined else -1 for one in own)
        now = self._present(txn, {change.room}, self._at)[change.room]
        return min(now, now - net) > 0

    def sees(self, txn: Txn, usr: int) -> bool:
        """Whether the user is the service's, or in a room that concerns it."""
        return usr in self._users or bool(self.rooms(txn, membership.rooms_of_user(txn, usr)))


def _apply(present: dict[int, int], change: JoinChange) -> None:
    if change.room in present:
        present[change.room] += 1 if change.joined else -1
