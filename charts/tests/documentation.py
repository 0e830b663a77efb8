"""What a page of the documentation shows: its blocks, the commands in them, and the files that they write."""

import re
import shlex
import textwrap
from typing import NamedTuple

# What the reader sets, and what the tests set in its place.
VARIABLES = {"REGISTRY": "ghcr.io/owner", "INSIDE": "harbor.example.com/library"}


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page):
    """Gives the fenced blocks of a page's text, in order; those in lists without their indentation."""
    for block in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", page, re.S | re.M):
        yield Block(block.group(2), textwrap.dedent(block.group(3)), page.count("\n", 0, block.start()) + 1)


def expand(text):
    """Puts the variables that the reader sets into a text."""
    for name, value in VARIABLES.items():
        text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return text


HERE_DOCUMENT = re.compile(r"^(?P<command>[^\n]*)<<EOF\n(?P<text>.*?)^EOF$\n?", re.S | re.M)


def here_documents(shell):
    """Gives (file or None, text) of each here-document in a shell block. The file is what it is written to."""
    for document in HERE_DOCUMENT.finditer(shell):
        file = re.search(r">\s*(\S+)", document["command"])
        yield file and file.group(1), expand(document["text"])


def lines(shell):
    """Gives the commands of a shell block as they are typed, each in one line, without here-documents."""
    shell = HERE_DOCUMENT.sub("", shell).replace("\\\n", " ").replace("|\n", "| ")
    for line in shell.splitlines():
        if line.strip() and not line.startswith("#"):
            yield re.sub(r" {2,}", " ", line)


def commands(shell):
    """Gives the commands of a shell block as lists of words, each without what it is piped into."""
    for line in lines(shell):
        try:
            words = shlex.split(expand(line).removeprefix("$ ").split(" |")[0], comments=True)
        except ValueError:
            continue
        if words:
            yield words
