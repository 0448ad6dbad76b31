"""Language models as text towers: tiny ones with random weights in the published format, trained, kept, and asked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

from engine.config import Settings, load_settings  # noqa: E402
from engine.drawings import GenerationRequest  # noqa: E402
from engine.encoders.adapted import TOWER  # noqa: E402
from engine.encoders.backbones import load_backbone  # noqa: E402
from engine.encoders.causal import ADAPTER, CausalEncoder, CausalTower, write_tower  # noqa: E402
from engine.errors import ModelError  # noqa: E402
from engine.protocols import Encoder  # noqa: E402
from engine.testing import FakeEncoder, FakeGenerator  # noqa: E402
from engine.training.adapt import Pairings, verdict_on  # noqa: E402
from engine.training.pairs import Split  # noqa: E402
from engine.training.tower import LEAST_SHARE, TowerCourse, embed_titles, train_tower, with_lora  # noqa: E402

COLOURS = ["red", "blue", "green", "black", "white", "gold", "grey", "pink", "brown", "navy"]
THINGS = ["shirt", "shoe", "bag", "watch", "dress", "mug", "lamp", "ring", "belt", "scarf"]
TITLES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 4_000}


def on_cpu(encoder: str = "bundle:default") -> Settings:
    return load_settings(device="cpu", encoder=encoder)


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *COLOURS, *THINGS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)


def save_llama(folder: Path) -> Path:
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_deepseek(folder: Path) -> Path:
    """Latent attention and a mixture of experts, as in DeepSeek-V3."""
    torch.manual_seed(1)
    latent = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 32}
    config = transformers.DeepseekV3Config(
        **SIZES, **latent, **experts, num_key_value_heads=4, first_k_dense_replace=1, n_shared_experts=1
    )
    transformers.DeepseekV3ForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module", params=[save_llama, save_deepseek], ids=["llama", "deepseek"])
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = request.param(tmp_path_factory.mktemp("language") / "model")
    return folder


def pairs() -> Pairings:
    """Pictures that mean the sum of a colour's and a thing's direction; a fifth of the titles is for validation."""
    random = np.random.default_rng(0)
    colours, things = random.normal(size=(10, 256)), random.normal(size=(10, 256))
    rows = np.array([colours[c] + things[t] for c in range(10) for t in range(10)], np.float32)
    images = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    unrelated = random.permutation(images)
    splits: tuple[Split, ...] = tuple("val" if number % 5 == number // 10 % 5 else "train" for number in range(100))
    return Pairings.build(unrelated, images, TITLES, TITLES, splits)


def found_after(tower: CausalTower, known: Pairings) -> float:
    rows = known.part("val")
    after = embed_titles(tower, [TITLES[row] for row in rows]) @ known.images[rows].T
    return verdict_on(known, known.texts[rows] @ known.images[rows].T, after).low


def test_an_adapter_behind_a_language_model_finds_pictures_it_never_saw(language: Path) -> None:
    tower, known = CausalTower.load(str(language)), pairs()
    before = {name: weight.clone() for name, weight in tower.model.state_dict().items()}
    train_tower(tower, TITLES, known, TowerCourse(steps=150))
    assert found_after(tower, known) > 0.1
    assert all(torch.equal(before[name], weight) for name, weight in tower.model.state_dict().items())


def test_lora_moves_less_than_one_percent(language: Path) -> None:
    tower = CausalTower.load(str(language))
    whole = sum(parameter.numel() for parameter in tower.model.parameters())
    model = with_lora(tower.model)
    moved = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert 0 < sum(model.get_parameter(name).numel() for name in moved) <= LEAST_SHARE * whole
    assert all("lora" in name and "attn" in name for name in moved)


def test_a_tower_trained_with_lora_comes_back_as_it_was(language: Path, tmp_path: Path) -> None:
    tower, known, beside = CausalTower.load(str(language)), pairs(), FakeEncoder()
    train_tower(tower, TITLES, known, TowerCourse(steps=20, lora_steps=3))
    expected = embed_titles(tower, TITLES[:7])
    write_tower(tmp_path, tower, str(language), beside, {"seed": 0})
    encoder = CausalEncoder.load(tmp_path, lambda _: beside, on_cpu())
    assert isinstance(encoder, Encoder)
    np.testing.assert_allclose(encoder.encode_texts(TITLES[:7]), expected, atol=1e-5)
    assert not np.allclose(embed_titles(_without_lora(language, tmp_path), TITLES[:7]), expected, atol=1e-5)


def _without_lora(language: Path, folder: Path) -> CausalTower:
    from safetensors.torch import load_file

    tower = CausalTower.load(str(language))
    tower.adapter.load_state_dict(load_file(folder / ADAPTER))
    return tower


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tower")
    tower = CausalTower.load(str(save_llama(root / "llama")))
    train_tower(tower, TITLES, pairs(), TowerCourse(steps=20))
    write_tower(root / "tower", tower, str(root / "llama"), FakeEncoder(), {})
    return root / "tower"


def test_pictures_stay_the_other_encoders(kept: Path) -> None:
    encoder, picture = CausalEncoder.load(kept, lambda _: FakeEncoder(), on_cpu()), Image.new("RGB", (9, 9), "red")
    assert np.array_equal(encoder.encode_images([picture]), FakeEncoder().encode_images([picture]))
    assert encoder.fingerprint != FakeEncoder().fingerprint
    again = CausalEncoder.load(kept, lambda _: FakeEncoder(), on_cpu())
    assert encoder.fingerprint == again.fingerprint


def test_its_texts_are_drawn(kept: Path) -> None:
    encoder = CausalEncoder.load(kept, lambda _: FakeEncoder(), on_cpu())
    assert len(FakeGenerator().generate(GenerationRequest(encoder.encode_texts(["red shirt"]), count=2))) == 2


def test_awkward_texts_are_embedded(kept: Path) -> None:
    encoder = CausalEncoder.load(kept, lambda _: FakeEncoder(), on_cpu())
    vectors = encoder.encode_texts(["", "red " * 500, "  ", "鞋"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], encoder.encode_texts([""])[0], atol=1e-5)
    assert encoder.encode_texts([]).shape == (0, 256)


class OtherEncoder(FakeEncoder):
    fingerprint = "another"


@pytest.mark.parametrize("harm", ["adapter", "format", "model"])
def test_a_tower_that_is_not_what_it_was_is_refused(kept: Path, tmp_path: Path, harm: str) -> None:
    folder = Path(shutil.copytree(kept, tmp_path / "copy"))
    about = json.loads((folder / TOWER).read_text())
    if harm == "adapter":
        (folder / ADAPTER).write_bytes(b"nothing")
    else:
        (folder / TOWER).write_text(json.dumps(about | {harm: 99 if harm == "format" else str(tmp_path)}))
    with pytest.raises(ModelError):
        CausalEncoder.load(folder, lambda _: FakeEncoder(), on_cpu())


def test_another_encoder_beside_it_is_refused(kept: Path) -> None:
    with pytest.raises(ModelError, match="train it again"):
        CausalEncoder.load(kept, lambda _: OtherEncoder(), on_cpu())


def test_a_language_model_is_no_two_tower_model_and_the_remedy_is_said(kept: Path) -> None:
    with pytest.raises(ModelError, match="train-tower"):
        load_backbone(f"hf:{kept.parent / 'llama'}")


def test_a_tower_is_trained_by_a_command_and_used_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from cli.main import app
    from engine import build

    opened = build.build_encoder
    monkeypatch.setattr("engine.build.build_encoder", lambda s: FakeEncoder() if s.encoder == FakeEncoder.name else opened(s))
    monkeypatch.setattr("engine.build.build_calibration", lambda _: None)
    monkeypatch.setenv("SEMBLANCE_ENCODER", FakeEncoder.name)
    rows = ["id,title,image"]
    for number, title in enumerate(TITLES):
        Image.new("RGB", (8, 8), (number * 2, 255 - number * 2, number % 10 * 25)).save(tmp_path / f"{number}.png")
        rows.append(f"p{number},{title},{number}.png")
    (tmp_path / "feed.csv").write_text("\n".join(rows) + "\n")
    words = ["train-tower", f"hf:{save_llama(tmp_path / 'llama')}", "--catalog", str(tmp_path / "feed.csv")]
    result = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "tower"), "--lora", "2", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["after"]["queries"] > 0
    encoder = build.build_encoder(on_cpu(encoder=f"adapted:{tmp_path / 'tower'}"))
    assert isinstance(encoder, CausalEncoder)
    assert encoder.encode_texts(["red shirt"]).shape == (1, 256)


def test_a_tower_needs_a_catalogue_and_a_language_model(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cli.main import app

    for words in (["hf:x"], ["x", "--catalog", "x.csv"]):
        result = CliRunner().invoke(app, ["train-tower", *words, "-o", str(tmp_path / "tower")])
        assert result.exit_code == 2, result.output
