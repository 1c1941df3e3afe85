# SPDX-License-Identifier: Apache-2.0
"""How text becomes words that both databases find alike: folded, and Chinese, Japanese and Korean signs in pairs."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

import attrs

MAX_WORDS = 8_000
MAX_WORD = 128

# Signs of scripts that are written without spaces between words.
_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_PIECE = re.compile(rf"[{_CJK}]+|(?:(?![{_CJK}])[^\W_])+")
_STARTS_CJK = re.compile(rf"[{_CJK}]")
_ASCII_WORD = re.compile("[a-z0-9]+")
_COMBINING = re.compile("[\u0300-\u036f]")


@attrs.frozen
class Term:
    """One thing that a found text must have: words that follow each other, the last one as a prefix or whole."""

    words: tuple[str, ...]
    prefix: bool


def fold(text: str) -> str:
    """The form in which texts are compared: compatibility forms, case and accents do not count; kana voicing does."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    if not plain.isascii():
        plain = unicodedata.normalize("NFC", _COMBINING.sub("", unicodedata.normalize("NFKD", plain)))
    return plain


def _pieces(text: str) -> Iterator[tuple[Literal["word", "run"], str]]:
    for found in _PIECE.finditer(fold(text)):
        piece = found.group()
        if _STARTS_CJK.match(piece):
            yield "run", piece
        else:
            yield "word", piece[:MAX_WORD]


def words_of(text: str) -> list[str]:
    """The words that a text is indexed under, in their order."""
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())[:MAX_WORDS]
        return found if max(map(len, found), default=0) <= MAX_WORD else [word[:MAX_WORD] for word in found]
    words: list[str] = []
    for kind, piece in _pieces(text):
        if kind == "word":
            words.append(piece)
        else:
            words += [piece[at : at + 2] for at in range(len(piece) - 1)]
            words.append(piece[-1])
        if len(words) >= MAX_WORDS:
            return words[:MAX_WORDS]
    return words


def terms_of(query: str, most: int = 16) -> list[Term]:
    """What a query asks of a text; empty when it holds nothing to search for."""
    terms: list[Term] = []
    for kind, piece in _pieces(query):
        if kind == "word" or len(piece) == 1:
            terms.append(Term((piece,), prefix=True))
        else:
            terms.append(Term(tuple(piece[at : at + 2] for at in range(len(piece) - 1)), prefix=False))
    return terms[:most]


def highlights_of(query: str) -> list[str]:
    """The folded words of a query, which clients mark in what was found."""
    return list(dict.fromkeys(piece for _, piece in _pieces(query)))


def fts5_query(terms: list[Term]) -> str:
    """The terms as FTS5 reads them; every term must match."""
    return " AND ".join(f'"{" ".join(term.words)}"{"*" if term.prefix else ""}' for term in terms)


def tsquery(terms: list[Term]) -> str:
    """The terms as PostgreSQL reads them; every term must match."""
    parts = []
    for term in terms:
        *first, last = [f"'{word}'" for word in term.words]
        parts.append("(" + " <-> ".join([*first, last + (":*" if term.prefix else "")]) + ")")
    return " & ".join(parts)


def tsvector(words: list[str]) -> str:
    """The words with their positions, as PostgreSQL reads them."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words, 1):
        found = places.setdefault(word, [])
        if len(found) < 200:
            found.append(place)
    return " ".join(f"'{word}':{','.join(map(str, found))}" for word, found in places.items())
