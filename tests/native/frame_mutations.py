"""What can become of a recorded frame: cut, flipped, rearranged, with other numbers in it, or made a trap.

Every mutation takes any payload and a generator, so mutations can be stacked. ``systematic`` is the corpus
that a whole campaign goes through: every truncation and number, and the others in fixed counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final, NamedTuple

FRAME_BYTES_MAX: Final = 1 << 20
DEPTH: Final = 100_000
SYNTAX_MUTATIONS: Final = 50_000  # flips, swaps, drops, repetitions, other types: over all frames
TRAPPED_FRAMES: Final = 20
OVERSIZED_FRAMES: Final = 3  # whose traps are a mebibyte long, or nested 100,000 deep

NUMBERS: Final = (
    *("-1", "0", "1", "98", "99", "100", "-0", "2147483648", "4294967297", "9007199254740991"),
    *("9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551617"),
    *("9223372036854", "1e-9", "1.0", "1E2", "1e400", "-1e400", '"1"', '"01"', "01", "+1", "1.", ".5", "0x1"),
    *("null", "true", "false", "NaN", "Infinity", "-Infinity", "1_0", "٣", "9" * 19, "9" * 5_000),
)
OTHER_VALUES: Final = ("null", "true", "0", "50", "1.5", '"x"', '""', "[]", "{}", "[[]]", '{"a":1}', "[null]")


class Mutation(NamedTuple):
    """One mutated frame: of which recorded frame, by what, and its bytes."""

    frame_index: int
    name: str
    payload: bytes


# ---- a frame as a tree that keeps every key and every token ---------------------------------------


class _Token(str):
    """Raw JSON text, written as it stands."""


class _Pairs(list[tuple[str, Any]]):
    """An object: its keys in order, each as often as it occurs."""


def _tree(payload: bytes) -> Any:
    """Raises ValueError when the payload is no JSON."""
    return json.loads(payload, object_pairs_hook=_Pairs, parse_int=_Token, parse_float=_Token)


def _text(node: Any) -> str:
    if isinstance(node, _Pairs):
        return "{" + ",".join(f"{_text(key)}:{_text(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(_text, node)) + "]"
    return node if isinstance(node, _Token) else json.dumps(node)


def _lists(node: Any) -> Iterator[list[Any]]:
    """Every object and array, outermost first."""
    if isinstance(node, list):
        yield node
        for member in node:
            yield from _lists(member[1] if isinstance(node, _Pairs) else member)


def _pick_member(tree: Any, generator: Random, *, of_objects: bool) -> tuple[list[Any], int]:
    """A random member of a random object (or of any container). Raises ValueError when there is none."""
    places = [
        (container, index)
        for container in _lists(tree)
        if isinstance(container, _Pairs) or not of_objects
        for index in range(len(container))
    ]
    if not places:
        raise ValueError("no members")
    return generator.choice(places)


def _replace(container: list[Any], index: int, value: Any) -> None:
    container[index] = (container[index][0], value) if isinstance(container, _Pairs) else value


def _value(container: list[Any], index: int) -> Any:
    return container[index][1] if isinstance(container, _Pairs) else container[index]


# ---- mutations ------------------------------------------------------------------------------------

Mutate = Callable[[bytes, Random], bytes]


def truncate(payload: bytes, generator: Random) -> bytes:
    return payload[: generator.randrange(max(1, len(payload)))]


def flip_byte(payload: bytes, generator: Random) -> bytes:
    """Any byte to any other; one time in two only one bit of it."""
    if not payload:
        return generator.randbytes(1)
    index = generator.randrange(len(payload))
    change = 1 << generator.randrange(8) if generator.random() < 0.5 else generator.randint(1, 255)
    return payload[:index] + bytes((payload[index] ^ change,)) + payload[index + 1 :]


_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|[{}\[\]:,]')


def swap_tokens(payload: bytes, generator: Random) -> bytes:
    """Two tokens change places."""
    spans = [match.span() for match in _TOKENS.finditer(payload)]
    if len(spans) < 2:
        return payload
    (a, b), (c, d) = sorted(generator.sample(spans, 2))
    return payload[:a] + payload[c:d] + payload[b:c] + payload[a:b] + payload[d:]


def drop_key(payload: bytes, generator: Random) -> bytes:
    tree = _tree(payload)
    pairs, index = _pick_member(tree, generator, of_objects=True)
    del pairs[index]
    return _text(tree).encode()


def repeat_key(payload: bytes, generator: Random) -> bytes:
    """A key a second time, anywhere in its object: same or other value, spelt plainly or with an escape."""
    tree = _tree(payload)
    pairs, index = _pick_member(tree, generator, of_objects=True)
    key, value = pairs[index]
    if generator.random() < 0.5:
        value = _Token(generator.choice(NUMBERS[:4] + OTHER_VALUES))
    if generator.random() < 0.3 and key:
        at = generator.randrange(len(key))
        escaped = "".join(f"\\u{ord(letter):04x}" if at == i else letter for i, letter in enumerate(key))
        key = _Token(f'"{escaped}"')
    pairs.insert(generator.randint(0, len(pairs)), (key, value))
    return _text(tree).encode()


def swap_type(payload: bytes, generator: Random) -> bytes:
    """A value becomes one of another type, is quoted, or wrapped in an array or object."""
    tree = _tree(payload)
    container, index = _pick_member(tree, generator, of_objects=False)
    value = _value(container, index)
    other = generator.randrange(len(OTHER_VALUES) + 3)
    if other < len(OTHER_VALUES):
        value = _Token(OTHER_VALUES[other])
    elif other == len(OTHER_VALUES):
        value = [value]
    elif other == len(OTHER_VALUES) + 1:
        value = _Pairs([("a", value)])
    else:
        value = _Token(value[1:-1]) if isinstance(value, _Token) else _text(value)
    _replace(container, index, value)
    return _text(tree).encode()


def _number_places(tree: Any) -> list[tuple[list[Any], int]]:
    return [
        (container, index)
        for container in _lists(tree)
        for index in range(len(container))
        if isinstance(_value(container, index), _Token)
    ]


def substitute_number(payload: bytes, generator: Random) -> bytes:
    tree = _tree(payload)
    places = _number_places(tree)
    if not places:
        raise ValueError("no numbers")
    _replace(*generator.choice(places), _Token(generator.choice(NUMBERS)))
    return _text(tree).encode()


def repeat_member(payload: bytes, generator: Random) -> bytes:
    """An array holds one of its entries twice: a level named twice, when the frame has levels."""
    tree = _tree(payload)
    arrays = [node for node in _lists(tree) if not isinstance(node, _Pairs) and node]
    if not arrays:
        raise ValueError("no arrays")
    array = generator.choice(arrays)
    array.insert(generator.randint(0, len(array)), generator.choice(array))
    return _text(tree).encode()


def _with_member(member: bytes) -> Callable[[bytes], bytes]:
    """The frame with a key that the contract does not name, in front."""
    return lambda payload: payload.replace(b"{", b'{"alien":' + member + b",", 1)


def _padded(payload_bytes: int) -> Callable[[bytes], bytes]:
    """The frame with so many spaces behind it that it is this long."""
    return lambda payload: payload.ljust(payload_bytes)


TRAPS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "byte-order mark": lambda payload: b"\xef\xbb\xbf" + payload,
    "UTF-16": lambda payload: payload.decode("utf-8", "replace").encode("utf-16"),
    "UTF-32": lambda payload: payload.decode("utf-8", "replace").encode("utf-32-le"),
    "NUL behind": lambda payload: payload + b"\0",
    "NUL in front": lambda payload: b"\0" + payload,
    "NUL in a string": lambda payload: payload.replace(b"MKT", b"M\0T", 1),
    "NUL as an escape": lambda payload: payload.replace(b"MKT", b"M\\u0000T", 1),
    "same id with an escape": lambda payload: payload.replace(b"MKT", b"\\u004dKT", 1),
    "other market": lambda payload: payload.replace(b"MKT", b"MKU", 1),
    "same id, Cyrillic": lambda payload: payload.replace(b"MKT", "МKT".encode(), 1),  # noqa: RUF001
    "two frames": lambda payload: payload + payload,
    "line ends around": lambda payload: b"\r\n\t " + payload + b" \n",
    "form feed in front": lambda payload: b"\f" + payload,
    "no-break space": lambda payload: payload.replace(b":", b":\xc2\xa0", 1),
    "comma behind": lambda payload: payload + b",",
    "trailing comma": lambda payload: payload[:-1] + b",}",
    "trailing comma in an array": lambda payload: payload.replace(b"}]", b"},]", 1),
    "comment": lambda payload: payload.replace(b",", b",/* */", 1),
    "single quotes": lambda payload: payload.replace(b'"', b"'"),
    "unquoted key": lambda payload: payload.replace(b'"type"', b"type", 1),
    "array of it": lambda payload: b"[" + payload + b"]",
    "string of it": lambda payload: json.dumps(payload.decode("utf-8", "replace")).encode(),
    "spaces everywhere": lambda payload: re.sub(rb'([{}\[\],]|"(?=:))', rb"\1 ", payload),
    "alien true": _with_member(b"true"),
    "alien NaN": _with_member(b"NaN"),
    "alien Infinity": _with_member(b"-Infinity"),
    "alien 1e400": _with_member(b"1e400"),
    "alien 5,000 digits": _with_member(b"9" * 5_000),
    "alien leading zero": _with_member(b"01"),
    "alien control character": _with_member(b'"\x01"'),
    "alien escaped NUL": _with_member(b'"\\u0000"'),
    "alien bad escape": _with_member(b'"\\x00"'),
    "alien surrogate pair": _with_member(b'"\\ud83d\\ude00"'),
    "alien lone high surrogate": _with_member(b'"\\ud800"'),
    "alien lone low surrogate": _with_member(b'["\\udc00"]'),
    "alien key of a lone surrogate": _with_member(b'{"\\ud800":1}'),
    "alien surrogate in UTF-8": _with_member(b'"\xed\xa0\x80"'),
    "alien overlong UTF-8": _with_member(b'"\xc0\xaf"'),
    "alien bad UTF-8": _with_member(b'"\xff"'),
    "alien colon": _with_member(b'":"'),
    "alien object with a repeated key": _with_member(b'{"a":1,"a":1}'),
    "alien repeated key inside an array": _with_member(b'[{"b":{"a":1,"\\u0061":1}}]'),
    "alien depth 100": _with_member(b"[" * 100 + b"]" * 100),
}
OVERSIZED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "a mebibyte": _padded(FRAME_BYTES_MAX),
    "a mebibyte and a byte": _padded(FRAME_BYTES_MAX + 1),
    "alien depth 100,000 of arrays": _with_member(b"[" * DEPTH + b"]" * DEPTH),
    "alien depth 100,000 of objects": _with_member(b'{"a":' * DEPTH + b"0" + b"}" * DEPTH),
    "never closed": lambda payload: payload.replace(b"[", b"[" * DEPTH, 1),
    "nothing but brackets": lambda payload: b"[" * DEPTH,
    "alien string of a mebibyte": _with_member(b'"' + b"x" * FRAME_BYTES_MAX + b'"'),
    "id of a mebibyte": lambda payload: payload.replace(b"MKT", b"M" * (FRAME_BYTES_MAX - 1_000), 1),
    "alien 500,000 digits": _with_member(b"9" * 500_000),
}


def spring_trap(payload: bytes, generator: Random) -> bytes:
    return TRAPS[generator.choice(tuple(TRAPS))](payload)


SYNTAX: Final[tuple[Mutate, ...]] = (
    *(flip_byte, flip_byte, flip_byte),
    *(swap_tokens, drop_key, repeat_key, swap_type, repeat_member),
)
MUTATIONS: Final[tuple[Mutate, ...]] = (truncate, substitute_number, spring_trap, *SYNTAX)


def mutate(payload: bytes, mutation: Mutate, generator: Random) -> bytes:
    """One mutation more; a payload in which it finds nothing to do (no JSON any more, say) gets a flip."""
    try:
        return mutation(payload, generator)
    except (ValueError, RecursionError):
        return flip_byte(payload, generator)


def stacked(frames: Sequence[bytes], generator: Random) -> Mutation:
    """One to three mutations of one frame."""
    index = generator.randrange(len(frames))
    payload, names = frames[index], []
    for mutation in generator.choices(MUTATIONS, k=generator.choice((1, 2, 2, 3))):
        payload = mutate(payload, mutation, generator)
        names.append(mutation.__name__)
    return Mutation(index, "+".join(names), payload)


def systematic(frames: Sequence[bytes], generator: Random) -> Iterator[Mutation]:
    """The whole corpus: truncations and numbers exhaustively, the rest in fixed counts."""
    for index, payload in enumerate(frames):
        yield Mutation(index, "as recorded", payload)
        for length in range(len(payload)):
            yield Mutation(index, "truncate", payload[:length])
    for index, payload in enumerate(frames):
        for place in range(len(_number_places(_tree(payload)))):
            for number in NUMBERS:
                tree = _tree(payload)
                _replace(*_number_places(tree)[place], _Token(number))
                yield Mutation(index, f"number {number[:20]}", _text(tree).encode())
    for count in range(SYNTAX_MUTATIONS):
        index = count % len(frames)
        mutation = SYNTAX[count // len(frames) % len(SYNTAX)]
        yield Mutation(index, mutation.__name__, mutate(frames[index], mutation, generator))
    for traps, frame_count in ((TRAPS, TRAPPED_FRAMES), (OVERSIZED, OVERSIZED_FRAMES)):
        for index in generator.sample(range(len(frames)), frame_count):
            for name, trap in traps.items():
                yield Mutation(index, name, trap(frames[index]))
