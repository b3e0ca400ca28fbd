"""The page as a person uses it, in a real browser."""

import io
import re

import numpy as np
import pytest
from PIL import Image
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


def test_the_zoo_shows_every_model_with_its_samples(open_page, site):
    page = open_page(site)
    page.wait_for_selector("a.card")
    names = page.locator("a.card .name").all_inner_texts()
    assert len(names) == 6
    assert GATED in names
    until(page, "[...document.images].every((i) => i.complete && i.naturalWidth)")
    page.locator(f"a.card[href$='{GATED}']").click()
    page.wait_for_selector(".tiles canvas")
    assert page.title() == f"{GATED} · lvmzoo"


@pytest.mark.parametrize("model", [GATED, FLOW])
def test_the_same_seed_gives_the_same_grid_and_another_seed_another(show, model):
    page = show(model, "samples", "count=4&seed=5")
    first = all_samples(page)
    again = all_samples(show(model, "samples", "count=4&seed=5"))
    assert first.shape[0] == 4
    assert np.array_equal(first, again)
    page.get_by_label("Seed", exact=True).fill("6")
    until(page, "location.hash.includes('seed=6')")
    until(page, "document.querySelector('.tiles canvas')?.ariaLabel.includes('seed 6')")
    assert not np.array_equal(first, all_samples(page))


def test_what_is_chosen_stands_in_the_address_and_is_read_from_it(show):
    page = show(GATED, "samples", "count=4&label=3&guidance=2&temperature=0.5&topP=0.9")
    all_samples(page)
    assert page.get_by_label("Class", exact=True).input_value() == "3"
    assert page.get_by_label("Guidance", exact=True).input_value() == "2"
    assert page.get_by_label("Temperature", exact=True).input_value() == "0.5"
    assert page.get_by_label("Top-p", exact=True).input_value() == "0.9"
    page.get_by_label("Class", exact=True).select_option("any")
    assert page.get_by_label("Guidance", exact=True).is_hidden()
    assert "label" not in page.url


def test_nonsense_in_the_address_is_not_taken(show):
    page = show(GATED, "no-such-view", "count=5&label=99&temperature=nan&seed=-1")
    assert all_samples(page).shape[0] == 16
    assert page.get_by_label("Seed", exact=True).input_value() == "0"


def test_a_model_that_is_not_there_is_named(open_page, site):
    page = open_page(site + "#/vae_imagenet/samples")
    assert "There is no vae_imagenet here." in page.locator("#messages").inner_text()


def test_a_dropped_jpeg_is_reconstructed_with_its_codes_and_what_they_cost(show):
    page = show(GATED, "picture")
    page.locator(".cells").first.wait_for()
    drop(page, jpeg(), "one.jpg")
    until(page, "document.querySelector('.picker canvas')?.ariaLabel === 'one.jpg'")
    seen = pixels(page, ".picker canvas")
    assert seen.std() > 20
    # What was shown of the sample is replaced.
    until(page, lambda: np.abs(pixels(page, ".results canvas").astype(int) - seen).mean() < 20)
    codes, bits = (
        page.locator(".cells").nth(i).locator("text").all_text_contents() for i in (0, 1)
    )
    assert len(codes) == len(bits) == 64
    total = re.search(r"cost (\d+) bits", page.locator(".status").inner_text())
    assert total is not None
    assert abs(sum(map(float, bits)) - int(total[1])) < 4


def test_a_file_is_chosen_and_stays_with_another_model(show):
    page = show(GATED, "picture")
    file = {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}
    page.set_input_files("input[type=file]", file)
    until(page, "document.querySelector('.picker canvas')?.ariaLabel === 'mine.jpg'")
    page.locator("#chooser").select_option(FLOW)
    page.wait_for_selector(".bars")
    assert page.locator(".picker canvas").get_attribute("aria-label") == "mine.jpg"


@pytest.mark.parametrize("data", [b"", b"no picture", jpeg()[:30]])
def test_a_broken_file_gives_a_sentence(show, data):
    page = show(FLOW, "picture")
    page.locator(".results canvas").wait_for()
    before = pixels(page, ".picker canvas")
    drop(page, data, "broken.jpg")
    page.wait_for_selector("#messages p")
    message = page.locator("#messages p").inner_text()
    assert re.match(r"broken.jpg is (empty|not a picture that this browser can read)\.", message)
    assert np.array_equal(before, pixels(page, ".picker canvas"))
    page.get_by_label("Close", exact=True).click()
    assert page.locator("#messages p").count() == 0


def test_a_picture_is_drawn_or_taken_by_the_camera(show):
    page = show(FLOW, "picture")
    page.locator(".results canvas").wait_for()
    page.get_by_text("Draw…", exact=True).click()
    pad = page.locator("canvas.pad").bounding_box()
    page.mouse.move(pad["x"] + pad["width"] / 2, pad["y"] + 40)
    page.mouse.down()
    page.mouse.move(pad["x"] + pad["width"] / 2, pad["y"] + pad["height"] - 40, steps=5)
    page.mouse.up()
    page.get_by_text("Use it", exact=True).click()
    until(page, "document.querySelector('.picker canvas')?.ariaLabel === 'the picture'")
    drawn = pixels(page, ".picker canvas")
    assert drawn[:, 16].max() == 255
    assert drawn[:, 3].max() == 0
    page.get_by_text("Camera…", exact=True).click()
    until(page, "document.querySelector('video.pad')?.videoWidth > 0")
    page.get_by_text("Use it", exact=True).click()
    until(page, "!document.querySelector('dialog')")
    until(page, lambda: not np.array_equal(drawn, pixels(page, ".picker canvas")))


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


def test_latents_are_sliders(show):
    page = show(FLOW, "latents")
    sliders = page.locator(".latents input")
    assert sliders.count() == 16
    before = pixels(page, ".place canvas")
    sliders.first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    until(page, "/z=1.5,0/.test(location.hash)")
    there = pixels(show(FLOW, "latents", "z=1.5"), ".place canvas")
    assert not np.array_equal(before, there)
    until(page, lambda: np.array_equal(there, pixels(page, ".place canvas")))
    page.get_by_text("Zero", exact=True).click()
    until(page, "!location.hash.includes('z=')")


def test_points_stand_beside_the_data(show):
    page = show(PLANE, "points")
    page.wait_for_selector("canvas.plot")
    names = page.locator("figcaption").all_inner_texts()
    assert names == ["the data", "the decoder's means", "drawn with its noise"]
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


def test_the_tabs_are_moved_by_arrow_keys(show):
    page = show(PLANE, "points")
    page.locator("[role=tab][aria-selected=true]").focus()
    page.keyboard.press("ArrowRight")
    until(page, "document.activeElement.textContent === 'About'")
    assert page.url.endswith(f"#/{PLANE}/about")


@pytest.mark.parametrize(
    ("model", "view"),
    [
        ("", ""),
        (GATED, "samples"),
        (GATED, "picture"),
        (GATED, "between"),
        (GATED, "complete"),
        (FLOW, "latents"),
        (FLOW, "picture"),
        (PLANE, "points"),
        (GATED, "about"),
    ],
)
def test_every_view_fits_a_phone_in_light_and_dark(open_page, site, show, model, view):
    options = {"viewport": PHONE}
    page = show(model, view, **options) if model else open_page(site, **options)
    page.wait_for_selector("a.card, .panel canvas, .panel table")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground)[:3])) < 128) == (scheme == "dark")
