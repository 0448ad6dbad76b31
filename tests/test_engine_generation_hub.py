"""Hub decoders: tiny pipelines with random weights, saved in the real format, drawn with as the real ones are."""

import json

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

from engine.build import build_generator, can_draw  # noqa: E402
from engine.config import Settings  # noqa: E402
from engine.drawings import GenerationRequest  # noqa: E402
from engine.errors import ConfigurationError, ModelError  # noqa: E402
from engine.generation.adapter import FILE, VectorAdapter  # noqa: E402
from engine.generation.hub import IP_ADAPTER, HubGenerator  # noqa: E402
from engine.generation.pipelines import CONSISTENCY, PLAIN, TURBO, pacing_of  # noqa: E402
from engine.protocols import Generator  # noqa: E402
from engine.testing import FakeEncoder  # noqa: E402

SIDE = 64


def ask(words: str = "red mug", **fields) -> GenerationRequest:
    fields = {"size": SIDE, "steps": 2, **fields}
    return GenerationRequest(FakeEncoder().encode_texts([words]), prompt=words, **fields)


def words_for_clip(folder):
    from transformers import CLIPTokenizer

    vocabulary = {word: n for n, word in enumerate(["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz,"])}
    vocabulary |= {f"{c}</w>": len(vocabulary) + n for n, c in enumerate("abcdefghijklmnopqrstuvwxyz,")}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16, pad_token="<|endoftext|>")


def small_unet(**more):
    fields = {
        "sample_size": SIDE // 2,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
    }
    return diffusers.UNet2DConditionModel(**(fields | more))


def small_vae():
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIDE,
    )


