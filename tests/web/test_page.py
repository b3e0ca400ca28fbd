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
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def show(open_page, site):
    return lambda model, view, query="", **options: opened(
        open_page, site, model, view=view, query=query, **options
    )


def jpeg(width: int = 300, height: int = 200) -> bytes:
    buffer = io.BytesIO()
    stroke = Image.new("L", (width, height))
    stroke.paste(255, (width // 2 - 15, 20, width // 2 + 15, height - 20))
    stroke.save(buffer, "JPEG")
    return buffer.getvalue()


def pixels(page, selector: str, index: int = 0) -> np.ndarray:
    """Return what a canvas shows, (H, W)."""
    canvas = page.locator(selector).nth(index)
    canvas.wait_for()
    read = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
    data, width = canvas.evaluate(f"(c) => [Array.from({read}), c.width]")
    return np.array(data, np.uint8).reshape(-1, width, 4)[..., 0]


def all_samples(page) -> np.ndarray:
    page.get_by_text("Choose one to look closer").wait_for()
    count = page.locator(".tiles canvas").count()
    return np.stack([pixels(page, ".tiles canvas", i) for i in range(count)])


def drop(page, data: bytes, name: str) -> None:
    transfer = page.evaluate_handle(
        """([bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(bytes)], name));
            return transfer;
        }""",
        [list(data), name],
    )
    page.dispatch_event(".picker", "drop", {"dataTransfer": transfer})


def names(page, name: str) -> bool:
    """Say whether the first picture that is worked on has this name."""
    return page.locator(".picker canvas").first.get_attribute("aria-label") == name


def test_the_zoo_draws_on_a_click_and_opens_models_by_keyboard(open_page, site, own_model):
    page = open_page(site)
    page.wait_for_selector("a.card")
    shown = page.locator("a.card .name").all_inner_texts()
    assert shown[:2] == [str(own_model), GATED]  # one's own, then those that take a class
    assert len(shown) == 6
    until(page, "[...document.images].every((i) => i.complete && i.naturalWidth)")
    page.get_by_role("button", name="7", exact=True).click()
    page.get_by_text("drawn by your browser just now").wait_for()
    assert page.locator(".demonstration canvas").count() == 8
    page.get_by_text("All controls").click()
    all_samples(page)
    assert page.get_by_label("Class", exact=True).input_value() == "7"
    page.go_back()
    page.locator(f"a.card[href$={GATED}]").focus()
    page.keyboard.press("Enter")
    all_samples(page)
    assert page.title() == f"{GATED} · lvmzoo"
    assert page.evaluate("document.activeElement.id") == "main"


def test_samples_are_those_that_the_address_says(show):
    page = show(GATED, "samples", "count=4&label=3&guidance=1&temperature=0.5&topP=0.9&seed=5")
    first = all_samples(page)
    for label, value in (
        *(("Class", "3"), ("Guidance", "1"), ("Temperature", "0.5")),
        *(("Top-p", "0.9"), ("Seed", "5"), ("Pictures", "4")),
    ):
        assert page.get_by_label(label, exact=True).input_value() == value
    page.get_by_label("Seed", exact=True).fill("6")
    until(page, "document.querySelector('.tiles canvas').ariaLabel.endsWith('seed 6')")
    assert not np.array_equal(first, all_samples(page))
    page.reload()
    page.get_by_label("Seed", exact=True).fill("5")
    until(page, "document.querySelector('.tiles canvas')?.ariaLabel.endsWith('seed 5')")
    assert np.array_equal(first, all_samples(page))
    page.get_by_label("Class", exact=True).select_option("any")
    assert page.get_by_label("Guidance", exact=True).is_hidden()
    assert "label=any" in page.url


def test_nonsense_in_the_address_is_not_taken(show):
    page = show(FLOW, "no-such-view", "count=5&temperature=nan&seed=-1&a=1,2,x")
    assert all_samples(page).shape[0] == 16
    assert page.get_by_label("Seed", exact=True).input_value() == "0"
    page.evaluate("location.hash = '#/vae_imagenet/samples'")
    page.get_by_text("There is no vae_imagenet here.").wait_for()


@pytest.mark.parametrize("model", [GATED, FLOW])
def test_a_link_holds_the_chosen_sample_and_back_goes_back(show, model):
    page = show(model, "samples", "count=4&seed=5")
    samples = all_samples(page)
    page.locator(".tiles button").nth(2).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".results canvas")
    chosen = pixels(page, ".picker canvas")
    assert page.evaluate("document.activeElement.id") == "main"
    assert np.abs(chosen.astype(int) - samples[2]).max() <= (0 if model == GATED else 1)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_text("Copy link").click()
    page.get_by_text("Copied.", exact=True).wait_for()
    page.get_by_role("link", name="Between two").click()
    page.wait_for_selector(".strip canvas")
    assert np.array_equal(chosen, pixels(page, ".picker canvas"))
    link = page.evaluate("navigator.clipboard.readText()")
    page.go_back()
    page.go_back()
    assert np.array_equal(samples, all_samples(page))
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(".results canvas")
    assert np.array_equal(chosen, pixels(page, ".picker canvas"))


def test_pictures_are_saved(show):
    page = show(GATED, "samples", "count=4")
    samples = all_samples(page)
    with page.expect_download() as download:
        page.get_by_text("Save picture").click()
    assert download.value.suggested_filename == f"{GATED}-samples.png"
    with Image.open(download.value.path()) as saved:
        grid = np.asarray(saved.convert("L"))[::4, ::4]
    assert grid.shape == (2 * 34, 2 * 34)
    assert np.array_equal(grid[34:66, :32], samples[2])


def test_one_starts_with_real_pictures_and_a_drop_is_taken_apart(show):
    page = show(GATED, "picture")
    page.locator(".cells").first.wait_for()
    assert names(page, "test picture 14 of MNIST")
    with Image.open(ROOT / f"model_cards/{GATED}_reconstructions.png") as card:
        box = (2 + 3 * 34, 2 + 2 * 34)
        wanted = np.asarray(card.convert("L").crop((*box, box[0] + 32, box[1] + 32)))
    assert np.array_equal(pixels(page, ".picker canvas"), wanted)
    page.get_by_text("Another", exact=True).click()
    until(page, lambda: names(page, "test picture 15 of MNIST"))
    drop(page, jpeg(), "one.jpg")
    until(page, lambda: names(page, "one.jpg"))
    seen = pixels(page, ".picker canvas")
    assert seen.std() > 20
    until(page, lambda: np.abs(pixels(page, ".results canvas").astype(int) - seen).mean() < 20)
    codes, bits = (
        page.locator(".cells").nth(i).locator("text").all_text_contents() for i in (0, 1)
    )
    assert len(codes) == len(bits) == 64
    total = re.search(r"in (\d+) bits", page.locator(".status").inner_text())
    assert total is not None
    assert abs(sum(map(float, bits)) - int(total[1])) < 4
    page.get_by_label("Class", exact=True).select_option("1")
    page.get_by_text('told that it is "1"').wait_for()


def test_ones_own_picture_stays_with_another_model_also_while_it_is_read(show, own_model):
    page = show("vqvae_mnist", "picture")
    page.locator(".cells").first.wait_for()
    assert "undefined" not in page.locator(".panel").inner_text()
    file = {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": jpeg(6000, 4000)}
    page.set_input_files("input[type=file]", file)
    page.locator("#chooser").select_option(str(own_model))
    page.wait_for_selector(".bars")
    until(page, lambda: names(page, "mine.jpg"))
    assert pixels(page, ".picker canvas").shape == (12, 12)
    page.get_by_text("Copy link").click()
    page.get_by_text("It does not hold your own picture").wait_for()


def test_a_broken_file_gives_a_sentence(show):
    page = show(FLOW, "picture")
    before = pixels(page, ".picker canvas")
    for data, message in (
        (b"", "is empty."),
        (b"no picture", "is not a picture that this browser can read."),
        (jpeg()[:30], "is not a picture that this browser can read."),
    ):
        drop(page, data, "broken.jpg")
        page.get_by_text(f"broken.jpg {message}").wait_for()
        assert np.array_equal(before, pixels(page, ".picker canvas"))
        page.get_by_label("Close", exact=True).click()
        assert page.locator("#messages p").count() == 0


def test_a_picture_is_drawn(show):
    page = show(FLOW, "picture")
    page.get_by_text("Draw…", exact=True).click()
    pad = page.locator("canvas.pad").bounding_box()
    page.mouse.move(pad["x"] + pad["width"] / 2, pad["y"] + 40)
    page.mouse.down()
    page.mouse.move(pad["x"] + pad["width"] / 2, pad["y"] + pad["height"] - 40, steps=5)
    page.mouse.up()
    page.get_by_text("Use it", exact=True).click()
    until(page, lambda: names(page, "your drawing"))
    drawn = pixels(page, ".picker canvas")
    assert drawn[:, 16].max() > 200
    assert drawn[:, 3].max() == 0


def test_between_two_pictures_lie_both(show):
    page = show(FLOW, "between")
    page.wait_for_selector(".strip canvas")
    strip = [pixels(page, ".strip canvas", i).astype(int) for i in range(9)]
    ends = [pixels(page, ".picker canvas", i).astype(int) for i in (0, 1)]
    for end, other, made in ((ends[0], ends[1], strip[0]), (ends[1], ends[0], strip[-1])):
        assert np.abs(end - made).mean() < np.abs(other - made).mean()
    page.get_by_label("Between", exact=True).fill("1")
    until(page, "document.querySelector('.middle canvas')?.ariaLabel === 'at 1'")
    assert np.array_equal(pixels(page, ".middle canvas"), strip[-1])
    assert "t=1" in page.url


def test_a_picture_is_completed_by_pointer_and_by_keyboard(show):
    page = show(GATED, "complete", "mask=0000000000000000")
    page.get_by_text("0 of 64 codes").wait_for()
    kept = pixels(page, ".masked canvas")
    assert np.array_equal(kept, pixels(page, ".tiles canvas", 7))
    box = page.locator(".mask").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] - 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5, steps=20)
    page.mouse.up()
    page.get_by_text("8 of 64 codes").wait_for()
    assert "mask=00000000000000ff" in page.url
    page.locator("[data-cell='0']").focus()
    for key in ("ArrowRight", "ArrowDown", "Space"):
        page.keyboard.press(key)
    page.get_by_text("9 of 64 codes").wait_for()
    assert "mask=00400000000000ff" in page.url
    page.get_by_text("Bottom", exact=True).click()
    page.get_by_text("32 of 64 codes").wait_for()
    endings = [pixels(page, ".tiles canvas", i) for i in range(8)]
    assert len({ending.tobytes() for ending in endings}) > 1


