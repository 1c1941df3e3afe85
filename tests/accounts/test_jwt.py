# SPDX-License-Identifier: Apache-2.0
"""Signing in with a token that a shop's backend signed."""

from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from homeserver.services.jwt_login import encoded
from storage import accounts
from tests.harness.server import EPOCH_MS, HomeserverCase, Reply

SECRET = "a secret that is long enough for HS256"
NOW = EPOCH_MS // 1000
LOGIN = "/_matrix/client/v3/login"


class JwtCase(HomeserverCase):
    def token(self, key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any) -> str:
        given = {"sub": "17", "exp": NOW + 60, "iss": "shop", "aud": "chat", **claims}
        given = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(given, key, algorithm, headers)

    async def log_in(self, token: object) -> Reply:
        return await self.request("POST", LOGIN, {"type": "org.matrix.login.jwt", "token": token})


class SecretTests(JwtCase):
    settings = f"""
jwt:
  - {{secret: "{SECRET}", issuer: shop, audience: chat, prefix: s1_}}
"""

    async def test_one_call_makes_the_account_and_its_profile(self) -> None:
        flows = (await self.request("GET", LOGIN)).json["flows"]
        self.assertIn({"type": "org.matrix.login.jwt"}, flows)
        claims = {"name": "Ann", "avatar_url": "mxc://parley.test/x", "role": "seller"}
        reply = await self.log_in(self.token(**claims))
        self.assertEqual((reply.status, reply.json["user_id"]), (200, "@s1_17:parley.test"))
        profile = await self.request("GET", "/_matrix/client/v3/profile/@s1_17:parley.test")
        shown = {"displayname": "Ann", "avatar_url": "mxc://parley.test/x", "chat.parley.role": "seller"}
        self.assertEqual(profile.json, shown)
        again = await self.log_in(self.token(name="Anna"))
        self.assertEqual((again.status, again.json["user_id"]), (200, "@s1_17:parley.test"))
        profile = await self.request("GET", "/_matrix/client/v3/profile/@s1_17:parley.test")
        self.assertEqual(profile.json, {**shown, "displayname": "Anna"})

    async def test_useless_claims_are_passed_over(self) -> None:
        reply = await self.log_in(self.token(name=5, avatar_url="http://x/y.png", role=["a"]))
        self.assertEqual(reply.status, 200)
        self.assertEqual((await self.request("GET", "/_matrix/client/v3/profile/@s1_17:parley.test")).json, {})

    async def test_tokens_that_are_refused(self) -> None:
        unsigned = jwt.encode({"sub": "17", "exp": NOW + 60, "iss": "shop", "aud": "chat"}, None, "none")
        for token in (
            self.token("another secret that is long enough"),
            self.token(algorithm="HS512", key=SECRET * 2),
            self.token(exp=NOW - 60),
            self.token(nbf=NOW + 60),
            self.token(exp=None),
            self.token(exp="soon"),
            self.token(sub=None),
            self.token(sub=""),
            self.token(sub="x" * 300),
            self.token(iss="other"),
            self.token(iss=None),
            self.token(aud="other"),
            unsigned,
            self.token()[:-2],
            "x" * 9000,
            "a.b.c",
            "",
        ):
            reply = await self.log_in(token)
            self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"), token[:40])
        self.assertEqual((await self.log_in(5)).json["errcode"], "M_MISSING_PARAM")
        self.assertIsNone(await self.app.base.db.read(accounts.find, "@s1_17:parley.test"))

    def test_every_subject_is_another_local_part(self) -> None:
        subjects = ["17", "A", "a", "=41", "ü", "a b", "a/b", "@x:y"]
        self.assertEqual(len({encoded(subject) for subject in subjects}), len(subjects))
        self.assertEqual(encoded("A ü"), "=41=20=c3=bc")


class KeyTests(JwtCase):
    async def start_server(self) -> None:
        self.key, self.other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "shop.pem").write_bytes(pem)
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.other.public_key(), as_dict=True)
        second = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        keys = [{**public, "kid": "one", "alg": "ES256"}, {**second, "kid": "two", "alg": "ES256"}]
        (self.folder / "shop.jwks").write_bytes(orjson.dumps({"keys": keys}))
        await super().start_server()

    settings = """
jwt:
  - {public_key_file: shop.pem, algorithms: [ES256], prefix: pem_}
  - {jwks_file: shop.jwks, algorithms: [ES256], prefix: set_, issuer: second}
"""

    async def test_keys_from_files(self) -> None:
        for token, user in (
            (self.token(self.key, "ES256"), "@pem_17:parley.test"),
            (self.token(self.other, "ES256", {"kid": "one"}, iss="second"), "@set_17:parley.test"),
        ):
            reply = await self.log_in(token)
            self.assertEqual((reply.status, reply.json.get("user_id")), (200, user))
        for token in (
            self.token(self.other, "ES256", {"kid": "one"}, iss="third"),
            self.token(self.other, "ES256", {"kid": "two"}, iss="second"),
            self.token(self.other, "ES256", {"kid": "three"}, iss="second"),
            self.token((self.folder / "shop.pem").read_text()[27:-26].strip().replace("\n", ""), "HS256"),
        ):
            self.assertEqual((await self.log_in(token)).status, 403)
