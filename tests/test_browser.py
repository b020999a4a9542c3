"""The report in a browser: what it asks for, shows and does, by mouse, keyboard, without script.

Needs chromium and chromedriver, and is skipped without them; scripts/browser.sh says how to get
them. NTMBENCH_BROWSER=required makes their absence a failure. NTMBENCH_SCREENSHOTS=folder keeps
pictures of the report.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import fake_config, write_run
from test_webpage import everything, figure

from ntmbench.report import write_report
from ntmbench.report.blocks import (
    Block,
    Cell,
    Choice,
    Fold,
    Heading,
    Image,
    Matrix,
    Section,
    Table,
    Text,
)
from ntmbench.report.webpage import html

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402

FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync disable-dev-shm-usage"
)
PHONE, DESKTOP = (390, 844), (1280, 900)
NARROW = (360, 740)
MODELS, TASKS = ("lstm", "ntm", "ntm-ff"), ("copy", "recall")
ROWS = (
    ("entry", "solved", "loss, bits", "note"),
    ("ntm #2", "7/10", "1,234", "b10"),
    ("lstm@wide", "0/4 (1 diverged)", "not reached", "-"),
    ("ntm-ff", "10/10", "-", "b9"),
    ("chance", "-", "20.5 (20 to 21)", "a"),
)


def tool(*names: str) -> str:
    """The first of these programs that there is."""
    for name in names:
        if found := shutil.which(name):
            return found
    reason = f"there is no {names[0]}: apt-get install chromium chromium-driver"
    if os.environ.get("NTMBENCH_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class Browser:
    """A headless Chromium: what the tests ask of it."""

    def __init__(self, profile: Path, **preferences: object) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = tool("chromium", "chromium-browser", "google-chrome")
        for flag in FLAGS.split(" "):
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={profile}")
        options.add_experimental_option("prefs", preferences)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options, Service(executable_path=tool("chromedriver")))

    def cdp(self, command: str, **arguments: object) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments)

    def open(
        self,
        page: Path,
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        media: str = "screen",
    ) -> None:
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.cdp(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": name, "value": value} for name, value in features.items()],
        )
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size[0] < 500,
        )
        self.driver.get(page.as_uri())

    def script(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def shown(self, selector: str) -> int:
        """How many of these elements can be seen."""
        seen = "e.checkVisibility() && getComputedStyle(e).display !== 'none'"
        found = f"[...document.querySelectorAll(arguments[0])].filter(e => {seen})"
        return self.script(f"return {found}.length", selector)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="session")
def without_script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    setting = {"profile.managed_default_content_settings.javascript": 2}
    browser = Browser(tmp_path_factory.mktemp("without"), **setting)
    yield browser
    browser.driver.quit()


def cell(solved: int, scale: float) -> Cell:
    points = tuple(f"length={n}" for n in (10, 20, 50, 120))
    errors = tuple(scale * n for n in (0.0, 0.2, 0.6, 1.2))
    return Cell(f"{solved}/10", solved / 10, ("9,000 sequences",), errors, points, (True, True))


def task_section(task: str) -> Section:
    views = [(model, Image(f"{model}-{task}", f"{model} on {task}")) for model in MODELS]
    wide = [["", *(f"length={n}" for n in range(12))]]
    wide += [[model, *["0.00506 (0.00411 to 0.00601)"] * 12] for model in MODELS]
    inside = (
        Heading(2, task),
        Text(f"What `{task}` asks for."),
        Table(ROWS, 0),
        Choice("Learning curves", tuple(views)),
        Fold("At every point", (Table(wide, 0), Text("Folded away."))),
    )
    return Section(task, inside)


@pytest.fixture(scope="session")
def handmade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = {task: [cell(3 * i, 1.5 - i / 2) for i in range(3)] for task in TASKS}
    rows = tuple(
        (task, (*cells[task][:2], cells[task][2] if i else None)) for i, task in enumerate(TASKS)
    )
    content: list[Block] = [
        Heading(1, "Benchmark report"),
        Text("See [Problems](#problems)."),
        Heading(2, "Solved seeds"),
        Matrix(MODELS, rows),
        *map(task_section, TASKS),
        *everything("a-very-long-name-of-a-model-or-a-task-without-a-space_in_it" * 2)[1:],
    ]
    path = tmp_path_factory.mktemp("handmade") / "report.html"
    path.write_text(html(content, drawing, "Benchmark report"), encoding="utf-8")
    return path


def drawing(path: str) -> str:
    model = path.rpartition("-")[0]
    return figure(model if model in MODELS else "ntm")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on runs that are complete, diverged and broken."""
    runs, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("written")
    for task in ("copy", "repeat_copy", "dynamic_ngrams"):
        for model in ("lstm", "gru", "ntm"):
            for seed in (1, 2, 3):
                status = "diverged" if (model, seed) == ("gru", 2) else "complete"
                write_run(runs, fake_config(task, model, seed), status=status, traced=True)
    write_run(runs, fake_config("copy", "ntm", 4)).summary_file.write_text("{")
    return write_report(runs, out)


