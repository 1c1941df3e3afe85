# SPDX-License-Identifier: Apache-2.0
"""Accounts, sign-in, devices, profiles and media."""

import importlib.util

import attrs

from homeserver.client_api.account import AccountPage
from homeserver.client_api.admin import AdminPage
from homeserver.client_api.devices import DevicePage
from homeserver.client_api.fallback import Fallback
from homeserver.client_api.login import LoginPage
from homeserver.client_api.media import MediaPage, OpenMediaPage, PreviewPage
from homeserver.client_api.media_admin import MediaAdminPage
from homeserver.client_api.openid import OpenIdPage
from homeserver.client_api.profile import ProfilePage
from homeserver.client_api.register import Register
from homeserver.client_api.rendezvous import EtagRendezvous, JsonRendezvous
from homeserver.client_api.reporting import ReportPage
from homeserver.client_api.synapse_admin import SharedSecretPage
from homeserver.client_api.threepids import ThreepidPage
from homeserver.client_api.turn import TurnPage, TurnServer
from homeserver.compose import registered
from homeserver.compose.base import Base
from homeserver.config.load import ConfigError
from homeserver.config.model import Config, Turn
from homeserver.services import accounts
from homeserver.services.admin import Whois
from homeserver.services.appservices.registry import AppServices
from homeserver.services.contacts import Contacts
from homeserver.services.credentials import Credentials
from homeserver.services.devices import Devices
from homeserver.services.egress import Egress
from homeserver.services.jwt_login import JwtLogin
from homeserver.services.login import Login
from homeserver.services.mail import Mailer
from homeserver.services.media import MediaStore
from homeserver.services.media_care import MediaCare
from homeserver.services.media_files import MediaFiles
from homeserver.services.openid import OpenId
from homeserver.services.passwords import Passwords
from homeserver.services.previews import Previews
from homeserver.services.profiles import Profiles
from homeserver.services.registration import Registrar
from homeserver.services.rendezvous import Rendezvous
from homeserver.services.reports import Reports
from homeserver.services.s3_files import S3Bucket, S3Files
from homeserver.services.sessions import Sessions
from homeserver.services.uia import InteractiveAuth
from homeserver.services.virus_scan import VirusScan


@attrs.frozen
class Accounts:
    """What other areas need of this one."""

    sessions: Sessions
    services: AppServices
    registered: registered.Registered
    uia: InteractiveAuth
    registrar: Registrar
    login: Login
    accounts: accounts.Accounts
    profiles: Profiles
    openid: OpenId
    media: MediaStore
    pages: tuple[object, ...]


def turn_server(config: Turn | None) -> TurnServer | None:
    """The relay of calls."""
    return TurnServer(config.uris, config.lifetime // 1000, config.secret) if config is not None else None


def build(base: Base) -> Accounts:
    """The services and pages of accounts."""
    config, db, runtime = base.config, base.db, base.runtime
    names = registered.build(base)
    services = names.services
    sessions = Sessions(db, runtime, services if config.appservices else None)
    base.lifecycle.on_stop(sessions.flush)
    db.on_reset(sessions.forget_everybody)
    passwords = Passwords(runtime, config.passwords)
    credentials = Credentials(config.server_name, db, runtime, passwords, base.limits)
    jwt = JwtLogin(config.server_name, config.jwt, db, runtime) if config.jwt else None
    login = Login(config.sessions, db, runtime, credentials, sessions, services, jwt)
    mailer = Mailer(runtime, config.email, config.server_name) if config.email is not None else None
    contacts = Contacts(db, runtime, base.limits, config.base_url, mailer)
    registrar = Registrar(config.server_name, config.registration, db, runtime, passwords, login, services)
    uia = InteractiveAuth(db, runtime, credentials, contacts)
    local = accounts.Accounts(config.server_name, db, passwords, sessions, login)
    profiles = Profiles(config.server_name, db, base.elsewhere.profiles, names.queries)
    openid = OpenId(config.server_name, db, runtime)
    files = media_files(config)
    base.lifecycle.on_start(files.clear_incoming)
    scan = virus_scan(base, files)
    media = MediaStore(config.server_name, config.media, db, runtime, files, base.elsewhere.media(files), scan)
    care = MediaCare(config.server_name, db, runtime, files, config.media.keep_redacted)
    base.lifecycle.on_start(care.start)
    base.lifecycle.on_stop(care.stop)
    rendezvous = Rendezvous(runtime)
    pages = (
        Register(registrar, uia, passwords, sessions, contacts),
        SharedSecretPage(registrar),
        LoginPage(login, uia, sessions),
        Fallback(uia, contacts),
        AccountPage(local, uia, passwords, contacts),
        ThreepidPage(contacts, uia),
        DevicePage(Devices(db, sessions), uia, runtime),
        ProfilePage(profiles),
        OpenIdPage(openid),
        AdminPage(Whois(db, sessions, local), accounts.Moderation(db, sessions, local)),
        MediaPage(media),
        MediaAdminPage(care),
        OpenMediaPage(media),
        PreviewPage(previews(base, media) if config.media.url_previews else None),
        ReportPage(Reports(db, runtime)),
        TurnPage(runtime, turn_server(config.turn)),
        EtagRendezvous(rendezvous, config.base_url),
        JsonRendezvous(rendezvous),
    )
    return Accounts(sessions, services, names, uia, registrar, login, local, profiles, openid, media, pages)


def media_files(config: Config) -> MediaFiles:
    """Where files are: a folder, or a bucket."""
    s3 = config.media.s3
    if s3 is None:
        return MediaFiles(config.media_dir)
    if importlib.util.find_spec("boto3") is None:
        raise ConfigError(["media.s3: needs boto3: pip install 'parley[s3]'"])
    return S3Files(config.media_dir, S3Bucket(s3), s3.cache_size)


def virus_scan(base: Base, files: MediaFiles) -> VirusScan | None:
    """What asks clamd, where there is one."""
    if base.config.media.clamd is None:
        return None
    scan = VirusScan(base.config.media.clamd, base.db, base.runtime, files)
    base.metrics.gauge("parley_clamd_up", "Whether clamd answered when it was last asked", lambda: float(scan.answers))
    base.metrics.counter("parley_media_scans", "Files that clamd has scanned", lambda: scan.scans)
    base.metrics.counter("parley_media_threats", "Files that clamd has found something in", lambda: scan.threats)
    return scan


def previews(base: Base, media: MediaStore) -> Previews:
    """What fetches pages that users link to."""
    network = base.config.network
    egress = Egress(base.runtime, network.allow_private_addresses, network.dns)
    base.lifecycle.on_stop(egress.stop)
    return Previews(base.runtime, egress, media)
