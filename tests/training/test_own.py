"""Other sizes and configs of an entry, and what is refused of them."""

import click
import pytest

from lvmzoo import model_info
from training.families import config_of, recipe_of
from training.own import configure, data_of, for_pictures, same_component


def made(name, *settings, size=None):
    return config_of(configure(model_info(name), settings, size))


def test_any_field_of_a_config_can_be_set():
    config = made("vqvae_gated_cifar10", "num_codes=512", "prior_layers=20", "channels=64")
    assert (config.num_codes, config.prior_layers, config.channels) == (512, 20, 64)
    assert config.prior == "gated_pixelcnn"
    assert made("vqvae_cifar10", "prior=gated_pixelcnn").prior == "gated_pixelcnn"
    assert made("vlae_mnist", "latent_dim=64", "channels=[8, 8, 16]").channels == (8, 8, 16)
    assert made("vae2d_gaussian1", "hidden=32").hidden == 32


def test_without_a_change_it_is_the_entry():
    info = model_info("vqvae_cifar10")
    assert configure(info, (), None) is info


@pytest.mark.parametrize("name", ["vae_mnist", "vlae_svhn", "vqvae_cifar10", "vqvae_gated_mnist"])
@pytest.mark.parametrize("size", [16, 24, 64, 128, 256])
def test_any_size(name, size):
    info = configure(model_info(name), (), size)
    config = config_of(info)
    assert config.image_size == size
    assert info.image_shape == config.image_shape == data_of(info).shape
    if name.startswith("vqvae"):
        assert config.grid == (size // 4, size // 4)


def test_a_prior_is_deep_enough_for_its_grid():
    assert made("vqvae_gated_cifar10", size=128).prior_layers == 30
    assert made("vqvae_gated_cifar10", "downsampling=16", size=128).prior_layers == 12


@pytest.mark.parametrize(
    ("name", "settings", "size", "message"),
    [
        ("vae_cifar10", ["depth=3"], None, "--config: unknown key 'depth'; known are in_channels"),
        ("vae_cifar10", ["latent_dim=many"], None, "--config: latent_dim must be int"),
        ("vae_cifar10", ["latent_dim=0"], None, "latent_dim must be from 1 to 4096, not 0"),
        ("vae_cifar10", ["latent_dim"], None, "--config 'latent_dim' is not of the form key=value"),
        ("vae_cifar10", ["image_size=64"], None, "image_size: that is given by --image-size"),
        (
            "vae_cifar10",
            ["classes=['a']"],
            None,
            "classes: that is given by the classes of --images",
        ),
        ("vqvae_cifar10", ["downsampling=5"], None, "downsampling must be 4, 8 or 16, not 5"),
        ("vqvae_cifar10", ["downsampling=16"], 24, "must be a multiple of the downsampling 16"),
        ("vqvae_gated_cifar10", ["prior_layers=5"], 64, "prior_layers must be at least 14"),
        ("vqvae_gated_cifar10", [], 512, "prior_layers must be at least 126"),
        ("vae2d_gaussian1", [], 64, "unknown key 'image_size'"),
    ],
)
def test_what_cannot_be_is_refused(name, settings, size, message):
    with pytest.raises(click.UsageError) as caught:
        configure(model_info(name), settings, size)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_have_one_channel_or_three():
    assert data_of(configure(model_info("vae_cifar10"), ["in_channels=1"], None)).shape[0] == 1
    with pytest.raises(click.UsageError, match="in_channels must be 1 or 3, not 4"):
        data_of(configure(model_info("vae_cifar10"), ["in_channels=4"], None))
    with pytest.raises(click.UsageError, match="is a model of points"):
        data_of(model_info("vae2d_gaussian1"))


def test_the_classes_are_those_of_the_pictures():
    info = for_pictures(model_info("vqvae_gated_cifar10"), "mine", ("cat", "dog"))
    config = config_of(info)
    assert (config.dataset, config.classes, info.classes) == (
        "mine",
        ("cat", "dog"),
        config.classes,
    )


def test_an_autoencoder_is_shared_whatever_the_prior():
    entry = model_info("vqvae_gated_cifar10")
    for fields, size, same in (
        (["prior_layers=20", "prior=pixelcnn"], None, True),
        (["num_codes=64"], None, False),
        ([], 64, False),
    ):
        assert same_component(entry, configure(entry, fields, size), "autoencoder") == same


def test_alone_an_entry_trains_what_it_shares():
    shared = recipe_of(model_info("vqvae_gated_cifar10"))
    assert list(shared.components) == ["prior"]
    alone = recipe_of(model_info("vqvae_gated_cifar10"), ["autoencoder.epochs=3"], alone=True)
    assert list(alone.components) == ["autoencoder", "prior"]
    assert alone.shared == {}
    other = recipe_of(model_info("vqvae_cifar10"), ["autoencoder.epochs=3"])
    assert alone.components["autoencoder"] == other.components["autoencoder"]
    assert alone.components["prior"] == shared.components["prior"]
