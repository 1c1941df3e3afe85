# SPDX-License-Identifier: Apache-2.0
"""The dictionaries that event envelopes are compressed with: `N.zdict` for codec N. Once released none is changed or
removed.
"""
