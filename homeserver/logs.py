# SPDX-License-Identifier: Apache-2.0
"""What a log line looks like, and where it goes."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler

import orjson
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    STDLibLogObserver,
    globalLogBeginner,
)

request_id: ContextVar[str] = ContextVar("request_id", default="")

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class Text(logging.Formatter):
    """`2026-11-22T20:15:00.123Z INFO homeserver.app [1f] text`."""

    def format(self, record: logging.LogRecord) -> str:
        given = request_id.get()
        line = f"{_time(record)} {record.levelname} {record.name} {'[' + given + '] ' if given else ''}"
        return line + record.getMessage() + _trace(self, record)


class Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request, error, and what `extra` was given."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if given := request_id.get():
            line["request"] = given
        line.update((k, v) for k, v in record.__dict__.items() if k not in _OWN)
        if trace := _trace(self, record).strip():
            line["error"] = trace
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return "\n" + formatter.formatException(record.exc_info)
    return ""


def start(level: str, style: str, file: str | None) -> None:
    """Send every log line to the file (reopened when it is rotated) or to standard error."""
    target: logging.Handler = WatchedFileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    target.setFormatter(Json() if style == "json" else Text())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(target)
    root.setLevel(level.upper())


def route_twisted() -> None:
    """Twisted's own events become lines of stdlib logging; its debug and info lines say nothing to an admin."""
    at_least = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    observer = FilteringLogObserver(STDLibLogObserver("twisted"), [at_least])
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
