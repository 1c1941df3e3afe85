# SPDX-License-Identifier: Apache-2.0
"""What becomes of a request on the line from the router to the reply."""

import logging
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import attrs
import msgspec
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from homeserver.http.auth import ClientAuth
from homeserver.http.dispatch import Dispatcher
from homeserver.http.endpoint import Answer, Anyone, AppService, Call, MaybeUser, Upload, User, endpoint
from homeserver.http.incoming import Incoming, Reply
from homeserver.http.limits import Limits
from homeserver.http.router import Router
from homeserver.http.stats import Stats
from homeserver.protocol.errors import MatrixError, Rejected, missing_token, unknown_token

ALICE = User("@alice:test", 1, "DEVICE", 10)
GUEST = User("@1:test", 2, "DEVICE", 11, is_guest=True)
BRIDGE = User("@bridge:test", 3, None, 0, appservice_id="bridge", is_limited=False)


class Sessions:
    """Three tokens."""

    async def by_token(self, token: str | None, **kwargs: object) -> User:
        if not token:
            raise missing_token()
        known = {"alice": ALICE, "guest": GUEST, "bridge": BRIDGE}
        if token not in known:
            raise unknown_token()
        return known[token]


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Page:
    def __init__(self) -> None:
        self.parked: Deferred[None] = Deferred()

    @endpoint("GET", "/whoami", guests=True)
    async def whoami(self, caller: User) -> dict[str, object]:
        return {"user_id": caller.user_id}

    @endpoint("GET", "/members")
    async def members(self, caller: User) -> dict[str, object]:
        return {}

    @endpoint("GET", "/maybe")
    async def maybe(self, caller: MaybeUser) -> dict[str, object]:
        return {"known": caller.user is not None}

    @endpoint("GET", "/service")
    async def service(self, caller: AppService) -> dict[str, object]:
        return {"id": caller.id}

    @endpoint("POST", "/object")
    async def object(self, caller: Anyone, body: dict[str, object]) -> dict[str, object]:
        return body

    @endpoint("POST", "/optional", optional_body=True)
    async def optional(self, caller: Anyone, body: dict[str, object]) -> dict[str, object]:
        return body

    @endpoint("POST", "/point")
    async def point(self, caller: Anyone, body: Point) -> dict[str, object]:
        return {"sum": body.x + body.y}

    @endpoint("POST", "/upload")
    async def upload(self, caller: Anyone, call: Call, body: Upload) -> dict[str, object]:
        return {"size": body.size, "type": body.content_type, "sum": sum(body.file.read())}

    @endpoint("GET", "/answer")
    async def answer(self, caller: Anyone) -> Answer:
        return Answer(302, None, {"Location": "https://elsewhere.test/"})

    @endpoint("GET", "/broken")
    async def broken(self, caller: Anyone) -> dict[str, object]:
        raise RuntimeError("secret detail")

    @endpoint("GET", "/rejected")
    async def rejected(self, caller: Anyone) -> dict[str, object]:
        raise Rejected("4.1", "not in the room")

    @endpoint("GET", "/limited", limit="few")
    async def limited(self, caller: MaybeUser) -> dict[str, object]:
        return {}

    @endpoint("GET", "/wait", waits=True)
    async def wait(self, caller: Anyone) -> dict[str, object]:
        await self.parked
        return {}


@attrs.frozen
class Rate:
    per_second: float = 0.5
    burst: int = 2