@pytest.fixture(params=["handmade", "written"])
def report(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_nothing_leaves_the_page_and_nothing_complains(browser, report):
    browser.driver.get("about:blank")
    for kind in ("performance", "browser"):
        browser.driver.get_log(kind)
    browser.open(report)
    browser.script("scrollTo(0, document.body.scrollHeight)")
    entries = [json.loads(e["message"])["message"] for e in browser.driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in entries if e["method"] == REQUEST]
    assert report.as_uri() in urls
    assert [url for url in urls if not url.startswith(("data:", report.as_uri()))] == []
    said = [e for e in browser.driver.get_log("browser") if e["level"] not in ("DEBUG", "INFO")]
    assert said == []


REQUEST = "Network.requestWillBeSent"


def test_the_policy_stops_what_is_not_the_pages(browser, tmp_path, handmade):
    """A script, a handler and a picture from elsewhere that got in all the same do nothing."""
    injected = (
        "<script>document.title = 'script'</script>"
        '<img src="data:," onerror="document.title = \'handler\'">'
        '<img src="https://example.com/x.png">'
    )
    page = tmp_path / "report.html"
    page.write_text(handmade.read_text(encoding="utf-8").replace("</main>", f"{injected}</main>"))
    browser.open(page)
    assert browser.driver.title == "Benchmark report"
    said = [entry["message"] for entry in browser.driver.get_log("browser")]
    assert sum("Content Security Policy" in message for message in said) == 3


@pytest.mark.parametrize("size", [NARROW, PHONE, DESKTOP], ids=str)
def test_the_page_never_scrolls_sideways(browser, report, size):
    browser.open(report, size)
    browser.script("document.querySelectorAll('details.fold').forEach(d => { d.open = true })")
    width, inner = browser.script("return [document.scrollingElement.scrollWidth, innerWidth]")
    assert width <= inner == size[0]
    beyond = browser.script(
        "return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') &&"
        " e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.tagName + e.className)"
    )
    assert beyond == []


CONTRAST = """
const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const behind = (e) => {
  for (let at = e; at; at = at.parentElement) {
    const found = parts(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const light = (c) => c.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => {
  const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const e = node.parentElement;
  const words = node.data.trim();
  if (!words || !e.checkVisibility() || ["SCRIPT", "STYLE", "title"].includes(e.tagName)) continue;
  const style = getComputedStyle(e);
  const colour = parts(e instanceof SVGElement ? style.fill : style.color);
  // Letters on an image have no background here; test_report_parts has those of heat maps.
  if (words === "on the map" || ["255,255,254", "0,0,1"].includes(colour.join())) continue;
  found.push([ratio(colour, behind(e)), words]);
}
return [found.length, found.sort((a, b) => a[0] - b[0])[0], behind(document.body)];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out(browser, report, scheme):
    browser.open(report, scheme=scheme)
    browser.script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    count, (worst, text), paper = browser.script(CONTRAST)
    assert count > 100 and worst >= 4.5, text
    assert (sum(paper[:3]) > 700) == (scheme == "light")
    assert (sum(paper[:3]) < 120) == (scheme == "dark")


def test_figures_follow_the_scheme(browser, handmade):
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(handmade, scheme=scheme)
        line = "document.querySelector('figure g[data-model] path')"
        seen[scheme] = browser.script(f"return getComputedStyle({line}).stroke")
    assert seen == {"light": "rgb(0, 0, 0)", "dark": "rgb(232, 230, 225)"}


def test_on_paper_it_is_light_open_and_without_controls(browser, report):
    folded = "details.fold > :not(summary)"
    browser.open(report, scheme="dark")
    hidden = browser.shown(folded)
    browser.open(report, scheme="dark", media="print")
    assert browser.shown(".toolbar, .choice > input") == 0
    assert browser.script(CONTRAST)[2][:3] == [255, 255, 255]
    if browser.all("details.fold"):
        assert hidden == 0 and browser.shown(folded) == len(browser.all(folded)) > 0
    assert browser.shown("figure") == browser.shown("figure svg") > 0


def test_printing_opens_what_is_folded_and_closes_it_again(browser, handmade):
    browser.open(handmade)
    browser.one("details.fold > summary").click()
    count = len(browser.all("details.fold"))
    browser.script("dispatchEvent(new Event('beforeprint'))")
    assert len(browser.all("details.fold[open]")) == count > 1
    browser.script("dispatchEvent(new Event('afterprint'))")
    assert len(browser.all("details.fold[open]")) == 1


NAMELESS = """
const named = (e) => e.getAttribute("aria-label") || e.textContent.trim() ||
  [...(e.labels || [])].map((l) => l.textContent.trim()).join("");
return [...document.querySelectorAll(
  "a, button, input, summary, legend, th, figure svg, svg[role=img], nav, [role=group], table")]
  .filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 200));
