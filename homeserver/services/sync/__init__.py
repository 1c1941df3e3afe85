# SPDX-License-Identifier: Apache-2.0
"""How a client keeps up with everything it may see."""
