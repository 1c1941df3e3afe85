# SPDX-License-Identifier: Apache-2.0
"""How a request becomes a call, and an answer bytes."""
