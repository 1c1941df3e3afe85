# SPDX-License-Identifier: Apache-2.0
"""Servers publish their keys, know each other's, and sign and check their requests."""

from typing import Any

from federation import x_matrix
from federation.outbound.client import Refused
from federation.outbound.transport import Unreachable
from homeserver.protocol.signing import BadSignature, Signer, SigningKey, VerifyKey, verify_signed
from tests.federation.case import FederationCase, Peer

VERSION = "/_matrix/federation/v1/version"


def client_of(peer: Peer) -> Any:
    return peer.app.pages["federation"][0]._keyring._client


def keyring_of(peer: Peer) -> Any:
    return peer.app.pages["federation"][0]._keyring


class Keys(FederationCase):
    async def test_a_server_publishes_its_key_signed_with_it(self) -> None:
        one, _ = self.peers
        answer = (await one.request("GET", "/_matrix/key/v2/server")).json
        key = VerifyKey.parse("ed25519:k1", answer["verify_keys"]["ed25519:k1"]["key"])
        verify_signed(answer, one.name, {key.key_id: key})
        self.assertGreater(answer["valid_until_ts"], one.runtime.now_ms())

    async def test_a_key_that_was_replaced_is_still_known(self) -> None:
        one, two = self.peers
        old, one.key = one.key, SigningKey.from_seed("new", b"n" * 32)
        (one.folder / "signing.key").write_text(one.key.line() + old.line())
        await one.stop()
        await one.start()
        answer = (await one.request("GET", "/_matrix/key/v2/server")).json
        self.assertEqual(list(answer["verify_keys"]), ["ed25519:new"])
        self.assertEqual(answer["old_verify_keys"]["ed25519:k1"]["key"], old.public_base64)
        await keyring_of(two).refresh(one.name)
        message = b"now"
        await keyring_of(two).verify(one.name, "ed25519:new", one.key.sign(message), message)
        self.clock.advance(86_400.0 * 365)
        with self.assertRaises(BadSignature):
            await keyring_of(two).verify(one.name, "ed25519:k1", old.sign(message), message)

    async def test_servers_talk_over_verified_tls(self) -> None:
        one, two = self.peers
        answer = await client_of(one).get(two.name, VERSION)
        self.assertEqual(answer["server"]["name"], "Parley")

    async def test_a_notary_tells_the_keys_of_others(self) -> None:
        one, two = self.peers
        body = {"server_keys": {two.name: {}, "nobody.invalid:1": {}, one.name: {}}}
        answer = (await one.request("POST", "/_matrix/key/v2/query", body)).json["server_keys"]
        self.assertEqual({each["server_name"] for each in answer}, {one.name, two.name})
        self.assertTrue(all(one.name in each["signatures"] for each in answer))
        again = (await one.request("GET", f"/_matrix/key/v2/query/{two.name}")).json["server_keys"]
        self.assertIn("ed25519:k2", again[0]["verify_keys"])

    async def test_the_notary_wants_server_names(self) -> None:
        one, _ = self.peers
        for body in ({}, {"server_keys": []}, {"server_keys": {"not a name": {}}}, {"server_keys": {"a.b": 1}}):
            await one.request("POST", "/_matrix/key/v2/query", body, expect=400)

    async def test_keys_survive_a_restart_and_the_end_of_their_server(self) -> None:
        one, two = self.peers
        await keyring_of(one).refresh(two.name)
        await two.stop()
        await one.stop()
        await one.start()
        message = b"hello"
        await keyring_of(one).verify(two.name, "ed25519:k2", two.key.sign(message), message)
        with self.assertRaises(BadSignature):
            await keyring_of(one).verify(two.name, "ed25519:k2", two.key.sign(message), b"other")
        self.clock.advance(8 * 86_400.0)
        with self.assertRaises(BadSignature):
            await keyring_of(one).verify(two.name, "ed25519:k2", two.key.sign(message), message)


class Requests(FederationCase):
    path = "/_matrix/federation/v1/query/directory"

    async def ask(self, authorization: str | None, expect: int) -> Any:
        headers = {} if authorization is None else {"authorization": authorization}
        return (await self.peers[0].request("GET", self.path, headers=headers, expect=expect)).json

    async def test_unsigned_and_missigned_requests_are_refused(self) -> None:
        one, two = self.peers
        signer = Signer(two.name, two.key)
        right = x_matrix.header(signer, "GET", self.path, one.name, None, has_content=False)
        for wrong in (
            None,
            "Bearer abc",
            "X-Matrix nonsense",
            x_matrix.header(signer, "GET", self.path, "else.where", None, has_content=False),
            x_matrix.header(signer, "PUT", self.path, one.name, None, has_content=False),
            x_matrix.header(signer, "GET", self.path, one.name, {}, has_content=True),
            x_matrix.header(
                Signer(two.name, SigningKey.from_seed("k2", b"x" * 32)), "GET", self.path, one.name, None,
                has_content=False,
            ),
            x_matrix.header(Signer(one.name, one.key), "GET", self.path, one.name, None, has_content=False),
        ):  # fmt: skip
            self.assertEqual((await self.ask(wrong, 401))["errcode"], "M_UNAUTHORIZED")
        self.assertEqual((await self.ask(right, 400))["errcode"], "M_MISSING_PARAM")

    async def test_the_header_is_read_as_others_write_it(self) -> None:
        claim = x_matrix.parse('x-matrix origin=a.b, destination="c.d:1" ,key="ed25519:1",sig="ab\\"c"')
        assert claim is not None
        self.assertEqual((claim.origin, claim.destination, claim.signature), ("a.b", "c.d:1", 'ab"c'))
        for wrong in (
            "X-Matrix",
            "X-Matrix origin=a.b",
            'X-Matrix origin="a b",key="k",sig="s"',
            "X-Matrix origin=a,,",
        ):
            self.assertIsNone(x_matrix.parse(wrong))


class Closed(FederationCase):
    async def test_an_allowlist_shuts_others_out(self) -> None:
        from tests.federation import certificates

        one, two = self.peers
        ca = certificates.usual().ca
        closed = await self.add_peer(
            2, f"federation: {{enabled: true, mode: allowlist, allowlist: ['{one.name}'], ca_file: {ca}}}"
        )
        with self.assertRaises(Refused) as caught:
            await client_of(two).get(closed.name, "/_matrix/federation/v1/query/directory")
        self.assertEqual(caught.exception.status, 403)
        with self.assertRaises(Refused) as caught:
            await client_of(one).get(closed.name, "/_matrix/federation/v1/query/directory")
        self.assertEqual(caught.exception.status, 400)
        with self.assertRaises(Unreachable):
            await client_of(closed).get(two.name, VERSION)

    async def test_a_server_with_another_authority_or_a_private_address_is_not_asked(self) -> None:
        one, two = self.peers
        strict = await self.add_peer(2, "federation: {enabled: true}")
        with self.assertRaises(Unreachable):
            await client_of(strict).get(two.name, VERSION)
        from federation.outbound.transport import Target, Transport

        config = one.app.base.config
        import attrs

        shut = attrs.evolve(config, network=attrs.evolve(config.network, allow_private_addresses=()))
        transport = Transport(one.runtime, shut)
        for host in ("localhost", "127.0.0.1"):
            with self.assertRaises(Unreachable) as caught:
                await transport.request(Target(host, two.port, host, host), "GET", VERSION, {}, timeout=5, largest=1000)
            self.assertIn("may be connected to", caught.exception.reason)
