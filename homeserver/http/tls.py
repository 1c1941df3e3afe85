# SPDX-License-Identifier: Apache-2.0
"""The certificate of a listener, read again when it is renewed."""

import logging
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer

_log = logging.getLogger(__name__)


@implementer(IOpenSSLContextFactory)
class Certificate:
    """What Twisted asks for the TLS context of each new connection."""

    def __init__(self, certificate_file: Path, private_key_file: Path) -> None:
        self._certificate_file = certificate_file
        self._private_key_file = private_key_file
        self._context = self._read()

    def getContext(self) -> SSL.Context:
        return self._context

    def reload(self) -> None:
        """Use the files as they are now; those that cannot be used change nothing."""
        try:
            self._context = self._read()
        except ValueError as error:
            _log.error("the certificate was not reloaded: %s", error)

    def _read(self) -> SSL.Context:
        """A context for TLS 1.2 and later; raises ValueError."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        try:
            context.use_certificate_chain_file(str(self._certificate_file))
            context.use_privatekey_file(str(self._private_key_file))
            context.check_privatekey()
        except SSL.Error as error:
            files = f"{self._certificate_file} with {self._private_key_file}"
            raise ValueError(f"the certificate {files} cannot be used: {error}") from None
        return context