def save_stable_diffusion(folder, scheduler=None):
    from transformers import CLIPTextConfig, CLIPTextModel

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(**size, vocab_size=60, max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    diffusers.StableDiffusionPipeline(
        vae=small_vae(),
        text_encoder=CLIPTextModel(text),
        tokenizer=words_for_clip(folder),
        unet=small_unet(),
        scheduler=scheduler or ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def save_sdxl(folder):
    """Two text encoders, the second with a projection, and a U-Net that is told sizes and the pooled text."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    folder.mkdir(parents=True)
    torch.manual_seed(4)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    text = CLIPTextConfig(**size, vocab_size=60, max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    diffusers.StableDiffusionXLPipeline(
        vae=small_vae(),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=words_for_clip(folder),
        tokenizer_2=words_for_clip(folder),
        unet=small_unet(
            cross_attention_dim=32,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="trailing"),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def ddim():
    return diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def save_kandinsky(folder):
    torch.manual_seed(1)
    unet = small_unet(
        out_channels=8,
        block_out_channels=(32, 64),
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
        encoder_hid_dim=12,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
    )
    movq = diffusers.VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )
    diffusers.KandinskyV22Pipeline(unet=unet, movq=movq, scheduler=ddim()).save_pretrained(folder)
    adapter(12).save(folder / FILE)
    return folder


def adapter(width: int) -> VectorAdapter:
    rng = np.random.default_rng(0)
    return VectorAdapter(rng.normal(0, 1, (width, 256)).astype(np.float32), np.zeros(width, np.float32))


def add_ip_adapter(folder, width=12, tokens=4):
    """Write an IP-Adapter in its published format: the projection, and a key and value matrix per cross-attention."""
    from safetensors.torch import save_file

    torch.manual_seed(2)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    found = {"image_proj.proj.weight": torch.randn(tokens * 16, width), "image_proj.proj.bias": torch.zeros(tokens * 16)}
    found |= {"image_proj.norm.weight": torch.ones(16), "image_proj.norm.bias": torch.zeros(16)}
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            module = unet.get_submodule(name.removesuffix(".processor"))
            for part in ("to_k", "to_v"):
                found[f"ip_adapter.{number}.{part}_ip.weight"] = torch.randn(module.inner_dim, 16)
            number += 2
    save_file(found, folder / IP_ADAPTER)
    adapter(width).save(folder / FILE)
    return folder


def add_lora(folder, path, pipeline=None):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(3)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    (pipeline or diffusers.StableDiffusionPipeline).save_lora_weights(
        path.parent, unet_lora_layers=get_peft_model_state_dict(unet), weight_name=path.name
    )
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {
        "words": save_stable_diffusion(root / "tiny-sd"),
        "both": add_ip_adapter(save_stable_diffusion(root / "tiny-ip")),
        "vector": save_kandinsky(root / "tiny-kandinsky"),
        "sdxl": save_sdxl(root / "tiny-sdxl-turbo"),
        "lora": add_lora(root / "tiny-sd", root / "style.safetensors"),
    }


@pytest.fixture(scope="module", params=["words", "both", "vector", "sdxl"])
def generator(request, folders):
    return build_generator(Settings(generator=f"diffusers:{folders[request.param]}", device="cpu"))


def test_it_is_a_generator_of_the_pipelines_own_size(generator):
    assert isinstance(generator, Generator)
    assert (generator.size, generator.name[:15]) == (SIDE, "diffusers:tiny-")


def test_the_same_seed_gives_the_same_pixels_alone_and_among_others(generator):
    several = generator.generate(ask(seed=4, count=3))
    alone = generator.generate(ask(seed=5))[0]
    assert [picture.seed for picture in several] == [4, 5, 6]
    assert np.array_equal(several[1].pixels, alone.pixels)
    assert not np.array_equal(several[0].pixels, alone.pixels)
    assert alone.pixels.shape == (SIDE, SIDE, 3)


def test_what_is_asked_for_changes_the_picture(generator):
    assert not np.array_equal(generator.generate(ask("red mug"))[0].pixels, generator.generate(ask("blue shoe"))[0].pixels)


def test_only_vectors_reach_a_decoder_that_reads_no_words(folders):
    kandinsky = build_generator(Settings(generator=f"diffusers:{folders['vector']}", device="cpu"))
    one, other = ask("red mug"), GenerationRequest(ask("red mug").vectors, prompt="something else", size=SIDE, steps=2)
    assert np.array_equal(kandinsky.generate(one)[0].pixels, kandinsky.generate(other)[0].pixels)


def test_a_vector_steers_beside_the_words(folders):
    both = build_generator(Settings(generator=f"diffusers:{folders['both']}", device="cpu"))
    one = ask("red mug")
    other = GenerationRequest(ask("blue shoe").vectors, prompt="red mug", size=SIDE, steps=2)
    assert not np.array_equal(both.generate(one)[0].pixels, both.generate(other)[0].pixels)
    for guidance in (0.0, 3.0):
        assert both.generate(ask(guidance=guidance))[0].pixels.shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("size", [128, 200])
def test_larger_sizes_are_refined_from_smaller_ones(generator, size, monkeypatch):
    calls = []
    redraw = HubGenerator._redraw
    monkeypatch.setattr(HubGenerator, "_redraw", lambda self, start, *rest: calls.append(start.width) or redraw(self, start, *rest))
    assert generator.generate(ask(size=size))[0].pixels.shape == (size, size, 3)
    assert calls == ([128] if size == 128 else [128, 200])


def test_a_photo_is_restyled_as_far_as_asked(generator):
    photo = Image.new("RGB", (90, 50), (200, 30, 30))
    kept = generator.generate(ask(image=photo, strength=0.0))[0].pixels
    assert np.abs(kept.astype(int) - (200, 30, 30)).max() <= 1
    slightly, far = (generator.generate(ask(image=photo, strength=strength, steps=4))[0].pixels for strength in (0.25, 1.0))
    assert not np.array_equal(slightly, far)


def test_lora_files_change_what_is_drawn(folders):
    spec = f"diffusers:{folders['words']}"
    plain = build_generator(Settings(generator=spec, device="cpu")).generate(ask())[0]
    with_lora = build_generator(Settings(generator=spec, device="cpu", lora=str(folders["lora"]))).generate(ask())[0]
    assert not np.array_equal(plain.pixels, with_lora.pixels)
    with pytest.raises(ConfigurationError, match="LoRA file"):
        build_generator(Settings(generator=spec, device="cpu", lora="/none.safetensors"))


def test_distilled_models_take_few_steps(tmp_path):
    lcm = save_stable_diffusion(tmp_path / "tiny-consistent", diffusers.LCMScheduler())
    generator = build_generator(Settings(generator=f"diffusers:{lcm}", device="cpu"))
    assert generator._pacing == CONSISTENCY
    assert generator.generate(ask(steps=None))[0].pixels.shape == (SIDE, SIDE, 3)
    pipeline = generator._pipeline
    pipeline.scheduler = diffusers.EulerDiscreteScheduler()
    assert [pacing_of(name, pipeline) for name in ("stabilityai/sd-turbo", "x/sdxl", "SimianLuo/LCM_Dreamshaper")] == [
        TURBO,
        PLAIN,
        CONSISTENCY,
    ]


def test_sdxl_turbo_takes_its_two_steps_and_a_lora(folders, tmp_path):
    spec = f"diffusers:{folders['sdxl']}"
    turbo = build_generator(Settings(generator=spec, device="cpu"))
    assert turbo._pacing == TURBO
    lora = add_lora(folders["sdxl"], tmp_path / "style.safetensors", diffusers.StableDiffusionXLPipeline)
    styled = build_generator(Settings(generator=spec, device="cpu", lora=str(lora)))
    plain, changed = (one.generate(ask(steps=None))[0].pixels for one in (turbo, styled))
    assert not np.array_equal(plain, changed)


def test_what_cannot_be_loaded_says_why(tmp_path, folders):
    with pytest.raises(ModelError, match="cannot be loaded"):
        build_generator(Settings(generator=f"diffusers:{tmp_path}", device="cpu"))
    (folders["vector"] / FILE).rename(tmp_path / FILE)
    with pytest.raises(ModelError, match="needs an adapter from 256 to 12"):
        build_generator(Settings(generator=f"diffusers:{folders['vector']}", device="cpu"))
    adapter(7).save(folders["vector"] / FILE)
    with pytest.raises(ModelError, match="leads to 7 dimensions, the decoder takes 12"):
        build_generator(Settings(generator=f"diffusers:{folders['vector']}", device="cpu"))
    (tmp_path / FILE).replace(folders["vector"] / FILE)
    assert can_draw(Settings(generator="diffusers:any/thing"))


def test_an_adapter_is_fitted_to_pairs(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2_000, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = adapter(24)
    fitted = VectorAdapter.fit(vectors[:1_500], truth(vectors[:1_500]), ridge=1e-6)
    assert fitted(vectors[1_500:]) == pytest.approx(truth(vectors[1_500:]), abs=1e-2)
    fitted.save(tmp_path / FILE)
    assert VectorAdapter.load(tmp_path / FILE, width=24)(vectors[:3]) == pytest.approx(fitted(vectors[:3]), abs=1e-3)
