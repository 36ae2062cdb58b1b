"""The page: what its file holds, and what it does in a real browser when it is clicked."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from imageio.v3 import imread

from hrtem import report
from hrtem.columns import Columns
from hrtem.report import page
from hrtem.structure import Mark

SAMPLING = 0.25


def square(x, y):
    return np.array([[x - 2, y - 2], [x + 2, y - 2], [x + 2, y + 2], [x - 2, y + 2]])


def a_frame(seed=0, in_domain=False, side=160, marks=True):
    """200 columns of two classes on a square lattice of 2.5 Å, in an image of 40 Å with a ramp from left to right."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(20) * 1.9 + 1.5, np.arange(10) * 3.8 + 1.5)
    labels = np.arange(200) % 2
    probabilities = np.linspace(0.5, 1.0, 200)
    columns = Columns(
        np.column_stack([x.ravel(), y.ravel()]), labels, ("Mo", "S2 & more"), probabilities=probabilities,
        sigmas=np.full(200, 0.05),
    )  # fmt: skip
    shapes = [
        Mark("heptagon", square(20.0, 21.0), "ring of 7", "#00ff00"),
        Mark("vacancy", np.array([[30.0, 6.0]]), "nothing", "#0000ff"),
    ]
    return report.Frame(
        np.tile(np.arange(side, dtype=np.float32), (side, 1)) + rng.normal(size=(side, side)).astype(np.float32),
        columns,
        SAMPLING,
        maps=np.stack([np.eye(80, dtype=np.float32), np.zeros((80, 80), np.float32)]),
        map_sampling=0.5,
        in_domain=in_domain,
        extras={"e_xx": np.where(np.arange(200) % 5, np.linspace(-0.02, 0.03, 200), np.nan)},
        marks=shapes if marks else [],
    )


def written(path, frames, title="flake 1"):
    settings = {"checkpoint": "best.ckpt", "model": {"sampling": 0.2}, "sampling": None, "odd": "</script><b>"}
    report.write_page(frames, report.fields_of(frames), path, title, settings)
    return path


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL).group(1))


def test_the_file_holds_everything_and_may_load_nothing(tmp_path):
    path = written(tmp_path / "report.html", [a_frame()], title="<flake> & 'co'")
    text = path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    outside = re.sub(r"http://www\.w3\.org/2000/svg", "", text)  # the name of a language, not an address to load
    assert not re.search(r"https?://|//cdn|<link(?! rel=\"icon\" href=\"data:,\")|@import|url\(|src=", outside)
    assert "default-src 'none'; img-src data:; script-src 'sha256-" in text
    assert "<title>&lt;flake&gt; &amp;" in text
    assert text.count("</script>") == 2
    data = data_of(path)
    assert data["title"] == "<flake> & 'co'"
    assert dict(map(tuple, data["settings"])) == {
        "checkpoint": "best.ckpt", "model.sampling": "0.2", "sampling": "–", "odd": "</script><b>",
    }  # fmt: skip


def test_numbers_and_pictures_are_those_of_the_table(tmp_path):
    frame = a_frame()
    data = data_of(written(tmp_path / "report.html", [frame]))
    fields = {field["name"]: field for field in data["fields"]}

    def numbers(name):
        raw = np.frombuffer(base64.b64decode(fields[name]["data"]), "<i4").astype(float)
        return np.where(raw == page.MISSING, np.nan, raw / 10.0 ** fields[name]["digits"])

    np.testing.assert_allclose(numbers("x_A"), frame.columns.positions[:, 0], atol=5e-5)
    np.testing.assert_allclose(numbers("e_xx"), frame.extras["e_xx"], atol=5e-5)
    assert fields["class"]["texts"] == ["Mo", "S2 & more"]
    pixels = imread(io.BytesIO(base64.b64decode(data["frames"][0]["image"].partition(",")[2])), extension=".png")
    assert pixels.shape == (160, 160)
    output = imread(io.BytesIO(base64.b64decode(data["frames"][0]["output"].partition(",")[2])), extension=".png")
    assert output.shape == (80, 80, 4)
    assert output[10, 10].tolist() == [*(int(data["classes"][0]["colour"][k : k + 2], 16) for k in (1, 3, 5)), 255]
    assert output[10, 11, 3] == 0


def test_a_large_image_is_shown_smaller_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LONGEST", 64)
    monkeypatch.setattr(page, "LOSSLESS", 32)
    (shown,) = data_of(written(tmp_path / "report.html", [a_frame()]))["frames"]
    assert shown["shrunk"] == 3
    assert shown["size"] == [160, 160]
    assert shown["image"].startswith("data:image/jpeg;base64,")


