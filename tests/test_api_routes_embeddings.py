import base64

import numpy as np
import pytest

from engine.testing import COLOURS, FakeEncoder


def embed(api, **body):
    return api.post("/v1/embeddings", json=body)


def rows(answer):
    assert answer.status_code == 200, answer.text
    return np.array([item["embedding"] for item in answer.json()["data"]], np.float32)


def test_a_text_embeds_as_the_encoder_embeds_it(api):
    answer = embed(api, input="red mug")
    np.testing.assert_allclose(rows(answer), FakeEncoder().encode_texts(["red mug"]), atol=1e-6)
    body = answer.json()
    assert (body["object"], body["model"], body["data"][0]["object"]) == ("list", "fake:colours", "embedding")
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


def test_texts_and_pictures_keep_their_order(api, colour_picture):
    red, blue = colour_picture(COLOURS["red"]), colour_picture(COLOURS["blue"])
    mixed = [
        "mug",
        {"image": red},
        "blue",
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{blue}"}},
        {"type": "text", "text": "red"},
    ]
    answer = embed(api, input=mixed)
    expected = FakeEncoder().encode_texts(["mug", "red", "blue", "blue", "red"])
    np.testing.assert_allclose(rows(answer), expected, atol=1e-6)
    assert [item["index"] for item in answer.json()["data"]] == [0, 1, 2, 3, 4]


def test_base64_is_little_endian_float32(api):
    plain = rows(embed(api, input=["red", "mug"]))
    coded = embed(api, input=["red", "mug"], encoding_format="base64").json()["data"]
    decoded = np.stack([np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in coded])
    np.testing.assert_array_equal(decoded, plain)


@pytest.mark.parametrize(
    "extra", [{"dimensions": 256}, {"model": "fake:colours"}, {"model": "default"}, {"model": None}, {"user": "u-1"}]
)
def test_what_openai_clients_send_is_taken(api, extra):
    assert rows(embed(api, input="red", **extra)).shape == (1, 256)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": "red", "model": "text-embedding-3-small"}, 404),
        ({"input": "red", "dimensions": 512}, 422),
        ({"input": ""}, 422),
        ({"input": ["a", " "]}, 422),
        ({"input": []}, 422),
        ({"input": [1, 2]}, 422),
        ({"input": [[1]]}, 422),
        ({"input": None}, 422),
        ({}, 422),
        ({"input": "a", "encoding_format": "hex"}, 422),
        ({"input": {"image": "/etc/passwd"}}, 422),
        ({"input": [{"image_url": {"url": "http://localhost/"}}]}, 422),
        ({"input": [{"image": "x", "text": "y"}]}, 422),
        ({"input": ["x"] * 2049}, 422),
        ({"input": "x" * 10_001}, 422),
    ],
)
def test_what_cannot_be_embedded_is_refused(api, body, status):
    answer = embed(api, **body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("text", ["a\x00b", "\u202egnirts", "日本", "\U0010ffff"])
def test_odd_characters_never_break_the_server(api, text):
    assert embed(api, input=text).status_code in (200, 422)


def test_models_names_the_encoder(api):
    (model,) = api.get("/v1/models").json()["data"]
    assert (model["id"], model["dimensions"], model["fingerprint"]) == ("fake:colours", 256, "fake-colours-1")


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ([], "body.input:", "the list is empty: give at least one text or picture"),
        ([1], "body.input.0:", "token ids are not read here: send the text"),
        ([[1, 2]], "body.input.0:", "token ids are not read here: send the text"),
        (["a", None], "body.input.1:", "neither text nor a part"),
        (5, "body.input.0:", "neither text nor a part"),
        (None, "body.input.0:", "neither text nor a part"),
        ([{"image": "x", "text": "y"}], "body.input.0:", "give exactly one of text, image, image_url"),
        ({"image": 5}, "body.input.0.image:", "valid string"),
        (["x" * 10_001], "body.input.0:", "at most 10000 characters"),
    ],
)
def test_what_is_wrong_with_an_input_is_said_once_without_the_schemas_own_names(api, given, place, words):
    problem = embed(api, input=given).json()
    assert len(problem["errors"]) == 1
    assert problem["detail"].startswith(place), problem["detail"]
    assert words in problem["detail"]
    assert "<" not in problem["detail"]
    assert "constrained" not in problem["detail"]
