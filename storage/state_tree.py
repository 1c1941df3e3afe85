# SPDX-License-Identifier: Apache-2.0
"""How the state of a room at any event is kept: a persistent 16-way tree from state keys to events, shared between
events.

A root address stands for one whole state. Nodes never change once written, so equal addresses mean equal states, the
difference of two states skips what they share, and rows can be cached and forgotten freely.

::

    h(skey)  = skey * 0x9E3779B1 mod 2^32        a bijection, so at most 8 levels
    leaf     = byte n (0 to 16), then n times (skey u32, event u64)
    inner    = byte 0x80, mask u16, then one u32 address per child
    address  = row << 4 | index in row; 0 is the empty state; rows count from 1, in `room.next_row`
    row      = one byte for the number of nodes, then the nodes (16 at most)
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

from storage.caches import TreeRow
from storage.txn import Txn

Leaf = dict[int, int]
Inner = tuple[int, ...]
"""16 child addresses, 0 where there is none."""
Node = Leaf | Inner

WIDEST_LEAF = 16
_ENTRY = struct.Struct(">IQ")
_INNER = 0x80


def weigh_row(_key: TreeRow, nodes: tuple[Node, ...]) -> int:
    """What a cached row takes in memory, about."""
    return 120 + sum(232 + 100 * len(node) if isinstance(node, dict) else 200 for node in nodes)


def _slot(skey: int, depth: int) -> int:
    return (skey * 0x9E3779B1 & 0xFFFFFFFF) >> (28 - 4 * depth) & 15


class StateTree:
    """The trees of one room within a transaction. New nodes wait in memory until `flush` writes them."""

    def __init__(self, txn: Txn, room: int, next_row: int = 0) -> None:
        self._txn = txn
        self._room = room
        self.next_row = next_row
        self._new: list[Node] = []
        self._done: list[tuple[int, list[Node]]] = []
        self._rows: dict[int, Sequence[Node]] = {}

    # ---- reading ----

    def get(self, root: int, skey: int) -> int | None:
        """The event at a key."""
        address, depth = root, 0
        while address:
            node = self._node(address)
            if isinstance(node, dict):
                return node.get(skey)
            address = node[_slot(skey, depth)]
            depth += 1
        return None

    def get_many(self, root: int, skeys: Iterable[int]) -> dict[int, int]:
        """The events at keys; keys without one are left out. One query a level."""
        found: dict[int, int] = {}
        level = [(root, list(skeys))]
        depth = 0
        while level:
            self._load(address for address, _ in level)
            following: dict[int, list[int]] = {}
            for address, wanted in level:
                node = self._node(address) if address else {}
                if isinstance(node, dict):
                    found.update((skey, node[skey]) for skey in wanted if skey in node)
                    continue
                for skey in wanted:
                    child = node[_slot(skey, depth)]
                    if child:
                        following.setdefault(child, []).append(skey)
            level = list(following.items())
            depth += 1
        return found

    def items(self, root: int) -> dict[int, int]:
        """The whole state: key -> event. One query a level."""
        found: dict[int, int] = {}
        level = [root] if root else []
        while level:
            self._load(level)
            following: list[int] = []
            for address in level:
                node = self._node(address)
                if isinstance(node, dict):
                    found.update(node)
                else:
                    following.extend(child for child in node if child)
            level = following
        return found

    def diff(self, first: int, second: int) -> dict[int, tuple[int | None, int | None]]:
        """Key -> (event in the first, event in the second), where they differ. The conflicted set of two states."""
        found: dict[int, tuple[int | None, int | None]] = {}
        level = [(first, second)]
        while level:
            level = [pair for pair in level if pair[0] != pair[1]]
            self._load(address for pair in level for address in pair)
            following: list[tuple[int, int]] = []
            for one, other in level:
                a: Node = self._node(one) if one else {}
                b: Node = self._node(other) if other else {}
                if isinstance(a, tuple) and isinstance(b, tuple):
                    following.extend(zip(a, b, strict=True))
                    continue
                left = a if isinstance(a, dict) else self.items(one)
                right = b if isinstance(b, dict) else self.items(other)
                for skey in left.keys() | right.keys():
                    if left.get(skey) != right.get(skey):
                        found[skey] = (left.get(skey), right.get(skey))
            level = following
        return found

    # ---- making new states ----

    def update(self, root: int, changes: Mapping[int, int | None]) -> int:
        """The state with some keys set, or removed with None. The same address when nothing changes."""
        return self._update(root, 0, dict(changes)) if changes else root

    def flush(self) -> list[tuple[int, bytes]]:
        """The rows to store for what `update` made; afterwards `next_row` is what the room's row must keep."""
        self._close_row()
        rows = []
        for row, nodes in self._done:
            rows.append((row, bytes([len(nodes)]) + b"".join(_packed(node) for node in nodes)))
            self._txn.fresh.nodes[(self._room, row)] = tuple(nodes)
        self._done = []
        return rows

    def _update(self, address: int, depth: int, changes: dict[int, int | None]) -> int:
        node: Node = self._node(address) if address else {}
        if isinstance(node, dict):
            merged = {skey: event for skey, event in {**node, **changes}.items() if event is not None}
            return address if merged == node else self._build(merged, depth)
        by_slot: dict[int, dict[int, int | None]] = {}
        for skey, event in changes.items():
            by_slot.setdefault(_slot(skey, depth), {})[skey] = event
        children = list(node)
        for slot, part in by_slot.items():
            children[slot] = self._update(children[slot], depth + 1, part)
        if tuple(children) == node:
            return address
        if None in changes.values():
            small = self._collapsed(children)
            if small is not None:
                return self._build(small, depth)
        return self._add(tuple(children))

    def _build(self, entries: dict[int, int], depth: int) -> int:
        if not entries:
            return 0
        if len(entries) <= WIDEST_LEAF:
            return self._add(entries)
        parts: dict[int, dict[int, int]] = {}
        for skey, event in entries.items():
            parts.setdefault(_slot(skey, depth), {})[skey] = event
        return self._add(tuple(self._build(parts[slot], depth + 1) if slot in parts else 0 for slot in range(16)))

    def _collapsed(self, children: list[int]) -> dict[int, int] | None:
        """All entries below, when they fit one leaf."""
        together: dict[int, int] = {}
        for child in children:
            if child:
                node = self._node(child)
                if isinstance(node, tuple) or len(together) + len(node) > WIDEST_LEAF:
                    return None
                together.update(node)
        return together

    def _add(self, node: Node) -> int:
        if len(self._new) == 16:
            self._close_row()
        self._new.append(node)
        self._rows[self.next_row] = self._new
        return self.next_row << 4 | len(self._new) - 1

    def _close_row(self) -> None:
        if self._new:
            self._done.append((self.next_row, self._new))
            self._new = []
            self.next_row += 1

    # ---- nodes ----

    def _node(self, address: int) -> Node:
        row = address >> 4
        nodes = self._row(row)
        if nodes is None:
            self._load((address,))
            nodes = self._row(row)
            if nodes is None:
                raise LookupError(f"room {self._room} has no tree row {row}")
        found: Node = nodes[address & 15]
        return found

    def _row(self, row: int) -> Sequence[Node] | None:
        nodes = self._rows.get(row)
        if nodes is None:
            key = (self._room, row)
            nodes = self._txn.fresh.nodes.get(key)
            if nodes is None and self._txn.names.node_cache is not None:
                nodes = self._txn.names.node_cache.get(key)
            if nodes is not None:
                self._rows[row] = nodes
        return nodes

    def _load(self, addresses: Iterable[int]) -> None:
        """Brings the rows of many addresses into memory with one query."""
        missing = {address >> 4 for address in addresses if address and self._row(address >> 4) is None}
        if not missing:
            return
        condition, params = self._txn.any("row", list(missing))
        rows = self._txn.all(
            f"SELECT row, nodes FROM state_node WHERE room = ? AND {condition}",  # noqa: S608
            [self._room, *params],
        )
        cache = self._txn.names.node_cache if self._txn.fresh is self._txn.names else None
        for row, packed in rows:
            nodes = self._rows[row] = _unpacked(packed)
            if cache is not None:
                cache.put((self._room, row), nodes)
            else:
                self._txn.fresh.nodes[(self._room, row)] = nodes


def _packed(node: Node) -> bytes:
    if isinstance(node, dict):
        return bytes([len(node)]) + b"".join(_ENTRY.pack(skey, event) for skey, event in sorted(node.items()))
    children = [child for child in node if child]
    mask = sum(1 << slot for slot in range(16) if node[slot])
    return struct.pack(f">BH{len(children)}I", _INNER, mask, *children)


def _unpacked(packed: bytes) -> tuple[Node, ...]:
    nodes: list[Node] = []
    at = 1
    for _ in range(packed[0]):
        kind = packed[at]
        at += 1
        if kind != _INNER:
            end = at + kind * _ENTRY.size
            nodes.append(dict(_ENTRY.iter_unpack(packed[at:end])))
            at = end
            continue
        mask = int.from_bytes(packed[at : at + 2], "big")
        count = mask.bit_count()
        children = iter(struct.unpack_from(f">{count}I", packed, at + 2))
        nodes.append(tuple(next(children) if mask >> slot & 1 else 0 for slot in range(16)))
        at += 2 + 4 * count
    return tuple(nodes)
