# SPDX-License-Identifier: Apache-2.0
"""Federation with other people's servers."""
