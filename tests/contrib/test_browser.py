"""Test how the panel looks in Chromium, in a light and a dark theme."""

from __future__ import annotations

import re

import pytest
from selenium.webdriver.common.by import By

from .browser import CHROMIUM, DRIVER, THEMES, chromium, open_panel
from .serving import watched

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()),
    reason="Debian's chromium and chromium-driver aren't installed",
)
# The position, text and title of each bar, in the order of the table of calls.
BARS = """
const svg = arguments[0].querySelector("svg");
const frame = svg.getBoundingClientRect();
return [...svg.children].map((bar) => {
    const rectangle = bar.querySelector("rect").getBoundingClientRect();
    const {left, right, top, bottom} = rectangle;
    return {
        left: left - frame.left,
        right: right - frame.left,
        top: top - frame.top,
        bottom: bottom - frame.top,
        within: right <= frame.right + 1 && bottom <= frame.bottom + 1,
        text: bar.querySelector("text").textContent,
        title: bar.querySelector("title").textContent,
    };
});
"""
# The colors of each text and of its background.
COLORS = """
function findBackground(element) {
    const {backgroundColor} = getComputedStyle(element);
    const isTransparent = backgroundColor === "rgba(0, 0, 0, 0)";
    return isTransparent ? findBackground(element.parentElement) : backgroundColor;
}
const texts = [...arguments[0].querySelectorAll("h3, h4, th, td")].map((text) => [
    getComputedStyle(text).color, findBackground(text),
]);
const bars = [...arguments[0].querySelectorAll("g")].map((bar) => [
    getComputedStyle(bar.querySelector("text")).fill,
    getComputedStyle(bar.querySelector("rect")).fill,
]);
return [texts, bars];
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with watched("debug-toolbar", tmp_path_factory.mktemp("shop") / "output") as shop:
        yield shop


@pytest.fixture(scope="module", params=THEMES)
def theme(request):
    return request.param


@pytest.fixture(scope="module")
def browser(theme):
    with chromium(theme) as browser:
        yield browser


@pytest.fixture(scope="module")
def panel(browser, shop):
    return open_panel(browser, shop)


def luminance(color):
    """Return the relative luminance of a color, from 0 to 1."""

    def linear(value):
        value = int(value) / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, re.findall(r"\d+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """Return the contrast of two colors, from 1 to 21, as WCAG defines it."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_panel(browser, panel):
    bars = browser.execute_script(BARS, panel)
    *_, table = panel.find_elements(By.TAG_NAME, "table")
    rows = [
        [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
    ]
    receivers = [row[2].split()[0] for row in rows]
    assert [bar["text"] for bar in bars] == receivers
    assert all(bar["within"] for bar in bars)
    for bar, row in zip(bars, rows, strict=True):
        duration = re.escape(row[1].replace(" ", "\N{NO-BREAK SPACE}"))
        pattern = rf"{bar['text']} \(.*\.{row[3]}\): {duration}"
        assert re.fullmatch(pattern, bar["title"])
    # Bars in a line don't overlap, and each bar is below the bar around it.
    for number, bar in enumerate(bars):
        for later in bars[number + 1 :]:
            if later["left"] < bar["right"] - 0.01:
                assert later["top"] >= bar["bottom"]
    confirm = bars[receivers.index("orders.receivers.confirm")]
    assert confirm["top"] == 0
    inside = {
        bar["text"]
        for bar in bars
        if bar["top"] > 0 and confirm["left"] <= bar["left"] < confirm["right"]
    }
    # The receiver saves the order; the change is recorded in an entry, which is logged.
    assert inside == {"audit.receivers.record_change", "audit.receivers.log"}
    (warehouse,) = (row for row in rows if "tell_warehouse" in row[2])
    assert warehouse[2] == "orders.receivers.tell_warehouse (asynchronous)"


def test_colors(browser, panel, theme):
    texts, bars = browser.execute_script(COLORS, panel)
    for color, background in (*texts, *bars):
        assert contrast(color, background) > 4.5
    _, background_of_cells = texts[-1]
    assert (luminance(background_of_cells) < 0.1) == (theme == "dark")
