# SPDX-License-Identifier: Apache-2.0
"""How relations are read."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import relations
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.relations import Relation, Side


def related(**relates_to: Any) -> dict[str, Any]:
    return {"m.relates_to": relates_to}


EDIT = {"m.new_content": {"body": "new"}, **related(rel_type="m.replace", event_id="$a")}


class Reading(SynchronousTestCase):
    def test_a_relation_has_a_type_and_a_parent(self) -> None:
        for rel_type in ("m.annotation", "m.reference", "m.replace", "m.thread", "org.example.x"):
            relation = relations.relation_of(related(rel_type=rel_type, event_id="$a"))
            self.assertEqual(relation, Relation(rel_type, "$a"))

    def test_the_key_is_that_of_annotations(self) -> None:
        self.assertEqual(
            relations.relation_of(related(rel_type="m.annotation", event_id="$a", key="👍")),
            Relation("m.annotation", "$a", "👍"),
        )
        for rel_type, key in (("m.annotation", 7), ("m.thread", "x")):
            relation = relations.relation_of(related(rel_type=rel_type, event_id="$a", key=key))
            self.assertEqual(relation, Relation(rel_type, "$a"))

    def test_a_malformed_relation_is_none(self) -> None:
        for content in (
            {},
            {"m.relates_to": None},
            {"m.relates_to": "x"},
            {"m.relates_to": []},
            related(rel_type="m.thread"),
            related(event_id="$a"),
            related(rel_type=7, event_id="$a"),
            related(rel_type="m.thread", event_id=["$a"]),
        ):
            self.assertIsNone(relations.relation_of(content))
            self.assertIsNone(relations.reply_target(content))
            self.assertIsNone(relations.thread_root(content))

    def test_which_relations_are_aggregated(self) -> None:
        for rel_type, aggregated in [
            ("m.annotation", False),
            ("m.reference", True),
            ("m.replace", True),
            ("m.thread", True),
            ("x", False),
        ]:
            self.assertEqual(Relation(rel_type, "$a").is_aggregated, aggregated)


class Replies(SynchronousTestCase):
    def test_a_reply_has_no_relation_type(self) -> None:
        content = related(**{"m.in_reply_to": {"event_id": "$a"}})
        self.assertEqual(relations.reply_target(content), "$a")
        self.assertIsNone(relations.relation_of(content))

    def test_malformed_replies_are_none(self) -> None:
        for target in (None, "x", [], {}, {"event_id": 7}):
            self.assertIsNone(relations.reply_target(related(**{"m.in_reply_to": target})))

    def test_the_fallback_of_a_thread_is_no_reply(self) -> None:
        thread = {"rel_type": "m.thread", "event_id": "$root", "m.in_reply_to": {"event_id": "$a"}}
        self.assertIsNone(relations.reply_target(related(**thread, is_falling_back=True)))
        for falling_back in ({}, {"is_falling_back": False}, {"is_falling_back": "true"}):
            self.assertEqual(relations.reply_target(related(**thread, **falling_back)), "$a")
        self.assertEqual(relations.thread_root(related(**thread, is_falling_back=True)), "$root")


class Threads(SynchronousTestCase):
    def test_only_an_event_without_a_relation_type_is_a_root(self) -> None:
        relations.check_thread_root({"body": "x"})
        relations.check_thread_root(related(**{"m.in_reply_to": {"event_id": "$a"}}))
        for rel_type in ("m.thread", "m.replace", "m.annotation", "x"):
            content = related(rel_type=rel_type, event_id="$a")
            error = self.assertRaises(MatrixError, relations.check_thread_root, content)
            self.assertEqual((error.status, error.errcode), (400, "M_UNKNOWN"))

    def test_other_relations_are_in_no_thread(self) -> None:
        self.assertIsNone(relations.thread_root(related(rel_type="m.reference", event_id="$a")))


class Annotations(SynchronousTestCase):
    def test_edits_and_annotations_are_not_annotated(self) -> None:
        for rel_type, allowed in [
            ("m.annotation", False),
            ("m.replace", False),
            ("m.thread", True),
            ("m.reference", True),
        ]:
            self.assertEqual(relations.may_be_annotated(related(rel_type=rel_type, event_id="$a")), allowed)
        self.assertTrue(relations.may_be_annotated({}))
        self.assertEqual(relations.duplicate_annotation().errcode, "M_DUPLICATE_ANNOTATION")


class Edits(SynchronousTestCase):
    def original(self, **changes: Any) -> Side:
        return Side(**{"event_type": "m.room.message", "sender": "@a:b", "is_state": False, "content": {}, **changes})

    def test_a_valid_edit(self) -> None:
        self.assertTrue(relations.is_valid_edit(self.original(), self.original(content=EDIT)))
        thread = self.original(content=related(rel_type="m.thread", event_id="$r"))
        self.assertTrue(relations.is_valid_edit(thread, self.original(content=EDIT)))

    def test_each_condition_alone_makes_it_invalid(self) -> None:
        good = {"content": EDIT}
        for original, replacement in [
            ({}, {**good, "sender": "@x:b"}),
            ({}, {**good, "event_type": "m.x"}),
            ({"is_state": True}, good),
            ({}, {**good, "is_state": True}),
            ({"content": EDIT}, good),
            ({}, {"content": related(rel_type="m.replace", event_id="$a")}),
            ({}, {"content": {**EDIT, "m.new_content": "x"}}),
        ]:
            self.assertFalse(relations.is_valid_edit(self.original(**original), self.original(**replacement)))

    def test_the_new_content_of_an_encrypted_edit_is_not_seen(self) -> None:
        encrypted = {"event_type": "m.room.encrypted"}
        edit = self.original(**encrypted, content=related(rel_type="m.replace", event_id="$a"))
        self.assertTrue(relations.is_valid_edit(self.original(**encrypted), edit))

    def test_the_latest_edit_is_by_time_and_then_by_id(self) -> None:
        edits = [(5, "$a"), (7, "$a"), (7, "$b"), (6, "$z")]
        self.assertEqual(max(edits, key=lambda edit: relations.edit_rank(*edit)), (7, "$b"))

    def test_the_new_content_replaces_all_but_the_relation(self) -> None:
        original = {"body": "old", "formatted_body": "<b>", **related(rel_type="m.thread", event_id="$r")}
        edit = {"m.new_content": {"body": "new", **related(rel_type="x", event_id="$x")}}
        edited = relations.edited_content(original, edit)
        self.assertEqual(edited, {"body": "new", "m.relates_to": original["m.relates_to"]})
        self.assertEqual(relations.edited_content({"body": "old"}, edit), {"body": "new"})
        self.assertEqual(relations.edited_content(original, {}), original)
