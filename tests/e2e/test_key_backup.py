# SPDX-License-Identifier: Apache-2.0
"""Key backups: versions, keys, which of two copies stays, and what is refused."""

from typing import Any

from tests.e2e.case import V3, EncryptionCase
from tests.harness.server import Reply, Session

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
ROOM, OTHER_ROOM = "!one:parley.test", "!two:parley.test"


def backed_up(first: int = 0, forwarded: int = 0, verified: bool = False, text: str = "x") -> dict[str, Any]:
    return {
        "first_message_index": first,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": {"ephemeral": "e", "ciphertext": text, "mac": "m"},
    }


class KeyBackupCase(EncryptionCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")

    async def call(self, method: str, path: str, body: Any = None, session: Session | None = None) -> Reply:
        return await self.request(method, f"{V3}/room_keys/{path}", body, session or self.alice)

    async def good(self, method: str, path: str, body: Any = None) -> Any:
        reply = await self.call(method, path, body)
        self.assertEqual(reply.status, 200, reply.json)
        return reply.json

    async def refused(self, status: int, errcode: str, method: str, path: str, body: Any = None) -> Reply:
        reply = await self.call(method, path, body)
        self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode), (path, body))
        return reply

    async def create(self, public_key: str = "k") -> str:
        body = {"algorithm": ALGORITHM, "auth_data": {"public_key": public_key}}
        return str((await self.good("POST", "version", body))["version"])


class VersionTest(KeyBackupCase):
    async def test_without_a_backup_there_is_no_version(self) -> None:
        await self.refused(404, "M_NOT_FOUND", "GET", "version")
        await self.refused(404, "M_NOT_FOUND", "GET", "version/1")
        await self.refused(404, "M_NOT_FOUND", "DELETE", "version/1")
        await self.refused(404, "M_NOT_FOUND", "PUT", "keys?version=1", {"rooms": {}})

    async def test_the_newest_version_is_the_current_one(self) -> None:
        first, second = await self.create("a"), await self.create("b")
        self.assertNotEqual(first, second)
        current = await self.good("GET", "version")
        self.assertEqual(
            current,
            {"algorithm": ALGORITHM, "auth_data": {"public_key": "b"}, "count": 0, "etag": "0", "version": second},
        )
        self.assertEqual((await self.good("GET", f"version/{first}"))["auth_data"], {"public_key": "a"})

    async def test_a_deleted_version_is_gone_its_number_is_not_given_again_and_deleting_twice_succeeds(self) -> None:
        first, second = await self.create(), await self.create()
        await self.good("PUT", f"keys/{ROOM}/s?version={second}", backed_up())
        for _ in range(2):
            self.assertEqual(await self.good("DELETE", f"version/{second}"), {})
        await self.refused(404, "M_NOT_FOUND", "GET", f"version/{second}")
        await self.refused(404, "M_NOT_FOUND", "GET", f"keys?version={second}")
        self.assertEqual((await self.good("GET", "version"))["version"], first)
        self.assertNotIn(await self.create(), (first, second))

    async def test_only_auth_data_can_change(self) -> None:
        version = await self.create()
        body = {"algorithm": ALGORITHM, "auth_data": {"public_key": "new"}}
        self.assertEqual(await self.good("PUT", f"version/{version}", body), {})
        self.assertEqual(await self.good("PUT", f"version/{version}", {**body, "version": version}), {})
        self.assertEqual((await self.good("GET", "version"))["auth_data"], {"public_key": "new"})
        path = f"version/{version}"
        await self.refused(400, "M_INVALID_PARAM", "PUT", path, {**body, "version": "9"})
        await self.refused(400, "M_INVALID_PARAM", "PUT", path, {**body, "algorithm": "other"})
        await self.refused(404, "M_NOT_FOUND", "PUT", "version/77", body)
        self.assertEqual((await self.good("GET", "version"))["algorithm"], ALGORITHM)

    async def test_malformed_descriptions_are_refused(self) -> None:
        for body, errcode in (
            ({}, "M_MISSING_PARAM"),
            ({"algorithm": ALGORITHM}, "M_MISSING_PARAM"),
            ({"algorithm": 1, "auth_data": {}}, "M_BAD_JSON"),
            ({"algorithm": "rot13", "auth_data": {}}, "M_INVALID_PARAM"),
            ({"algorithm": ALGORITHM, "auth_data": []}, "M_BAD_JSON"),
        ):
            await self.refused(400, errcode, "POST", "version", body)
        await self.refused(404, "M_NOT_FOUND", "GET", "version")

    async def test_versions_of_others_are_not_seen(self) -> None:
        version = await self.create()
        bob = await self.register("bob")
        for method, path in (("GET", f"version/{version}"), ("GET", f"keys?version={version}")):
            self.assertEqual((await self.call(method, path, session=bob)).status, 404)
        self.assertEqual((await self.call("DELETE", f"version/{version}", session=bob)).status, 404)
        self.assertEqual((await self.good("GET", "version"))["version"], version)


