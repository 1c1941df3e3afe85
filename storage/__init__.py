# SPDX-License-Identifier: Apache-2.0
"""The database: synchronous functions of a transaction."""
