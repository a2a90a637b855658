"""The logs that clients write, read as they grow."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from model import Listener

# What `peerstatus watch` says on standard error about gaps and repetitions, which it does not print.
COMPLAINT = re.compile(r"gap: |repeated revision")
# A change has about 1 KiB.
READ_AT_ONCE = 1 << 20


class Log:
    """One file of messages, and the listener that they make."""

    def __init__(self, file: Path, listener: Listener, stderr: Path) -> None:
        self.file, self.listener, self.stderr = file, listener, stderr
        self.messages: list[dict[str, Any]] = []
        self.position = 0
        # The last line may be a part: its writer was killed.
        self.is_cut_off = False

    def read(self) -> None:
        """Takes in the complete lines that are new."""
        try:
            with self.file.open("rb") as file:
                file.seek(self.position)
                content = file.read(READ_AT_ONCE)
        except FileNotFoundError:
            return
        complete = content[: content.rfind(b"\n") + 1]
        self.position += len(complete)
        for line in complete.splitlines():
            message = json.loads(line)
            self.messages.append(message)
            self.listener.feed(message)

    def complaints(self) -> list[str]:
        """What its client says about gaps and repetitions."""
        try:
            text = self.stderr.read_text(errors="replace")
        except FileNotFoundError:
            return []
        return [f"{self.file.name}: {line}" for line in text.splitlines() if COMPLAINT.search(line)]
