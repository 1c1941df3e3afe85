# SPDX-License-Identifier: Apache-2.0
"""How several things are awaited at once, with the first failure raised as itself and the others left unsaid."""

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

T = TypeVar("T")


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order."""
    try:
        return await gatherResults([Deferred.fromCoroutine(work) for work in works], consumeErrors=True)
    except FirstError as error:
        failure: BaseException = error.subFailure.value  # type: ignore[assignment]
        raise failure from None
