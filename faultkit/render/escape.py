"""Strings from a target are untrusted: nothing of them may steer a terminal."""


def clean(text: str, longest: int = 240) -> str:
    """`text` with everything unprintable escaped (\\x1b, \\u202e...), cut at `longest`."""
    if not text.isprintable():
        text = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
        )
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= longest else text[: longest - 3] + "..."
