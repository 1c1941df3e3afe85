# SPDX-License-Identifier: Apache-2.0
"""How a user's push rules change: at once for the counts of what follows, and for their other devices."""

from collections.abc import Callable
from typing import Any

from homeserver.protocol import push_edits
from homeserver.protocol.push_rules import Rule, RuleSet
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.unread_classes import classify
from homeserver.services.rooms.unread_rules import UnreadRules
from storage import push_rules, unread
from storage.txn import Txn

Edit = Callable[[RuleSet], RuleSet]


class PushRules:
    """The push rules of local users."""

    def __init__(self, database: Database, unread_rules: UnreadRules) -> None:
        self._database = database
        self._unread = unread_rules

    async def ruleset(self, user: User) -> dict[str, Any]:
        """The `global` rule set as clients see it."""
        return (await self._rules(user.usr)).render()

    async def rule(self, user: User, kind: str, rule_id: str) -> Rule:
        """One rule; raises M_NOT_FOUND."""
        return push_edits.find(await self._rules(user.usr), kind, rule_id)

    async def put(
        self, user: User, kind: str, rule_id: str, body: dict[str, Any], before: str | None, after: str | None
    ) -> None:
        """Add or replace one of the user's own rules. Raises what a bad rule is answered with."""
        rule = push_edits.new_rule(kind, rule_id, body)

        def edit(rules: RuleSet) -> RuleSet:
            edited = push_edits.put(rules, rule, before, after)
            push_edits.check_size(edited)
            return edited

        await self.change(user.usr, edit)

    async def delete(self, user: User, kind: str, rule_id: str) -> None:
        """Remove one of the user's own rules. Raises M_NOT_FOUND."""
        await self.change(user.usr, lambda rules: push_edits.delete(rules, kind, rule_id))

    async def enable(self, user: User, kind: str, rule_id: str, enabled: bool) -> None:
        """Switch a rule on or off. Raises M_NOT_FOUND."""
        await self.change(user.usr, lambda rules: push_edits.enable(rules, kind, rule_id, enabled))

    async def set_actions(self, user: User, kind: str, rule_id: str, body: dict[str, Any]) -> None:
        """Change what a rule does. Raises M_NOT_FOUND."""
        actions = push_edits.parse_actions(body)
        await self.change(user.usr, lambda rules: push_edits.set_actions(rules, kind, rule_id, actions))

    async def move_room(self, usr: int, old_room: str, new_room: str) -> None:
        """Give what the user set for a room also to the room that replaces it."""
        await self.change(usr, lambda rules: push_edits.moved(rules, old_room, new_room))

    async def change(self, usr: int, edit: Edit) -> None:
        """Apply a pure edit to the user's rules; what it raises is raised, and nothing changed."""
        before = await self._rules(usr)
        edited = edit(before)
        if edited == before:
            return
        await self._unread.changed(usr, edited)
        try:
            await self._database.write(_apply, usr, edit)
        except BaseException:
            await self._unread.reload(usr)
            raise

    async def _rules(self, usr: int) -> RuleSet:
        return await self._database.point(push_rules.load, usr)


def _apply(txn: Txn, usr: int, edit: Edit) -> None:
    edited = edit(push_rules.load(txn, usr))
    pos = push_rules.save(txn, usr, edited)
    classes, _, _ = classify(edited)
    unread.set_classes(txn, usr, pos, classes)
