# SPDX-License-Identifier: Apache-2.0
"""The keys of homeserver.yaml about files that users upload."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import attrs

from homeserver.config.option import at_least, option


def _size(value: int | None) -> str | None:
    return None if value is None else at_least(1)(value)


def _endpoint(value: str) -> str | None:
    ok = value.startswith(("http://", "https://")) and urlsplit(value).hostname
    return None if ok else "the address of an S3 server, such as https://s3.example.org"


@attrs.frozen
class Allowance:
    """What one user may upload."""

    max_upload_size: int | None = option(
        "The largest file, where that is less than for everybody", kind="size", default=None, check=_size
    )
    total: int | None = option("All files of a user together; not given: no limit", kind="size", default=None)


@attrs.frozen
class Quota:
    """What may be uploaded, by role."""

    users: Allowance = option("People", default=Allowance)
    admins: Allowance = option("Server administrators", default=Allowance)
    services: Allowance = option("Users that application services act as", default=Allowance)


@attrs.frozen
class Clamd:
    """A virus scanner that looks at every file."""

    host: str = option("Where clamd listens", default="127.0.0.1")
    port: int = option("Its TCP port", default=3310)
    socket: Path | None = option("Its Unix socket, instead of host and port", kind="path", default=None)
    timeout: int = option("How long it may be silent", kind="duration", default=30_000, check=at_least(1))
    when_down: Literal["refuse", "accept"] = option(
        "What becomes of files while it does not answer; accepted ones are looked at when somebody asks for them",
        default="refuse",
    )


@attrs.frozen
class S3:
    """A bucket that files are kept in (needs `pip install parley[s3]`)."""

    endpoint: str = option("Where the server is", example="https://s3.example.org", check=_endpoint)
    bucket: str = option("The bucket; it has to be there", example="parley-media")
    access_key: str = option("Name of the key", example="parley")
    secret_key: str = option("The key", kind="secret", example="change-me")
    region: str = option("The region that requests are signed for", default="us-east-1")
    cache_size: int = option("How much is kept on disk, too", kind="size", default=1 << 30, check=at_least(0))


@attrs.frozen
class Media:
    """Files that users upload."""

    dir: Path | None = option("Where they are; not given: `media` in data_dir", kind="path", default=None)
    max_upload_size: int = option("The largest file", kind="size", default=50 << 20, check=at_least(1))
    quota: Quota = option("", default=Quota)
    keep_redacted: int | None = option(
        "How long a file is kept after the last message that shows it was redacted; empty: forever",
        kind="duration",
        default=7 * 86_400_000,
    )
    max_image_pixels: int = option("The largest image that gets thumbnails", default=64_000_000, check=at_least(1))
    s3: S3 | None = option("Not given: files are in `dir`", default=None)
    clamd: Clamd | None = option("Not given: files are not scanned", default=None)
    url_previews: bool = option("Fetch pages that users link to, to show what they are about", default=True)
    open_downloads: bool = option(
        "Serve what is uploaded from now on without authentication, too, as servers did before Matrix 1.11",
        default=False,
    )
