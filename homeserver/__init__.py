# SPDX-License-Identifier: Apache-2.0
"""Parley, a Matrix homeserver."""