def test_of_a_long_movie_evenly_spaced_frames_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "FRAMES", 3)
    data = data_of(written(tmp_path / "report.html", [a_frame(seed) for seed in range(5)]))
    assert [frame["number"] for frame in data["frames"]] == [0, 2, 4]
    assert [frame["rows"] for frame in data["frames"]] == [[0, 200], [200, 400], [400, 600]]
    assert data["allFrames"] == 5
    ids = next(field for field in data["fields"] if field["name"] == "id")
    assert np.frombuffer(base64.b64decode(ids["data"]), "<i4")[[0, 200, 400]].tolist() == [0, 400, 800]


@pytest.mark.parametrize("change", [{"columns": Columns([], [], ("Mo", "S2")), "extras": {}}, {"maps": None}])
def test_nothing_found_and_no_maps(tmp_path, change):
    frame = a_frame()
    facts = {name: getattr(frame, name) for name in frame.__dataclass_fields__} | {"marks": []} | change
    data = data_of(written(tmp_path / "report.html", [report.Frame(**facts)]))
    assert len(data["frames"]) == 1
    assert ("output" in data["frames"][0]) == (facts["maps"] is not None)


# ---- in a browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A real browser without a window, whose downloads go to ``browser.downloads``."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the page is not clicked")
    if not BROWSER or not DRIVER:
        pytest.skip("no chromium and chromedriver on this machine: the page is not clicked")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    downloads = tmp_path_factory.mktemp("downloads")
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,1000",
    ):
        options.add_argument(word)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.downloads = downloads
    yield driver
    driver.quit()


