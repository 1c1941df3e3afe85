# SPDX-License-Identifier: Apache-2.0
"""The composition root, an area a module: which services exist, what each is given, and which pages show them."""
