"""Features by patch of every library's models: their mean, their places, and which models have none."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import loader_cases as cases
import pytest
import test_checkpoint_loaders as checkpoints
import torch
from loader_cases import Case

from radsearch.errors import EmbeddingError
from radsearch.models.inputs import Batch, Inputs, mean_of_map
from radsearch.models.loaders import medclip, radimagenet
from radsearch.models.network import Network
from radsearch.models.patches import WITHOUT_PADDING, map_of
from radsearch.models.preprocessing import prepare
from radsearch.models.spec import ModelSpec

pytestmark = pytest.mark.slow

Builder = Callable[[Path], Case]
MEANS = [
    *(cases.dinov2_patches, cases.dinov3_patches, cases.sam, cases.sam_without_padding, cases.resnet, cases.swin),
    cases.timm_resnet,
]
NEAR = [
    *(cases.clip, cases.dinov2, cases.dinov3_by_bytes, cases.vit, cases.mae, cases.open_clip_clip),
    *(cases.open_clip_text_tower, cases.timm_vit, cases.timm_vit_class_token),
]
NONE = [cases.siglip, cases.siglip2, cases.vit_pooled, cases.mae_as_published, cases.resnet_logits]
NONE += [cases.timm_resnet_logits]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """For networks so small, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Builder], Case]:
    folder = tmp_path_factory.mktemp("cases")
    return functools.cache(lambda builder: builder(folder / builder.__name__))


def every(builders: list[Builder]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("builder", builders, ids=lambda builder: builder.__name__)


def batch_of(spec: ModelSpec) -> Batch:
    how = spec.preprocessing
    return Inputs(how, torch.device("cpu")).of_prepared([prepare(picture, how) for picture in cases.pictures()])


def vectors_of(network: Network, spec: ModelSpec, batch: Batch) -> torch.Tensor:
    features = network.images(batch.pixels)
    return (
        features
        if features.ndim == 2
        else mean_of_map(features, batch, without_padding=WITHOUT_PADDING in spec.pooling)
    )


@every(MEANS)
@torch.inference_mode()
def test_the_mean_over_the_patches_is_the_vector(case_of: Callable[[Builder], Case], builder: Builder) -> None:
    spec = case_of(builder).spec
    network, batch = cases.loaded(spec), batch_of(spec)
    along = torch.cosine_similarity(map_of(network, spec, batch).mean(dim=(1, 2)), vectors_of(network, spec, batch))
    assert float(along.min()) > 1 - 1e-5


@every([cases.dinov2_patches, cases.dinov3_patches, cases.swin, *NEAR])
@torch.inference_mode()
def test_a_patch_that_differs_has_features_that_do_in_its_place(
    case_of: Callable[[Builder], Case], builder: Builder
) -> None:
    """Of lists of tokens, which are laid out here: in the first row and the third column, not the other way round."""
    spec = case_of(builder).spec
    network, size = cases.loaded(spec), spec.preprocessing.size
    before = torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    sides = map_of(network, spec, Batch(before)).shape[1:3]
    down, across = size // sides[0], size // sides[1]
    after = before.clone()
    after[:, :, :down, 2 * across : 3 * across] = 3.0
    change = (map_of(network, spec, Batch(after)) - map_of(network, spec, Batch(before))).norm(dim=-1)[0]
    assert divmod(int(change.argmax()), sides[1]) == (0, 2)


@every(NONE)
def test_what_has_no_patches_in_the_space_of_its_vector_says_so(
    case_of: Callable[[Builder], Case], builder: Builder
) -> None:
    spec = case_of(builder).spec
    with pytest.raises(EmbeddingError, match="gives no features by patch"):
        map_of(cases.loaded(spec), spec, batch_of(spec))


@torch.inference_mode()
def test_clips_patches_go_the_way_of_its_class_token(case_of: Callable[[Builder], Case]) -> None:
    """So they are in the space of the vector: with the class token before them it would come out as the vector."""
    from radsearch.models.loaders.transformers import _projected

    spec = case_of(cases.clip).spec
    network, pixels = cases.loaded(spec), batch_of(spec).pixels
    assert _projected(network.module, pixels)[:, 0].numpy() == pytest.approx(network.images(pixels).numpy(), abs=1e-5)


@torch.inference_mode()
def test_open_clips_patches_are_the_librarys_own_behind_the_projection(case_of: Callable[[Builder], Case]) -> None:
    spec = case_of(cases.open_clip_clip).spec
    network, batch = cases.loaded(spec), batch_of(spec)
    visual = network.module.visual
    visual.output_tokens = True
    _, tokens = visual(batch.pixels)
    visual.output_tokens = False
    assert map_of(network, spec, batch).flatten(1, 2).numpy() == pytest.approx((tokens @ visual.proj).numpy(), abs=1e-5)


@pytest.mark.parametrize("maker", [checkpoints.radimagenet_resnet50, checkpoints.medclip_vit, checkpoints.medsam])
@torch.inference_mode()
def test_the_mean_is_the_vector_of_the_authors_checkpoints_too(maker: checkpoints.Maker, tmp_path: Path) -> None:
    with torch.inference_mode(mode=False):
        checkpoint = checkpoints.make(maker, tmp_path)
    network, batch = checkpoint.load(tmp_path), Batch(checkpoints.pictures(checkpoint))
    assert checkpoint.loader not in (radimagenet, medclip) or network.maps is not None
    along = torch.cosine_similarity(
        map_of(network, checkpoint.spec, batch).mean(dim=(1, 2)), vectors_of(network, checkpoint.spec, batch)
    )
    assert float(along.min()) > 1 - 1e-5
