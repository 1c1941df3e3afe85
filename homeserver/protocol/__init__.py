# SPDX-License-Identifier: Apache-2.0
"""The Matrix protocol as pure functions of values."""
