# SPDX-License-Identifier: Apache-2.0
"""What full text search finds, alike on both databases: the 23 queries over 10 documents of the dependencies report."""

from typing import Any

from twisted.trial.unittest import TestCase

from storage import search, user_directory
from storage.search import BODY, Doc
from storage.search_text import fold, terms_of, words_of
from storage.user_directory import Person
from tests.storage.temporary import Waiter

DOCUMENTS = {
    1: "今天天气很好",
    2: "我买了新电脑和笔记本",
    3: "東京へ行きます",
    4: "東京タワーとノート",
    5: "노트북을 샀어요",
    6: "서울에서 만나요",
    7: "the lamp is broken",
    8: "GRÖSSE ist wichtig, die Größe zählt",
    9: "crème brûlée, please",
    10: "ｶﾀｶﾅ half width",
}
QUERIES = {
    "天气": [1],
    "电脑": [2],
    "笔记本": [2],
    "東京": [3, 4],
    "ノート": [4],
    "노트북": [5],
    "买": [2],
    "国": [],
    "서울": [6],
    "lamp": [7],
    "lam": [7],
    "grösse": [8],
    "grosse": [8],
    "größe": [8],
    "creme": [9],
    "CRÈME please": [9],
    "please creme": [9],
    "カタカナ": [10],
    "broken lamp": [7],
    "broken tower": [],
    "气天": [],
    "half-width": [10],
    "'; DROP TABLE \" OR *": [],
}


def fill(txn: Any) -> None:
    for event, text in DOCUMENTS.items():
        search.put_doc(txn, Doc(event, 1, 1, BODY, event, words_of(text)))


def found(txn: Any, query: str, **options: Any) -> list[int]:
    given: dict[str, Any] = {"by_rank": False, "limit": 50, "skip": 0, **options}
    return [hit.event for hit in search.find(txn, terms_of(query), [1], [BODY], **given)]


class FindingWords(TestCase):
    def setUp(self) -> None:
        self.db = Waiter()
        self.addCleanup(self.db.close)

    def test_the_queries_of_the_report(self) -> None:
        self.db.write(fill)
        for query, expected in QUERIES.items():
            self.assertEqual(sorted(self.db.read(found, query)), expected, query)

    def test_a_newer_text_replaces_the_older(self) -> None:
        self.db.write(fill)
        self.db.write(lambda txn: search.put_doc(txn, Doc(7, 1, 1, BODY, 70, words_of("a candle"))))
        self.assertEqual(self.db.read(found, "lamp"), [])
        self.assertEqual(self.db.read(found, "candle"), [7])

    def test_what_is_dropped_is_found_no_more(self) -> None:
        self.db.write(fill)
        self.db.write(lambda txn: search.drop_doc(txn, 7))
        self.db.write(lambda txn: search.drop_doc(txn, 700))
        self.assertEqual(self.db.read(found, "lamp"), [])

    def test_the_better_match_ranks_first(self) -> None:
        self.db.write(lambda txn: search.put_doc(txn, Doc(1, 1, 1, BODY, 1, words_of("tea " + "and coffee " * 30))))
        self.db.write(lambda txn: search.put_doc(txn, Doc(2, 1, 1, BODY, 2, words_of("tea tea tea"))))
        self.db.write(lambda txn: search.put_doc(txn, Doc(3, 1, 1, BODY, 3, words_of("coffee"))))
        self.assertEqual(self.db.read(lambda txn: found(txn, "tea", by_rank=True)), [2, 1])
        self.assertEqual(self.db.read(lambda txn: found(txn, "tea")), [2, 1])
        self.assertEqual(self.db.read(lambda txn: found(txn, "tea", skip=1)), [1])

    def test_other_rooms_and_keys_are_left_out(self) -> None:
        self.db.write(fill)
        self.assertEqual(
            self.db.read(lambda t: search.find(t, terms_of("lamp"), [2], [1], by_rank=True, limit=9, skip=0)), []
        )
        self.assertEqual(
            self.db.read(lambda t: search.find(t, terms_of("lamp"), [1], [2, 3], by_rank=True, limit=9, skip=0)), []
        )
        self.assertEqual(self.db.read(lambda t: search.count(t, terms_of("東京"), [1], [1, 2, 3], 100)), 2)


class FoldingText(TestCase):
    def test_case_accents_and_width_do_not_count(self) -> None:
        self.assertEqual(fold("ＧＲÖSSE"), "grosse")
        self.assertEqual(fold("straße"), "strasse")

    def test_kana_voicing_counts(self) -> None:
        self.assertNotEqual(fold("が"), fold("か"))

    def test_a_query_of_nothing_has_no_terms(self) -> None:
        self.assertEqual(terms_of("  !? \x00"), [])


class FindingPeople(TestCase):
    def setUp(self) -> None:
        self.db = Waiter()
        self.addCleanup(self.db.close)

    def test_people_of_shared_and_open_rooms_are_found(self) -> None:
        def prepare(txn: Any) -> None:
            for usr, name in ((1, "Ann"), (2, "Anna"), (3, "Annette"), (4, "Anne")):
                user_directory.put_person(txn, Person(usr, name, None), words_of(name))
            for usr, room in ((1, 10), (2, 10), (3, 20), (4, 30)):
                txn.run(
                    "INSERT INTO membership (usr, room, kind, event, since, forgotten) VALUES (?, ?, 1, 1, 1, 0)",
                    (usr, room),
                )
            user_directory.open_room(txn, 20, user_directory.JOINABLE, True)

        self.db.write(prepare)
        people = self.db.read(lambda txn: user_directory.find(txn, terms_of("ann"), 1, 10, False))
        self.assertEqual(sorted(person.name or "" for person in people), ["Ann", "Anna", "Annette"])
        everybody = self.db.read(lambda txn: user_directory.find(txn, terms_of("ann"), 1, 10, True))
        self.assertEqual(len(everybody), 4)

    def test_a_new_name_replaces_the_old(self) -> None:
        self.db.write(lambda txn: user_directory.put_person(txn, Person(1, "Ann", None), words_of("Ann")))
        self.db.write(lambda txn: user_directory.put_person(txn, Person(1, "Zoe", "mxc://a/b"), words_of("Zoe")))
        self.assertEqual(self.db.read(lambda txn: user_directory.find(txn, terms_of("ann"), 1, 10, True)), [])
        self.assertEqual(
            self.db.read(lambda txn: user_directory.find(txn, terms_of("zo"), 1, 10, True)),
            [Person(1, "Zoe", "mxc://a/b")],
        )
