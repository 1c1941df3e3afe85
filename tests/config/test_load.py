# SPDX-License-Identifier: Apache-2.0
"""What a configuration file may say, and what is said of a wrong one."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from homeserver.config.load import ConfigError, load, parse
from homeserver.config.model import Config
from homeserver.config.template import reference, template

FOLDER = Path("/etc/parley")


def read(text: str, environment: Mapping[str, str] = {}, folder: Path = FOLDER) -> Config:
    return parse(text, "homeserver.yaml", folder, environment)


class Good(TestCase):
    def test_a_name_is_enough(self) -> None:
        config = read("server_name: example.org")
        self.assertEqual(config.server_name, "example.org")
        self.assertEqual([(one.bind, one.port) for one in config.listeners], [("127.0.0.1", 8008)])
        self.assertEqual(config.database_url, "sqlite:////etc/parley/data/parley.db")
        self.assertEqual(config.key_file, FOLDER / "data" / "signing.key")
        self.assertEqual(config.rooms.default_version, "12")
        self.assertFalse(config.registration.enabled or config.federation.enabled)
        self.assertTrue(config.rate_limits.enabled and config.presence.enabled)

    def test_relative_paths_start_at_the_file(self) -> None:
        config = read("server_name: a.b\ndata_dir: d\nsigning_key_file: k\ndatabase: {url: 'sqlite:///x/y.db'}")
        self.assertEqual((config.data_dir, config.key_file), (FOLDER / "d", FOLDER / "k"))
        self.assertEqual(config.database_url, "sqlite:////etc/parley/x/y.db")
        self.assertEqual(read("server_name: a.b\ndata_dir: /d").data_dir, Path("/d"))

    def test_the_schema_decides_what_a_word_is(self) -> None:
        self.assertEqual(read("server_name: no").server_name, "no")
        self.assertEqual(read("server_name: 1.2").server_name, "1.2")
        self.assertEqual(read("server_name: a.b\nrooms: {default_version: 11}").rooms.default_version, "11")

    def test_sizes_and_durations_have_units(self) -> None:
        config = read("server_name: a.b\nmedia: {max_upload_size: 20M}\nsessions: {access_token_lifetime: 90s}")
        self.assertEqual((config.media.max_upload_size, config.sessions.access_token_lifetime), (20 << 20, 90_000))

    def test_the_environment_wins(self) -> None:
        text = "server_name: a.b\nlisteners:\n  - port: 1\n"
        config = read(
            text,
            {
                "PARLEY_SERVER_NAME": "c.d",
                "PARLEY_LISTENERS__0__PORT": "2",
                "PARLEY_REGISTRATION__ENABLED": "true",
                "PARLEY_RATE_LIMITS__LOGIN__BURST": "7",
                "PARLEY_RATE_LIMITS__LOGIN__PER_SECOND": "0.5",
                "PARLEY_DATABASE__URL": "postgresql://u:p@h/d",
                "PARLEY_SOMETHING": "else",
            },
        )
        self.assertEqual((config.server_name, config.listeners[0].port), ("c.d", 2))
        self.assertTrue(config.registration.enabled)
        self.assertEqual((config.rate_limits.login.per_second, config.rate_limits.login.burst), (0.5, 7))
        self.assertEqual(config.database_url, "postgresql://u:p@h/d")

    def test_a_secret_may_be_in_a_file(self) -> None:
        folder = Path(tempfile.mkdtemp())
        (folder / "s").write_text("hush\n")
        inside = read("server_name: a.b\nregistration: {shared_secret_file: s}", {}, folder)
        self.assertEqual(inside.registration.shared_secret, "hush")
        outside = read("server_name: a.b", {"PARLEY_REGISTRATION__SHARED_SECRET_FILE": "s"}, folder)
        self.assertEqual(outside.registration.shared_secret, "hush")

    def test_several_listeners_with_their_faces_and_certificates(self) -> None:
        config = read(
            """
server_name: a.b
listeners:
  - {port: 443, bind: '::', tls: {certificate_file: c.pem, private_key_file: k.pem}, serve: [client, web]}
  - {port: 9000, serve: [metrics], behind_proxy: true}
"""
        )
        assert config.listeners[0].tls is not None
        self.assertEqual(config.listeners[0].tls.certificate_file, FOLDER / "c.pem")
        self.assertEqual((config.listeners[1].serve, config.listeners[1].behind_proxy), (("metrics",), True))
        self.assertEqual(config.base_url, "https://localhost:443")

    def test_the_base_url_has_no_slash_at_its_end(self) -> None:
        self.assertEqual(read("server_name: a.b\npublic_base_url: https://a.b/").base_url, "https://a.b")


class Bad(TestCase):
    def faults(self, text: str, environment: Mapping[str, str] = {}) -> list[str]:
        return self.assertRaises(ConfigError, read, text, environment).faults

    def test_every_fault_is_told_at_once_with_its_line(self) -> None:
        text = """\
