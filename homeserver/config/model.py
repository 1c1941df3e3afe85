# SPDX-License-Identifier: Apache-2.0
"""Every key of homeserver.yaml."""

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import attrs

from homeserver.config.media import Media
from homeserver.config.option import at_least, option
from homeserver.protocol.ids import is_user_id
from homeserver.protocol.room_versions import ROOM_VERSIONS

DAY_MS = 86_400_000
Serve = Literal["client", "federation", "metrics", "web"]


def _server_name(value: str) -> str | None:
    ok = value and len(value) <= 230 and all(c.isascii() and (c.isalnum() or c in ".-:[]") for c in value)
    return None if ok else "a host name with an optional port, such as chat.example.org"


def _server_names(values: tuple[str, ...]) -> str | None:
    return next((fault for fault in map(_server_name, values) if fault), None)


def _url(value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    ok = parts.scheme in ("http", "https") and parts.netloc and not parts.query and not parts.fragment
    return None if ok else "an address such as https://chat.example.org"


def _urls(values: tuple[str, ...]) -> str | None:
    return next((fault for fault in map(_url, values) if fault), None)


def _user_id(value: str) -> str | None:
    return None if is_user_id(value) else "a user id such as @bot:example.org"


def _factor(value: float) -> str | None:
    return None if value == 0 or value >= 0.1 else "0, or at least 0.1"


def _port(value: int) -> str | None:
    return None if 0 <= value <= 65535 else "a port number from 0 to 65535"


def _networks(values: tuple[str, ...]) -> str | None:
    try:
        for value in values:
            ipaddress.ip_network(value, strict=False)
    except ValueError:
        return "address ranges such as 10.0.0.0/8"
    return None


def _addresses(values: tuple[str, ...]) -> str | None:
    try:
        for value in values:
            ipaddress.ip_address(value.rpartition(":")[0] if value.count(":") == 1 else value)
    except ValueError:
        return "addresses such as 192.0.2.53 or 127.0.0.1:5353"
    return None


def _database(value: str | None) -> str | None:
    ok = value is None or value.startswith(("sqlite:///", "postgresql://", "postgres://"))
    return None if ok else "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"


def _room_version(value: str) -> str | None:
    return None if value in ROOM_VERSIONS else "a room version from 1 to 12"


def _algorithms(values: tuple[str, ...]) -> str | None:
    known = "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA".split()
    return None if values and all(value in known for value in values) else "algorithms out of " + ", ".join(known)


def _prefix(value: str) -> str | None:
    ok = len(value) <= 64 and all(c in "abcdefghijklmnopqrstuvwxyz0123456789._=-/+" for c in value)
    return None if ok else "up to 64 characters out of a-z, 0-9 and . _ = - / +"


def _jwt_issuers(values: "tuple[JwtIssuer, ...]") -> str | None:
    for one in values:
        shared = [algorithm.startswith("HS") for algorithm in one.algorithms]
        if sum(key is not None for key in (one.secret, one.public_key_file, one.jwks_file)) != 1:
            return "one of secret, public_key_file and jwks_file for each"
        if one.secret is not None and len(one.secret.encode()) < 32:
            return "a secret of at least 32 bytes"
        if any(shared) and not all(shared) or (one.secret is not None) != any(shared):
            return "algorithms HS... with a secret, and others with public keys"
    return None


def _turn_uris(values: tuple[str, ...]) -> str | None:
    ok = values and all(value.startswith(("turn:", "turns:", "stun:", "stuns:")) for value in values)
    return None if ok else "addresses such as turn:turn.example.org?transport=udp"


def _ed25519_key(value: str | None) -> str | None:
    ok = value is None or len(value) == 43 and all(c.isascii() and (c.isalnum() or c in "+/-_") for c in value)
    return None if ok else "an ed25519 public key: 43 characters of unpadded base64"


def _mail_address(value: str) -> str | None:
    local, at, domain = value.rpartition("@")
    return None if local and at and domain and value.isprintable() and " " not in value else "an e-mail address"


@attrs.frozen
class Tls:
    """The certificate of a listener that speaks HTTPS."""

    certificate_file: Path = option("PEM file with the certificate and those between it and the root", kind="path")
    private_key_file: Path = option("PEM file with its private key", kind="path")


@attrs.frozen
class Listener:
    """A port that the server listens on."""

    port: int = option("The TCP port; 0 takes a free one", check=_port)
    bind: str = option("The address to listen on; 0.0.0.0 or :: for all", default="127.0.0.1")
    tls: Tls | None = option("Speak HTTPS with this certificate", default=None)
    serve: tuple[Serve, ...] = option("What answers on this port", default=("client", "federation", "web"))
    behind_proxy: bool = option("Take the client's address from X-Forwarded-For, as a proxy sets it", default=False)


@attrs.frozen
class Database:
    """Where everything is stored."""

    url: str | None = option(
        "sqlite:///FILE (relative to this file) or postgresql://USER:PASSWORD@HOST/NAME; not given: a file in data_dir",
        kind="database",
        default=None,
        check=_database,
    )
    readers: int = option("Connections for reading beside the one that writes", default=4, check=at_least(1))


@attrs.frozen
class Registration:
    """Who may make an account."""

    enabled: bool = option("Anybody may make an account", default=False)
    token_required: bool = option("A registration token is needed, too", default=False)
    email_required: bool = option("A proven e-mail address is needed, too", default=False)
    guests: bool = option("Guests may come in without a name and password", default=False)
    shared_secret: str | None = option(
        "With this secret tools make accounts at /_synapse/admin/v1/register", kind="secret", default=None
    )


@attrs.frozen
class Passwords:
    """What a guess at a stolen password hash costs (argon2id)."""

    memory_kib: int = option("Memory of one hash in KiB", default=19456, check=at_least(8))
    rounds: int = option("Passes over that memory", default=2, check=at_least(1))
    minimum_length: int = option("The shortest password that is taken", default=8, check=at_least(1))
    imported_pepper: str | None = option(
        "The pepper of bcrypt hashes that came from another server", kind="secret", default=None
    )


@attrs.frozen
class Sessions:
    """How long access tokens live."""

    access_token_lifetime: int = option(
        "Of the tokens of clients that can refresh them", kind="duration", default=3_600_000, check=at_least(1000)
    )
    refresh_token_lifetime: int | None = option(
        "How long a refresh token may lie unused; not given: for ever", kind="duration", default=None
    )


@attrs.frozen
class JwtIssuer:
    """A backend that signs its users in with signed tokens (JWT)."""

    secret: str | None = option(
        "The secret of HS256, HS384 and HS512, of 32 bytes at least", kind="secret", default=None
    )
    public_key_file: Path | None = option("PEM file of the backend's public key", kind="path", default=None)
    jwks_file: Path | None = option("File of the backend's public keys (JWKS)", kind="path", default=None)
    algorithms: tuple[str, ...] = option("What it signs with", default=("HS256",), check=_algorithms)
    issuer: str | None = option("What `iss` must be", default=None)
    audience: str | None = option("What `aud` must hold", default=None)
    prefix: str = option("What the local parts of its users begin with", default="", check=_prefix)


@attrs.frozen
class Rate:
    """A bucket that fills with time and pays for each call."""

    per_second: float = option("How many calls come back each second", check=at_least(0.0001))
    burst: int = option("How many calls at once", check=at_least(1))


@attrs.frozen
class UserRate:
    """A user who may call more often, or less."""

    user: str = option("The user's id", check=_user_id, example="@bot:example.org")
    factor: float = option(
        "How many times as often as others; 0 for as often as they like", check=_factor, example="10"
    )


@attrs.frozen
class RateLimits:
    """How often one user, or one address for callers without an account, may call."""

    enabled: bool = option("Refuse calls over the limits", default=True)
    default: Rate = option("What has no limit of its own", default=Rate(100.0, 500))
    message: Rate = option("Sending events", default=Rate(10.0, 100))
    registration: Rate = option("Making accounts, by address", default=Rate(0.2, 10))
    login: Rate = option("Signing in, by address", default=Rate(0.3, 10))
    login_failures: Rate = option("Wrong passwords, by account", default=Rate(0.1, 10))
    mail: Rate = option("Mails to one address", default=Rate(0.005, 5))
    joins: Rate = option("Joining rooms", default=Rate(1.0, 30))
    invites: Rate = option("Inviting", default=Rate(1.0, 50))
    membership: Rate = option("Leaving, kicking, banning", default=Rate(2.0, 50))
    rooms: Rate = option("Creating rooms", default=Rate(1.0, 30))
    room_read: Rate = option("Reading history, members, relations", default=Rate(20.0, 200))
    directory: Rate = option("Reading the room directory", default=Rate(5.0, 50))
    delayed_events: Rate = option("Managing delayed events", default=Rate(2.0, 20))
    federation: Rate = option("Requests of another server", default=Rate(200.0, 2000))
    keys: Rate = option("Uploading and claiming keys", default=Rate(20.0, 200))
    media: Rate = option("Uploading files", default=Rate(2.0, 50))
    user_data: Rate = option("Receipts, typing, presence, push rules and pushers", default=Rate(20.0, 200))
    search: Rate = option("Searching", default=Rate(2.0, 30))
    reports: Rate = option("Reporting content", default=Rate(0.2, 10))
    users: tuple[UserRate, ...] = option("Users with limits of their own", default=())


@attrs.frozen
class Smtp:
    """The mail server that takes what this server sends."""

    host: str = option("Its name or address", example="mail.example.org")
    port: int = option("Its port", default=587, check=_port)
    tls: Literal["starttls", "tls", "none"] = option(
        "How the connection is encrypted: after a greeting, from the start, or not at all", default="starttls"
    )
    user: str | None = option("Whom to sign in as", default=None)
    password: str | None = option("With what password", kind="secret", default=None)
    ca_file: Path | None = option("PEM file of authorities to trust instead of the system's", kind="path", default=None)


@attrs.frozen
class Email:
    """Mails to people, to prove that an address is theirs."""

    sender: str = option("The address that mails come from", example="chat@example.org", check=_mail_address)
    smtp: Smtp = option("")


@attrs.frozen
class Network:
    """Where the server may connect to."""

    allow_private_addresses: tuple[str, ...] = option(
        "Private address ranges that it may connect to all the same", default=(), check=_networks
    )
    dns: tuple[str, ...] = option("DNS servers to ask instead of the system's", default=(), check=_addresses)


@attrs.frozen
class Federation:
    """Talking to other servers."""

    enabled: bool = option("Take part in the Matrix network", default=False)
    mode: Literal["open", "allowlist", "closed"] = option(
        "Talk with every server, with those of the allowlist, or with none", default="open"
    )
    allowlist: tuple[str, ...] = option("Server names", default=(), check=_server_names)
    delegate: str | None = option(
        "Host and port where other servers reach this one, for /.well-known/matrix/server", default=None
    )
    key_servers: tuple[str, ...] = option(
        "Servers that are asked for the keys of those that do not answer", default=(), check=_server_names
    )
    ca_file: Path | None = option("PEM file of authorities to trust instead of the system's", kind="path", default=None)
    verify_certificates: bool = option("Check other servers' certificates; off only for tests", default=True)


@attrs.frozen
class Presence:
    """Who is online."""

    enabled: bool = option("Show users each other's presence", default=True)


@attrs.frozen
class Rooms:
    """Rooms made here."""

    default_version: str = option("The version of new rooms", default="12", check=_room_version)


@attrs.frozen
class DelayedEvents:
    """Events that are sent later, such as the end of a call (MSC4140)."""

    max_delay: int = option("The longest delay", kind="duration", default=2_592_000_000, check=at_least(1))
    max_scheduled: int = option("How many of a user's may wait at once", default=100, check=at_least(1))


@attrs.frozen
class Turn:
    """A TURN server that relays calls, such as coturn."""

    uris: tuple[str, ...] = option("Its addresses", check=_turn_uris, example=("turn:turn.example.org?transport=udp",))
    secret: str = option("The secret that it shares (static-auth-secret)", kind="secret", example="a long secret")
    lifetime: int = option("How long credentials last", kind="duration", default=DAY_MS, check=at_least(60_000))


@attrs.frozen
class Calls:
    """Group calls over LiveKit, as Element Call makes them (MSC4143, MSC4195)."""

    livekit: tuple[str, ...] = option(
        "Addresses of LiveKit's authorization services (lk-jwt-service)", default=(), check=_urls
    )


@attrs.frozen
class UserDirectory:
    """Looking for other people by name."""

    everybody: bool = option("Find also those who share no room with the seeker", default=False)


@attrs.frozen
class Log:
    """What the server says of itself."""

    level: Literal["debug", "info", "warning", "error"] = option("The least important lines to write", default="info")
    format: Literal["text", "json"] = option("How a line looks", default="text")
    file: Path | None = option("Where to write; not given: to standard error", kind="path", default=None)


@attrs.frozen
class Support:
    """Whom to turn to, for /.well-known/matrix/support."""

    email: str | None = option("An administrator's mail address", default=None)
    matrix_id: str | None = option("An administrator's Matrix id", default=None)
    page: str | None = option("A page with help", default=None, check=_url)


@attrs.frozen
class Config:
    """The whole file."""

    server_name: str = option(
        "The part of user ids after the colon; it can never be changed", check=_server_name, example="example.org"
    )
    public_base_url: str | None = option("Where clients reach this server", default=None, check=_url)
    data_dir: Path = option("The folder of everything the server writes", kind="path", default=Path("data"))
    signing_key_file: Path | None = option(
        "The server's key; not given: `signing.key` in data_dir", kind="path", default=None
    )
    listeners: tuple[Listener, ...] = option("Ports to listen on", default=(Listener(8008),))
    database: Database = option("", default=Database)
    registration: Registration = option("", default=Registration)
    passwords: Passwords = option("", default=Passwords)
    sessions: Sessions = option("", default=Sessions)
    jwt: tuple[JwtIssuer, ...] = option(
        "Backends whose signed tokens sign their users in", default=(), check=_jwt_issuers
    )
    email: Email | None = option("Not given: no mail is sent", default=None)
    rate_limits: RateLimits = option("", default=RateLimits)
    network: Network = option("", default=Network)
    federation: Federation = option("", default=Federation)
    appservices: tuple[Path, ...] = option("Registration files of application services", kind="path", default=())
    media: Media = option("", default=Media)
    presence: Presence = option("", default=Presence)
    rooms: Rooms = option("", default=Rooms)
    delayed_events: DelayedEvents = option("", default=DelayedEvents)
    calls: Calls = option("", default=Calls)
    turn: Turn | None = option("Not given: calls do without a relay", default=None)
    user_directory: UserDirectory = option("", default=UserDirectory)
    support: Support = option("", default=Support)
    policy_server_key: str | None = option(
        "The ed25519 public key of a policy server on this host, for /.well-known/matrix/policy_server",
        default=None,
        check=_ed25519_key,
    )
    log: Log = option("", default=Log)

    @property
    def key_file(self) -> Path:
        """The file of the signing key."""
        return self.signing_key_file or self.data_dir / "signing.key"

    @property
    def media_dir(self) -> Path:
        return self.media.dir or self.data_dir / "media"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir / 'parley.db'}"

    @property
    def base_url(self) -> str:
        """Where clients reach this server, without a slash at the end."""
        if self.public_base_url:
            return self.public_base_url.rstrip("/")
        listener = next((one for one in self.listeners if "client" in one.serve), self.listeners[0])
        host = "localhost" if listener.bind in ("127.0.0.1", "0.0.0.0", "::", "::1") else listener.bind
        return f"{'https' if listener.tls else 'http'}://{host}:{listener.port}"
