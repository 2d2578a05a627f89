"""The network is the paper's; losses and what is done to batches on the device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from regions.label_file import UNKNOWN
from tests.training_data import masks_of
from training.batches import Batch
from training.config import CHANNELS
from training.losses import losses
from training.model import AttParseNet, with_padded_channels
from training.transforms import Augmentation, PreparedBatch, augment, generator_of, prepare, unpack

FILTERS = (3, *CHANNELS, 40)
KERNELS = (7, 3, 3, 3, 3, 3)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_paper_s_network_has_its_layers_and_parameters(batch_norm: bool) -> None:
    model = AttParseNet(batch_norm=batch_norm)
    convolutions = [layer for layer in model.features if isinstance(layer, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [75, 200, 300, 512, 512, 40]
    assert [c.kernel_size for c in convolutions] == [(k, k) for k in KERNELS]
    assert {c.padding for c in convolutions} == {(0, 0)}
    per_filter = 2 if batch_norm else 1
    of_convolutions = sum(
        before * after * kernel**2 + per_filter * after
        for before, after, kernel in zip(FILTERS[:-1], FILTERS[1:], KERNELS, strict=True)
    )
    fully_connected = 40 * 96 * 76 * 40 + 40
    assert sum(weights.numel() for weights in model.parameters()) == of_convolutions + fully_connected
    kinds = [type(layer).__name__ for layer in model.features]
    norm = ["BatchNorm2d"] if batch_norm else []
    assert kinds == ["Conv2d", *norm, "ReLU", "MaxPool2d", *["Conv2d", *norm, "ReLU"] * 4, "Conv2d", *norm]


@pytest.mark.parametrize("channels", [pytest.param(CHANNELS, marks=pytest.mark.slow), (2, 3, 4, 5, 6)])
def test_images_become_logits_and_maps(channels: tuple[int, int, int, int, int]) -> None:
    model = AttParseNet(40, channels).eval()
    with torch.inference_mode():
        logits, maps = model(torch.zeros(1, 3, 218, 178))
        assert logits.shape == (1, 40)
        assert maps.shape == (1, 40, 96, 76)
        torch.testing.assert_close(logits, model.classifier(maps.reshape(1, -1)))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_padded_channels_compute_the_same(batch_norm: bool) -> None:
    model = AttParseNet(5, (3, 9, 4, 8, 6), batch_norm)
    images = torch.rand((2, 3, 218, 178), generator=torch.Generator().manual_seed(0))
    model(images)  # statistics of BatchNorm other than its first ones
    padded = with_padded_channels(model, 8)
    assert padded.channels == (8, 16, 8, 8, 8)
    for mode in (True, False):
        for expected, found in zip(model.train(mode)(images), padded.train(mode)(images), strict=True):
            torch.testing.assert_close(found, expected)


def test_padded_channels_learn_the_same() -> None:
    """In float64: Adam divides by the size of gradients, so rounding errors of float32 grow with each step."""
    model = AttParseNet(3, (3, 9, 4, 8, 6))
    padded = with_padded_channels(model, 8)
    images = torch.rand((2, 3, 218, 178), generator=torch.Generator().manual_seed(0)).double()
    start = model.state_dict()["features.0.weight"].double()
    for network in (model.double(), padded.double()):
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(3):
            logits, maps = network(images)
            optimizer.zero_grad()
            (maps.square().mean() + logits.sigmoid().mean()).backward()
            optimizer.step()
    assert not torch.allclose(model.state_dict()["features.0.weight"], start, atol=1e-4)
    for name, value in model.state_dict().items():
        inner = tuple(slice(size) for size in value.shape)
        torch.testing.assert_close(padded.state_dict()[name][inner], value, atol=1e-8, rtol=1e-6)


def example(count: int = 6) -> tuple[Batch, npt.NDArray[np.uint8]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 218, 178, 3), generator=generator, dtype=torch.uint8)
    masks = np.stack([masks_of([i & 1, i >> 1 & 1, i >> 2 & 1]) for i in range(count)])
    labels = torch.from_numpy(masks.any(axis=(2, 3)).astype(np.int8))
    return Batch(images, torch.from_numpy(np.packbits(masks, axis=1)), labels, [str(i) for i in range(count)]), masks


def test_stage_1_is_mse_alone_and_stage_2_both() -> None:
    logits, maps = torch.tensor([[0.0, 2.0]]), torch.full((1, 2, 96, 76), 0.5)
    labels, masks = torch.tensor([[0, 1]], dtype=torch.uint8), torch.ones((1, 2, 96, 76), dtype=torch.uint8)
    bce = (np.log(2) + np.log1p(np.exp(-2))) / 2
    first = losses(logits, maps, labels, masks, mse_weight=1, bce_weight=0)
    assert first.total.item() == first.mse.item() == 0.25
    second = losses(logits, maps, labels, masks, mse_weight=7, bce_weight=1)
    assert second.total.item() == pytest.approx(7 * 0.25 + bce)
    baseline = losses(logits, maps, labels, None, mse_weight=1, bce_weight=1)
    assert baseline.total.item() == baseline.bce.item() == pytest.approx(bce)


def random_outputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits, maps = torch.randn((4, 3), generator=generator), torch.randn((4, 3, 96, 76), generator=generator)
    labels = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.int8)
    masks = torch.randint(0, 2, (4, 3, 96, 76), generator=generator, dtype=torch.uint8)
    return logits.requires_grad_(), maps.requires_grad_(), labels, masks


def test_unknown_labels_count_in_no_term_of_the_loss() -> None:
    logits, maps, labels, masks = random_outputs()
    labels[0, 1] = labels[2, 0] = labels[2, 2] = UNKNOWN
    known = labels != UNKNOWN
    result = losses(logits, maps, labels, masks, known, mse_weight=2, bce_weight=1)
    bce = nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    mse = nn.functional.mse_loss(maps[known], masks[known].float())
    torch.testing.assert_close(result.bce, bce)
    torch.testing.assert_close(result.mse, mse)
    torch.testing.assert_close(result.total, 2 * mse + bce)
    result.total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and maps.grad is not None
    for gradient in (logits.grad, maps.grad.abs().amax((2, 3))):
        assert torch.equal(gradient.bool(), known)


def test_where_no_label_is_known_nothing_is_learned() -> None:
    logits, maps, labels, masks = random_outputs()
    result = losses(logits, maps, labels, masks, torch.zeros((4, 3), dtype=torch.bool), mse_weight=1, bce_weight=1)
    result.total.backward()  # type: ignore[no-untyped-call]
    assert result.total.item() == 0
    assert logits.grad is not None and maps.grad is not None
    assert not logits.grad.any()
    assert not maps.grad.any()


def test_without_unknown_labels_the_loss_is_that_of_torch_to_the_bit() -> None:
    logits, maps, labels, masks = random_outputs()
    batch, _ = example()
    assert prepare(batch, torch.device("cpu")).known is None
    result = losses(logits, maps, labels, masks, mse_weight=1, bce_weight=1)
    assert torch.equal(result.bce, nn.functional.binary_cross_entropy_with_logits(logits, labels.float()))
    assert torch.equal(result.mse, nn.functional.mse_loss(maps, masks.float()))
    assert torch.equal(result.total, result.mse + result.bce)


def test_label_repair_leaves_unknown_labels_unknown() -> None:
    batch, _ = example()
    labels = torch.ones_like(batch.labels)
    labels[0, 1] = labels[3, 2] = UNKNOWN
    for repair in (False, True):
        prepared = prepare(batch._replace(labels=labels), torch.device("cpu"), label_repair=repair)
        assert torch.equal(prepared.labels == UNKNOWN, labels == UNKNOWN)
        assert prepared.known is not None
        assert torch.equal(prepared.known, labels != UNKNOWN)
        expected = batch.labels if repair else labels
        assert torch.equal(prepared.labels[prepared.known], expected[prepared.known])


@pytest.mark.parametrize("count", [1, 3, 8, 9, 40])
def test_unpacking_is_what_numpy_does(count: int) -> None:
    masks = np.random.default_rng(count).integers(0, 2, (2, count, 96, 76), dtype=np.uint8)
    unpacked = unpack(torch.from_numpy(np.packbits(masks, axis=1)), count)
    np.testing.assert_array_equal(unpacked.numpy(), masks)


def test_a_batch_is_normalized_and_lies_with_channels_last() -> None:
    batch, masks = example()
    prepared = prepare(batch, torch.device("cpu"))
    assert prepared.images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(prepared.images[0, 2, 5, 7], batch.images[0, 5, 7, 2] / 127.5 - 1)
    assert prepared.images.abs().max() <= 1
    assert prepared.masks is not None
    np.testing.assert_array_equal(prepared.masks.numpy(), masks)


def test_label_repair_clears_labels_with_empty_masks_and_no_other() -> None:
    batch, _ = example()
    labels = torch.ones_like(batch.labels)
    repaired = prepare(batch._replace(labels=labels), torch.device("cpu"), label_repair=True)
    np.testing.assert_array_equal(repaired.labels.numpy(), batch.labels.numpy())
    kept = prepare(batch._replace(labels=labels), torch.device("cpu"))
    assert kept.labels.all()


def test_flips_mirror_image_and_mask_alike() -> None:
    batch, _ = example(32)
    prepared = prepare(batch, torch.device("cpu"))
    flipped = augment(prepared, Augmentation(flip=True), generator_of(0, 0))
    assert prepared.masks is not None and flipped.masks is not None
    mirrored = []
    for i in range(32):
        is_mirrored = torch.allclose(flipped.images[i], prepared.images[i].flip(2), atol=1e-4)
        assert is_mirrored != torch.allclose(flipped.images[i], prepared.images[i], atol=1e-4)
        expected = prepared.masks[i].flip(2) if is_mirrored else prepared.masks[i]
        assert torch.equal(flipped.masks[i], expected)
        mirrored.append(is_mirrored)
    assert 8 <= sum(mirrored) <= 24


def test_crops_take_the_same_part_of_image_and_mask() -> None:
    masks = torch.zeros((64, 1, 96, 76), dtype=torch.uint8)
    masks[:, :, 40:56, 30:46] = 1
    images = nn.functional.interpolate(masks.float(), (218, 178)).expand(-1, 3, -1, -1)
    prepared = PreparedBatch(images, masks, torch.ones((64, 1), dtype=torch.uint8))
    cropped = augment(prepared, Augmentation(flip=True, smallest_crop=0.7), generator_of(3))
    assert cropped.masks is not None
    assert not torch.equal(cropped.masks, masks)
    of_image = nn.functional.interpolate(cropped.images[:, :1], (96, 76), mode="area") > 0.5
    differing = of_image.ne(cropped.masks > 0).sum(dim=(1, 2, 3))
    outline = 4 * 16 / 0.7
    assert (differing <= outline).all()
    assert (cropped.masks.sum(dim=(1, 2, 3)) >= masks[0].sum()).all()


def test_augmentation_depends_on_its_numbers_alone() -> None:
    batch, _ = example()
    prepared = prepare(batch, torch.device("cpu"))
    change = Augmentation(flip=True, smallest_crop=0.8)
    once, again = (augment(prepared, change, generator_of(1, 2, 3, 0)).images for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, augment(prepared, change, generator_of(1, 2, 4, 0)).images)
    assert augment(prepared, Augmentation(), generator_of(0)) is prepared