class Page:
    """The page in the browser, by what a user sees of it."""

    def __init__(self, driver, path):
        self.driver = driver
        driver.get(path.as_uri())
        self.wait(lambda: self.script("return document.documentElement.dataset.ready") == "true")
        self.settle()

    def script(self, text, *words):
        return self.driver.execute_script(text, *words)

    def wait(self, condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the page did not answer"
            time.sleep(0.05)

    def settle(self):
        """Until the picture and the histograms, which wait a little, are drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 250)"
        )

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def click(self, selector):
        self.find(selector).click()
        self.settle()

    def drawn(self, pane="image"):
        return int(self.find(f"#canvas-{pane}").get_attribute("data-atoms"))

    def view(self, pane="image"):
        canvas = self.find(f"#canvas-{pane}")
        centre = tuple(map(float, canvas.get_attribute("data-centre").split()))
        return float(canvas.get_attribute("data-scale")), *centre

    def at(self, x, y, pane="image"):
        """Where (x, y) Å lies from the middle of a canvas, px."""
        scale, left, top = self.view(pane)
        return round((x - left) * scale), round((y - top) * scale)

    def colour(self, x, y, pane="image"):
        """RGB of what is drawn at (x, y) Å."""
        dx, dy = self.at(x, y, pane)
        return self.script(
            "const c = document.getElementById(arguments[0]), r = window.devicePixelRatio;"
            "return Array.from(c.getContext('2d').getImageData(c.width / 2 + arguments[1] * r,"
            " c.height / 2 + arguments[2] * r, 1, 1).data).slice(0, 3)",
            f"canvas-{pane}", dx, dy,
        )  # fmt: skip

    def mouse(self):
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver)

    def counted(self, histogram):
        return sum(int(bar.get_attribute("data-number")) for bar in self.all(f"#{histogram} rect"))

    def shown(self):
        return int(self.find("#rows-text").text.split()[0])


@pytest.fixture
def opened(browser, tmp_path):
    path = written(tmp_path / "report.html", [a_frame(), a_frame(seed=1, in_domain=True, marks=False)])
    report.write_csv(report.fields_of([a_frame(), a_frame(seed=1, in_domain=True)]), tmp_path / "atoms.csv")
    shown = Page(browser, path)
    yield shown
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    loaded = shown.script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in loaded if not address.startswith("data:")] == []


@pytest.mark.slow
def test_atoms_are_toggled_by_class_and_probability(opened):
    from selenium.webdriver.common.keys import Keys

    assert (opened.drawn("image"), opened.drawn("output"), opened.shown()) == (200, 200, 200)
    assert opened.counted("probabilities") == 200
    pairs = opened.counted("distances")
    first, second = opened.all("#classes input")
    first.click()
    opened.settle()
    assert (opened.drawn(), opened.shown(), opened.counted("probabilities")) == (100, 100, 100)
    assert 0 < opened.counted("distances") < pairs
    assert {cell.text for cell in opened.all("#table td.text")} == {"S2 & more"}
    second.click()
    opened.settle()
    assert (opened.drawn(), opened.shown()) == (0, 0)
    assert "Fewer than two" in opened.find("#distance-text").text
    first.click()
    second.click()
    slider = opened.find("#threshold")
    slider.send_keys(Keys.ARROW_RIGHT * 25)
    opened.settle()
    assert opened.find("#threshold-text").text == "0.75"
    kept = int((np.round(np.linspace(0.5, 1.0, 200), 4) >= 0.75).sum())
    assert (opened.drawn(), opened.shown()) == (kept, kept)
    assert len(opened.all("#probabilities rect.off")) > 0
    slider.send_keys(Keys.END)
    opened.settle()
    assert opened.shown() == 1
    opened.click("#rings")
    assert opened.drawn() == 0


@pytest.mark.slow
def test_both_pictures_move_and_zoom_together(opened):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    whole = opened.view()
    assert opened.view("output") == whole
    opened.click("#zoom-in")
    assert opened.view()[0] == pytest.approx(1.5 * whole[0])
    canvas = opened.find("#canvas-image")
    before = opened.view()
    opened.mouse().drag_and_drop_by_offset(canvas, 60, -40).perform()
    opened.settle()
    scale, x, y = opened.view()
    # A drag begins when the pointer has moved by a few pixels.
    assert x - before[1] == pytest.approx(-60 / scale, abs=8 / scale)
    assert y - before[2] == pytest.approx(40 / scale, abs=8 / scale)
    x0, y0 = opened.at(10.0, 10.0)
    opened.mouse().scroll_from_origin(ScrollOrigin.from_element(canvas, x0, y0), 0, -400).perform()
    opened.settle()
    assert opened.view()[0] > 1.2 * scale
    assert opened.at(10.0, 10.0) == pytest.approx((x0, y0), abs=2)  # what lay below the pointer still does
    assert opened.view("output") == opened.view()
    assert opened.drawn() < 200  # what is out of the picture is not drawn
    opened.click("#in-view")
    assert opened.counted("probabilities") < 200
    scale, x, _ = opened.view()
    canvas.send_keys("-")
    canvas.send_keys(Keys.ARROW_RIGHT)
    opened.settle()
    assert opened.view()[0] == pytest.approx(scale / 1.3)
    assert opened.view()[1] > x
    canvas.send_keys("0")
    opened.settle()
    assert opened.view() == pytest.approx(whole)


@pytest.mark.slow
def test_the_output_is_shown_alone_beside_and_over_the_image(opened):
    panes = lambda: [opened.find(f"#pane-{name}").is_displayed() for name in ("image", "output")]  # noqa: E731
    opened.click("#rings")
    assert panes() == [True, True]
    assert opened.colour(25.0, 25.0, "output")[0] > 150  # the diagonal of the map
    assert np.ptp(opened.colour(25.0, 25.0)) < 20
    opened.click("#modes label:nth-of-type(2)")
    assert panes() == [True, False]
    assert opened.find("#opacity").is_displayed()
    blended = opened.colour(25.0, 25.0)
    assert blended[0] > blended[1] + 60
    opened.click("#modes label:nth-of-type(4)")
    assert panes() == [False, True]
    opened.click("#modes label:nth-of-type(1)")
    assert panes() == [True, False]
    dark, bright = opened.colour(3.0, 12.0), opened.colour(37.0, 12.0)
    assert bright[0] > dark[0] + 100
    opened.click("#invert")
    assert opened.colour(37.0, 12.0)[0] < opened.colour(3.0, 12.0)[0] - 100


@pytest.mark.slow
def test_marks_are_toggled_and_atoms_coloured(opened):
    assert [label.text.split("\n")[0].split()[0] for label in opened.all("#marks label")] == ["heptagon", "vacancy"]
    middle = opened.colour(20.0, 21.6)
    assert middle[1] > middle[0] + 60
    opened.click("#marks input")
    assert np.ptp(opened.colour(20.0, 21.6)) < 20
    choices = opened.all("#colour-by option")
    assert [one.text for one in choices] == ["class", "probability", "p_Mo", "p_S2 & more", "sigma_pm", "e_xx"]
    choices[-1].click()
    opened.settle()
    assert opened.find("#colours").is_displayed()
    assert opened.find("#colour-low").text.startswith("-0.02")
    red, green, blue = opened.colour(1.5 + 4 * 1.9, 1.5 + 9 * 3.8)  # a large value
    assert red > blue + 40
    red, green, blue = opened.colour(1.5 + 4 * 1.9, 1.5)  # a small one
    assert blue > red + 40
    assert green > 0


@pytest.mark.slow
def test_hover_and_keys_show_the_row_of_an_atom(opened):
    canvas, tip = opened.find("#canvas-image"), opened.find("#tip")
    assert not tip.is_displayed()
    opened.mouse().move_to_element_with_offset(canvas, *opened.at(1.5 + 1.9 * 3, 1.5 + 3.8 * 2)).perform()
    opened.settle()
    assert tip.is_displayed()
    texts = [element.text for element in opened.all("#tip dt, #tip dd")]
    row = dict(zip(texts[::2], texts[1::2], strict=True))
    assert (row["id"], row["x_A"], row["class"], row["sigma_pm"]) == ("43", "7.2000", "S2 & more", "5.00")
    assert opened.find("#pointer").text.startswith("x 7.")
    opened.mouse().move_to_element_with_offset(canvas, *opened.at(20.0, 21.8)).perform()
    opened.settle()
    assert tip.text == "ring of 7"
    canvas.send_keys("nn")
    opened.settle()
    assert opened.find("#said").get_attribute("textContent").startswith("frame 0, id 1, x_A 3.4000")
    assert opened.find("tr.chosen td:nth-child(2)").text == "1"
    canvas.send_keys("p")
    opened.settle()
    assert opened.find("tr.chosen td:nth-child(2)").text == "0"
    opened.click("#table tbody tr:nth-child(30) button")
    assert opened.find("tr.chosen td:nth-child(2)").text == "29"
    scale, x, y = opened.view()
    assert scale >= 12
    assert (x, y) == pytest.approx((1.5 + 1.9 * 9, 1.5 + 3.8), abs=0.01)


def downloaded(browser, name):
    path = browser.downloads / name
    end = time.monotonic() + 20
    while not path.exists() or list(browser.downloads.glob("*.crdownload")):
        assert time.monotonic() < end, f"{name} was not downloaded"
        time.sleep(0.05)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    path.unlink()
    return rows


@pytest.mark.slow
def test_the_table_is_sorted_turned_and_downloaded(opened, browser, tmp_path):
    with (tmp_path / "atoms.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert [button.text.split()[0] for button in opened.all("#table th button")][:4] == table[0][:4]
    opened.click("#download-all")
    assert downloaded(browser, "flake_1.csv") == table
    opened.click("#page-after")
    assert opened.find("#page-text").text == "page 2 of 4"
    assert opened.find("#table tbody td:nth-child(2)").text == "50"
    head = next(button for button in opened.all("#table th button") if button.text == "probability")
    head.click()
    head.click()
    opened.settle()
    assert opened.find("#table tbody td:nth-child(2)").text == "199"
    assert opened.find('th[aria-sort="descending"]').text == "probability ▼"
    opened.click("#classes input")
    opened.click("#download")
    rows = downloaded(browser, "flake_1-shown.csv")
    kept = [row for row in table[1:201] if row[6] == "S2 & more"]
    assert rows == [table[0], *kept[::-1]]


@pytest.mark.slow
def test_warning_frames_settings_and_dark_page(opened):
    assert opened.find("#warning").is_displayed()
    assert "Do not trust" in opened.find("#warning").text
    assert opened.find("#domain").text == "unlike the training images"
    opened.click("#frame-after")
    assert not opened.find("#warning").is_displayed()
    assert opened.find("#frame-text").text == "1 of 0–1"
    assert opened.find("#table tbody td:nth-child(2)").text == "200"
    assert not opened.find("#marks-section").is_displayed()
    opened.click("#settings-card summary")
    settings = dict(line.text.split(" ", 1) for line in opened.all("#settings tr"))
    assert settings["model.sampling"] == "0.2"
    assert settings["odd"] == "</script><b>"
    paper = "return getComputedStyle(document.body).backgroundColor"
    before = opened.script(paper)
    opened.click("#theme")
    assert opened.script(paper) != before
    assert all(opened.script("return arguments[0].labels.length > 0", box) for box in opened.all("input, select"))
    names = "return arguments[0].getAttribute('aria-label') || arguments[0].textContent.trim()"
    assert all(opened.script(names, button) for button in opened.all("button"))


@pytest.mark.slow
def test_a_movie_is_walked_through_along_its_curve(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    frames = [a_frame(seed=number, in_domain=True, marks=number == 2) for number in range(4)]
    movie = page.Movie(4, np.array([5.0, 7.0, 6.0, 5.0]), "occupied surface columns")
    path = tmp_path / "movie.html"
    report.write_page(frames, report.fields_of(frames), path, "movie", {}, movie)
    shown = Page(browser, path)
    assert shown.find("#frame-text").text == "0 of 0–3"
    assert "5 in frame 0, 5 to 7 in all" in shown.find("#curve-text").text
    assert not shown.find("#marks-section").is_displayed()
    shown.find("#frame").send_keys(Keys.ARROW_RIGHT * 2)
    shown.settle()
    assert shown.find("#frame-text").text == "2 of 0–3"
    assert "6 in frame 2" in shown.find("#curve-text").text
    assert shown.find("#marks-section").is_displayed()
    shown.find("#frame").send_keys(Keys.HOME)
    shown.click("#play")
    shown.wait(lambda: shown.find("#frame-text").text != "0 of 0–3")
    shown.click("#play")
    assert shown.find("#play").get_attribute("aria-pressed") == "false"
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
