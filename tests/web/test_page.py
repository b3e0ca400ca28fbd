"""The page as a person uses it, in a real browser."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from support import ROOT
from support.web_page import opened, until

pytestmark = pytest.mark.slow

GATED, FLOW, PLANE = "vqvae_gated_mnist", "vlae_mnist", "vae2d_gaussian1"
FIRST, SECOND = "test picture 14 of MNIST", "test picture 15 of MNIST"
CHOOSE = "Choose one to look closer"


@pytest.fixture
def show(open_page, site):
    return lambda model, view, query="", **options: opened(
        open_page, site, model, view=view, query=query, **options
    )


def photograph(width: int, height: int) -> dict:
    """Return a file that holds a white stroke on black."""
    stroke = Image.new("L", (width, height))
    stroke.paste(255, (width // 2 - width // 20, 20, width // 2 + width // 20, height - 20))
    stroke.save(buffer := io.BytesIO(), "JPEG")
    return {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}


def pixels(page, selector: str, index: int = 0) -> np.ndarray:
    """Return what a canvas shows, (H, W)."""
    read = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
    canvas = page.locator(selector).nth(index)
    data, width = canvas.evaluate(f"(c) => [Array.from({read}), c.width]")
    return np.array(data, int).reshape(-1, width, 4)[..., 0]


def samples(page, text: str = CHOOSE) -> np.ndarray:
    """Return the grid of pictures, when it is there."""
    page.get_by_text(text).wait_for()
    count = page.locator(".tiles canvas").count()
    return np.stack([pixels(page, ".tiles canvas", i) for i in range(count)])


def named(page, name: str) -> np.ndarray:
    """Return the first picture that is worked on, when it has this name."""
    page.locator(f".picker canvas[aria-label='{name}']").first.wait_for()
    return pixels(page, ".picker canvas")


def test_the_zoo_draws_on_a_click_and_opens_models_by_keyboard(open_page, site, own_model):
    page = open_page(site)
    page.wait_for_selector("a.card")
    shown = page.locator("a.card .name").all_inner_texts()
    assert shown[:2] == [str(own_model), GATED]  # one's own, then those that take a class
    until(page, "[...document.images].every((i) => i.complete && i.naturalWidth)")
    page.get_by_role("button", name="7", exact=True).click()
    assert len(samples(page, "drawn by your browser just now")) == 8
    page.get_by_text("All controls").click()
    assert len(samples(page)) == 16
    assert page.get_by_label("Class", exact=True).input_value() == "7"
    page.go_back()
    page.locator(f"a.card[href$={FLOW}]").press("Enter")
    assert len(samples(page)) == 16
    assert page.title() == f"{FLOW} · lvmzoo"
    assert page.evaluate("document.activeElement.id") == "main"


def test_samples_are_those_that_the_address_says(show):
    chosen = {"label": "3", "guidance": "1", "temperature": "0.5", "topP": "0.9", "seed": "5"}
    page = show(GATED, "samples", "&".join(f"{k}={v}" for k, v in chosen.items()) + "&count=4")
    first = samples(page)
    assert {key: page.locator(f"#{key}").input_value() for key in chosen} == chosen
    for seed in ("6", "5"):
        page.locator("#seed").fill(seed)
        page.locator(f".tiles canvas[aria-label='sample 1 of seed {seed}']").wait_for()
        assert np.array_equal(first, samples(page)) == (seed == "5")
    page.locator("#label").select_option("any")
    assert page.locator("#guidance").is_hidden()
    assert "label=any" in page.url


@pytest.mark.parametrize("model", [GATED, FLOW])
def test_a_link_holds_the_chosen_sample_and_back_goes_back(show, model):
    page = show(model, "samples", "count=4&seed=5")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    drawn = samples(page)
    page.locator(".tiles button").nth(2).press("Enter")
    chosen = named(page, "a sample")
    assert np.abs(chosen - drawn[2]).max() <= (model == FLOW)  # latents are rounded
    page.get_by_text("Copy link").click()
    page.get_by_text("Copied.", exact=True).wait_for()
    page.get_by_role("link", name="Between two").click()
    page.locator(".strip canvas").first.wait_for()
    assert np.array_equal(chosen, pixels(page, ".picker canvas"))
    page.go_back()
    page.go_back()
    assert np.array_equal(drawn, samples(page))
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    assert np.array_equal(chosen, named(page, "a sample"))


def test_pictures_are_saved(show):
    page = show(FLOW, "samples", "count=4")
    drawn = samples(page)
    with page.expect_download() as download:
        page.get_by_text("Save picture").click()
    assert download.value.suggested_filename == f"{FLOW}-samples.png"
    with Image.open(download.value.path()) as saved:
        grid = np.asarray(saved.convert("L"), int)[::4, ::4]
    assert np.array_equal(grid[34:66, :32], drawn[2])


def test_a_picture_is_taken_apart_into_codes_and_bits(show):
    page = show(GATED, "picture")
    with Image.open(ROOT / f"model_cards/{GATED}_reconstructions.png") as card:
        real = np.asarray(card.convert("L"), int)[70:102, 104:136]  # in row 3, column 4
    assert np.array_equal(named(page, FIRST), real)
    page.get_by_text("The prior writes its 64 codes in").wait_for()
    assert page.get_by_label("bits of each code").locator("text").count() == 64
    assert np.abs(pixels(page, ".results canvas") - real).mean() < 20
    page.locator("#class").select_option("0")
    page.get_by_text('told that it is "0"').wait_for()


def test_ones_own_picture_stays_with_another_model_also_while_it_is_read(show, own_model):
    page = show("vqvae_mnist", "picture")
    page.set_input_files("input[type=file]", photograph(6000, 4000))
    page.locator("#chooser").select_option(str(own_model))
    page.locator(".bars").wait_for()
    assert named(page, "mine.jpg").shape == (12, 12)
    page.get_by_text("Copy link").click()
    page.get_by_text("It does not hold your own picture").wait_for()


def test_what_is_no_picture_is_refused_in_a_sentence_and_changes_nothing(show):
    page = show(FLOW, "picture")
    for data, message in ((b"", "is empty."), (b"text", "is not a picture that this browser can")):
        page.set_input_files("input[type=file]", photograph(300, 200) | {"buffer": data})
        page.get_by_text(f"mine.jpg {message}").wait_for()
        assert page.locator(".picker canvas").get_attribute("aria-label") == FIRST
    page.get_by_text("Another", exact=True).click()
    assert named(page, SECOND).any()
    assert page.locator("#messages p").count() == 0


def test_a_picture_is_drawn_or_dropped(show):
    page = show(FLOW, "picture")
    page.get_by_text("Draw…", exact=True).click()
    page.locator("canvas.pad").click()
    page.get_by_text("Use it", exact=True).click()
    dot = named(page, "your drawing")
    assert (dot[16, 16] > 100, dot[3].max()) == (True, 0)
    page.evaluate(
        """async (bytes) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([Uint8Array.from(bytes)], "dropped.jpg"));
            document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer }));
        }""",
        list(photograph(300, 200)["buffer"]),
    )
    assert named(page, "dropped.jpg")[:, 16].max() > 200


def test_between_two_pictures_lie_both(show):
    page = show(FLOW, "between")
    page.locator(".middle canvas").wait_for()
    for end, t in enumerate("01"):
        page.get_by_label("Between", exact=True).fill(t)
        page.locator(f".middle canvas[aria-label='at {t}']").wait_for()
        shown = pixels(page, ".middle canvas")
        assert np.array_equal(shown, pixels(page, ".strip canvas", 8 * end))
        assert np.abs(shown - pixels(page, ".picker canvas", end)).mean() < 20
        assert f"t={t}" in page.url


def test_a_picture_is_completed_by_pointer_and_by_keyboard(show):
    page = show(GATED, "complete", "mask=0000000000000000")
    assert np.array_equal(samples(page, "0 of 64 codes")[7], pixels(page, ".masked canvas"))
    page.locator("[data-cell='56']").drag_to(page.locator("[data-cell='57']"))
    page.get_by_text("2 of 64 codes").wait_for()
    assert "mask=00000000000000c0" in page.url
    page.locator("[data-cell='0']").press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.get_by_text("3 of 64 codes").wait_for()
    assert "mask=00400000000000c0" in page.url
    page.get_by_text("Bottom", exact=True).click()
    assert len({ending.tobytes() for ending in samples(page, "32 of 64 codes")}) > 1


def test_what_is_known_of_a_model(show, own_model):
    page = show(GATED, "about")
    page.get_by_role("heading", name="Limits and biases").wait_for()  # of the card
    text = page.locator(".facts").inner_text()
    assert all(fact in text for fact in ("van den Oord et al. 2016", "bits per code", "row.onnx"))
    until(page, "[...document.images].every((i) => i.complete && i.naturalWidth)")
    own = show(str(own_model), "about").locator("main").inner_text()
    assert str(own_model) in own
    assert "undefined" not in own


@pytest.mark.parametrize(
    ("pattern", "answer", "message"),
    [
        ("**/worker.js", {"status": 404}, "a file of the page is missing"),
        ("**/lvmzoo.json", {"status": 404}, "cannot be fetched (404). If the site has changed"),
        ("**/encode.onnx?*", {"body": "old"}, "encode.onnx is not the file that belongs to this"),
        ("**/*.md", {"status": 404, "body": "# Not found"}, f"{FLOW}.md cannot be fetched (404)"),
    ],
)
def test_a_file_that_fails_is_named(open_page, site, pattern, answer, message):
    routes = [(pattern, lambda route: route.fulfill(**answer))]
    page = open_page(f"{site}#/{FLOW}/about", routes=routes, faulty=True)
    page.locator("#messages").get_by_text(message).wait_for()
    assert not re.search("Not found|Fetching", page.locator("main").inner_text())


@pytest.mark.parametrize(
    ("model", "views"),
    [
        (GATED, ("samples", "picture", "between", "complete", "about")),
        (FLOW, ("latents", "picture")),
        (PLANE, ("points",)),
    ],
)
def test_the_tool_is_on_a_phones_first_screen_and_fits_it(show, model, views):
    page = show(model, views[0], viewport={"width": 390, "height": 844})
    fields = "[...document.querySelectorAll('select, input[type=number]')]"
    sizes = f"{fields}.map((field) => getComputedStyle(field).fontSize)"
    for view in views:
        page.evaluate(f"location.hash = '#/{model}/{view}'")
        page.locator(f".tabs [aria-current][href*={view}]").wait_for()
        page.locator(".panel canvas, .panel table").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator(".panel").bounding_box()["y"] < 844 / 6
        zoomed = {size for size in page.evaluate(sizes) if float(size[:-2]) < 16}
        assert not zoomed  # Safari zooms into fields of smaller letters


def test_latents_start_with_a_draw_and_are_sliders(show):
    page = show(FLOW, "latents")
    until(page, "/z=[-.\\d,]*[1-9]/.test(location.hash)")
    page.get_by_text("Zero", exact=True).click()
    page.locator(".latents input").first.fill("1.5")
    until(page, "location.hash.endsWith('z=1.5' + ',0'.repeat(15))")
    page.wait_for_timeout(500)
    moved = pixels(page, ".place canvas")
    page.reload()
    page.locator(".place canvas").wait_for()
    assert np.array_equal(moved, pixels(page, ".place canvas"))


def test_opened_as_a_file_the_page_says_how_to_serve_it(open_page):
    page = open_page((ROOT / "web/page/index.html").as_uri(), faulty=True)
    assert "lvmzoo demo --site FOLDER" in page.locator("main").inner_text()
