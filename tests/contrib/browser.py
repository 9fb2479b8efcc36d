"""Use the panel of django-debug-toolbar in Chromium.

python -m tests.contrib.browser    take the screenshots for the documentation
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import ROOT

from .serving import TIME_LIMIT, watched

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")
THEMES = ("light", "dark")


@contextmanager
def chromium(theme: str) -> Iterator[Chrome]:
    """Return a headless browser that prefers a color scheme."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1200,1000"):
        options.add_argument(argument)
    browser = Chrome(options, Service(str(DRIVER)))
    try:
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": theme}]},
        )
        yield browser
    finally:
        browser.quit()


def find(browser: Chrome, selector: str, text: str = "") -> WebElement:
    """Wait for a visible element of the toolbar that contains a text."""

    def find_visible(browser: Chrome) -> WebElement | None:
        root = browser.find_element(By.ID, "djDebugRoot").shadow_root
        for each in root.find_elements(By.CSS_SELECTOR, selector):
            if each.is_displayed() and text in each.text:
                return each
        return None

    wait = WebDriverWait(
        browser, TIME_LIMIT, ignored_exceptions=[StaleElementReferenceException]
    )
    return wait.until(find_visible)


def click(browser: Chrome, selector: str, text: str = "", button: str = "") -> None:
    """Click on an element, or on a button in it. Retry while the page replaces it."""
    while True:
        with suppress(StaleElementReferenceException):
            found = find(browser, selector, text)
            if button:
                found = found.find_element(By.CSS_SELECTOR, button)
            return found.click()


def open_panel(browser: Chrome, shop: str) -> WebElement:
    """Order a book; return the panel of that request."""
    browser.get(f"{shop}/books/volume-0/")
    browser.find_element(By.NAME, "customer").send_keys("a@example.com")
    browser.find_element(By.XPATH, "//button[text()='Order']").click()
    # The toolbar shows the page after the order; the history has the order itself.
    click(browser, "a.HistoryPanel")
    page = find(browser, "#djDebug").get_attribute("data-request-id")
    click(browser, "#djdtHistoryRequests tr", "POST", ".switchHistory")
    find(browser, f"#djDebug:not([data-request-id='{page}'])")
    click(browser, "a.ReceiversPanel")
    find(browser, "#ReceiversPanel table")
    return find(browser, "#ReceiversPanel")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        watched("debug-toolbar", Path(folder, "output")) as shop,
    ):
        for theme in THEMES:
            with chromium(theme) as browser:
                open_panel(browser, shop)
                image = ROOT / "docs" / "images" / f"receivers-panel-{theme}.png"
                browser.save_screenshot(str(image))


if __name__ == "__main__":
    main()
