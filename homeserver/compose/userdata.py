# SPDX-License-Identifier: Apache-2.0
"""Account data, receipts, typing, presence, push rules."""

import attrs

from homeserver.client_api.account_data import AccountDataPage
from homeserver.client_api.presence import PresencePage
from homeserver.client_api.push_rules import PushRulePage
from homeserver.client_api.receipts import ReceiptPage
from homeserver.client_api.tags import TagPage
from homeserver.client_api.typing import TypingPage
from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base
from homeserver.services.account_data import AccountData
from homeserver.services.presence import Presence
from homeserver.services.push_rules import PushRules
from homeserver.services.receipts import Receipts
from homeserver.services.rooms.unread_rules import UnreadRules
from homeserver.services.typing import Typing


@attrs.frozen
class UserData:
    """What other areas need of this one."""

    unread_rules: UnreadRules
    data: AccountData
    receipts: Receipts
    typing: Typing
    presence: Presence
    push_rules: PushRules
    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts) -> UserData:
    """The services and pages of this area. It needs nothing of rooms, which need it."""
    config, db, runtime = base.config, base.db, base.runtime
    unread_rules = UnreadRules(db, config.server_name)
    data = AccountData(db, unread_rules)
    receipts = Receipts(db, runtime)
    typing = Typing(db, runtime, base.notifier)
    base.lifecycle.on_stop(typing.stop)
    presence = Presence(db, runtime, config.presence.enabled)
    base.lifecycle.on_start(presence.start)
    base.lifecycle.on_stop(presence.stop)
    push_rules = PushRules(db, unread_rules)
    pages = (
        AccountDataPage(data),
        TagPage(data),
        ReceiptPage(receipts, presence),
        TypingPage(typing, presence),
        PresencePage(presence),
        PushRulePage(push_rules),
    )
    return UserData(unread_rules, data, receipts, typing, presence, push_rules, pages)