def test_latents_start_with_a_draw_and_are_sliders(show):
    page = show(FLOW, "latents")
    until(page, "/z=[-.\\d,]+/.test(location.hash)")
    assert page.locator(".latents input").count() == 16
    page.get_by_text("Zero", exact=True).click()
    until(page, "location.hash.endsWith('z=' + Array(16).fill(0))")
    zero = pixels(page, ".place canvas")
    page.locator(".latents input").first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    until(page, "/z=1.5,0/.test(location.hash)")
    until(page, lambda: not np.array_equal(zero, pixels(page, ".place canvas")))
    page.wait_for_timeout(500)
    moved = pixels(page, ".place canvas")
    page.evaluate(f"location.hash = '#/{FLOW}/latents?z=1.5'")
    until(page, "document.querySelector('.latents input').value === '1.5'")
    until(page, lambda: np.array_equal(moved, pixels(page, ".place canvas")))


def test_points_stand_beside_the_data(show):
    page = show(PLANE, "points")
    page.wait_for_selector("canvas.plot")
    captions = page.locator("figcaption").all_inner_texts()
    assert captions == ["the data", "the decoder's means", "drawn with its noise"]
    means = re.findall(r"mean \((-?[\d.]+), (-?[\d.]+)\)", page.locator(".status").inner_text())
    data, _, noisy = (tuple(map(float, mean)) for mean in means)
    assert np.allclose(data, noisy, atol=0.6)


