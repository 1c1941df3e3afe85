# SPDX-License-Identifier: Apache-2.0
"""Knows how somebody looks for other people by name or id, and whom they may find."""

from typing import Any

from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.search_index import SearchIndex
from storage import names, user_directory
from storage.search_text import Term, terms_of
from storage.txn import Txn


class UserDirectory:
    """The people of this server's rooms. With `everybody` local users are found who share no room with the seeker."""

    def __init__(self, db: Database, index: SearchIndex, *, everybody: bool = False) -> None:
        self._db = db
        self._index = index
        self._everybody = everybody

    async def search(self, user: User, term: str, limit: int) -> dict[str, Any]:
        """At most `limit` people whose name or id has every word of the term, and whether there are more."""
        terms = terms_of(term)
        if not terms:
            return {"results": [], "limited": False}
        await self._index.catch_up()
        found = await self._db.read(_find, user.usr, terms, limit + 1, self._everybody)
        return {"results": found[:limit], "limited": len(found) > limit}


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