class KeysTest(KeyBackupCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.version = await self.create()
        self.at = f"?version={self.version}"

    async def test_keys_are_stored_and_read_at_every_level(self) -> None:
        one, two = backed_up(text="one"), backed_up(3, 1, True, "two")
        await self.good("PUT", f"keys{self.at}", {"rooms": {ROOM: {"sessions": {"a": one, "b": two}}}})
        await self.good("PUT", f"keys/{OTHER_ROOM}{self.at}", {"sessions": {"c": one}})
        update = await self.good("PUT", f"keys/{OTHER_ROOM}/d%2F%2B{self.at}", two)
        self.assertEqual(update["count"], 4)
        everything = await self.good("GET", f"keys{self.at}")
        expected = {
            ROOM: {"sessions": {"a": one, "b": two}},
            OTHER_ROOM: {"sessions": {"c": one, "d/+": two}},
        }
        self.assertEqual(everything, {"rooms": expected})
        self.assertEqual(await self.good("GET", f"keys/{OTHER_ROOM}{self.at}"), expected[OTHER_ROOM])
        self.assertEqual(await self.good("GET", f"keys/{OTHER_ROOM}/d%2F%2B{self.at}"), two)
        described = await self.good("GET", "version")
        self.assertEqual((described["count"], described["etag"]), (4, update["etag"]))

    async def test_what_is_not_there(self) -> None:
        self.assertEqual(await self.good("GET", f"keys{self.at}"), {"rooms": {}})
        self.assertEqual(await self.good("GET", f"keys/{ROOM}{self.at}"), {"sessions": {}})
        await self.refused(404, "M_NOT_FOUND", "GET", f"keys/{ROOM}/s{self.at}")
        for path in ("keys", f"keys/{ROOM}", f"keys/{ROOM}/s"):
            await self.refused(404, "M_NOT_FOUND", "GET", f"{path}?version=99")
            await self.refused(404, "M_NOT_FOUND", "DELETE", f"{path}?version=99")
            await self.refused(400, "M_MISSING_PARAM", "GET", path)
            await self.refused(404, "M_NOT_FOUND", "GET", f"{path}?version=none")

    async def test_the_better_copy_stays(self) -> None:
        # Each is better than the ones before it.
        ranked = [
            backed_up(5, 5, False, "e"),
            backed_up(5, 4, False, "d"),
            backed_up(4, 9, False, "c"),
            backed_up(9, 9, True, "b"),
            backed_up(3, 9, True, "a"),
        ]
        path = f"keys/{ROOM}/s"
        for worse in range(len(ranked)):
            for better in range(worse, len(ranked)):
                version = await self.create()
                for key in (ranked[better], ranked[worse]), (ranked[worse], ranked[better]):
                    await self.good("PUT", f"{path}?version={version}", key[0])
                    etag = (await self.good("GET", "version"))["etag"]
                    update = await self.good("PUT", f"{path}?version={version}", key[1])
                    self.assertEqual(await self.good("GET", f"{path}?version={version}"), ranked[better])
                    self.assertEqual(update["count"], 1)
                    if key[0] is ranked[better]:
                        self.assertEqual(update["etag"], etag)

    async def test_the_etag_changes_with_the_keys_and_only_then(self) -> None:
        etags = [(await self.good("GET", "version"))["etag"]]
        path = f"keys/{ROOM}/s{self.at}"
        for method, key, changes in (
            ("PUT", backed_up(5), True),
            ("PUT", backed_up(5), False),
            ("PUT", backed_up(4), True),
            ("DELETE", None, True),
            ("DELETE", None, False),
        ):
            etags.append((await self.good(method, path, key))["etag"])
            self.assertEqual(etags[-1] != etags[-2], changes, (method, key))

    async def test_keys_are_deleted_at_every_level(self) -> None:
        sessions = {"a": backed_up(), "b": backed_up()}
        await self.good(
            "PUT", f"keys{self.at}", {"rooms": {room: {"sessions": sessions} for room in (ROOM, OTHER_ROOM)}}
        )
        counts = [
            (await self.good("DELETE", f"{path}{self.at}"))["count"]
            for path in (f"keys/{ROOM}/a", f"keys/{OTHER_ROOM}", f"keys/{OTHER_ROOM}/b", "keys")
        ]
        self.assertEqual(counts, [3, 1, 1, 0])
        self.assertEqual(await self.good("GET", f"keys{self.at}"), {"rooms": {}})

    async def test_keys_go_into_the_current_version_only(self) -> None:
        newer = await self.create()
        for path, body in (
            ("keys", {"rooms": {ROOM: {"sessions": {"s": backed_up()}}}}),
            (f"keys/{ROOM}", {"sessions": {"s": backed_up()}}),
            (f"keys/{ROOM}/s", backed_up()),
        ):
            reply = await self.refused(403, "M_WRONG_ROOM_KEYS_VERSION", "PUT", f"{path}{self.at}", body)
            self.assertEqual(reply.json["current_version"], newer)
            await self.refused(404, "M_NOT_FOUND", "PUT", f"{path}?version=99", body)
            await self.refused(400, "M_MISSING_PARAM", "PUT", path, body)
        self.assertEqual((await self.good("GET", f"version/{self.version}"))["count"], 0)

    async def test_malformed_keys_are_refused_and_none_of_the_request_is_kept(self) -> None:
        good = backed_up()
        for wrong in (
            "key",
            {**good, "first_message_index": "0"},
            {**good, "first_message_index": -1},
            {**good, "first_message_index": 2**60},
            {**good, "first_message_index": True},
            {**good, "forwarded_count": 1.5},
            {**good, "is_verified": "yes"},
            {**good, "session_data": "text"},
            {name: part for name, part in good.items() if name != "session_data"},
        ):
            body = {"sessions": {"good": good, "wrong": wrong}}
            await self.refused(400, "M_BAD_JSON", "PUT", f"keys/{ROOM}{self.at}", body)
        for body in ({}, {"rooms": []}, {"rooms": {ROOM: {}}}, {"rooms": {ROOM: {"sessions": []}}}):
            await self.refused(400, "M_BAD_JSON", "PUT", f"keys{self.at}", body)
        await self.refused(400, "M_INVALID_PARAM", "PUT", f"keys/{ROOM}/{'s' * 300}{self.at}", good)
        self.assertEqual((await self.good("GET", "version"))["count"], 0)

    async def test_many_keys_at_once(self) -> None:
        sessions = {f"session{n}": backed_up(n) for n in range(1500)}
        update = await self.good("PUT", f"keys/{ROOM}{self.at}", {"sessions": sessions})
        self.assertEqual(update["count"], 1500)
        self.assertEqual((await self.good("PUT", f"keys/{ROOM}{self.at}", {"sessions": sessions})), update)
        self.assertEqual((await self.good("GET", f"keys/{ROOM}{self.at}"))["sessions"], sessions)
