# SPDX-License-Identifier: Apache-2.0
"""What this server asks of others, and sends them."""
