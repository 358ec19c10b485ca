"""Keys that clients and servers get wrong."""

HOSTILE_KEYS = {
    "spaces": " leading,  double and trailing ",
    "plus": "a+b +c",
    "percent": "100%",
    "escaped": "a%2Fb%20c%%41",
    "question": "what?list-type=2&acl",
    "hash": "a#fragment",
    "ampersand": "a&amp;b=c;d",
    "markup": "<Key>'\"</Key>]]>",
    "unicode": "数据/é/e\u0301/😀.jpg",
    "dots": ".hidden/..two/...three.",
    "slashes": "a//b///c",
    "punctuation": "~*!()[]{}|^`$@,:\\",
    "white": "tab\tand\nline",
    "longest": "long/" + "é" * 509,
}
assert len(HOSTILE_KEYS["longest"].encode()) == 1023
