# SPDX-License-Identifier: Apache-2.0
"""The pages of the client-server API, one module each."""
