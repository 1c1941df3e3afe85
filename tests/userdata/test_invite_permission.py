# SPDX-License-Identifier: Apache-2.0
"""Who may invite a user: refused where the user blocks, not shown where the user ignores."""

from typing import Any

from tests.userdata.case import UserDataCase, in_room


class InvitePermissionTests(UserDataCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")

    async def set(self, kind: str, content: dict[str, Any]) -> None:
        await self.call(self.bob, "PUT", f"/user/{self.bob.user_id}/account_data/{kind}", content)

    async def invites(self) -> list[str]:
        return list((await self.sync(self.bob)).get("rooms", {}).get("invite", {}))

    async def test_blocked_invites_are_refused(self) -> None:
        room = await self.create_room(self.alice)
        await self.set("m.invite_permission_config", {"default_action": "block"})
        invite = {"user_id": self.bob.user_id}
        await self.refused(self.alice, "POST", in_room(room, "/invite"), invite, 403, "M_INVITE_BLOCKED")
        member = in_room(room, f"/state/m.room.member/{self.bob.user_id}")
        await self.refused(self.alice, "PUT", member, {"membership": "invite"}, 403, "M_INVITE_BLOCKED")
        self.assertEqual(await self.invites(), [])
        await self.set("m.invite_permission_config", {})
        await self.call(self.alice, "POST", in_room(room, "/invite"), invite)
        self.assertEqual(await self.invites(), [room])

    async def test_invites_from_before_are_hidden_while_blocking_lasts(self) -> None:
        room = await self.create_room(self.alice, invite=[self.bob.user_id])
        self.assertEqual(await self.invites(), [room])
        await self.set("m.invite_permission_config", {"default_action": "block"})
        self.assertEqual(await self.invites(), [])
        await self.set("m.invite_permission_config", {})
        self.assertEqual(await self.invites(), [room])

    async def test_listed_users_invites_are_refused(self) -> None:
        room = await self.create_room(self.alice)
        await self.set("org.matrix.msc4155.invite_permission_config", {"enabled": True, "blocked_users": ["@al*"]})
        code = "ORG.MATRIX.MSC4155.M_INVITE_BLOCKED"
        await self.refused(self.alice, "POST", in_room(room, "/invite"), {"user_id": self.bob.user_id}, 403, code)

    async def test_filtered_invites_are_not_shown(self) -> None:
        lists = {"enabled": True, "ignored_users": [self.alice.user_id]}
        await self.set("org.matrix.msc4155.invite_permission_config", lists)
        await self.create_room(self.alice, invite=[self.bob.user_id])
        self.assertEqual(await self.invites(), [])
        carol = await self.register("carol")
        room = await self.create_room(carol, invite=[self.bob.user_id])
        self.assertEqual(await self.invites(), [room])

    async def test_ignored_users_invites_are_not_shown(self) -> None:
        await self.set("m.ignored_user_list", {"ignored_users": {self.alice.user_id: {}}})
        await self.create_room(self.alice, invite=[self.bob.user_id])
        self.assertEqual(await self.invites(), [])

    async def test_sending_makes_active(self) -> None:
        await self.call(self.alice, "PUT", f"/presence/{self.alice.user_id}/status", {"presence": "unavailable"})
        room = await self.create_room(self.alice)
        await self.send(self.alice, room)
        await self.settle(0.05)
        shown = await self.call(self.alice, "GET", f"/presence/{self.alice.user_id}/status")
        self.assertEqual(shown["presence"], "online")
