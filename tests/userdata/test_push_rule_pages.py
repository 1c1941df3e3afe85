# SPDX-License-Identifier: Apache-2.0
"""Push rules over the client API, and what a change of them does to counts and to sync."""

from typing import Any
from urllib.parse import quote

import orjson

from storage import account_data
from tests.userdata.case import UserDataCase

RULES = "/pushrules/global"


class PushRulePageTests(UserDataCase):
    async def own(self, session: Any, kind: str) -> list[str]:
        rules = await self.call(session, "GET", RULES + "/")
        return [rule["rule_id"] for rule in rules[kind] if not rule["default"]]

    async def test_the_default_rules(self) -> None:
        alice = await self.register("alice")
        everything = await self.call(alice, "GET", "/pushrules/")
        self.assertEqual(everything["global"], await self.call(alice, "GET", RULES + "/"))
        self.assertEqual(everything["global"]["override"][0]["rule_id"], ".m.rule.master")
        self.assertEqual(everything["global"]["override"][0]["enabled"], False)
        invite = await self.call(alice, "GET", RULES + "/override/.m.rule.invite_for_me")
        self.assertEqual(invite["conditions"][2]["pattern"], alice.user_id)
        self.assertEqual(
            await self.call(alice, "GET", RULES + "/underride/.m.rule.message/actions"), {"actions": ["notify"]}
        )
        self.assertEqual(await self.call(alice, "GET", RULES + "/override/.m.rule.master/enabled"), {"enabled": False})

    async def test_rules_come_and_go(self) -> None:
        alice = await self.register("alice")
        rule = RULES + "/content/nocake"
        await self.call(alice, "PUT", rule, {"pattern": "cake*lie", "actions": ["notify"]})
        made = {"rule_id": "nocake", "default": False, "enabled": True, "actions": ["notify"], "pattern": "cake*lie"}
        self.assertEqual(await self.call(alice, "GET", rule), made)
        await self.call(alice, "PUT", rule + "/enabled", {"enabled": False})
        await self.call(alice, "PUT", rule + "/actions", {"actions": [{"set_tweak": "highlight"}]})
        made |= {"enabled": False, "actions": [{"set_tweak": "highlight"}]}
        self.assertEqual(await self.call(alice, "GET", rule), made)
        await self.call(alice, "DELETE", rule)
        for path in (rule, rule + "/enabled", rule + "/actions"):
            await self.refused(alice, "GET", path, None, 404, "M_NOT_FOUND")
        await self.refused(alice, "DELETE", rule, None, 404, "M_NOT_FOUND")
        await self.refused(alice, "PUT", rule + "/enabled", {"enabled": True}, 404, "M_NOT_FOUND")
        await self.refused(alice, "PUT", rule + "/actions", {"actions": []}, 404, "M_NOT_FOUND")

    async def test_rules_find_their_places(self) -> None:
        alice = await self.register("alice")
        body = {"actions": ["notify"], "conditions": []}
        for rule_id in ("a", "b"):
            await self.call(alice, "PUT", f"{RULES}/override/{rule_id}", body)
        await self.call(alice, "PUT", f"{RULES}/override/c", body, query={"before": "a"})
        await self.call(alice, "PUT", f"{RULES}/override/d", body, query={"after": "a"})
        self.assertEqual(await self.own(alice, "override"), ["b", "c", "a", "d"])
        for place in ({"before": "moon"}, {"after": ".m.rule.master"}):
            await self.refused(alice, "PUT", f"{RULES}/override/e", body, 400, "M_INVALID_PARAM", query=place)
        self.assertEqual(await self.own(alice, "override"), ["b", "c", "a", "d"])

    async def test_ids_are_unique_within_their_kind(self) -> None:
        alice = await self.register("alice")
        for kind in ("override", "underride", "sender", "room"):
            await self.call(alice, "PUT", f"{RULES}/{kind}/same", {"actions": []})
        await self.call(alice, "PUT", f"{RULES}/room/same", {"actions": ["notify"]})
        self.assertEqual(await self.own(alice, "room"), ["same"])
        self.assertEqual((await self.call(alice, "GET", f"{RULES}/sender/same"))["actions"], [])

    async def test_bad_rules_change_nothing(self) -> None:
        alice = await self.register("alice")
        good = {"actions": [], "pattern": "x"}
        for path, body, errcode in (
            ("content/.mine", good, "M_INVALID_PARAM"),
            ("content/a%2Fb", good, "M_INVALID_PARAM"),
            ("content/a%5Cb", good, "M_INVALID_PARAM"),
            ("moon/a", good, "M_INVALID_PARAM"),
            ("content/a", {"actions": []}, "M_MISSING_PARAM"),
            ("content/a", {"pattern": "x"}, "M_MISSING_PARAM"),
            ("room/a", {"actions": ["shout"]}, "M_INVALID_PARAM"),
            ("override/a", {"actions": [], "conditions": [3]}, "M_BAD_JSON"),
            ("override/a", [], "M_BAD_JSON"),
        ):
            await self.refused(alice, "PUT", f"{RULES}/{path}", body, 400, errcode)
        await self.refused(alice, "DELETE", f"{RULES}/override/.m.rule.master", None, 400, "M_INVALID_PARAM")
        await self.refused(alice, "PUT", f"{RULES}/override/.m.rule.master/enabled", {"enabled": 1}, 400, "M_BAD_JSON")
        await self.refused(alice, "PUT", f"{RULES}/override/.m.rule.master/enabled", {}, 400, "M_BAD_JSON")
        await self.refused(alice, "GET", f"{RULES}/moon/a", None, 404, "M_NOT_FOUND")
        self.assertEqual(self.app.base.db.published, await self._changed_at(alice))

    async def _changed_at(self, session: Any) -> int:
        """The last position of all, given that the user changed nothing."""
        entries = await self.app.base.db.read(account_data.since, self.usr(session), 0, self.app.base.db.published)
        self.assertEqual(entries[0].pos, 0)
        return self.app.base.db.published

    async def test_changes_are_in_the_account_data_of_sync(self) -> None:
        alice = await self.register("alice")
        db = self.app.base.db
        before = db.published
        await self.call(alice, "PUT", f"{RULES}/room/!x:y", {"actions": []})
        entries = await db.read(account_data.since, self.usr(alice), before, db.published)
        self.assertEqual([entry.type for entry in entries], ["m.push_rules"])
        shown = orjson.loads(entries[0].content)["global"]
        self.assertEqual(shown["room"][0]["rule_id"], "!x:y")
        data = await self.call(alice, "GET", f"/user/{alice.user_id}/account_data/m.push_rules")
        self.assertEqual(data["global"], shown)
        after = db.published
        await self.call(alice, "PUT", f"{RULES}/room/!x:y", {"actions": []})
        self.assertEqual(await db.read(account_data.since, self.usr(alice), after, db.published), [])

    async def test_muting_a_room_counts_from_then_on(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        room = await self.make_room(alice, bob)
        await self.say(bob, room)
        mute = {"actions": [], "conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}]}
        await self.call(alice, "PUT", f"{RULES}/override/{quote(room)}", mute)
        await self.say(bob, room)
        self.assertEqual(await self.unread(alice, room), (1, 0, {}))
        await self.call(alice, "DELETE", f"{RULES}/override/{quote(room)}")
        await self.say(bob, room)
        self.assertEqual(await self.unread(alice, room), (2, 0, {}))
        self.assertEqual(await self.unread(bob, room), (0, 0, {}))
