"""Which column of a catalogue plays which part: id, title, description, images; every other one is an attribute.

Guesses compare letters and digits only, in any case, and the first name in a list that the catalogue has wins. A mapping
(`title=productDisplayName`) overrides them; a mapping of any other field renames an attribute (`price=VariantPrice`).
How cells are read does not belong here: see `indexer.values`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import InvalidCatalogue

GUESSES: Mapping[str, Sequence[str]] = {
    "id": (
        "id product_id productid item_id itemid article_id sku product_sku item_sku handle variant_sku asin parent_asin uniq_id "
        "unique_id uuid object_id _id gtin ean barcode upc item_number article_number artikelnummer artikelnr artikel_id "
        "artikelcode artnr produktnummer produktnr produkt_id bestellnummer bestellnr code product_code url_key slug artikel "
        "商品编号 商品编码 商品id 商品货号 产品编号 产品编码 产品id 货号 款号 商家编码 编号 编码 商品コード referencia "
        "référence"
    ).split(),
    "title": (
        "title name product_title product_name productDisplayName product_display_name display_name item_name prod_name "
        "title_en label caption heading headline titel bezeichnung artikelbezeichnung produktbezeichnung artikelname "
        "produktname produkttitel titre nom titulo título nombre titolo nome artikel produkt 标题 名称 商品名称 商品名 商品标题 "
        "产品名称 产品名 产品标题 宝贝标题 宝贝名称 品名 タイトル"
    ).split(),
    "description": (
        "description product_description body body_html long_description detail_desc description_en short_description details "
        "text content about beschreibung artikelbeschreibung produktbeschreibung langbeschreibung langtext kurzbeschreibung "
        "descripcion descripción descrizione descrição 描述 商品描述 产品描述 商品详情 产品详情 详情 商品简介 简介 説明"
    ).split(),
    "image": (
        "image images image_path image_paths image_link image_links image_url image_urls image_src image_file image_filename "
        "main_image main_image_url primary_image img imgs img_url img_path img_src imgurl photo photos photo_url picture "
        "pictures picture_url image_1 image_url_1 image_link_1 img_1 photo_1 picture_1 image_0 filename file file_name filepath "
        "file_path thumbnail thumbnail_url bild bilder bild_url bildlink bildpfad bilddatei bild_1 hauptbild artikelbild "
        "produktbild abbildung foto fotos foto_url imagen imagenes immagine imagem 图片 图片链接 图片地址 图片路径 图片网址 "
        "图片文件 主图 主图链接 商品图片 商品主图 产品图片 图片1 照片 画像 link_image large_image hi_res"
    ).split(),
}
FIELDS = tuple(GUESSES)
PRICES = (
    "price variant_price regular_price price_amount current_price unit_price list_price preis verkaufspreis vk_preis artikelpreis "
    "bruttopreis einzelpreis prix precio prezzo preço 价格 售价 商品价格 销售价 单价 零售价 価格"
).split()
"""Names of the column that becomes the attribute `price`, which the search page shows, where no column has that name."""
_MORE_IMAGES = re.compile(r"(?:additional)?(image|img|photo|picture|bild|foto|图片)s?(?:link|url|path|src|file)?s?(\d{1,2})?")


@dataclass(frozen=True, slots=True)
class Columns:
    """The part every column plays. `renamed` gives attribute names that differ from their column's."""

    id: str
    title: str | None
    description: str | None
    images: tuple[str, ...]
    renamed: Mapping[str, str]

    @property
    def fields(self) -> frozenset[str]:
        """The columns that are not attributes."""
        named = (self.id, self.title, self.description, *self.images)
        return frozenset(column for column in named if column is not None)

    def attribute(self, column: str) -> str | None:
        """Name the attribute a column makes, None when it makes none."""
        if column in self.fields or not column.strip() or (column not in self.renamed and column in self.renamed.values()):
            return None
        return self.renamed.get(column, column.strip())


def plan_columns(names: Sequence[str], mapping: Mapping[str, str], catalogue: str) -> Columns:
    """Give every column its part.

    Raises `InvalidCatalogue`, with the columns found, when a mapped column is not there, none can be the id, or neither a
    title nor an image column can be found.
    """
    fields = {("image" if field == "images" else field): column for field, column in mapping.items()}
    chosen = {field: _mapped(column, names, field, catalogue) for field, column in fields.items() if field != "image"}
    images = tuple(_mapped(c, names, "image", catalogue) for c in _several(fields["image"], names)) if "image" in fields else ()
    taken = {*chosen.values(), *images}
    for field in ("id", "title", "description"):
        if field not in chosen:
            guess = _guess(field, [name for name in names if name not in taken])
            if guess is not None:
                chosen[field] = guess
                taken.add(guess)
    images = images or _guess_images([name for name in names if name not in taken])
    if "id" not in chosen:
        raise InvalidCatalogue(f"{catalogue} has no id column: {_found(names)}; name it with --map id=COLUMN")
    if "title" not in chosen and not images:
        raise InvalidCatalogue(
            f"{catalogue} has neither a title nor an image column: {_found(names)}; name one with --map title=COLUMN"
        )
    renamed = {column: field for field, column in chosen.items() if field not in FIELDS}
    if "price" not in fields and (price := _first(PRICES, [name for name in names if name not in taken])) is not None:
        renamed[price] = "price"
    return Columns(chosen["id"], chosen.get("title"), chosen.get("description"), images, renamed)


def _several(columns: str, names: Sequence[str]) -> list[str]:
    """Split `image=front,back` unless a column has just that name."""
    return [columns] if columns in names else [c.strip() for c in columns.split(",")]


def _mapped(column: str, names: Sequence[str], field: str, catalogue: str) -> str:
    if column in names:
        return column
    alike = [name for name in names if plain(name) == plain(column)]
    if len(alike) == 1:
        return alike[0]
    raise InvalidCatalogue(f"{catalogue} has no column {column!r}, which --map {field}={column} names: {_found(names)}")


def _guess(field: str, names: Sequence[str]) -> str | None:
    return _first(GUESSES[field], names)


def _first(guesses: Sequence[str], names: Sequence[str]) -> str | None:
    by_plain = {plain(name): name for name in reversed(names)}
    return next((by_plain[plain(guess)] for guess in guesses if plain(guess) in by_plain), None)


def _guess_images(names: Sequence[str]) -> tuple[str, ...]:
    """Take the best-named image column, and with it those that plainly continue it: image_2, additional_image_link."""
    first = _guess("image", names)
    if first is None:
        return ()
    return (first, *(name for name in names if name != first and _continues(plain(name))))


def _continues(name: str) -> bool:
    match = _MORE_IMAGES.fullmatch(name)
    return bool(match and (match[2] or name.startswith("additional")))


def plain(name: str) -> str:
    """Reduce a column's name to what names are compared by: its letters and digits, in lower case."""
    return "".join(c for c in name.casefold() if c.isalnum())


def _found(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name[:60]) for name in names[:40])
    return f"the columns found are {listed}{', ...' if len(names) > 40 else ''}"