class Requests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.page = Page()
        self.stats = Stats()
        limits = Limits({"default": Rate(1000.0, 10_000), "few": Rate()})
        kinds = ClientAuth(Sessions()).kinds
        self.dispatcher = Dispatcher(Router([self.page]), kinds, limits, self.stats, lambda: self.now, max_upload=99)

    def incoming(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] = {}, ip: str = "192.0.2.1"
    ) -> Incoming:
        path, _, query = path.partition("?")
        return Incoming(method, path, query.encode(), headers.get, ip, BytesIO(content), len(content))

    def ask(self, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        reply = self.reply(*args, **kwargs)
        assert isinstance(reply.body, bytes)
        return reply.status, orjson.loads(reply.body) if reply.body else None

    def reply(self, *args: Any, **kwargs: Any) -> Reply:
        return self.successResultOf(Deferred.fromCoroutine(self.dispatcher.respond(self.incoming(*args, **kwargs))))

    def error(self, *args: Any, **kwargs: Any) -> tuple[int, str]:
        status, body = self.ask(*args, **kwargs)
        self.assertIsInstance(body["error"], str)
        return status, body["errcode"]

    # Who

    def test_a_token_names_the_caller(self) -> None:
        said = self.ask("GET", "/whoami", headers={"authorization": "Bearer alice"})
        self.assertEqual(said, (200, {"user_id": "@alice:test"}))

    def test_a_token_in_the_query_counts_where_no_header_is(self) -> None:
        self.assertEqual(self.ask("GET", "/whoami?access_token=alice")[0], 200)
        self.assertEqual(self.error("GET", "/whoami?access_token="), (401, "M_MISSING_TOKEN"))
        self.assertEqual(self.error("GET", "/whoami?access_token=bob"), (401, "M_UNKNOWN_TOKEN"))
        refused = self.error("GET", "/whoami?access_token=alice", headers={"authorization": "Bearer bob"})
        self.assertEqual(refused, (401, "M_UNKNOWN_TOKEN"))

    def test_no_token_and_an_unknown_one_are_refused(self) -> None:
        self.assertEqual(self.error("GET", "/whoami"), (401, "M_MISSING_TOKEN"))
        for header in ("alice", "Bearer ", "Bearer", "Basic alice"):
            self.assertEqual(
                self.error("GET", "/whoami", headers={"authorization": header}), (401, "M_MISSING_TOKEN"), header
            )
        refused = self.ask("GET", "/whoami", headers={"authorization": "Bearer bob"})
        self.assertEqual(
            (refused[0], refused[1]["errcode"], refused[1]["soft_logout"]), (401, "M_UNKNOWN_TOKEN", False)
        )

    def test_guests_are_let_in_only_where_it_is_said(self) -> None:
        guest = {"authorization": "Bearer guest"}
        self.assertEqual(self.ask("GET", "/whoami", headers=guest)[0], 200)
        self.assertEqual(self.error("GET", "/members", headers=guest), (403, "M_GUEST_ACCESS_FORBIDDEN"))

    def test_a_token_may_be_optional_but_not_wrong(self) -> None:
        self.assertEqual(self.ask("GET", "/maybe"), (200, {"known": False}))
        self.assertEqual(self.ask("GET", "/maybe", headers={"authorization": "Bearer alice"}), (200, {"known": True}))
        self.assertEqual(self.error("GET", "/maybe", headers={"authorization": "Bearer x"}), (401, "M_UNKNOWN_TOKEN"))

    def test_what_is_for_application_services_is_for_nobody_else(self) -> None:
        self.assertEqual(
            self.ask("GET", "/service", headers={"authorization": "Bearer bridge"}), (200, {"id": "bridge"})
        )
        self.assertEqual(self.error("GET", "/service", headers={"authorization": "Bearer alice"}), (403, "M_FORBIDDEN"))

    # Bodies

    def test_json_of_any_content_type_is_read(self) -> None:
        for kind in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
            self.assertEqual(self.ask("POST", "/object", b'{"a": [1, "\xc3\xa9"]}', kind), (200, {"a": [1, "é"]}))

    def test_what_is_not_json_is_refused(self) -> None:
        for bad in (
            b"",
            b"{",
            b'{"a":',
            b"{'a': 1}",
            b'{"a": "\xff"}',
            b'{"a": "\\ud800"}',
            b'{"a": NaN}',
            b"\xef\xbb\xbf{}",
        ):
            self.assertEqual(self.error("POST", "/object", bad), (400, "M_NOT_JSON"), bad)
            self.assertEqual(self.error("POST", "/point", bad)[0], 400, bad)

    def test_json_that_is_not_an_object_is_refused(self) -> None:
        for bad in (b"[]", b"1", b'"x"', b"null", b"true"):
            self.assertEqual(self.error("POST", "/object", bad), (400, "M_BAD_JSON"), bad)

    def test_an_empty_body_may_stand_for_an_empty_object(self) -> None:
        self.assertEqual(self.ask("POST", "/optional"), (200, {}))
        self.assertEqual(self.error("POST", "/optional", b"nonsense"), (400, "M_NOT_JSON"))

    def test_json_that_is_nested_too_deeply_is_refused(self) -> None:
        for depth, status in ((199, 200), (201, 400), (5000, 400), (100_000, 400)):
            body = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
            self.assertEqual(self.ask("POST", "/object", body)[0], status, depth)

    def test_a_typed_body_names_what_is_wrong(self) -> None:
        self.assertEqual(self.ask("POST", "/point", b'{"x": 1, "y": 2, "z": 3}'), (200, {"sum": 3}))
        status, body = self.ask("POST", "/point", b'{"x": "1"}')
        self.assertEqual((status, body["errcode"]), (400, "M_BAD_JSON"))
        self.assertIn("$.x", body["error"])

    def test_an_upload_is_given_as_a_file(self) -> None:
        said = self.ask("POST", "/upload", b"\x01\x02\xff", {"content-type": "image/png"})
        self.assertEqual(said, (200, {"size": 3, "type": "image/png", "sum": 258}))

    def test_bodies_have_limits_by_kind(self) -> None:
        self.assertEqual(self.dispatcher.body_limit("POST", "/upload"), 99)
        self.assertGreater(self.dispatcher.body_limit("POST", "/object"), 65536)
        self.assertGreater(self.dispatcher.body_limit("POST", "/nothing"), 65536)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_any_body_is_answered(self, body: bytes) -> None:
        self.assertIn(self.reply("POST", "/object", body).status, (200, 400))
        self.assertIn(self.reply("POST", "/point", body).status, (200, 400))

    # Answers

    def test_a_bug_tells_nothing_of_itself(self) -> None:
        logging.getLogger("homeserver.http.dispatch").setLevel(logging.CRITICAL)
        status, body = self.ask("GET", "/broken")
        self.assertEqual((status, body["errcode"]), (500, "M_UNKNOWN"))
        self.assertNotIn("secret", body["error"])

    def test_what_the_rules_refuse_is_forbidden(self) -> None:
        self.assertEqual(self.error("GET", "/rejected"), (403, "M_FORBIDDEN"))

    def test_a_page_may_choose_status_and_headers(self) -> None:
        reply = self.reply("GET", "/answer")
        self.assertEqual((reply.status, reply.headers), (302, {"Location": "https://elsewhere.test/"}))

    def test_unknown_paths_and_methods_are_unrecognized(self) -> None:
        self.assertEqual(self.error("GET", "/nothing"), (404, "M_UNRECOGNIZED"))
        self.assertEqual(self.error("DELETE", "/object"), (405, "M_UNRECOGNIZED"))

    def test_options_is_answered_on_every_path(self) -> None:
        for path in ("/object", "/nothing"):
            self.assertEqual(self.reply("OPTIONS", path).status, 204)

    # Limits

    def test_a_limit_says_when_to_come_back(self) -> None:
        for _ in range(2):
            self.assertEqual(self.ask("GET", "/limited")[0], 200)
        reply = self.reply("GET", "/limited")
        assert isinstance(reply.body, bytes)
        self.assertEqual(orjson.loads(reply.body)["retry_after_ms"], 2000)
        self.assertEqual((reply.status, reply.headers), (429, {"Retry-After": "2"}))

    def test_callers_without_an_account_are_told_apart_by_address(self) -> None:
        for _ in range(3):
            self.ask("GET", "/limited")
        self.assertEqual(self.ask("GET", "/limited", ip="192.0.2.2")[0], 200)
        self.assertEqual(self.ask("GET", "/limited", headers={"authorization": "Bearer alice"})[0], 200)

    def test_application_services_are_not_limited(self) -> None:
        said = {self.ask("GET", "/limited", headers={"authorization": "Bearer bridge"})[0] for _ in range(9)}
        self.assertEqual(said, {200})

    # Counting

    def test_requests_are_counted_by_endpoint_and_status(self) -> None:
        self.ask("POST", "/object", b"{}")
        self.ask("POST", "/object", b"[]")
        self.ask("GET", "/nothing")
        counted = {(one.method, one.path): one.statuses for one in self.stats.all() if one.statuses}
        self.assertEqual(counted, {("POST", "/object"): {200: 1, 400: 1}, ("", "unknown"): {404: 1}})

    def test_long_polls_are_counted_while_they_wait(self) -> None:
        incoming = self.incoming("GET", "/wait")
        waiting = Deferred.fromCoroutine(self.dispatcher.respond(incoming))
        self.assertEqual((self.stats.waiting, incoming.waits), (1, True))
        self.page.parked.callback(None)
        self.successResultOf(waiting)
        self.assertEqual(self.stats.waiting, 0)

    def test_a_cancelled_long_poll_ends(self) -> None:
        waiting = Deferred.fromCoroutine(self.dispatcher.respond(self.incoming("GET", "/wait")))
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertEqual(self.stats.waiting, 0)


class Errors(SynchronousTestCase):
    def test_an_error_has_the_standard_shape(self) -> None:
        self.assertEqual(MatrixError(400, "M_X", "text", more=1).body(), {"errcode": "M_X", "error": "text", "more": 1})
