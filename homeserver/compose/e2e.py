# SPDX-License-Identifier: Apache-2.0
"""Keys, to-device messages, cross-signing, key backup."""

import attrs

from homeserver.client_api.dehydrated_device import DehydratedDevicePage
from homeserver.client_api.key_backup import BackupKeysPage, BackupVersionPage
from homeserver.client_api.keys import CrossSigningPage, KeysPage
from homeserver.client_api.to_device import ToDevicePage
from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base
from homeserver.services.claim_journal import ClaimJournal
from homeserver.services.cross_signing import CrossSigning
from homeserver.services.dehydrated import Dehydrated
from homeserver.services.device_lists import DeviceLists
from homeserver.services.e2e_keys import E2eKeys
from homeserver.services.key_backup import KeyBackup
from homeserver.services.key_query import KeyQuery
from homeserver.services.key_signatures import KeySignatures
from homeserver.services.to_device import ToDevice


@attrs.frozen
class Encryption:
    """What other areas need of this one."""

    keys: E2eKeys
    query: KeyQuery
    device_lists: DeviceLists
    to_device: ToDevice
    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts) -> Encryption:
    """The services and pages of this area."""
    db, server_name, remote = base.db, base.config.server_name, base.elsewhere.keys
    keys = E2eKeys(db, server_name, remote, ClaimJournal(base.runtime, base.config.data_dir / "one-time-keys.position"))
    base.lifecycle.on_start(keys.distrust_if_restored)
    db.subscribe(keys.forget_counts)
    db.on_reset(keys.forget_all_counts)
    query = KeyQuery(db, server_name, remote)
    device_lists = DeviceLists(db)
    to_device = ToDevice(db, base.runtime, server_name, base.elsewhere.outbox)
    backup = KeyBackup(db)
    pages = (
        KeysPage(keys, query, device_lists),
        CrossSigningPage(CrossSigning(db, accounts.uia), KeySignatures(db)),
        ToDevicePage(to_device),
        BackupVersionPage(backup),
        BackupKeysPage(backup),
        DehydratedDevicePage(Dehydrated(db, base.runtime)),
    )
    return Encryption(keys, query, device_lists, to_device, pages)