"""


def test_everything_has_a_name(browser, report):
    browser.open(report)
    assert browser.script(NAMELESS) == []
    assert browser.script("return document.documentElement.lang") == "en"
    ids = browser.script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    levels = browser.script(
        "return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => +e.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    links = browser.script(
        "return [...document.querySelectorAll('a')].filter(a => !document.getElementById("
        "decodeURIComponent(a.hash.slice(1)))).map(a => a.outerHTML)"
    )
    assert links == []


def test_the_tab_key_stops_only_where_something_scrolls(browser, handmade):
    browser.open(handmade)
    browser.script("document.querySelector('details.fold').open = true")
    stops = browser.script(
        "return new Promise(done => requestAnimationFrame(() => setTimeout(() => done("
        "[...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility())"
        ".map(e => [e.tabIndex === 0, e.scrollWidth > e.clientWidth])), 50)))"
    )
    assert {tuple(pair) for pair in stops} == {(True, True), (False, False)}


def column(browser: Browser, number: int) -> list[str]:
    cells = browser.all(f"#task\\.copy .data tbody tr > :nth-child({number})")
    return [cell.text for cell in cells[: len(ROWS) - 1]]


ORIGINAL = [row[1] for row in ROWS[1:]]
SORTED = {
    2: (  # a ratio is a share
        ["0/4 (1 diverged)", "7/10", "10/10", "-"],
        ["10/10", "7/10", "0/4 (1 diverged)", "-"],
    ),
    3: (  # what was not reached is worse than any number
        ["20.5 (20 to 21)", "1,234", "not reached", "-"],
        ["not reached", "1,234", "20.5 (20 to 21)", "-"],
    ),
    4: (["a", "b9", "b10", "-"], ["b10", "b9", "a", "-"]),
}


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
@pytest.mark.parametrize("number", SORTED)
def test_tables_sort(browser, handmade, number, by):
    browser.open(handmade)
    button = browser.one(f"#task\\.copy .data th:nth-child({number}) button")
    head = browser.one(f"#task\\.copy .data th:nth-child({number})")

    def act() -> str | None:
        if by == "mouse":
            button.click()
        else:
            button.send_keys(Keys.ENTER)
        return head.get_attribute("aria-sort")

    original = column(browser, number)
    assert head.get_attribute("aria-sort") == "none" and column(browser, 2) == ORIGINAL
    assert (act(), column(browser, number)) == ("ascending", SORTED[number][0])
    assert (act(), column(browser, number)) == ("descending", SORTED[number][1])
    assert (act(), column(browser, number)) == ("none", original)
    act()
    browser.one("#task\\.copy .data th button").send_keys(Keys.SPACE)  # another column
    assert head.get_attribute("aria-sort") == "none"
    assert column(browser, 1) == ["chance", "lstm@wide", "ntm #2", "ntm-ff"]


def test_models_can_be_left_out(browser, handmade):
    browser.open(handmade)
    status = browser.one(".filter [role=status]")
    models, tasks = (len(browser.all(f".filter input[name={k}]")) for k in ("model", "task"))
    assert status.text == f"{models} of {models} models, {tasks} of {tasks} tasks"
    before = browser.shown("[data-model=lstm]")
    browser.one(".filter summary").send_keys(Keys.ENTER)
    browser.one(".filter input[value=lstm]").send_keys(Keys.SPACE)
    assert status.text == f"{models - 1} of {models} models, {tasks} of {tasks} tasks"
    assert browser.shown("[data-model=lstm]") == 0
    for selector in (".matrix thead th", ".matrix td", ".data tr", "figure g"):
        assert browser.all(f"{selector}[data-model=lstm]"), selector
        if selector != "figure g":  # those are in views that are not chosen
            assert browser.shown(f"{selector}[data-model=ntm]"), selector
    assert browser.shown("#task\\.copy [data-model=chance]") == 1
    browser.one(".filter button").click()
    assert browser.shown("[data-model=lstm]") == before > 5
    assert status.text.startswith(f"{models} of {models} models")
    browser.press(Keys.ESCAPE)
    assert browser.shown(".panel") == 0
    assert browser.script("return document.activeElement.tagName") == "SUMMARY"


def test_tasks_can_be_left_out(browser, handmade):
    browser.open(handmade)
    browser.one(".filter summary").click()
    browser.one(".filter input[value=copy]").click()
    assert browser.all("[data-task=copy]") and browser.shown("[data-task=copy]") == 0
    for selector in ("section", ".matrix tr", "nav li"):
        assert browser.shown(f"{selector}[data-task=recall]") >= 1, selector
    beside = ActionChains(browser.driver).move_to_element_with_offset(browser.one("h1"), -400, 0)
    beside.click().perform()
    assert browser.shown(".panel") == 0 and browser.shown("[data-task=copy]") == 0


@pytest.mark.parametrize("script", [True, False])
def test_a_choice_by_mouse_and_by_keyboard(request, handmade, script):
    browser = request.getfixturevalue("browser" if script else "without_script")
    browser.open(handmade)
    labels = browser.all("#task\\.copy .choice > label")
    assert [label.text for label in labels] == list(MODELS)

    def chosen() -> list[str]:
        svgs = [e for e in browser.all("#task\\.copy .views svg") if e.is_displayed()]
        return [str(e.get_attribute("aria-label")) for e in svgs]

    assert chosen() == ["lstm on copy"]
    labels[2].click()
    assert chosen() == ["ntm-ff on copy"]
    browser.press(Keys.ARROW_LEFT)
    assert chosen() == ["ntm on copy"]
    other = [e for e in browser.all("#task\\.recall .views svg") if e.is_displayed()]
    assert [e.get_attribute("aria-label") for e in other] == ["lstm on recall"]


def test_without_script_all_can_be_read(without_script, report):
    without_script.open(report)
    assert without_script.all(".data th button") == [] != without_script.all(".data th")
    assert without_script.shown(".filter") == 0
    assert without_script.shown("section") == len(without_script.all("section"))
    assert without_script.shown(".scroll[tabindex='0']") == without_script.shown(".scroll") > 0
    if without_script.all("details.fold"):
        without_script.one("details.fold > summary").click()
        assert without_script.shown("details.fold[open] > :not(summary)") > 0


def test_a_link_opens_what_it_leads_to(browser, handmade):
    browser.open(handmade)
    assert browser.shown("#within") == 0
    browser.script("location.hash = '#within'; return new Promise(r => setTimeout(r, 50))")
    assert browser.shown("#within") == 1


def test_a_link_to_a_task_stops_below_the_toolbar(browser, handmade):
    browser.open(handmade)
    browser.one("nav li[data-task=recall] a").click()
    top = browser.script("return document.querySelector('#recall').getBoundingClientRect().top")
    bar = browser.script("return document.querySelector('.toolbar').getBoundingClientRect().bottom")
    assert bar <= top < bar + 100


def test_pictures(browser, report):
    """A picture of each look, kept where NTMBENCH_SCREENSHOTS says."""
    pictures, page = {}, report.parent.name.rstrip("0123456789")
    for name, size in (("phone", PHONE), ("desktop", DESKTOP)):
        for scheme in ("light", "dark"):
            browser.open(report, size, scheme)
            picture = browser.cdp("Page.captureScreenshot", format="png")["data"]
            pictures[f"{page}-{name}-{scheme}.png"] = base64.b64decode(picture)
    assert len(set(pictures.values())) == 4
    if folder := os.environ.get("NTMBENCH_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            (Path(folder) / name).write_bytes(content)
