# SPDX-License-Identifier: Apache-2.0
"""Which packages and data files the distribution holds; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["homeserver*", "bridge*", "federation*", "storage*"]),
    package_data={
        "homeserver": ["web/**/*", "py.typed"],
        "storage": ["migrations/*.sql", "dictionaries/*.zdict", "py.typed"],
    },
)
