"""A real browser, for pages as people see them."""

import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness import need

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
    "--host-resolver-rules=MAP paced.example.org 127.0.0.1",  # the name of the documents' proxy (proxy.py)
)  # fmt: skip
PATIENCE = 30_000  # milliseconds for a page to show something, on a busy machine


@contextmanager
def browser_page() -> Generator["Page"]:
    """A browser page that reaches nothing but this machine."""
    need(CHROMIUM.exists(), f"{CHROMIUM} is missing: apt-get install chromium")
    need(importlib.util.find_spec("playwright") is not None, "playwright is missing: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 3000})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()
