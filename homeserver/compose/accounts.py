# SPDX-License-Identifier: Apache-2.0
"""Accounts, sign-in, devices, profiles and media."""

import attrs

from homeserver.compose.base import Base
from homeserver.services.credentials import Credentials
from homeserver.services.login import Login, LoginSettings
from homeserver.services.passwords import Passwords, PasswordSettings
from homeserver.services.registration import NoNamespaces, Registrar, RegistrationSettings
from homeserver.services.sessions import Sessions
from homeserver.services.uia import InteractiveAuth


@attrs.frozen
class Accounts:
    """What other areas need of this one."""

    sessions: Sessions
    uia: InteractiveAuth
    registrar: Registrar
    login: Login
    pages: tuple[object, ...]


def build(base: Base) -> Accounts:
    """The services and pages of accounts."""
    config, db, runtime = base.config, base.db, base.runtime
    services = NoNamespaces()
    sessions = Sessions(db, runtime)
    base.lifecycle.on_stop(sessions.flush)
    passwords = Passwords(
        runtime,
        PasswordSettings(
            memory_kib=config.passwords.memory_kib,
            iterations=config.passwords.rounds,
            minimum_length=config.passwords.minimum_length,
        ),
    )
    credentials = Credentials(config.server_name, db, runtime, passwords, base.limits)
    lifetimes = LoginSettings(config.sessions.access_token_lifetime, config.sessions.refresh_token_lifetime)
    login = Login(lifetimes, db, runtime, credentials, sessions, services)
    registration = RegistrationSettings(
        enabled=config.registration.enabled,
        token_required=config.registration.token_required,
        shared_secret=config.registration.shared_secret,
        guests=config.registration.guests,
    )
    registrar = Registrar(config.server_name, registration, db, runtime, passwords, login, services)
    uia = InteractiveAuth(db, runtime, credentials)
    pages: tuple[object, ...] = ()
    return Accounts(sessions, uia, registrar, login, pages)
