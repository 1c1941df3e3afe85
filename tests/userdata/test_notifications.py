# SPDX-License-Identifier: Apache-2.0
"""The list of notifications, and the counts that sync shows."""

from typing import Any

from tests.harness.server import Session
from tests.userdata.case import UserDataCase, in_room


class TalkCase(UserDataCase):
    """Two people in a room made the usual way."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")
        self.room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, self.room)

    async def mention(self, *users: Session, everybody: bool = False, **content: Any) -> str:
        """Alice mentions people."""
        mentions: dict[str, Any] = {"user_ids": [user.user_id for user in users]}
        if everybody:
            mentions["room"] = True
        body = {"msgtype": "m.text", "body": "you", "m.mentions": mentions, **content}
        return await self.send_event(self.alice, self.room, "m.room.message", body)


class NotificationTests(TalkCase):
    async def page(self, **query: Any) -> Any:
        return await self.call(self.bob, "GET", "/notifications", query=query)

    async def test_pages_go_back_from_the_newest(self) -> None:
        sent = [await self.send(self.alice, self.room) for _ in range(5)]
        found, token = [], None
        while True:
            page = await self.page(limit=2, **({"from": token} if token else {}))
            found += [one["event"]["event_id"] for one in page["notifications"]]
            token = page.get("next_token")
            if token is None:
                break
            self.assertLess(len(found), 7)
        self.assertEqual(found, sent[::-1])

    async def test_only_what_notifies_is_listed(self) -> None:
        await self.send(self.bob, self.room)
        await self.send_event(self.alice, self.room, "m.reaction", {})
        plain = await self.send(self.alice, self.room)
        mention = await self.mention(self.bob)
        listed = (await self.page())["notifications"]
        self.assertEqual([one["event"]["event_id"] for one in listed], [mention, plain])
        self.assertEqual(listed[0]["actions"][0], "notify")
        self.assertEqual((listed[0]["room_id"], listed[0]["read"]), (self.room, False))
        listed = (await self.page(only="highlight"))["notifications"]
        self.assertEqual([one["event"]["event_id"] for one in listed], [mention])
        await self.call(self.bob, "POST", in_room(self.room, f"/receipt/m.read/{plain}"), {})
        self.assertEqual([one["read"] for one in (await self.page())["notifications"]], [False, True])

    async def test_exceptions_are_listed(self) -> None:
        edit = await self.mention(self.bob, **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}})
        await self.mention(self.alice, **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}})
        self.assertEqual([one["event"]["event_id"] for one in (await self.page())["notifications"]], [edit])
        self.assertEqual((await self.call(self.alice, "GET", "/notifications"))["notifications"], [])

    async def test_bad_tokens_are_refused(self) -> None:
        for query in ({"from": "x"}, {"from": "-1"}, {"limit": "x"}):
            await self.refused(self.bob, "GET", "/notifications", None, 400, "M_INVALID_PARAM", query=query)


class SyncCountTests(TalkCase):
    async def counts(self, session: Session, threads: bool = False) -> Any:
        """The counts of the room in an initial sync: (notifications, highlights), and by thread when asked."""
        query = {"filter": '{"room":{"timeline":{"unread_thread_notifications":true}}}'} if threads else {}
        room = (await self.sync(session, **query))["rooms"]["join"][self.room]
        shown = room["unread_notifications"]
        pair = (shown["notification_count"], shown["highlight_count"])
        if not threads:
            return pair
        by_thread = room.get("unread_thread_notifications", {})
        return pair, {root: (n["notification_count"], n["highlight_count"]) for root, n in by_thread.items()}

    async def test_messages_and_mentions(self) -> None:
        self.assertEqual(await self.counts(self.bob), (0, 0))
        await self.send(self.alice, self.room)
        await self.mention(self.bob)
        await self.mention(everybody=True)
        self.assertEqual(await self.counts(self.bob), (3, 2))
        self.assertEqual(await self.counts(self.alice), (0, 0))

    async def test_everybody_is_mentioned_by_those_only_who_may(self) -> None:
        content = {"msgtype": "m.text", "body": "all", "m.mentions": {"room": True}}
        await self.send_event(self.bob, self.room, "m.room.message", content)
        self.assertEqual(await self.counts(self.alice), (1, 0))

    async def test_threads_count_on_their_own(self) -> None:
        root = await self.send(self.alice, self.room)
        thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        reply = await self.mention(self.bob, **thread)
        self.assertEqual(await self.counts(self.bob), (2, 1))
        self.assertEqual(await self.counts(self.bob, threads=True), ((1, 0), {root: (1, 1)}))
        await self.call(self.bob, "POST", in_room(self.room, f"/receipt/m.read/{reply}"), {"thread_id": root})
        self.assertEqual(await self.counts(self.bob, threads=True), ((1, 0), {}))

    async def test_redaction_and_rejoin(self) -> None:
        event_id = await self.mention(self.bob)
        await self.send(self.alice, self.room)
        await self.call(self.alice, "PUT", in_room(self.room, f"/redact/{event_id}/t1"), {})
        self.assertEqual(await self.counts(self.bob), (1, 0))
        await self.call(self.bob, "POST", in_room(self.room, "/leave"), {})
        await self.mention(self.bob)
        await self.join(self.bob, self.room)
        self.assertEqual(await self.counts(self.bob), (0, 0))
        await self.mention(self.bob)
        self.assertEqual(await self.counts(self.bob), (1, 1))

    async def test_ignored_senders_do_not_count(self) -> None:
        ignore = {"ignored_users": {self.alice.user_id: {}}}
        await self.send(self.alice, self.room)
        await self.call(self.bob, "PUT", f"/user/{self.bob.user_id}/account_data/m.ignored_user_list", ignore)
        await self.mention(self.bob)
        self.assertEqual(await self.counts(self.bob), (1, 0))

    async def test_keywords_and_quiet_rooms(self) -> None:
        keyword = {"pattern": "cake", "actions": ["notify", {"set_tweak": "highlight"}]}
        await self.call(self.bob, "PUT", "/pushrules/global/content/cake", keyword)
        await self.send(self.alice, self.room, "have some Cake!")
        self.assertEqual(await self.counts(self.bob), (1, 1))
        await self.call(self.bob, "PUT", f"/pushrules/global/room/{self.room}", {"actions": []})
        await self.send(self.alice, self.room, "nothing")
        await self.mention(self.bob)
        self.assertEqual(await self.counts(self.bob), (2, 2))

    async def test_rules_outlive_a_restart(self) -> None:
        await self.call(self.bob, "PUT", f"/pushrules/global/room/{self.room}", {"actions": []})
        await self.restart_server()
        await self.send(self.alice, self.room)
        await self.mention(self.bob)
        self.assertEqual(await self.counts(self.bob), (1, 1))

    async def test_counts_change_in_an_incremental_sync(self) -> None:
        since = (await self.sync(self.bob))["next_batch"]
        event_id = await self.mention(self.bob)
        answer = await self.sync(self.bob, since)
        shown = answer["rooms"]["join"][self.room]["unread_notifications"]
        self.assertEqual(shown, {"notification_count": 1, "highlight_count": 1})
        await self.call(self.bob, "POST", in_room(self.room, f"/receipt/m.read.private/{event_id}"), {})
        answer = await self.sync(self.bob, answer["next_batch"])
        shown = answer["rooms"]["join"][self.room]["unread_notifications"]
        self.assertEqual(shown, {"notification_count": 0, "highlight_count": 0})
        events = answer["rooms"]["join"][self.room]["ephemeral"]["events"]
        self.assertEqual(list(events[0]["content"][event_id]), ["m.read.private"])
