# SPDX-License-Identifier: Apache-2.0
"""Knows how somebody looks for other people by name or id, and whom they may find."""

from collections.abc import Sequence
from typing import Any

import orjson

from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.search_index import SearchIndex, put_person
from storage import accounts, names, profiles, user_directory
from storage.db import Change
from storage.search_text import Term, terms_of
from storage.txn import Txn
from storage.user_directory import Person

BATCH = 500


class UserDirectory:
    """The people of this server's rooms. With `everybody` local people are found who share no room with the seeker."""

    def __init__(self, db: Database, index: SearchIndex, *, everybody: bool = False) -> None:
        self._db = db
        self._index = index
        self._everybody = everybody
        self._renamed: set[int] = set()
        if everybody:
            db.subscribe(self._published)

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        self._renamed.update(one.user for one in changes if one.stream == "profile" and one.user is not None)

    async def search(self, user: User, term: str, limit: int) -> dict[str, Any]:
        """At most `limit` people whose name or id has every word of the term, and whether there are more."""
        terms = terms_of(term)
        if not terms:
            return {"results": [], "limited": False}
        await self._index.catch_up()
        if self._everybody:
            await self._take_in_accounts()
        found = await self._db.read(_find, user.usr, terms, limit + 1, self._everybody)
        return {"results": found[:limit], "limited": len(found) > limit}

    async def _take_in_accounts(self) -> None:
        """Have those found who are in no room, under the names they have now."""
        while True:
            renamed, self._renamed = self._renamed, set()
            waiting = await self._db.read(user_directory.unlisted_accounts, BATCH)
            if not waiting and not renamed:
                return
            await self._db.write(_take_in, [*waiting, *renamed])


def _take_in(txn: Txn, usrs: list[int]) -> None:
    for usr in usrs:
        account = accounts.by_usr(txn, usr)
        if account is not None and account.kind == accounts.PERSON and not account.deactivated:
            fields = profiles.fields(txn, usr)
            name, avatar = (
                orjson.loads(fields[field]) if field in fields else None for field in ("displayname", "avatar_url")
            )
            put_person(txn, Person(usr, name, avatar), account.user_id)


def _find(txn: Txn, viewer: int, terms: list[Term], limit: int, everybody: bool) -> list[dict[str, str]]:
    people = user_directory.find(txn, terms, viewer, limit, everybody)
    ids = names.user_ids(txn, [person.usr for person in people])
    found = []
    for person in people:
        shown = {"user_id": ids[person.usr]}
        if person.name is not None:
            shown["display_name"] = person.name
        if person.avatar is not None:
            shown["avatar_url"] = person.avatar
        found.append(shown)
    return found