def test_what_is_known_of_a_model(show, own_model):
    page = show(GATED, "about")
    page.get_by_role("heading", name="Limits and biases").wait_for()  # of the card
    text = page.locator(".facts").inner_text()
    assert "van den Oord et al. 2016" in text
    assert "bits per code" in text
    assert page.get_by_role("link", name="row.onnx").get_attribute("href").endswith("row.onnx")
    until(page, "[...document.images].every((i) => i.complete && i.naturalWidth)")
    own = show(str(own_model), "about")
    assert str(own_model) in own.locator("h1").inner_text()


@pytest.mark.parametrize(
    ("pattern", "answer", "message"),
    [
        ("**/worker.js", {"status": 404}, "a file of the page is missing"),
        ("**/lvmzoo.json", {"status": 404}, r"cannot be fetched \(404\)\. If the site has changed"),
        ("**/encode.onnx?*", {"body": "old"}, "encode.onnx is not the file that belongs to this"),
        ("**/*.md", {"status": 404, "body": "# Not found"}, r"\.md cannot be fetched \(404\)"),
    ],
)
def test_a_file_that_fails_is_named(open_page, site, pattern, answer, message):
    routes = [(pattern, lambda route: route.fulfill(**answer))]
    page = open_page(f"{site}#/{FLOW}/about", routes=routes, faulty=True)
    page.wait_for_selector("#messages p")
    assert re.search(message, page.locator("#messages").inner_text())
    assert "Not found" not in page.locator("main").inner_text()
    assert "Fetching" not in page.locator("main").inner_text()


