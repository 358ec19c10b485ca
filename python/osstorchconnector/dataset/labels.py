"""Labels taken from directories, as ``torchvision.datasets.ImageFolder`` takes them."""


def label_below(key: str, prefix: str) -> str:
    """Return the first directory of a key behind a prefix, or an empty string where it lies in none.

    Args:
        key: The key or the name of a member.
        prefix: What it begins with; of a prefix that ends inside a name, the part up to the last slash counts.
    """
    label, separator, _ = key[prefix.rfind("/") + 1 :].partition("/")
    return label if separator else ""
