# SPDX-License-Identifier: Apache-2.0
"""The page of the user directory's search."""

import msgspec

from homeserver.http.endpoint import User, endpoint
from homeserver.services.user_directory import UserDirectory

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch"


class UserSearchBody(msgspec.Struct):
    search_term: str
    limit: int = 10


class UserDirectoryPage:
    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory

    @endpoint("POST", "/_matrix/client/v3/user_directory/search", limit="search", spec=SPEC)
    async def search(self, caller: User, body: UserSearchBody) -> dict[str, object]:
        return await self._directory.search(caller, body.search_term, max(1, min(body.limit, 50)))