def test_copies_of_an_earlier_site_are_not_taken(open_page, site):
    page, requests = open_page(site), []
    page.on("request", lambda request: requests.append(request))
    page.locator(f"a.card[href$={PLANE}]").click()
    page.wait_for_selector("canvas.plot")
    modes = {}
    for request in requests:
        name = re.sub(r".*/", "", request.url)
        modes[re.sub(r"\?\w{8}$", "?HASH", name)] = request.all_headers().get("cache-control")
    assert modes["lvmzoo.json"] == "max-age=0"  # asks whether it is still the same
    assert {"encode.onnx?HASH", "decode.onnx?HASH"} <= set(modes)


def test_opened_as_a_file_the_page_says_how_to_serve_it(browser):
    page = browser.new_page()
    page.goto((ROOT / "web/page/index.html").as_uri())
    assert "lvmzoo demo --site FOLDER" in page.locator("main").inner_text()
    page.close()


@pytest.mark.parametrize(
    ("model", "views"),
    [
        (GATED, ("samples", "picture", "between", "complete", "about")),
        (FLOW, ("latents", "picture")),
        (PLANE, ("points",)),
    ],
)
def test_every_view_fits_a_phone_in_light_and_dark(open_page, site, show, model, views):
    page = show(model, views[0], viewport=PHONE)
    for view in views:
        page.evaluate(f"location.hash = '#/{model}/{view}'")
        page.wait_for_selector(f".tabs [aria-current][href*={view}]")
        page.wait_for_selector(".panel canvas, .panel table")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.locator(".panel").bounding_box()["y"] < PHONE["height"] / 6
        fields = "[...document.querySelectorAll('select, input[type=number]')]"
        sizes = page.evaluate(f"{fields}.map((f) => parseFloat(getComputedStyle(f).fontSize))")
        assert min(sizes) >= 16  # Safari zooms into smaller ones
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground)[:3])) < 128) == (scheme == "dark")
