# SPDX-License-Identifier: Apache-2.0
"""Federation: Parley servers, and hostile ones, over TLS on loopback."""
