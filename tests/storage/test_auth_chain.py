# SPDX-License-Identifier: Apache-2.0
"""Auth difference and conflicted subgraph are what their definitions say, for any graph."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from storage.auth_chain import AuthGraph, auth_difference, conflicted_subgraph


@st.composite
def graphs(draw: Any) -> dict[int, tuple[int, ...]]:
    size = draw(st.integers(2, 40))
    return {
        nid: tuple(draw(st.lists(st.integers(1, nid - 1), max_size=3, unique=True))) if nid > 1 else ()
        for nid in range(1, size + 1)
    }


def chain(graph: dict[int, tuple[int, ...]], starts: Any) -> set[int]:
    found: set[int] = set()
    pending = list(starts)
    while pending:
        for auth in graph[pending.pop()]:
            if auth not in found:
                found.add(auth)
                pending.append(auth)
    return found


class AuthChainTest(SynchronousTestCase):
    @settings(max_examples=120, deadline=None)
    @given(graphs(), st.data())
    def test_the_difference_is_the_union_without_the_intersection(self, graph: Any, data: Any) -> None:
        nids = sorted(graph)
        keys = data.draw(st.integers(1, 8))
        sets = [
            {key: data.draw(st.sampled_from([None, *nids])) for key in range(keys)}
            for _ in range(data.draw(st.integers(2, 4)))
        ]
        shared = {key for key in range(keys) if len({state[key] for state in sets}) == 1}
        chains = [chain(graph, [nid for nid in state.values() if nid is not None]) for state in sets]
        expected = set.union(*chains) - set.intersection(*chains)
        conflicted = [{nid for key, nid in s.items() if key not in shared and nid is not None} for s in sets]
        unconflicted = [nid for key, nid in sets[0].items() if key in shared and nid is not None]
        found = auth_difference(AuthGraph(None, 1, graph), conflicted, lambda lowest: unconflicted)  # type: ignore[arg-type]  # all edges are given
        self.assertEqual(found, expected)

    @settings(max_examples=120, deadline=None)
    @given(graphs(), st.data())
    def test_the_subgraph_is_every_event_between_two_conflicted_ones(self, graph: Any, data: Any) -> None:
        conflicted = data.draw(st.sets(st.sampled_from(sorted(graph)), min_size=1, max_size=6))
        expected = {
            nid
            for nid in graph
            if (nid in conflicted or any(nid in chain(graph, [one]) for one in conflicted))
            and (
                chain(graph, [nid]) & conflicted
                or nid in conflicted
                and any(nid in chain(graph, [c]) for c in conflicted)
            )
        }
        found = conflicted_subgraph(AuthGraph(None, 1, graph), conflicted)  # type: ignore[arg-type]  # as above
        self.assertEqual(found, expected)