server_name: "not a name"
listners: []
listeners:
  - port: "8008"
    serve: [client, wbe]
  - bind: x
rate_limits:
  login: {per_second: 0, burst: 3}
media: {max_upload_size: 10Q}
presence: {enabled: yes}
log: {level: inf}
registration: {enabled: true, enabled: false}
network: {allow_private_addresses: [10.0.0.0/8, nonsense]}
"""
        expected = [
            (1, "server_name", "expected a host name"),
            (2, "listners", "unknown key, did you mean listeners?"),
            (4, "listeners.0.port", "expected a whole number without quotes, found '8008'"),
            (5, "listeners.0.serve.1", "did you mean web?"),
            (6, "listeners.1.port", "missing, expected a whole number"),
            (8, "rate_limits.login.per_second", "expected at least"),
            (9, "media.max_upload_size", "expected a size such as 50M, found '10Q'"),
            (10, "presence.enabled", "expected true or false, found 'yes'"),
            (11, "log.level", "did you mean info?"),
            (12, "registration.enabled", "given twice"),
            (13, "network.allow_private_addresses", "expected address ranges"),
        ]
        faults = self.faults(text)
        self.assertEqual(len(faults), len(expected), "\n".join(faults))
        for fault, (line, key, words) in zip(faults, expected, strict=True):
            self.assertTrue(fault.startswith(f"homeserver.yaml:{line}: {key}: "), fault)
            self.assertIn(words, fault)

    def test_what_is_required_is_missed(self) -> None:
        self.assertEqual(self.faults(""), ["homeserver.yaml:1: server_name: missing, expected text"])
        self.assertEqual(self.faults("# nothing\n"), ["homeserver.yaml:1: server_name: missing, expected text"])

    def test_what_is_not_a_file_of_keys_is_refused(self) -> None:
        self.assertIn("expected keys and values", self.faults("[1, 2]")[0])
        self.assertIn("expected keys and values", self.faults("just words")[0])
        self.assertRegex(self.faults("a: 1\nb: [1, }\n")[0], "^homeserver.yaml:2: not valid YAML")
        self.assertIn("aliases", self.faults("a: &a [*a]")[0])

    def test_wrong_values_of_the_environment_are_told(self) -> None:
        said = self.faults("server_name: a.b", {"PARLEY_PRESENCE__ENABLED": "maybe"})
        self.assertEqual(said, ["PARLEY_PRESENCE__ENABLED: expected true or false, found 'maybe'"])

    def test_a_secret_is_given_once_and_its_file_must_be_there(self) -> None:
        text = "server_name: a.b\nregistration: {shared_secret: x, shared_secret_file: y}"
        self.assertIn("expected one of them", self.faults(text)[0])
        text = "server_name: a.b\nregistration: {shared_secret_file: /nowhere/x}"
        self.assertIn("cannot read", self.faults(text)[0])

    def test_a_password_in_an_address_is_not_shown(self) -> None:
        self.assertNotIn("hush", self.faults("server_name: a.b\ndatabase: {url: 'mysql://u:hush@h/d'}")[0])

    def test_what_does_not_go_together_is_told(self) -> None:
        text = "server_name: a.b\nlisteners: [{port: 1}, {port: 1}]\nregistration: {token_required: true}"
        self.assertEqual(len(self.faults(text)), 2)

    def test_a_file_that_is_not_there_is_told(self) -> None:
        self.assertIn("cannot be read", self.assertRaises(ConfigError, load, Path("/nowhere"), {}).faults[0])

    @given(st.text(max_size=200))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            read(text)
        except ConfigError as error:
            self.assertTrue(error.faults)


class Template(TestCase):
    def test_a_written_file_is_right_and_every_default_in_it_too(self) -> None:
        text = template({"server_name": "example.org", "registration": {"enabled": True}})
        self.assertTrue(read(text).registration.enabled)
        shown = re.sub(r"^( *)#( *[a-z0-9_]+:)", r"\1\2", text, flags=re.MULTILINE)
        shown = re.sub(r"^#( +#)", r" \1", shown, flags=re.MULTILINE)
        self.assertEqual(read(shown).media.max_upload_size, read(text).media.max_upload_size)

    def test_every_key_is_on_the_reference_page(self) -> None:
        page = reference()
        for key in ("server_name", "listeners[].tls.certificate_file", "rate_limits.login", "log.format"):
            self.assertIn(f"`{key}`", page)
