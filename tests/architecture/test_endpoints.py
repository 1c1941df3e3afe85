# SPDX-License-Identifier: Apache-2.0
"""The declared endpoints against the specification's table, and the generated pages against the declarations."""

import attrs
from twisted.trial.unittest import SkipTest, TestCase

from homeserver.config.model import RateLimits
from homeserver.http.endpoint import Anyone, AppService, MaybeUser, User
from tests.architecture import pages, proofs, reference
from tests.harness import spec

CALLERS = {
    "access token": {User},
    "optional access token": {MaybeUser, Anyone},
    "none": {Anyone, MaybeUser},
    "appservice": {AppService},
}
# Where the specification's table says something else than its text, or than a homeserver can do.
OTHER_CALLERS: dict[tuple[str, str], str] = {}


class Endpoints(TestCase):
    def setUp(self) -> None:
        if spec.folder() is None:
            raise SkipTest("the specification's data is not here; set PARLEY_SPEC")

    def test_who_may_call_is_what_the_specification_says(self) -> None:
        have = reference.served()
        wrong = []
        for one in reference.specified():
            bound = have.get((one.method, spec.plain(one.path)))
            if bound is not None and (one.method, one.path) not in OTHER_CALLERS:
                if bound.caller not in CALLERS.get(one.auth, {bound.caller}):
                    wrong.append(f"{one.method} {one.path}: {bound.caller.__name__}, specified {one.auth}")
        self.assertEqual(wrong, [])

    def test_guests_are_let_in_where_the_specification_says(self) -> None:
        have = reference.served()
        wrong = [
            f"{one.method} {one.path}"
            for one in reference.specified()
            if (bound := have.get((one.method, spec.plain(one.path)))) is not None
            and bound.caller is User
            and one.guests
            and not bound.declaration.guests
        ]
        self.assertEqual(wrong, [])

    def test_what_the_specification_limits_is_limited(self) -> None:
        have = reference.served()
        wrong = [
            f"{one.method} {one.path}"
            for one in reference.specified()
            if (bound := have.get((one.method, spec.plain(one.path)))) is not None
            and one.limited
            and bound.declaration.limit is None
        ]
        self.assertEqual(wrong, [])

    def test_every_limit_can_be_configured(self) -> None:
        known = {field.name for field in attrs.fields(RateLimits)} - {"enabled"}
        used = {bound.declaration.limit for bound in reference.declared()} - {None}
        self.assertEqual(used - known, set())

    def test_the_generated_pages_are_current(self) -> None:
        for path, text in pages.pages().items():
            self.assertTrue(path.exists() and path.read_text() == text, f"{path.name} is out of date: run make docs")

    def test_every_operation_is_served_and_proven_or_left_to_a_later_issue(self) -> None:
        self.assertEqual(proofs.unproven(), [])

    def test_what_is_left_to_a_later_issue_is_in_the_table_and_unproven(self) -> None:
        proven = {called.partition(" ")[2] for called, proof in proofs.read().items() if proof.good}
        known = {one.path for one in reference.specified()}
        self.assertEqual([path for path in (*proofs.LATER, *proofs.REFUSED) if path in proven or path not in known], [])
