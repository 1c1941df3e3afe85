# SPDX-License-Identifier: Apache-2.0
"""homeserver.yaml as typed values."""
