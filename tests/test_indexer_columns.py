"""Which column plays which part."""

import pytest

from engine.errors import InvalidCatalogue
from indexer.columns import plan_columns


@pytest.mark.parametrize(
    ("names", "id", "title", "description", "images"),
    [
        (["id", "title", "image", "price"], "id", "title", None, ("image",)),
        (["id", "gender", "productDisplayName", "link", "filename"], "id", "productDisplayName", None, ("filename",)),
        (
            ["id", "title", "description", "link", "image_link", "additional_image_link", "price"],
            "id",
            "title",
            "description",
            ("image_link", "additional_image_link"),
        ),
        (["Handle", "Title", "Body (HTML)", "Image Src", "Variant SKU"], "Handle", "Title", "Body (HTML)", ("Image Src",)),
        (["sku", "name", "image_1", "image_2", "image_10"], "sku", "name", None, ("image_1", "image_2", "image_10")),
        (["ASIN", "Product Name", "Image URL"], "ASIN", "Product Name", None, ("Image URL",)),
        (["编号", "标题", "图片"], "编号", "标题", None, ("图片",)),
        (["id", "image", "imageAlt"], "id", None, None, ("image",)),
        (["Artikelnummer", "Artikel", "Langtext", "Bild", "Bild 2"], "Artikelnummer", "Artikel", "Langtext", ("Bild", "Bild 2")),
        (["Artikel", "Bezeichnung", "Beschreibung", "Bild-URL"], "Artikel", "Bezeichnung", "Beschreibung", ("Bild-URL",)),
        (["Artikel-Nr.", "Artikelname", "Hauptbild"], "Artikel-Nr.", "Artikelname", None, ("Hauptbild",)),
        (["EAN", "Artikel", "Produktbild"], "EAN", "Artikel", None, ("Produktbild",)),
        (["商品编号", "商品名称", "商品详情", "商品主图"], "商品编号", "商品名称", "商品详情", ("商品主图",)),
        (["货号", "品名", "图片1", "图片2"], "货号", "品名", None, ("图片1", "图片2")),
        (["SKU", "产品名称", "图片地址"], "SKU", "产品名称", None, ("图片地址",)),
    ],
)
def test_guesses(names, id, title, description, images):
    columns = plan_columns(names, {}, "feed.csv")
    assert (columns.id, columns.title, columns.description, columns.images) == (id, title, description, images)


def test_a_mapping_overrides_every_guess_and_renames_attributes():
    names = ["id", "code", "title", "label", "image", "photo", "front", "VariantPrice"]
    mapping = {"id": "code", "title": "label", "image": "front,photo", "price": "VariantPrice"}
    columns = plan_columns(names, mapping, "feed.csv")
    assert (columns.id, columns.title, columns.images) == ("code", "label", ("front", "photo"))
    assert [columns.attribute(name) for name in names] == ["id", None, "title", None, "image", None, None, "price"]


def test_a_renamed_attribute_wins_over_the_column_of_that_name():
    columns = plan_columns(["id", "title", "price", "sale"], {"price": "sale"}, "feed.csv")
    assert columns.attribute("sale") == "price"
    assert columns.attribute("price") is None


def test_mapped_names_are_found_in_any_writing():
    assert plan_columns(["id", "Product Name"], {"title": "product_name"}, "feed.csv").title == "Product Name"


@pytest.mark.parametrize(
    ("names", "mapping", "message"),
    [
        (["id", "title"], {"title": "nmae"}, r"no column 'nmae'.*title=nmae.*'id', 'title'"),
        (["title", "price"], {}, r"no id column.*'title', 'price'.*--map id="),
        (["id", "price"], {}, r"neither a title nor an image.*'id', 'price'"),
        (["id", "title"], {"image": "a,b"}, r"no column 'a'"),
    ],
)
def test_a_catalogue_that_cannot_work_names_the_columns_found(names, mapping, message):
    with pytest.raises(InvalidCatalogue, match=message):
        plan_columns(names, mapping, "feed.csv")


@pytest.mark.parametrize(
    ("names", "attribute"),
    [
        (["id", "title", "Variant Price"], {"Variant Price": "price"}),
        (["id", "title", "Sale price", "Regular price"], {"Sale price": "Sale price", "Regular price": "price"}),
        (["id", "title", "Preis"], {"Preis": "price"}),
        (["id", "title", "Price", "Preis"], {"Price": "price", "Preis": "Preis"}),
    ],
)
def test_the_price_is_called_price(names, attribute):
    columns = plan_columns(names, {}, "feed.csv")
    assert {name: columns.attribute(name) for name in attribute} == attribute


def test_a_mapped_price_leaves_others_alone():
    columns = plan_columns(["id", "title", "Preis", "cost"], {"price": "cost"}, "feed.csv")
    assert [columns.attribute(name) for name in ("Preis", "cost")] == ["Preis", "price"]
