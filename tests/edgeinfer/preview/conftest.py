"""A page of our own on a free port, and its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_client import Client

from edgeinfer.preview.page import Page


@pytest.fixture
def page() -> Iterator[Page]:
    with Page("127.0.0.1:0", max_fps=1000) as own:
        yield own


@pytest.fixture
def client(page: Page) -> Client:
    return Client(page)
