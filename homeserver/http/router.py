# SPDX-License-Identifier: Apache-2.0
"""Which endpoint a method and a path mean: one tree of path segments, built once."""

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

import attrs

from homeserver.http.endpoint import Bound, bind
from homeserver.protocol.errors import invalid_param, unrecognized

# The same operations under their older names: clients still call r0, and media had two more versions.
_SAME = (
    ("/_matrix/client/r0/", "/_matrix/client/v3/"),
    ("/_matrix/media/r0/", "/_matrix/media/v3/"),
    ("/_matrix/media/v1/", "/_matrix/media/v3/"),
)


@attrs.frozen
class Leaf:
    """An endpoint, and at which segments of the path its variables stand; `tail` is the one that takes the rest."""

    bound: Bound
    variables: tuple[tuple[int, str], ...]
    tail: tuple[int, str] | None


@attrs.define(eq=False)
class Node:
    """What may follow one beginning of a path."""

    literals: dict[str, "Node"] = attrs.field(factory=dict)
    variable: "Node | None" = None
    leaves: dict[str, Leaf] = attrs.field(factory=dict)
    tails: dict[str, Leaf] = attrs.field(factory=dict)


class Router:
    """The endpoints of some pages. `{name}` in a path is one segment, `{name*}` all that follow."""

    def __init__(self, pages: Iterable[object]) -> None:
        self._root = Node()
        self.endpoints: list[Bound] = []
        for page in pages:
            for bound in bind(page):
                self.endpoints.append(bound)
                for path in bound.declaration.paths:
                    self._add(bound, path)
        for old, new in _SAME:
            self._alias(old, new)

    def match(self, method: str, path: str) -> tuple[Bound, dict[str, str]]:
        """The endpoint and the path's variables, decoded; raises M_UNRECOGNIZED with 404 or 405."""
        segments = _segments(path)
        node = self._root
        leaf = None
        for segment in segments:
            child = node.literals.get(segment) or (node.variable if segment else None)
            if child is None:
                break
            node = child
        else:
            leaf = node.leaves.get(method)
        if leaf is None:
            leaf = self._search(method, segments)
        params = {name: segments[at] for at, name in leaf.variables}
        if leaf.tail is not None:
            params[leaf.tail[1]] = "/".join(segments[leaf.tail[0] :])
        return leaf.bound, params

    def _search(self, method: str, segments: list[str]) -> Leaf:
        """Try every way through the tree, literal segments first, then variables, then what takes the rest."""
        methods: set[str] = set()

        def under(node: Node, at: int) -> Leaf | None:
            if at == len(segments):
                methods.update(node.leaves)
                if (leaf := node.leaves.get(method)) is not None:
                    return leaf
            else:
                segment = segments[at]
                for child in (node.literals.get(segment), node.variable if segment else None):
                    if child is not None and (leaf := under(child, at + 1)) is not None:
                        return leaf
            methods.update(node.tails)
            return node.tails.get(method)

        leaf = under(self._root, 0)
        if leaf is None:
            raise unrecognized(405 if methods else 404)
        return leaf

    def _add(self, bound: Bound, path: str) -> None:
        for old, new in _SAME:
            if path.startswith(old):
                path = new + path.removeprefix(old)
        node: Node = self._root
        variables: list[tuple[int, str]] = []
        tail = None
        for at, segment in enumerate(_segments(path)):
            if segment.endswith("*}"):
                tail = (at, segment[1:-2])
                break
            if segment.startswith("{"):
                variables.append((at, segment[1:-1]))
                node.variable = node.variable or Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, Node())
        leaves, method = (node.tails if tail else node.leaves), bound.declaration.method
        if method in leaves:
            raise TypeError(f"{method} {path} is declared by {leaves[method].bound.name} and {bound.name}")
        leaves[method] = Leaf(bound, tuple(variables), tail)
        if method == "GET":
            leaves.setdefault("HEAD", leaves["GET"])

    def _alias(self, old: str, new: str) -> None:
        node: Node | None = self._root
        *above, last = _segments(new)
        for segment in above:
            node = node.literals.get(segment) if node else None
        if node is not None and last in node.literals:
            node.literals[_segments(old)[-1]] = node.literals[last]


@lru_cache(8192)
def _decoded(segment: str) -> str:
    return unquote(segment, errors="strict")


def _segments(path: str) -> list[str]:
    """The path's parts, percent-decoded; a trailing slash does not count."""
    segments = path.split("/")
    if "%" in path:
        try:
            segments = [_decoded(s) if "%" in s else s for s in segments]
        except UnicodeDecodeError:
            raise invalid_param("The path is not valid UTF-8") from None
    if not segments[-1] and len(segments) > 1:
        segments.pop()
    return segments
