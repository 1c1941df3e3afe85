# SPDX-License-Identifier: Apache-2.0
"""Account data and tags over the client API."""

from urllib.parse import quote

from homeserver.protocol.ignoring import InviteAnswer
from homeserver.services.account_data import AccountData
from homeserver.services.rooms.unread_rules import UnreadRules
from storage import account_data
from tests.harness.server import SERVER_NAME
from tests.userdata.case import UserDataCase

MSC3391 = "/_matrix/client/unstable/org.matrix.msc3391"


class AccountDataTests(UserDataCase):
    async def test_what_is_set_is_what_comes_back(self) -> None:
        alice = await self.register("alice")
        path = f"/user/{quote(alice.user_id)}/account_data/org.example"
        await self.refused(alice, "GET", path, None, 404, "M_NOT_FOUND")
        await self.call(alice, "PUT", path, {"a": 1, "b": 0.25, "ü": None})
        self.assertEqual(await self.call(alice, "GET", path), {"a": 1, "b": 0.25, "ü": None})
        await self.call(alice, "PUT", path, {})
        self.assertEqual(await self.call(alice, "GET", path), {})

    async def test_rooms_have_their_own(self) -> None:
        alice = await self.register("alice")
        room = await self.make_room(alice)
        path = f"/user/{alice.user_id}/rooms/{room}/account_data/org.example"
        await self.call(alice, "PUT", path, {"a": 1})
        self.assertEqual(await self.call(alice, "GET", path), {"a": 1})
        await self.refused(alice, "GET", f"/user/{alice.user_id}/account_data/org.example", None, 404, "M_NOT_FOUND")

    async def test_others_may_not(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        path = f"/user/{alice.user_id}/account_data/org.example"
        await self.refused(bob, "PUT", path, {}, 403, "M_FORBIDDEN")
        await self.refused(bob, "GET", path, None, 403, "M_FORBIDDEN")
        await self.refused(bob, "GET", f"/user/{alice.user_id}/rooms/!x:y/tags", None, 403, "M_FORBIDDEN")
        await self.refused(alice, "GET", path, None, 404, "M_NOT_FOUND")

    async def test_bad_requests_change_nothing(self) -> None:
        alice = await self.register("alice")
        user = f"/user/{alice.user_id}"
        for kind in ("m.push_rules", "m.fully_read"):
            await self.refused(alice, "PUT", f"{user}/account_data/{kind}", {}, 405, "M_BAD_JSON")
            await self.refused(alice, "PUT", f"{user}/rooms/!x:y/account_data/{kind}", {}, 405, "M_BAD_JSON")
        await self.refused(alice, "PUT", f"{user}/account_data/a", [], 400, "M_BAD_JSON")
        await self.refused(alice, "PUT", f"{user}/account_data/a", None, 400, "M_NOT_JSON", raw=b"{")
        await self.refused(alice, "PUT", f"{user}/account_data/{'a' * 256}", {}, 400, "M_INVALID_PARAM")
        await self.refused(alice, "PUT", f"{user}/rooms/room/account_data/a", {}, 400, "M_INVALID_PARAM")
        await self.refused(alice, "GET", f"{user}/rooms/room/account_data/a", None, 400, "M_INVALID_PARAM")
        await self.refused(alice, "PUT", f"{user}/rooms/!nowhere:x/account_data/a", {}, 404, "M_NOT_FOUND")
        await self.refused(alice, "GET", f"{user}/account_data/a", None, 404, "M_NOT_FOUND")

    async def test_deleting_leaves_word_for_sync(self) -> None:
        alice = await self.register("alice")
        db = self.app.base.db
        path = f"/user/{alice.user_id}/account_data/org.example"
        await self.call(alice, "PUT", path, {"a": 1})
        before = db.published
        for _ in range(2):
            await self.request("DELETE", MSC3391 + path, None, alice, expect=200)
        await self.refused(alice, "GET", path, None, 404, "M_NOT_FOUND")
        changed = await db.read(account_data.since, self.usr(alice), before, db.published)
        self.assertEqual([(one.type, one.content) for one in changed], [("org.example", b"{}")])
        everything = await db.read(account_data.since, self.usr(alice), 0, db.published)
        self.assertEqual([one.type for one in everything], ["m.push_rules"])

    async def test_ignored_users_and_invites_are_remembered_and_forgotten(self) -> None:
        alice = await self.register("alice")
        data = AccountData(self.app.base.db, UnreadRules(self.app.base.db, SERVER_NAME))
        usr = self.usr(alice)
        path = f"/user/{alice.user_id}/account_data/"
        self.assertEqual(await data.ignored(usr), frozenset())
        await self.call(alice, "PUT", path + "m.ignored_user_list", {"ignored_users": {"@bob:x": {}}})
        self.assertEqual(await data.ignored(usr), {"@bob:x"})
        await self.call(alice, "PUT", path + "m.ignored_user_list", {"ignored_users": []})
        self.assertEqual(await data.ignored(usr), frozenset())
        self.assertEqual(await data.invite_answer("@bob:x", alice.user_id), InviteAnswer.ALLOW)
        await self.call(alice, "PUT", path + "m.invite_permission_config", {"default_action": "block"})
        self.assertEqual(await data.invite_answer("@bob:x", alice.user_id), InviteAnswer.BLOCK)
        await self.call(alice, "PUT", path + "m.invite_permission_config", {"default_action": "moon"})
        lists = {"blocked_users": ["@b*:x"], "allowed_users": ["@bea:*"], "ignored_servers": ["*.evil"]}
        await self.call(alice, "PUT", path + "org.matrix.msc4155.invite_permission_config", {"enabled": True, **lists})
        for inviter, answer in (
            ("@bob:x", InviteAnswer.BLOCK),
            ("@bea:x", InviteAnswer.ALLOW),
            ("@carl:very.evil", InviteAnswer.IGNORE),
            ("@carl:x", InviteAnswer.ALLOW),
        ):
            self.assertEqual(await data.invite_answer(inviter, alice.user_id), answer, inviter)

    async def test_a_devices_settings_go_with_the_device(self) -> None:
        alice, other = await self.register("alice"), await self.login("alice")
        settings = f"/user/{alice.user_id}/account_data/org.matrix.msc3890.local_notification_settings."
        for session in (alice, other):
            await self.call(session, "PUT", settings + session.device_id, {"is_silenced": True})
        await self.call(other, "POST", "/logout", {})
        await self.refused(alice, "GET", settings + other.device_id, None, 404, "M_NOT_FOUND")
        self.assertEqual(await self.call(alice, "GET", settings + alice.device_id), {"is_silenced": True})

    async def test_it_outlives_a_restart(self) -> None:
        alice = await self.register("alice")
        path = f"/user/{alice.user_id}/account_data/org.example"
        await self.call(alice, "PUT", path, {"a": 1})
        await self.restart_server()
        self.assertEqual(await self.call(alice, "GET", path), {"a": 1})


class TagTests(UserDataCase):
    async def test_tags_are_added_changed_and_removed(self) -> None:
        alice = await self.register("alice")
        room = await self.make_room(alice)
        tags = f"/user/{alice.user_id}/rooms/{quote(room)}/tags"
        self.assertEqual(await self.call(alice, "GET", tags), {"tags": {}})
        await self.call(alice, "PUT", tags + "/m.favourite", {"order": 0.25})
        await self.call(alice, "PUT", tags + "/u.work", {})
        self.assertEqual(await self.call(alice, "GET", tags), {"tags": {"m.favourite": {"order": 0.25}, "u.work": {}}})
        await self.call(alice, "PUT", tags + "/m.favourite", {"order": 1})
        await self.call(alice, "DELETE", tags + "/u.work")
        await self.call(alice, "DELETE", tags + "/u.work")
        self.assertEqual(await self.call(alice, "GET", tags), {"tags": {"m.favourite": {"order": 1}}})
        data = f"/user/{alice.user_id}/rooms/{quote(room)}/account_data/m.tag"
        self.assertEqual(await self.call(alice, "GET", data), {"tags": {"m.favourite": {"order": 1}}})

    async def test_nobody_else_removes_a_tag(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        tags = f"/user/{alice.user_id}/rooms/{quote(await self.make_room(alice))}/tags"
        await self.call(alice, "PUT", tags + "/u.work", {})
        await self.refused(bob, "DELETE", tags + "/u.work", None, 403, "M_FORBIDDEN")
        await self.refused(alice, "DELETE", f"/user/{alice.user_id}/rooms/x/tags/u.work", None, 400, "M_INVALID_PARAM")
        self.assertEqual(await self.call(alice, "GET", tags), {"tags": {"u.work": {}}})

    async def test_bad_tags_are_refused(self) -> None:
        alice = await self.register("alice")
        room = await self.make_room(alice)
        tags = f"/user/{alice.user_id}/rooms/{room}/tags"
        await self.refused(alice, "PUT", f"{tags}/{'a' * 256}", {}, 400, "M_INVALID_PARAM")
        for order in ("1", True, None, []):
            await self.refused(alice, "PUT", f"{tags}/a", {"order": order}, 400, "M_INVALID_PARAM")
        await self.refused(alice, "PUT", f"/user/{alice.user_id}/rooms/x/tags/a", {}, 400, "M_INVALID_PARAM")
        self.assertEqual(await self.call(alice, "GET", tags), {"tags": {}})
