# SPDX-License-Identifier: Apache-2.0
"""Sync by windows on the list of rooms instead of by all rooms."""
