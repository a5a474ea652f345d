"""``python -m posthouse.journal DIR``: the records of the journals in a directory and below, as text."""

import os
import sys

from posthouse.journal.checkpoint import HELD
from posthouse.journal.operations import Operation, Put
from posthouse.journal.recovery import journal_directories
from posthouse.journal.segment import read_segment, segment_paths


def main(directory: str) -> None:
    for journal in journal_directories(directory):
        for path in [*segment_paths(journal), os.path.join(journal, HELD)]:
            if os.path.exists(path):
                print_segment(path)


def print_segment(path: str) -> None:
    header, found = read_segment(path)
    if header is None:
        print(f"{path}: no whole header")
        return
    print(f"{path}: boot {header.boot_id}, epoch {header.epoch}")
    for record in found:
        print(f"  {record.offset} stamp {record.stamp}, content {record.content_length} octets")
        for operation in record.operations:
            print(f"    {described(operation)}")


def described(operation: Operation) -> str:
    """One line; what may be not printable is quoted."""
    if type(operation) is Put:
        links = "".join(f" and {link!r}" for link in operation.links)
        return f"put {operation.path!r}{links}, prefix {len(operation.prefix)} octets"
    return repr(operation)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m posthouse.journal DIR")
    main(sys.argv[1])
