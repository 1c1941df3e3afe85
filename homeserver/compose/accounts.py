# SPDX-License-Identifier: Apache-2.0
"""Accounts, sign-in, devices, profiles and media."""

import attrs

from homeserver.compose.base import Base
from homeserver.services.credentials import Credentials
from homeserver.services.login import Login
from homeserver.services.passwords import Passwords
from homeserver.services.registration import NoNamespaces, Registrar
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
    passwords = Passwords(runtime, config.passwords)
    credentials = Credentials(config.server_name, db, runtime, passwords, base.limits)
    login = Login(config.sessions, db, runtime, credentials, sessions, services)
    registrar = Registrar(config.server_name, config.registration, db, runtime, passwords, login, services)
    uia = InteractiveAuth(db, runtime, credentials)
    pages: tuple[object, ...] = ()
    return Accounts(sessions, uia, registrar, login, pages)
