# SPDX-License-Identifier: Apache-2.0
"""The state tree says what plain dicts say, for any branching history."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from storage.caches import Budget, Cache, Names
from storage.state_tree import StateTree, weigh_row


class Shelf:
    """The part of a transaction that a tree uses, over a dict of stored rows; it forgets what it cached at will."""

    dialect = "sqlite"

    def __init__(self, *, cached: bool) -> None:
        self.rows: dict[int, bytes] = {}
        budget = Budget(1 << 20 if cached else 0)
        self.names = Names(Cache("nodes", budget, weigh_row))
        self.fresh = self.names if not cached else Names()
        self.queries = 0

    def any(self, expression: str, values: list[int]) -> tuple[str, list[object]]:
        return expression, list(values)

    def all(self, sql: str, params: list[Any]) -> list[tuple[int, bytes]]:
        self.queries += 1
        return [(row, self.rows[row]) for row in params[1:] if row in self.rows]


changes = st.dictionaries(st.integers(1, 400), st.one_of(st.none(), st.integers(1, 2**40)), min_size=1, max_size=40)
histories = st.lists(st.tuples(st.integers(0, 10**6), changes), min_size=1, max_size=25)


class StateTreeTest(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(histories, st.booleans())
    def test_it_equals_dicts_for_random_branching_histories(self, history: Any, cached: bool) -> None:
        shelf = Shelf(cached=cached)
        states: list[tuple[int, dict[int, int]]] = [(0, {})]
        next_row = 1
        for parent, change in history:
            tree = StateTree(shelf, 1, next_row)  # type: ignore[arg-type]  # the shelf has what a tree uses
            root, before = states[parent % len(states)]
            after = {key: event for key, event in {**before, **change}.items() if event is not None}
            states.append((tree.update(root, change), after))
            shelf.rows.update(tree.flush())
            next_row = tree.next_row
            shelf.fresh.nodes.clear()
        tree = StateTree(shelf, 1, next_row)  # type: ignore[arg-type]  # the shelf has what a tree uses
        for root, state in states:
            self.assertEqual(tree.items(root), state)
            self.assertEqual(tree.get_many(root, range(1, 401)), state)
            self.assertEqual(
                {key: tree.get(root, key) for key in range(1, 401, 7)}, {k: state.get(k) for k in range(1, 401, 7)}
            )
        for (one, first), (other, second) in zip(states, reversed(states), strict=True):
            expected = {
                k: (first.get(k), second.get(k)) for k in first.keys() | second.keys() if first.get(k) != second.get(k)
            }
            self.assertEqual(tree.diff(one, other), expected)
            if first == second and one == other:
                self.assertEqual(tree.diff(one, other), {})

    def test_a_change_that_changes_nothing_gives_the_same_root(self) -> None:
        shelf = Shelf(cached=True)
        tree = StateTree(shelf, 1, 1)  # type: ignore[arg-type]  # the shelf has what a tree uses
        root = tree.update(0, {key: key for key in range(1, 300)})
        self.assertEqual(tree.update(root, {5: 5, 77: 77, 5000: None}), root)

    def test_a_large_state_is_read_in_a_query_a_level(self) -> None:
        shelf = Shelf(cached=True)
        tree = StateTree(shelf, 1, 1)  # type: ignore[arg-type]  # the shelf has what a tree uses
        state = {key: key * 3 for key in range(1, 20_000)}
        root = tree.update(0, state)
        shelf.rows.update(tree.flush())
        shelf.fresh.nodes.clear()
        self.assertEqual(StateTree(shelf, 1, tree.next_row).items(root), state)  # type: ignore[arg-type]  # as above
        self.assertLessEqual(shelf.queries, 5)

    def test_removing_down_to_a_leaf_collapses(self) -> None:
        shelf = Shelf(cached=True)
        tree = StateTree(shelf, 1, 1)  # type: ignore[arg-type]  # the shelf has what a tree uses
        root = tree.update(0, {key: key for key in range(1, 41)})
        small = tree.update(root, {key: None for key in range(5, 41)})
        self.assertIsInstance(tree._node(small), dict)
        self.assertEqual(tree.update(small, {key: None for key in range(1, 5)}), 0)
