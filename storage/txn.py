# SPDX-License-Identifier: Apache-2.0
"""What a function that reads or writes the database may ask for, alike on both databases."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import attrs

from storage.caches import Names
from storage.dialect import Dialect
from storage.envelope import Envelopes

Record = tuple[Any, ...]


@attrs.frozen(slots=True)
class Change:
    """One durable change, as it is announced after its commit. `room`, `user` and `device` are numbers, not ids.

    `stream` is one of event, state, membership, receipt, account_data, to_device, device_list, keys, presence,
    push_rules, profile, filter, directory, media, account; each writing module documents which fields it fills.
    """

    pos: int
    stream: str
    room: int | None = None
    user: int | None = None
    device: int | None = None


class Txn(Protocol):
    """A transaction. Read transactions refuse the methods below the line with RuntimeError.

    Text columns come back as ``str``, blobs as ``bytes``, everything else as ``int``, ``float`` or None. Write ``?``
    for a parameter.
    """

    @property
    def dialect(self) -> Dialect: ...

    @property
    def names(self) -> Names:
        """The committed numbers of names; `storage.names` alone uses it."""

    @property
    def fresh(self) -> Names:
        """The numbers given in this transaction, forgotten when it fails; `storage.names` alone uses it."""

    @property
    def envelopes(self) -> Envelopes:
        """Compresses and expands, for this transaction's thread."""

    def one(self, sql: str, params: Sequence[object] = ()) -> Record | None:
        """The first row, or None."""

    def all(self, sql: str, params: Sequence[object] = ()) -> list[Record]:
        """Every row."""

    def any(self, expression: str, values: Sequence[object]) -> tuple[str, list[object]]:
        """A condition "expression is one of values" and its parameters. `values` are all ints or all bytes; none is
        allowed.
        """

    # ---- only where writing is allowed ----

    def run(self, sql: str, params: Sequence[object] = ()) -> int:
        """Runs a statement now and gives the number of rows it touched."""

    def put(self, sql: str, params: Sequence[object] = ()) -> None:
        """Runs a statement whose result nobody needs; PostgreSQL gets it together with the next ones, in order."""

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """`put` of the same statement for each row."""

    def bulk(self, sql: str, row: Sequence[object]) -> None:
        """One row of a statement that is run once for the rows of the whole batch, ``{rows}`` in it being ``VALUES``
        rows.

        It runs before the next other statement of the transaction, or before the commit. Few statements are few
        moments in which the writer's thread has to wait for the interpreter.
        """

    def position(self) -> int:
        """The next number of the one clock. Every durable change that somebody follows takes one."""

    def announce(self, change: Change) -> None:
        """Has the change published together with the commit, before the writer's caller goes on."""
