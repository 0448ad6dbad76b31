import pytest

from engine.build import bundle_folder
from engine.errors import ConfigurationError


def test_a_bundle_is_named_or_a_folder(tmp_path):
    (tmp_path / "bundle.json").write_text("{}")
    assert bundle_folder(str(tmp_path)) == tmp_path
    assert bundle_folder("bundle:default").name == "default"
    assert bundle_folder("hf:google/siglip2-base-patch16-256") is None
    assert bundle_folder("open_clip:ViT-B-32/laion2b_s34b_b79k") is None


@pytest.mark.parametrize("spec", ["bundle:nothing", "nowhere", ""])
def test_a_name_that_means_nothing_says_what_does(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="bundle:default"):
        bundle_folder(spec)
